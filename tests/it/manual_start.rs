//! The page of `start`, held against the program's help.

use crate::manual::{Flag, flags, help, items, long_flags, section_of};
use crate::tidy::{none, read};
use std::collections::{BTreeMap, BTreeSet};

fn man() -> String {
    read("man/mcluster-start.1")
}

/// All long flags that the help knows, with the second names of some.
fn known(help: &str) -> BTreeSet<String> {
    let lists = help.split("[alias").skip(1);
    let lists = lists.filter_map(|rest| rest.split_once(": ")?.1.split(']').next());
    let aliases = lists.flat_map(|names| names.split(", "));
    let aliases = aliases.map(|name| name.trim_start_matches('-').to_owned());
    let names = flags(help).into_iter().map(|flag| flag.name);
    names.chain(aliases).collect()
}

#[test]
fn it_has_every_option_and_no_other() {
    let help_text = help(&["start", "--help"]);
    let known = known(&help_text);
    assert!(
        known.len() > 25 && known.contains("kill-timeout"),
        "{known:?}"
    );
    let man = man();
    let options = section_of(&man, "OPTIONS");
    let mut described = BTreeMap::new();
    for (line, text) in items(&options) {
        described.extend(long_flags(line).map(|flag| (flag, text)));
    }
    let missing = known
        .iter()
        .filter(|name| !described.contains_key(name.as_str()));
    let mut problems: Vec<_> = missing
        .map(|name| format!("OPTIONS lacks --{name}"))
        .collect();
    for Flag { name, default } in flags(&help_text) {
        if let (Some(default), Some(text)) = (default, described.get(name.as_str())) {
            // Some say it in words that are no value.
            let is_value = !default.contains(' ') && !default.contains("by ");
            if is_value && !text.contains(&default) {
                problems.push(format!("OPTIONS lacks the default of --{name}: {default}"));
            }
        }
    }
    let unit = flags(&help(&["unit", "--help"])).into_iter();
    let unit: BTreeSet<_> = unit.map(|flag| flag.name).collect();
    let unknown = man.lines().flat_map(long_flags);
    let unknown = unknown.filter(|name| !known.contains(*name) && !unit.contains(*name));
    problems.extend(unknown.map(|name| format!("there is no --{name}")));
    none(&problems);
}
