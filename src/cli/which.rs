//! Which running cluster a command means: by `--name`, by `--control`, or by the name behind the command.
//!
//! Owns what wins: what stands in the command wins over variables, and may not say two things.

use super::steer::{Cluster, Wanted};
use super::values::name;
use crate::runtime;
use crate::{Error, MAX_WORKERS, Result, SchedulingPolicy};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};

/// The same with the name behind the command, too.
#[derive(Args, Debug)]
pub(super) struct Named {
    /// The cluster's name, as --name has it
    #[arg(value_name = "NAME", value_parser = name)]
    which: Option<String>,

    #[command(flatten)]
    wanted: Wanted,
}

impl Named {
    pub(super) fn wanted(&self) -> Wanted {
        self.wanted.of(self.which.as_deref())
    }
}

impl Wanted {
    /// The same of the cluster of that name, where there is one.
    pub(super) fn of(&self, name: Option<&str>) -> Self {
        Self {
            cluster: self.cluster.of(name),
            json: self.json,
        }
    }
}

/// clap's name for the option whose variable a typed name wins over.
pub(super) const CONTROL: &str = "control";

/// Whether a command that steers has the cluster's name in it, in one way or another.
///
/// # Errors
///
/// When it says twice which cluster it means.
pub(super) fn is_named(given: &ArgMatches) -> Result<bool> {
    let is_typed = |id: &str| {
        given.ids().any(|one| one == id) && given.value_source(id) == Some(ValueSource::CommandLine)
    };
    let is_pair = is_typed("words")
        && given
            .get_many::<String>("words")
            .is_some_and(|all| all.len() == 2);
    let behind = is_pair || is_typed("which");
    let said = [
        (behind, "NAME"),
        (is_typed("name"), "--name"),
        (is_typed(CONTROL), "--control"),
    ];
    let said: Vec<_> = said.iter().filter(|(typed, _)| *typed).collect();
    match said.as_slice() {
        [(_, one), (_, other), ..] => Err(Error::Settings(format!(
            "{one} and {other} both say which cluster: one of them is enough"
        ))),
        [(_, one)] => Ok(*one != "--control"),
        [] => Ok(false),
    }
}

/// The name of a cluster, where the first of two words is one, and the last word.
fn name_and_last<'a>(verb: &str, words: &'a [String]) -> Result<(Option<&'a str>, &'a str)> {
    let wrong = |why: String| Error::Settings(format!("{verb}: {why}"));
    match words {
        [last] => Ok((None, last)),
        [which, last] => {
            runtime::check_name(which).map_err(wrong)?;
            Ok((Some(which), last))
        }
        _ => Err(wrong("it takes two words at most".to_owned())),
    }
}

/// The words of `scale`: which cluster, if they say so, and how many workers.
pub(super) fn scale_words(words: &[String]) -> Result<(Option<&str>, u64)> {
    let (which, number) = name_and_last("scale", words)?;
    match number.parse() {
        Ok(count) if (1..=MAX_WORKERS as u64).contains(&count) => Ok((which, count)),
        _ => Err(Error::Settings(format!(
            "scale: {number:?} is no number of workers in 1..={MAX_WORKERS}"
        ))),
    }
}

/// Those of `schedule`: which cluster, and the policy.
pub(super) fn schedule_words(words: &[String]) -> Result<(Option<&str>, SchedulingPolicy)> {
    let (which, policy) = name_and_last("schedule", words)?;
    let policy = policy.parse();
    let policy = policy.map_err(|why| Error::Settings(format!("schedule: {why}")))?;
    Ok((which, policy))
}

/// Those of `kill`: which cluster, and which worker.
pub(super) fn kill_words(words: &[String]) -> Result<(Option<&str>, u32)> {
    let (which, id) = name_and_last("kill", words)?;
    match id.parse() {
        Ok(worker) if worker > 0 => Ok((which, worker)),
        _ => Err(Error::Settings(format!("kill: {id:?} is no worker's id"))),
    }
}

impl Cluster {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn of(&self, name: Option<&str>) -> Self {
        match name {
            None => self.clone(),
            Some(name) => Self {
                name: name.to_owned(),
                control: self.control.clone(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_and_without_a_name() {
        let words = |all: &[&str]| all.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let (api, many) = (words(&["api", "4"]), words(&["16"]));
        assert_eq!(scale_words(&api).unwrap(), (Some("api"), 4));
        assert_eq!(scale_words(&many).unwrap(), (None, 16));
        for wrong in [
            &["0"][..],
            &["4", "api"],
            &["a/b", "4"],
            &["1025"],
            &["x"],
            &[],
        ] {
            assert_eq!(scale_words(&words(wrong)).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn what_names_may_stand_before() {
        let words = |all: &[&str]| all.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let (api, none) = (words(&["api", "shared"]), words(&["rr"]));
        let shared = SchedulingPolicy::Shared;
        assert_eq!(schedule_words(&api).unwrap(), (Some("api"), shared));
        assert_eq!(schedule_words(&none).unwrap().0, None);
        let (api, none) = (words(&["api", "3"]), words(&["12"]));
        assert_eq!(kill_words(&api).unwrap(), (Some("api"), 3));
        assert_eq!(kill_words(&none).unwrap(), (None, 12));
        for wrong in [&["0"][..], &["3", "api"], &["a/b", "4"], &["x"]] {
            assert_eq!(kill_words(&words(wrong)).unwrap_err().exit_code(), 2);
            assert_eq!(schedule_words(&words(wrong)).unwrap_err().exit_code(), 2);
        }
    }
}
