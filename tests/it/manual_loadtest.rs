//! The load test's manual page, held against the program's help, its text, its JSON and its CSV.

use crate::manual::{Flag, between, flags, help, items, long_flags, section_of};
use crate::tidy::{none, read};
use std::collections::{BTreeMap, BTreeSet};

fn man() -> String {
    read("man/mcluster-loadtest.1")
}

/// One section, its subsections included or not.
fn section(name: &str) -> String {
    section_of(&man(), name)
}

/// All names of an option, as the help has them beside the first one.
fn aliases(help: &str) -> BTreeSet<&str> {
    let lists = help.split("[alias").skip(1);
    let lists = lists.filter_map(|rest| Some(rest.split_once(": ")?.1));
    let words = lists.flat_map(|rest| rest.split(']').next().unwrap_or_default().split(", "));
    words.map(|word| word.trim_start_matches('-')).collect()
}

#[test]
fn it_has_every_option_and_no_other() {
    let help = help(&["loadtest", "--help"]);
    let known = flags(&help);
    let aliases = aliases(&help);
    assert!(
        known.len() > 20 && aliases.len() > 10,
        "the help was understood"
    );
    let options = section("OPTIONS");
    let mut described = BTreeMap::new();
    for (line, text) in items(&options) {
        described.extend(long_flags(line).map(|flag| (flag, text)));
    }
    let mut problems = Vec::new();
    for Flag { name, default } in &known {
        match (described.get(name.as_str()), default) {
            (None, _) => problems.push(format!("OPTIONS lacks --{name}")),
            (Some(text), Some(default)) if !text.contains(default.as_str()) => {
                problems.push(format!("OPTIONS lacks the default of --{name}: {default}"));
            }
            _ => {}
        }
    }
    let missing = aliases.iter().filter(|name| !described.contains_key(*name));
    problems.extend(missing.map(|name| format!("OPTIONS lacks --{name}")));
    let names = known.iter().map(|flag| flag.name.as_str());
    let names: BTreeSet<_> = names.chain(aliases).collect();
    let man = man();
    let mentioned = man.lines().flat_map(long_flags);
    let unknown = mentioned.filter(|flag| !names.contains(flag));
    problems.extend(unknown.map(|flag| format!("there is no --{flag}")));
    none(&problems);
}

#[test]
fn it_has_every_short_option() {
    let help = help(&["loadtest", "--help"]);
    let shorts: BTreeSet<_> = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix('-')?.split(',').next())
        .filter(|name| name.len() == 1)
        .collect();
    assert!(shorts.contains("n") && shorts.contains("H"), "{shorts:?}");
    let options = section("OPTIONS");
    let described: BTreeSet<_> = items(&options)
        .filter_map(|(line, _)| line.strip_prefix("Fl ")?.split_whitespace().next())
        .filter(|name| name.len() == 1)
        .collect();
    assert_eq!(described, shorts);
}

/// What the text says of itself: its literals that begin with a capital.
fn labels() -> BTreeSet<String> {
    let source = read("src/loadtest/show/text.rs");
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let literals = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    literals
        .map(|literal| literal.trim_start_matches("\\n").trim_end_matches("\\n"))
        .filter(|literal| literal.starts_with(char::is_uppercase) && *literal != "GET")
        .map(str::to_owned)
        .collect()
}

#[test]
fn it_has_every_line_of_the_text_and_no_other() {
    let labels = labels();
    assert!(
        labels.contains("Target URL") && labels.contains("Stage"),
        "{labels:?}"
    );
    let output = section("OUTPUT");
    let text = output.split("\n.Ss ").next().unwrap_or_default();
    let described: BTreeSet<_> = items(text)
        .filter_map(|(line, _)| line.strip_prefix("Li "))
        .collect();
    let mut problems = Vec::new();
    for label in &labels {
        if !described.iter().any(|name| label.starts_with(name)) {
            problems.push(format!("OUTPUT lacks {label}"));
        }
    }
    for name in described {
        if !labels.iter().any(|label| label.starts_with(name)) {
            problems.push(format!("there is no line {name}"));
        }
    }
    none(&problems);
}

/// The words of the items of one subsection of OUTPUT.
fn keys_of(subsection: &str) -> BTreeSet<String> {
    let output = section("OUTPUT");
    let text = between(&output, &format!("\n.Ss {subsection}\n"), "\n.Ss ");
    let text = text.unwrap_or_else(|| panic!("no subsection {subsection}"));
    let lines = text.lines();
    let lines = lines.filter_map(|line| {
        line.trim_start_matches(".It ")
            .trim_start_matches('.')
            .strip_prefix("Ic ")
    });
    let words = lines.flat_map(|line| line.split([' ', ',']));
    words
        .filter(|word| !word.is_empty() && *word != "." && !word.starts_with('-'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn it_has_every_column() {
    let source = read("src/loadtest/show/csv.rs");
    let columns = between(&source, "COLUMNS: &str = \"", "\\n\"").unwrap();
    let columns: BTreeSet<_> = columns.split(',').map(str::to_owned).collect();
    assert_eq!(columns, keys_of("CSV"));
}

/// The names of fields in a source, by what serde calls them.
fn fields(source: &str, name: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let body = between(source, &format!("struct {name} {{\n"), "\n}\n").unwrap();
    let mut names = Vec::new();
    let mut renamed = None;
    for line in body.lines().map(str::trim) {
        renamed = between(line, "rename = \"", "\"")
            .map(str::to_owned)
            .or(renamed);
        let field = line
            .strip_prefix("pub(crate) ")
            .or_else(|| line.strip_prefix("pub "));
        if let Some((field, _)) = field.and_then(|field| field.split_once(':')) {
            names.push(renamed.take().unwrap_or_else(|| field.to_owned()));
        }
    }
    names
}

#[test]
fn it_has_every_key_and_no_other() {
    let report = read("src/loadtest/report.rs");
    let structs = ["Report", "Bytes", "Share", "Generator"];
    let mut keys: BTreeSet<_> = structs
        .iter()
        .flat_map(|name| fields(&report, name))
        .collect();
    keys.extend(fields(&read("src/loadtest/show/json.rs"), "Threshold"));
    let latency = read("src/loadtest/latency.rs");
    for source in [&report, &latency] {
        let written = source.split("serialize_field(\"").skip(1);
        keys.extend(written.filter_map(|rest| Some(rest.split('"').next()?.to_owned())));
    }
    keys.extend(["version", "thresholds"].map(str::to_owned));
    assert!(
        keys.contains("p999") && keys.contains("planned_latency_us"),
        "{keys:?}"
    );
    assert_eq!(keys_of("JSON"), keys);
}
