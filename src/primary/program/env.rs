//! The environment of a program: whose variables it has, and which of this program's are not for it.

use super::launch::Berth;
use super::{Program, Protocol, inherited};
use crate::sys::exec::TAKE_OVER;
use crate::sys::privilege::Identity;
use std::ffi::{OsStr, OsString};

/// What this program was told by whoever started it, and none of its workers is.
const OURS: [&str; 14] = [
    "NOTIFY_SOCKET",
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NODE_UNIQUE_ID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "EINHORN_FD_COUNT",
    "EINHORN_FDS",
    "EINHORN_MASTER_PID",
    TAKE_OVER,
];

/// How the names of more of that kind begin: behind the first there is a number.
const OURS_NUMBERED: &str = "EINHORN_FD_";
const OURS_ALL: &str = "EINHORN_SOCK_";

/// Whether a variable is for this program alone. A user's own may begin as these do: `LISTEN_PORT`.
fn is_ours(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    let number = bytes.strip_prefix(OURS_NUMBERED.as_bytes());
    OURS.iter().any(|ours| name == *ours)
        || bytes.starts_with(OURS_ALL.as_bytes())
        || number.is_some_and(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
}

impl Program {
    /// All variables of the one at `berth`, the later of two with the same name being the one that
    /// counts. `outer` is this program's environment; `channel` the descriptor that a Node program is
    /// spoken to by.
    pub(super) fn environment(
        &self,
        outer: impl IntoIterator<Item = (OsString, OsString)>,
        berth: &Berth<'_>,
        channel: usize,
    ) -> Vec<(OsString, OsString)> {
        let outer = outer.into_iter().filter(|(name, _)| !is_ours(name));
        let own = berth.settings.env.iter().chain(berth.env);
        let own = own.map(|(name, value)| (name.into(), value.into()));
        let mut all: Vec<(OsString, OsString)> = Vec::new();
        if !self.env_clear {
            all.extend(outer);
            all.extend(self.whereabouts(berth.settings.identity.as_ref()));
        }
        all.extend(self.env.iter().cloned());
        all.extend(own);
        if self.protocol == Protocol::Node {
            let told = [
                ("NODE_CHANNEL_FD", channel.to_string()),
                ("NODE_CHANNEL_SERIALIZATION_MODE", "json".to_owned()),
                ("NODE_UNIQUE_ID", berth.id.to_string()),
                ("NODE_APP_INSTANCE", berth.place.to_string()),
            ];
            all.extend(told.map(|(name, value)| (name.into(), value.into())));
        }
        all.extend(inherited::variables(berth.sockets.len()));
        all
    }

    /// What in this program's environment would be wrong in a worker's: who it is, and where.
    fn whereabouts(&self, identity: Option<&Identity>) -> Vec<(OsString, OsString)> {
        let mut all = Vec::new();
        let mut tell = |name: &str, value: OsString| all.push((name.into(), value));
        if let Some(home) = identity.and_then(|identity| identity.home.as_deref()) {
            tell("HOME", home.into());
        }
        if let Some(name) = identity.and_then(|identity| identity.name.as_deref()) {
            tell("USER", name.into());
            tell("LOGNAME", name.into());
        }
        let directory = self.directory.as_deref().map(std::path::absolute);
        if let Some(Ok(directory)) = directory {
            tell("PWD", directory.into());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::{Settings, WorkerId};
    use std::time::Duration;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    fn of(program: &Program, outer: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        as_whom(None, program, outer)
    }

    fn as_whom(
        identity: Option<Identity>,
        program: &Program,
        outer: &[(&str, &str)],
    ) -> Vec<(OsString, OsString)> {
        let settings = Settings {
            env: vec![("B".to_owned(), "settings".to_owned())],
            limits: crate::server::Limits::default(),
            edge: crate::server::EdgeSettings::default(),
            pool: 0,
            listeners: 0,
            drain_timeout: Duration::ZERO,
            heartbeat: None,
            max_requests: None,
            identity,
            place: 0,
            pinned: false,
            nice: None,
        };
        let berth = Berth {
            id: WorkerId(7),
            place: 2,
            env: &[("C".to_owned(), "berth".to_owned())],
            sockets: Vec::new(),
            policy: &crate::SchedulingPolicy::RoundRobin,
            settings: &settings,
        };
        program.environment(pairs(outer), &berth, 3)
    }

    #[test]
    fn what_this_program_was_told_is_not_passed_on() {
        let program = Program::new("x", Protocol::Sockets);
        let outer = [
            ("PATH", "/bin"),
            ("NOTIFY_SOCKET", "x"),
            ("NODE_CHANNEL_FD", "3"),
            ("NODE_CHANNEL_SERIALIZATION_MODE", "json"),
            ("NODE_UNIQUE_ID", "1"),
            ("NODE_OPTIONS", "--inspect"),
            ("WATCHDOG_PID", "1"),
            ("WATCHDOG_USEC", "1"),
            ("LISTEN_FDS", "1"),
            ("LISTEN_PID", "1"),
            ("LISTEN_FDNAMES", "x"),
            ("LISTENING", "yes"),
            ("LISTEN_PIDFDID", "1"),
            ("LISTEN_PORT", "80"),
            ("WATCHDOG_LEVEL", "3"),
            ("EINHORN_FD_COUNT", "1"),
            ("EINHORN_FD_10", "3"),
            ("EINHORN_FD_X", "x"),
            ("EINHORN_FDS", "3"),
            ("EINHORN_MASTER_PID", "1"),
            ("EINHORN_SOCK_PATH", "x"),
            ("EINHORN_HOME", "x"),
            ("MCLUSTER_TAKE_OVER", "take:3"),
            ("MCLUSTER_LOG", "debug"),
        ];
        let expected = [
            ("PATH", "/bin"),
            ("NODE_OPTIONS", "--inspect"),
            ("LISTENING", "yes"),
            ("LISTEN_PORT", "80"),
            ("WATCHDOG_LEVEL", "3"),
            ("EINHORN_FD_X", "x"),
            ("EINHORN_HOME", "x"),
            ("MCLUSTER_LOG", "debug"),
            ("B", "settings"),
            ("C", "berth"),
        ];
        assert_eq!(of(&program, &outer), pairs(&expected));
    }

    #[test]
    fn another_user_is_at_home_elsewhere() {
        let identity = || {
            Some(Identity {
                uid: 1,
                gid: 1,
                name: Some("daemon".to_owned()),
                home: Some("/sbin".into()),
            })
        };
        let outer = [("HOME", "/root"), ("USER", "root"), ("PWD", "/here")];
        let last = |all: &[(OsString, OsString)], name: &str| {
            let found = all.iter().rev().find(|(one, _)| one == name);
            found.map(|(_, value)| value.to_str().expect("text").to_owned())
        };
        let program = Program::new("x", Protocol::Sockets).env("USER", "given");
        let all = as_whom(identity(), &program, &outer);
        for (name, value) in [
            ("HOME", "/sbin"),
            ("USER", "given"),
            ("LOGNAME", "daemon"),
            ("PWD", "/here"),
        ] {
            assert_eq!(last(&all, name).as_deref(), Some(value), "{name}");
        }
        let all = of(&program.directory("/srv"), &outer);
        assert_eq!(last(&all, "HOME").as_deref(), Some("/root"));
        assert_eq!(last(&all, "PWD").as_deref(), Some("/srv"));
    }

    #[test]
    fn the_later_one_counts() {
        let program = Program::node("app.js")
            .env("A", "program")
            .env("B", "program");
        let program = program.env("NODE_UNIQUE_ID", "1");
        let all = of(&program, &[("A", "outer"), ("NODE_APP_INSTANCE", "9")]);
        let last = |name: &str| {
            let found = all.iter().rev().find(|(one, _)| one == name);
            found.map(|(_, value)| value.to_str().expect("text"))
        };
        for (name, value) in [
            ("A", "program"),
            ("B", "settings"),
            ("C", "berth"),
            ("NODE_CHANNEL_FD", "3"),
            ("NODE_CHANNEL_SERIALIZATION_MODE", "json"),
            ("NODE_UNIQUE_ID", "7"),
            ("NODE_APP_INSTANCE", "2"),
        ] {
            assert_eq!(last(name), Some(value), "{name}");
        }
        let bare = of(&program.env_clear(), &[("A", "outer"), ("D", "outer")]);
        assert!(!bare.contains(&("D".into(), "outer".into())));
    }
}
