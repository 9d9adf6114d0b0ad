//! Telling a service manager how this program is, by the protocol of sd_notify(3).
//!
//! When to tell what is left to whoever holds the notifier.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, sendto, socket};

use super::process::{Pid, clear_variables, pid};
use super::retry;

const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// The way to the service manager that started this program.
///
/// A forked child that drops its copy changes nothing. The manager takes by default only what the
/// main process says (`NotifyAccess=main` in systemd.service(5)).
#[derive(Debug)]
pub(crate) struct Notifier {
    fd: OwnedFd,
    to: UnixAddr,
    /// The value of `NOTIFY_SOCKET`.
    place: OsString,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The manager that the environment tells of, or `None` when there is none, or none that can be
    /// reached. What was read is removed from the environment, so that programs executed later do
    /// not speak for this one; but not in a process with several threads, where one could be
    /// reading it.
    pub(crate) fn from_env() -> Option<Notifier> {
        let place = env::var_os(SOCKET);
        let variable = |name| env::var(name).ok();
        let watchdog = parse_watchdog(
            variable(WATCHDOG_USEC).as_deref(),
            variable(WATCHDOG_PID).as_deref(),
            pid(),
        );
        clear_variables(&[SOCKET, WATCHDOG_USEC, WATCHDOG_PID]);
        Notifier::new(place?, watchdog).ok()
    }

    /// A notifier that sends to `place`: an absolute path, or `@` and a name in the abstract
    /// namespace. Nobody need listen there yet.
    fn new(place: OsString, watchdog: Option<Duration>) -> io::Result<Notifier> {
        let to = parse_place(&place)?;
        let fd = socket(
            AddressFamily::Unix,
            SockType::Datagram,
            SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        Ok(Notifier {
            fd,
            to,
            place,
            watchdog,
        })
    }

    /// Sends one message: lines such as `READY=1`, `STOPPING=1`, `STATUS=serving`, `WATCHDOG=1`, as
    /// sd_notify(3) lists them.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the manager has many unread; `NotFound` and `ConnectionRefused` when it is
    /// gone, which it may be for a moment while it restarts; `EMSGSIZE`.
    pub(crate) fn send(&self, state: &str) -> io::Result<()> {
        let flags = MsgFlags::MSG_NOSIGNAL;
        // A datagram goes whole or not at all. The socket is not connected, since that would bind
        // it to the manager as it is now.
        retry(|| sendto(self.fd.as_raw_fd(), state.as_bytes(), &self.to, flags)).map(drop)
    }

    /// How often `WATCHDOG=1` must come at least, or the manager takes this program for hung and
    /// ends it; half of that is the usual interval. `None` when it does not watch.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The environment that leads a program which replaces this one, in the same process, to the
    /// same manager: what [`Notifier::from_env`] had removed.
    pub(crate) fn variables(&self) -> Vec<(OsString, OsString)> {
        let mut variables = vec![(SOCKET.into(), self.place.clone())];
        if let Some(watchdog) = self.watchdog {
            let micros = watchdog.as_micros().to_string();
            variables.push((WATCHDOG_USEC.into(), micros.into()));
            variables.push((WATCHDOG_PID.into(), pid().to_string().into()));
        }
        variables
    }
}

/// Reads `NOTIFY_SOCKET`. Other kinds of sockets, such as those to a virtual machine's host, are not
/// supported.
fn parse_place(place: &OsStr) -> io::Result<UnixAddr> {
    match place.as_bytes() {
        [b'/', ..] => Ok(UnixAddr::new(place)?),
        [b'@', name @ ..] if !name.is_empty() => Ok(UnixAddr::new_abstract(name)?),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{SOCKET} is neither an absolute path nor @NAME: {place:?}"),
        )),
    }
}

/// Reads `WATCHDOG_USEC` and `WATCHDOG_PID`; see sd_watchdog_enabled(3). Without the second, the
/// first is for whoever finds it.
fn parse_watchdog(micros: Option<&str>, process: Option<&str>, own: Pid) -> Option<Duration> {
    if process.is_some_and(|process| process.parse() != Ok(own.as_raw())) {
        return None;
    }
    let micros = micros?.parse().ok().filter(|&micros| micros > 0)?;
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::super::{socket, testing};
    use super::*;

    fn received(manager: &UnixDatagram) -> String {
        let mut buf = [0; 256];
        let length = manager.recv(&mut buf).expect("it was sent");
        String::from_utf8_lossy(&buf[..length]).into_owned()
    }

    #[test]
    fn messages_arrive_one_by_one() {
        let dir = testing::TempDir::new();
        let path = dir.join("notify");
        let name = format!("mcluster-notify-{}", pid());
        let address = SocketAddr::from_abstract_name(&name).expect("short");
        let cases = [
            (
                path.clone().into_os_string(),
                UnixDatagram::bind(&path).expect("a free path"),
            ),
            (
                format!("@{name}").into(),
                UnixDatagram::bind_addr(&address).expect("a free name"),
            ),
        ];
        for (place, manager) in cases {
            let notifier = Notifier::new(place, None).expect("a place");
            testing::assert_flags(&notifier.fd);
            notifier.send("READY=1\nSTATUS=serving").expect("room");
            notifier.send("WATCHDOG=1").expect("room");
            assert_eq!(received(&manager), "READY=1\nSTATUS=serving");
            assert_eq!(received(&manager), "WATCHDOG=1");
        }
    }

    #[test]
    fn a_manager_may_be_away_or_behind() {
        let dir = testing::TempDir::new();
        let path = dir.join("notify");
        let notifier = Notifier::new(path.clone().into(), None).expect("a place");
        let error = notifier.send("READY=1").expect_err("nobody there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let manager = UnixDatagram::bind(&path).expect("a free path");
        let error = loop {
            if let Err(error) = notifier.send("WATCHDOG=1") {
                break error;
            }
        };
        assert!(socket::would_block(&error), "{error}");
        drop(manager);
        let error = notifier.send("READY=1").expect_err("it left");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        fs::remove_file(&path).expect("its file");
        let manager = UnixDatagram::bind(&path).expect("a free path");
        notifier.send("READY=1").expect("it is back");
        assert_eq!(received(&manager), "READY=1");
    }

    #[test]
    fn other_places_are_none() {
        let long = format!("/{}", "x".repeat(200));
        for place in ["", "@", "notify", "./notify", "vsock:2:1234", &long] {
            assert!(Notifier::new(place.into(), None).is_err(), "{place:?}");
        }
    }

    #[test]
    fn the_watchdog_is_for_one_process() {
        let own = Pid::from_raw(70);
        let cases = [
            (Some("30000000"), Some("70"), Some(30_000)),
            (Some("1000"), None, Some(1)),
            (Some("1000"), Some("71"), None),
            (Some("1000"), Some(""), None),
            (Some("0"), Some("70"), None),
            (Some("-1"), Some("70"), None),
            (Some("soon"), Some("70"), None),
            (None, Some("70"), None),
            (None, None, None),
        ];
        for (micros, process, millis) in cases {
            assert_eq!(
                parse_watchdog(micros, process, own),
                millis.map(Duration::from_millis),
                "WATCHDOG_USEC={micros:?} WATCHDOG_PID={process:?}"
            );
        }
    }

    #[test]
    fn the_next_program_finds_the_same_manager() {
        let watchdog = Some(Duration::from_millis(1500));
        let notifier = Notifier::new("@x".into(), watchdog).expect("a place");
        assert_eq!(notifier.watchdog(), watchdog);
        let own = pid().to_string();
        let expected = [
            (SOCKET, "@x"),
            (WATCHDOG_USEC, "1500000"),
            (WATCHDOG_PID, &own),
        ];
        let expected = expected.map(|(name, value)| (name.into(), value.into()));
        assert_eq!(notifier.variables(), expected);
        let notifier = Notifier::new("@x".into(), None).expect("a place");
        assert_eq!(notifier.variables().len(), 1);
    }
}
