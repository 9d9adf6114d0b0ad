//! The script of `examples/classic-experiment`, with few requests.

use crate::examples::{skipped, tool};
use crate::support::BINARY;
use crate::tidy::root;
use std::process::Command;

const FOLDER: &str = "examples/classic-experiment";

#[test]
fn one_worker_and_one_for_each_cpu_side_by_side() {
    for name in ["sh", "sed", "fold", "pr", "expand", "nproc"] {
        if let Err(missing) = tool(name) {
            return skipped(FOLDER, &missing);
        }
    }
    let run = Command::new(root().join(FOLDER).join("run.sh"))
        .args([BINARY, "20"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && wrong.is_empty(), "{said}{wrong}");
    assert!(said.starts_with("Counting to "), "{said}");
    let both = |words: &str| {
        let twice = |line: &&str| line.matches(words).count() == 2;
        said.lines()
            .find(twice)
            .unwrap_or_else(|| panic!("{words}: {said}"))
    };
    assert!(both("--workers").contains("max"));
    assert!(both("Completed requests:").contains("20"));
    for words in ["Target rps:", "Mean latency:", "Effective rps:", "99%"] {
        both(words);
    }
}
