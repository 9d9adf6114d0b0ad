//! The comparison's manual page, held against the program's help and the labels of its table.

use crate::manual::{Flag, flags, help, items, long_flags, section_of};
use crate::tidy::{none, read};
use std::collections::BTreeMap;

fn man() -> String {
    read("man/mcluster-compare.1")
}

#[test]
fn it_has_every_option_and_no_other() {
    let known = flags(&help(&["compare", "--help"]));
    assert!(known.len() > 5, "the help was understood");
    let man = man();
    let options = section_of(&man, "OPTIONS");
    let mut described = BTreeMap::new();
    for (line, text) in items(&options) {
        described.extend(long_flags(line).map(|flag| (flag, text)));
    }
    let mut problems = Vec::new();
    for Flag { name, .. } in &known {
        if !described.contains_key(name.as_str()) {
            problems.push(format!("OPTIONS lacks --{name}"));
        }
    }
    // Some defaults stand below a list inside of their item.
    let defaults = ["hello,heavy,mixed,crash,memory,startup", "max", "2s", "3"];
    let found: Vec<_> = known.iter().filter(|flag| flag.default.is_some()).collect();
    assert_eq!(found.len(), defaults.len(), "the defaults of the help");
    for default in defaults {
        if !options.contains(&format!("The default is\n.Cm {default} .")) {
            problems.push(format!("OPTIONS lacks the default {default}"));
        }
    }
    let mentioned = man.lines().flat_map(long_flags);
    let unknown = mentioned.filter(|flag| known.iter().all(|known| known.name != *flag));
    problems.extend(unknown.map(|flag| format!("there is no --{flag}")));
    let synopsis = section_of(&man, "SYNOPSIS");
    for Flag { name, .. } in known.iter().filter(|flag| flag.name != "help") {
        let short = format!("Fl {} ", &name[..1]);
        if !synopsis.contains(&format!("Fl -{name}")) && !synopsis.contains(&short) {
            problems.push(format!("SYNOPSIS lacks --{name}"));
        }
    }
    none(&problems);
}

#[test]
fn it_explains_every_line_of_the_table() {
    let source = read("src/compare/figures.rs");
    let labels = source.lines().filter_map(|line| {
        let shown = line.trim().strip_prefix("Self::")?.split_once("=> (\"")?.1;
        shown.split('"').nth(2)
    });
    // The page speaks of the command, whose light path is this.
    let labels: Vec<_> = labels
        .map(|label| label.trim().replace("{light}", "/"))
        .collect();
    assert!(
        labels.contains(&"PSS at start".to_owned()),
        "the labels were found"
    );
    let man = man();
    let output = section_of(&man, "OUTPUT");
    let explained: Vec<_> = items(&output)
        .flat_map(|(line, _)| line.split(" , "))
        .collect();
    let missing = labels
        .iter()
        .filter(|label| !explained.contains(&label.as_str()));
    let missing = missing.map(|label| format!("OUTPUT lacks {label}"));
    let strange = explained
        .iter()
        .filter(|name| !labels.iter().any(|label| label == *name));
    let strange = strange.map(|name| format!("there is no line {name}"));
    none(&missing.chain(strange).collect::<Vec<_>>());
}

#[test]
fn it_has_every_workload() {
    let man = man();
    for name in ["hello", "heavy", "mixed", "crash", "memory", "startup"] {
        let options = section_of(&man, "OPTIONS");
        assert!(options.contains(&format!("\n.It Cm {name}\n")), "{name}");
        let output = section_of(&man, "OUTPUT");
        assert!(
            output.contains(&format!("\n.Ss {name}\n"))
                || output.starts_with(&format!(".Ss {name}")),
            "{name}"
        );
    }
}
