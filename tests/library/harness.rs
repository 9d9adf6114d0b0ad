//! Runs tests as `cargo test` has it: filters, `--exact`, `--skip`, `--list`, a line a test, status
//! 101 after a failure. What else libtest takes is accepted and does nothing.

use crate::run::Mode;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

type Promise = Box<dyn Fn()>;

/// The tests, in the order in which they run.
#[derive(Default)]
pub(crate) struct Tests(Vec<(String, Promise)>);

/// What the command line asks for.
#[derive(Default)]
struct Wanted {
    filters: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    list: bool,
    ignored: bool,
}

impl Wanted {
    fn read() -> Self {
        let mut wanted = Self::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--exact" => wanted.exact = true,
                "--list" => wanted.list = true,
                "--ignored" => wanted.ignored = true,
                "--skip" => wanted.skip.extend(words.next()),
                "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => {
                    words.next();
                }
                word if word.starts_with('-') => {}
                filter => wanted.filters.push(filter.to_owned()),
            }
        }
        wanted
    }

    fn takes(&self, name: &str) -> bool {
        let hit = |filter: &String| match self.exact {
            true => filter == name,
            false => name.contains(filter.as_str()),
        };
        let skipped = self.skip.iter().any(hit);
        !skipped && !self.ignored && (self.filters.is_empty() || self.filters.iter().any(hit))
    }
}

impl Tests {
    /// One test.
    pub(crate) fn add(&mut self, name: &str, promise: impl Fn() + 'static) {
        self.0.push((name.to_owned(), Box::new(promise)));
    }

    /// A promise that is kept in both modes: two tests.
    pub(crate) fn both_modes(&mut self, name: &str, promise: fn(Mode)) {
        for mode in [Mode::Processes, Mode::Threads] {
            self.add(&format!("{name}::{}", mode.name()), move || promise(mode));
        }
    }

    /// Runs those that the command line asks for.
    pub(crate) fn run(self) -> ExitCode {
        let wanted = Wanted::read();
        let all = self.0.len();
        let chosen = self.0.into_iter().filter(|(name, _)| wanted.takes(name));
        let chosen: Vec<_> = chosen.collect();
        if wanted.list {
            for (name, _) in &chosen {
                println!("{name}: test");
            }
            return ExitCode::SUCCESS;
        }
        println!("\nrunning {} tests", chosen.len());
        let start = Instant::now();
        let (mut passed, mut failed) = (0, Vec::new());
        let filtered = all - chosen.len();
        for (name, promise) in chosen {
            match catch_unwind(AssertUnwindSafe(promise)) {
                Ok(()) => {
                    println!("test {name} ... ok");
                    passed += 1;
                }
                Err(_) => {
                    println!("test {name} ... FAILED");
                    failed.push(name);
                }
            }
        }
        if !failed.is_empty() {
            println!("\nfailures:\n    {}", failed.join("\n    "));
        }
        println!(
            "\ntest result: {}. {passed} passed; {} failed; 0 ignored; 0 measured; \
             {filtered} filtered out; finished in {:.2}s\n",
            if failed.is_empty() { "ok" } else { "FAILED" },
            failed.len(),
            start.elapsed().as_secs_f64(),
        );
        match failed.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(101),
        }
    }
}
