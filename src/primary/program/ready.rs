//! When a worker that is a program is ready: pure, from what it has done so far.
//!
//! Owns the rule. Leaves finding the facts to `conduct`, and ending whoever takes too long to the
//! supervisor.

use super::Protocol;
use crate::sorted::SortedSet;
use std::time::Duration;

/// A Node program that need not say when it is ready may take so many times longer until it has
/// failed than one that listens nowhere until it is taken for ready: a busy machine makes either slow.
pub(super) const FAILED: u32 = 10;

/// One in another's place that listens nowhere is to have run for so long at least: a script that
/// cannot even be read ends within it.
pub(super) const MOMENT: Duration = Duration::from_secs(1);

/// What is known of a worker that is not ready yet, and of the others.
#[derive(Clone, Debug)]
pub(super) struct Facts<'a> {
    pub(super) protocol: Protocol,
    /// It is to say that it is ready, by the settings.
    pub(super) wait_ready: bool,
    /// It has said so.
    pub(super) said_ready: bool,
    /// It has been seen to accept, one that is not spoken to.
    pub(super) accepts: bool,
    /// Where it listens.
    pub(super) listens: &'a SortedSet<u32>,
    /// Where each of those listens that are ready and stay.
    pub(super) others: Vec<&'a SortedSet<u32>>,
    /// The listeners that the settings name.
    pub(super) named: SortedSet<u32>,
    /// One of them is at its own place, so that it replaces that one.
    pub(super) replaces: bool,
    /// Some worker has listened somewhere, or said that it was ready, since the cluster began.
    pub(super) ever: bool,
    /// How long it has run: since it was launched, and one that is spoken to since it has said that it
    /// is there.
    pub(super) age: Option<Duration>,
    /// After how long it is taken for ready without more.
    pub(super) timeout: Duration,
}

impl Facts<'_> {
    /// Whether it is as good as those that are ready.
    pub(super) fn is_ready(&self) -> bool {
        let has_run = |time: Duration| self.age.is_some_and(|age| age >= time);
        let late = has_run(self.timeout);
        match self.protocol {
            Protocol::Sockets if self.said_ready => true,
            Protocol::Sockets if self.wait_ready => false,
            // It has its sockets from the start, and need not say anything.
            Protocol::Sockets => self.accepts || late,
            Protocol::Node if self.wait_ready => self.said_ready,
            // A program without a server.
            Protocol::Node if late && !self.ever => !self.replaces || has_run(MOMENT),
            Protocol::Node if self.listens.is_empty() => false,
            // A new version may well listen elsewhere: to wait longer would be to wait for ever.
            Protocol::Node => late || self.missing().is_empty(),
        }
    }

    /// Where it should listen as the others do, and does not yet: at what the settings name, and at
    /// what two of them have in common. What one has alone may be its own (a port by its id), but
    /// with nobody else to compare it with it is looked for, too.
    pub(super) fn missing(&self) -> Vec<u32> {
        let alone = self.replaces && self.others.len() == 1;
        let count = |number: u32| {
            let there = self.others.iter().filter(|one| one.contains(&number));
            there.count()
        };
        let common = |number: u32| alone || self.named.contains(&number) || count(number) > 1;
        let all: SortedSet<u32> = self
            .others
            .iter()
            .flat_map(|one| one.iter().copied())
            .collect();
        let missing = all.difference(self.listens).copied();
        missing.filter(|number| common(*number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The listener that the settings name.
    const NAMED: u32 = 1;

    /// A name; where it listens, where the others do, marks as below; whether it is ready.
    type Case = (
        &'static str,
        &'static [u32],
        &'static [&'static [u32]],
        &'static str,
        bool,
    );

    /// Where it listens, where the others do; marks: `w` it is to say when, `s` it has said so, `a` it
    /// accepts, `r` it replaces one, `e` somebody has listened before, `l` it is late.
    fn is_ready(protocol: Protocol, listens: &[u32], others: &[&[u32]], marks: &str) -> bool {
        let listens = listens.iter().copied().collect();
        let others: Vec<SortedSet<u32>> = others
            .iter()
            .map(|one| one.iter().copied().collect())
            .collect();
        let timeout = Duration::from_secs(3);
        let facts = Facts {
            protocol,
            wait_ready: marks.contains('w'),
            said_ready: marks.contains('s'),
            accepts: marks.contains('a'),
            listens: &listens,
            others: others.iter().collect(),
            named: SortedSet::from_iter([NAMED]),
            replaces: marks.contains('r'),
            ever: marks.contains('e'),
            age: match marks.contains('l') {
                true => Some(timeout),
                false => Some(timeout - Duration::from_millis(1)),
            },
            timeout,
        };
        facts.is_ready()
    }

    #[test]
    fn one_that_listens_nowhere_has_run_for_a_moment() {
        let millis = |age| Some(Duration::from_millis(age));
        let cases = [
            (None, false, false),
            (millis(99), false, false),
            (millis(100), false, true),
            (millis(100), true, false),
            (millis(999), true, false),
            (millis(1000), true, true),
        ];
        for (age, replaces, expected) in cases {
            let facts = Facts {
                protocol: Protocol::Node,
                wait_ready: false,
                said_ready: false,
                accepts: false,
                listens: &SortedSet::new(),
                others: Vec::new(),
                named: SortedSet::new(),
                replaces,
                ever: false,
                age,
                timeout: Duration::from_millis(100),
            };
            assert_eq!(facts.is_ready(), expected, "{age:?} {replaces}");
        }
    }

    #[test]
    fn node_programs_listen_where_the_others_do() {
        let cases: [Case; 26] = [
            ("the first, before it listens", &[], &[], "", false),
            ("the first listens", &[4], &[], "e", true),
            ("one without a server, in time", &[], &[], "", false),
            ("one without a server, late", &[], &[], "l", true),
            ("after others that listened", &[], &[], "le", false),
            ("as the other does", &[4], &[&[4]], "e", true),
            ("as the one before does", &[4], &[&[4]], "er", true),
            ("more than the one before", &[4, 5], &[&[4]], "er", true),
            ("less than the one before", &[4], &[&[4, 5]], "er", false),
            ("less than it, late", &[4], &[&[4, 5]], "erl", true),
            ("a port by its id, beside one", &[9], &[&[4]], "e", true),
            ("a port by its id, alone", &[9], &[&[4]], "er", false),
            ("the same, late", &[9], &[&[4]], "erl", true),
            ("ports by their ids", &[9], &[&[4], &[5]], "er", true),
            ("one port of all", &[4], &[&[4, 5], &[4]], "er", true),
            ("not that of all", &[9], &[&[4, 5], &[4]], "er", false),
            (
                "that of all is another now",
                &[9],
                &[&[4], &[4]],
                "erl",
                true,
            ),
            ("not at a named one", &[9], &[&[1], &[5]], "er", false),
            ("at a named one", &[1], &[&[1], &[5]], "er", true),
            ("nowhere in another's place", &[], &[&[4]], "elr", false),
            ("in place of one without a server", &[], &[&[]], "lr", true),
            ("it is to say so", &[4], &[], "we", false),
            ("it has said so", &[], &[&[4]], "wse", true),
            ("it listens, and never says so", &[4], &[], "wel", false),
            ("nobody ever says so", &[], &[], "wl", false),
            ("saying so without need", &[], &[], "s", false),
        ];
        for (name, listens, others, marks, expected) in cases {
            let found = is_ready(Protocol::Node, listens, others, marks);
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn others_accept_or_say_so_or_have_had_their_time() {
        let cases = [
            ("", false),
            ("a", true),
            ("s", true),
            ("l", true),
            ("w", false),
            ("wa", false),
            ("wal", false),
            ("ws", true),
        ];
        for (marks, expected) in cases {
            let found = is_ready(Protocol::Sockets, &[], &[], marks);
            assert_eq!(found, expected, "{marks:?}");
        }
    }
}
