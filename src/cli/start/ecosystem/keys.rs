//! What the keys of an ecosystem file mean here, as PM2 documents them: each becomes the words of our
//! options, or is named as not supported.

use super::super::flags::{ARGS, PROGRAM};
use super::super::plan::{self, Entry};
use super::super::words::{cleaned, in_our_words, split};
use crate::cli::sources::judge;
use clap::Command;
use serde_json::{Map, Value};

type Found<T> = Result<T, String>;

/// What asks for something that is so anyway.
const GRANTED: [&str; 4] = ["merge_logs", "combine_logs", "exec_mode", "treekill"];

/// The application that an object of PM2's describes, with the variables of `env_NAME` where one is
/// named.
pub(super) fn entry(app: &Map<String, Value>, environment: Option<&str>) -> Found<Entry> {
    let pairs = app.iter().filter(|(key, value)| is_said(key, value));
    let app: Map<_, _> = pairs
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let name = app.get("name").map(text).transpose()?;
    let label = name.clone().unwrap_or_else(|| "an application".to_owned());
    let mut reader = Reader {
        app: &app,
        environment,
        options: plan::keys(),
        entry: Entry::default(),
    };
    reader.all(name).map_err(|why| format!("{label}: {why}"))?;
    Ok(reader.entry)
}

/// Whether a key has a value that says anything.
fn is_said(key: &str, value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(false) => key == "autorestart",
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

struct Reader<'a> {
    app: &'a Map<String, Value>,
    environment: Option<&'a str>,
    /// What judges values.
    options: Command,
    entry: Entry,
}

impl Reader<'_> {
    fn all(&mut self, name: Option<String>) -> Found<()> {
        if let Some(name) = name {
            self.entry.set("name", [cleaned(&name)]);
        }
        let instances = self.app.get("instances");
        let instances = instances.map_or(Ok("1".to_owned()), workers);
        let instances = instances.map_err(|why| format!("instances: {why}"))?;
        self.entry.set("workers", [instances]);
        self.judge_from(0, "instances")?;
        self.environment()?;
        self.node_args()?;
        self.logs()?;
        for (key, value) in self.app {
            let before = self.entry.settings.len();
            let taken = self.key(key, value);
            let taken = taken.map_err(|why| format!("{key}: {why}"))?;
            self.judge_from(before, key)?;
            match taken {
                true => {}
                false => self.entry.unsupported.push(key.clone()),
            }
        }
        Ok(())
    }

    /// Judges the settings from one on, which a key has brought.
    fn judge_from(&self, first: usize, key: &str) -> Found<()> {
        for setting in &self.entry.settings[first..] {
            let mut options = self.options.get_arguments();
            let option = options.find(|option| option.get_id() == setting.id.as_str());
            let Some(option) = option.filter(|option| option.get_action().takes_values()) else {
                continue;
            };
            for word in &setting.words {
                judge(option, word, &self.options).map_err(|why| format!("{key}: {why}"))?;
            }
        }
        Ok(())
    }

    /// Whether a key is one that means something here.
    fn key(&mut self, key: &str, value: &Value) -> Found<bool> {
        let entry = &mut self.entry;
        match key {
            // Looked at together, before.
            "name" | "instances" | "env" | "port" | "interpreter_args" | "node_args"
            | "source_map_support" | "out_file" | "output" | "out" | "error_file" | "error"
            | "err_file" | "log_file" | "log" | "log_date_format" | "time" => {}
            _ if key.starts_with("env_") => {}
            "script" => entry.set(PROGRAM, [text(value)?]),
            "args" => entry.set(ARGS, words(value)?),
            "cwd" => entry.set("cwd", [text(value)?]),
            "interpreter" | "exec_interpreter" => entry.set("interpreter", [text(value)?]),
            "exec_mode" if !known_mode(value) => return Err(format!("{value} is no mode")),
            "watch" => match value {
                Value::Bool(true) => entry.set("watch", [".".to_owned()]),
                Value::Bool(false) | Value::Null => {}
                paths => entry.set("watch", list(paths)?),
            },
            "ignore_watch" => entry.set("ignore_watch", list(value)?),
            "max_memory_restart" => entry.set("max_memory", [memory(value)?]),
            "restart_delay" => entry.set("restart_delay", [time(value)?]),
            "kill_timeout" => entry.set("drain_timeout", [at_least_one(time(value)?)]),
            "listen_timeout" => entry.set("listen_timeout", [at_least_one(time(value)?)]),
            "wait_ready" => self.flag("wait_ready", value),
            "uid" => entry.set("user", [text(value)?]),
            "gid" => entry.set("group", [text(value)?]),
            "autorestart" => return Ok(value != &Value::Bool(false)),
            "instance_var" => return Ok(value == "NODE_APP_INSTANCE"),
            // Said by the file, and off: as if it were not said.
            _ if matches!(value, Value::Null | Value::Bool(false)) => {}
            key => return Ok(GRANTED.contains(&key)),
        }
        Ok(true)
    }

    fn flag(&mut self, id: &str, value: &Value) {
        if value == &Value::Bool(true) {
            self.entry.set(id, ["true".to_owned()]);
        }
    }

    /// `env`, then `env_NAME`, then `port`: the later one counts.
    fn environment(&mut self) -> Found<()> {
        let mut all = Map::new();
        let chosen = self.environment.map(|name| format!("env_{name}"));
        let keys = ["env"].into_iter().chain(chosen.as_deref());
        for key in keys {
            match self.app.get(key) {
                None | Some(Value::Null) => {}
                Some(Value::Object(pairs)) => all.extend(pairs.clone()),
                Some(_) => return Err(format!("{key}: it is no object")),
            }
        }
        if let Some(port) = self.app.get("port") {
            all.insert("PORT".to_owned(), port.clone());
        }
        let pair = |(name, value): (&String, &Value)| match value {
            Value::String(value) => format!("{name}={value}"),
            other => format!("{name}={other}"),
        };
        if !all.is_empty() {
            self.entry.set("env", all.iter().map(pair));
        }
        Ok(())
    }

    fn node_args(&mut self) -> Found<()> {
        let mut all = Vec::new();
        for key in ["interpreter_args", "node_args"] {
            if let Some(value) = self.app.get(key) {
                all = words(value).map_err(|why| format!("{key}: {why}"))?;
            }
        }
        if self.app.get("source_map_support") == Some(&Value::Bool(true)) {
            all.push("--enable-source-maps".to_owned());
        }
        self.entry.node_args = all;
        Ok(())
    }

    /// A file for both kinds of lines stands in for those of each.
    fn logs(&mut self) -> Found<()> {
        let find = |keys: &[&str]| {
            let found = keys.iter().find_map(|key| self.app.get(*key));
            found
                .filter(|value| value.is_string())
                .map(text)
                .transpose()
        };
        let both = find(&["log_file", "log"])?;
        let each = [
            ("output", find(&["out_file", "output", "out"])?),
            ("error", find(&["error_file", "error", "err_file"])?),
        ];
        if both.is_some() && each.iter().any(|(_, path)| path.is_some()) {
            self.entry
                .unsupported
                .push("log_file beside out_file and error_file".to_owned());
        }
        for (id, path) in each {
            if let Some(path) = path.or_else(|| both.clone()) {
                let path = match path.as_str() {
                    "NULL" | "null" => "/dev/null".to_owned(),
                    _ => path,
                };
                self.entry.set(id, [path]);
            }
        }
        let format = self.app.get("log_date_format");
        let format = format.is_some_and(|format| format.as_str().is_some_and(|it| !it.is_empty()));
        if format {
            let what = "log_date_format (times are those of RFC 3339)";
            self.entry.unsupported.push(what.to_owned());
        }
        if format || self.app.get("time") == Some(&Value::Bool(true)) {
            self.entry.set("time", ["true".to_owned()]);
        }
        Ok(())
    }
}

fn text(value: &Value) -> Found<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("{other} is no text")),
    }
}

/// One, or several.
fn list(value: &Value) -> Found<Vec<String>> {
    match value {
        Value::Array(all) => all.iter().map(text).collect(),
        one => Ok(vec![text(one)?]),
    }
}

/// The same, where one may hold several with blanks between them.
fn words(value: &Value) -> Found<Vec<String>> {
    match value {
        Value::String(text) => Ok(split(text)),
        other => list(other),
    }
}

fn known_mode(value: &Value) -> bool {
    ["fork", "fork_mode", "cluster", "cluster_mode"].contains(&value.as_str().unwrap_or_default())
}

fn workers(value: &Value) -> Found<String> {
    Ok(in_our_words(&text(value)?))
}

/// A number is milliseconds.
fn time(value: &Value) -> Found<String> {
    let words = text(value)?;
    Ok(match words.parse::<u64>() {
        Ok(millis) => format!("{millis}ms"),
        Err(_) => words,
    })
}

/// Where a time of none would be refused.
fn at_least_one(words: String) -> String {
    match words.as_str() {
        "0ms" => "1ms".to_owned(),
        _ => words,
    }
}

/// Bytes; some write a B behind the unit.
fn memory(value: &Value) -> Found<String> {
    let words = text(value)?;
    let short = words.trim().trim_end_matches(['b', 'B']);
    Ok(short.to_owned())
}
