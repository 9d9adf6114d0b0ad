//! Whether what is asked for makes sense, as far as can be told before anything is executed.

use super::{Program, Protocol};
use crate::primary::{Cluster, Mode, SchedulingPolicy};
use crate::server::LONGEST;
use std::ffi::OsStr;

/// Arguments of `node` with which it runs something else than a script, or nothing.
const NO_SCRIPT: [&str; 10] = [
    "-",
    "-c",
    "-e",
    "-i",
    "-p",
    "--check",
    "--eval",
    "--interactive",
    "--print",
    "--test",
];

impl Program {
    /// Whether it can be executed as the workers of `cluster`, and if not, why.
    ///
    /// # Errors
    ///
    /// In words.
    pub(in crate::primary) fn check(&self, cluster: &Cluster) -> Result<(), String> {
        self.check_words()?;
        let times = [
            ("listen_timeout", self.listen_timeout),
            ("restart_delay", self.restart_delay),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| *time > LONGEST) {
            return Err(format!("{name} is longer than any clock goes"));
        }
        if self.listen_timeout.is_zero() {
            return Err("a listen_timeout of 0 would end every worker".to_owned());
        }
        if !(1..=64).contains(&self.kill_signal) {
            return Err(format!("kill_signal: {} is no signal", self.kill_signal));
        }
        if cluster.mode == Mode::Threads {
            return Err("mode: a program is no thread of this one".to_owned());
        }
        self.fits(&cluster.schedule)
            .map_err(|why| format!("schedule: {why}"))?;
        let not_for_programs = [
            ("pool", cluster.pool.is_some()),
            ("max_requests", cluster.max_requests.is_some()),
            ("on_worker", cluster.on_worker.is_some()),
            ("health_path", cluster.health_path.is_some()),
        ];
        match not_for_programs.iter().find(|(_, is_set)| *is_set) {
            Some((name, _)) => Err(format!("{name} is not for workers that are programs")),
            None => Ok(()),
        }
    }

    /// Whether connections can come to it by `policy`.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(in crate::primary) fn fits(&self, policy: &SchedulingPolicy) -> Result<(), String> {
        let by_itself = matches!(
            policy,
            SchedulingPolicy::Shared | SchedulingPolicy::ReusePort
        );
        if *policy == SchedulingPolicy::LeastConnections {
            return Err(format!(
                "{policy}: programs do not say how many connections they have"
            ));
        }
        if self.protocol == Protocol::Sockets && !by_itself {
            return Err(format!(
                "{policy}: a program that inherits its sockets accepts by itself, as by shared or \
                 reuseport, and cannot be handed connections"
            ));
        }
        Ok(())
    }

    /// The policy where none is asked for.
    pub(in crate::primary) fn usual_policy(&self) -> SchedulingPolicy {
        match self.protocol {
            Protocol::Node => SchedulingPolicy::default(),
            Protocol::Sockets => SchedulingPolicy::Shared,
        }
    }

    fn check_words(&self) -> Result<(), String> {
        if self.executable.is_empty() {
            return Err("the program to execute has no name".to_owned());
        }
        let directory = self.directory.as_deref().map(AsRef::as_ref);
        let words = self.interpreter_args.iter().chain(&self.args);
        let mut words = words
            .chain([&self.executable])
            .chain(&self.script)
            .map(AsRef::as_ref)
            .chain(directory);
        if let Some(word) = words.find(|word: &&OsStr| word.as_encoded_bytes().contains(&0)) {
            return Err(format!("{word:?} has a zero byte"));
        }
        if directory.is_some_and(OsStr::is_empty) {
            return Err("the directory to run in has no name".to_owned());
        }
        for (name, value) in &self.env {
            let bytes = name.as_encoded_bytes();
            if bytes.is_empty() || bytes.contains(&b'=') || bytes.contains(&0) {
                return Err(format!("env: {name:?} is no name of a variable"));
            }
            if value.as_encoded_bytes().contains(&0) {
                return Err(format!("env: the value of {name:?} has a zero byte"));
            }
        }
        if self.protocol != Protocol::Node {
            return Ok(());
        }
        let Some(script) = &self.script else {
            return Ok(());
        };
        if script.is_empty() || script.as_encoded_bytes().starts_with(b"-") {
            return Err(format!("{script:?} is no Node script"));
        }
        let mut options = self.interpreter_args.iter();
        match options.find(|one| NO_SCRIPT.iter().any(|no_script| *one == no_script)) {
            Some(option) => Err(format!("with {option:?} Node has no script to run")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::App;
    use std::time::Duration;

    fn refusal(program: Program) -> String {
        program
            .check(&Cluster::new(App::new()))
            .expect_err("senseless")
    }

    fn app() -> Program {
        Program::node("app.js")
    }

    #[test]
    fn nonsense_is_named() {
        let cases = [
            (Program::new("", Protocol::Sockets), "no name"),
            (app().interpreter(""), "no name"),
            (Program::script("a\0b"), "zero byte"),
            (app().arg("a\0b"), "zero byte"),
            (app().node_args(["a\0b"]), "zero byte"),
            (app().directory("a\0b"), "zero byte"),
            (app().directory(""), "directory"),
            (app().env("", "x"), "no name of a variable"),
            (app().env("A=B", "x"), "no name of a variable"),
            (app().env("A\0", "x"), "no name of a variable"),
            (app().env("A", "x\0"), "value of \"A\""),
            (app().listen_timeout(Duration::ZERO), "listen_timeout"),
            (app().listen_timeout(Duration::MAX), "listen_timeout"),
            (app().restart_delay(Duration::MAX), "restart_delay"),
            (app().kill_signal(0), "kill_signal"),
            (Program::node(""), "no Node script"),
            (Program::node("-e"), "no Node script"),
            (app().node_args(["-p", "1"]), "no script to run"),
        ];
        for (program, why) in cases {
            let refused = refusal(program);
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn what_makes_sense_passes() {
        let sockets = Program::script("server").arg("-e").env("A", "");
        let node = app().node_args(["--inspect"]).arg("-e").env("B", "=");
        for program in [app(), sockets, node, Program::script("a.py")] {
            let cluster = Cluster::of_program(program.clone());
            program.check(&cluster).expect("sense");
        }
    }

    #[test]
    fn what_programs_cannot_do_is_refused() {
        use SchedulingPolicy::{
            LeastConnections, ReusePort, RoundRobin, Shared, StickyIp, StickyIpReusePort,
        };
        let cluster = || Cluster::new(App::new());
        let cases = [
            cluster().mode(Mode::Threads),
            cluster().schedule(LeastConnections),
            cluster().pool(2),
            cluster().max_requests(10, 0),
            cluster().on_worker(|_| ()),
            cluster().health_path("/health"),
        ];
        for cluster in cases {
            for program in [app(), Program::script("server")] {
                program.check(&cluster).expect_err("for our own alone");
            }
        }
        app().check(&cluster().schedule(StickyIp)).expect("dealt");
        let server = Program::script("server");
        for policy in [Shared, ReusePort] {
            let by_itself = cluster().schedule(policy);
            server.check(&by_itself).expect("it accepts by itself");
        }
        for policy in [RoundRobin, StickyIp, StickyIpReusePort] {
            let refused = server.check(&cluster().schedule(policy));
            let why = refused.expect_err("nobody could hand it over");
            assert!(why.contains("accepts by itself"), "{why}");
        }
    }
}
