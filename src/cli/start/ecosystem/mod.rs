//! Ecosystem files of PM2: read by the node that they are for, which prints them as JSON.
//!
//! Owns running it, within limits of time and size; what the keys mean is with `keys`.

mod keys;

use super::flags::Start;
use super::plan::Entry;
use crate::cli::table::plain;
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How the names of such files end.
const ENDINGS: [&str; 4] = [".config.js", ".config.cjs", ".config.mjs", ".json"];

/// Reading a configuration takes no longer; what does, waits for something.
const PATIENCE: Duration = Duration::from_secs(10);

/// No configuration is longer.
const LONGEST: u64 = 1 << 20;

/// What stands before the JSON, behind whatever the file itself prints.
const MARK: &str = "\u{1e}mcluster:";

/// Prints the file as JSON. One that is called JSON may have comments, as PM2 allows.
const SCRIPT: &str = r#"
const { readFileSync } = require('node:fs');
const { resolve } = require('node:path');
const { pathToFileURL } = require('node:url');
const path = resolve(process.argv[1]);
const print = (what) => process.stdout.write('\n\u001emcluster:' + JSON.stringify(what) + '\n', () => process.exit(0));
const load = async () => path.endsWith('.json')
  ? require('node:vm').runInThisContext('(' + readFileSync(path, 'utf8') + '\n)', { filename: path })
  : import(pathToFileURL(path)).then((it) => it.default ?? it);
const where = (error) => {
  const [first] = String(error.stack || '').split('\n');
  const message = String(error.message);
  return error instanceof SyntaxError && /:\d+$/.test(first) ? `${first}: ${message}` : message;
};
load().then((it) => print({ it }), (error) => print({ error: error && error.message ? where(error) : String(error) }));
"#;

/// Whether a program's name is that of an ecosystem file.
pub(super) fn is_one(program: &OsStr) -> bool {
    let name = Path::new(program).file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)))
}

/// The applications of an ecosystem file.
///
/// # Errors
///
/// When it cannot be read, or makes no sense.
pub(super) fn read(path: &Path, start: &Start) -> Result<Vec<Entry>> {
    let wrong = |why: String| {
        let why = format!("{}: {why}", path.display());
        Error::Configuration(plain(&why))
    };
    if !path.is_file() {
        return Err(wrong("there is no such file".to_owned()));
    }
    let said = run(path).map_err(wrong)?;
    let environment = environment(start);
    applications(&said, environment.as_deref()).map_err(wrong)
}

/// Which `env_NAME` counts, by our flag or by PM2's.
fn environment(start: &Start) -> Option<String> {
    let mut pairs = start.options.env.iter();
    let by_env = pairs.rfind(|pair| pair.value.is_none());
    let name = start.env_name.clone();
    name.or_else(|| by_env.map(|pair| pair.name.clone()))
}

/// What node makes of the file.
fn run(path: &Path) -> std::result::Result<Value, String> {
    let mut node = Command::new("node")
        .arg("-e")
        .arg(SCRIPT)
        .arg("--")
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("node, which reads such files: {error}"))?;
    let pipe = node.stdout.take();
    let (tell, told) = mpsc::channel();
    // A pipe has no limit of time. The thread has ended before anything forks.
    let reader = thread::spawn(move || {
        let read = pipe.map_or(Ok(Vec::new()), |pipe| line(pipe.take(LONGEST + 1)));
        let _ = tell.send(read);
    });
    let read = told.recv_timeout(PATIENCE);
    // It has nothing more to say, or not in time.
    let _ = node.kill();
    let _ = node.wait();
    let text = match read {
        Ok(read) => read.map_err(|error| format!("node: {error}"))?,
        Err(_) => return Err(format!("node has not read it in {} s", PATIENCE.as_secs())),
    };
    let _ = reader.join();
    if text.len() as u64 > LONGEST {
        return Err("longer than 1M, which no configuration is".to_owned());
    }
    let text = String::from_utf8_lossy(&text);
    let Some((_, json)) = text.split_once(MARK) else {
        return Err("node ended without having read it".to_owned());
    };
    let mut said: Map<String, Value> =
        serde_json::from_str(json).map_err(|error| format!("node: {error}"))?;
    match said.remove("error") {
        Some(why) => {
            let why = why.as_str().unwrap_or("it fails").replace('\n', ", ");
            Err(plain(&why))
        }
        None => Ok(said.remove("it").unwrap_or_default()),
    }
}

/// What is written until the line with the mark has ended; a process that the file has started may
/// hold the pipe for longer.
fn line(pipe: impl Read) -> io::Result<Vec<u8>> {
    let mut pipe = BufReader::new(pipe);
    let mut text = Vec::new();
    loop {
        let begun = text.len();
        if pipe.read_until(b'\n', &mut text)? == 0 || text[begun..].starts_with(MARK.as_bytes()) {
            return Ok(text);
        }
    }
}

/// The applications in what a file exports: `{apps: [..]}`, `{apps: {..}}`, a list, or one alone.
fn applications(
    said: &Value,
    environment: Option<&str>,
) -> std::result::Result<Vec<Entry>, String> {
    let one = |app: &Value| match app {
        Value::Object(app) => keys::entry(app, environment),
        other => Err(format!("an application is an object, not {other}")),
    };
    let apps = match said {
        Value::Object(said) if said.contains_key("apps") => &said["apps"],
        Value::Object(said) if !said.contains_key("script") => {
            return Err("there are no apps in it".to_owned());
        }
        other => other,
    };
    match apps {
        Value::Array(apps) => apps.iter().map(one).collect(),
        app => Ok(vec![one(app)?]),
    }
}

#[cfg(test)]
mod tests;
