//! A program that compares its own application as one worker, as processes and as threads.

use crate::harness::Tests;
use crate::run::{Mode, Run};

pub(crate) fn add(tests: &mut Tests) {
    tests.add("compare::ones_own_application", ones_own_application);
    tests.add("compare::several_in_one_program", several_in_one_program);
}

fn several_in_one_program() {
    let mut run = Run::start("compare", Mode::Processes, &["twice"]);
    let said = run.end();
    let text = said.join("\n");
    let tables = said.iter().filter(|line| line.starts_with("1 worker on "));
    assert_eq!(tables.count(), 1, "{text}");
    assert!(text.contains("the second start took "), "{text}");
    let failed = "failed: startup, one: / was answered by 404";
    assert!(said.iter().any(|line| line == failed), "{text}");
}

fn ones_own_application() {
    let mut run = Run::start("compare", Mode::Processes, &[]);
    let said = run.end();
    let text = said.join("\n");
    for words in [
        "2 workers on ",
        "processes+pool",
        "hello",
        "crash",
        "PSS under load",
        "On /light, ",
    ] {
        assert!(text.contains(words), "{words:?}: {text}");
    }
    // Nothing heavy was named.
    assert!(
        !said.iter().any(|line| line == "heavy" || line == "mixed"),
        "{text}"
    );
}
