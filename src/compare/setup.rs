//! Who is compared, and how this program, started anew, is told which of them it is to be.

use crate::sys::process;
use crate::{App, Cluster, ClusterHandle, Error, Event, Mode, Result};
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The variable that makes a program a contestant: of which call, what it is, its workers, where it listens, and its
/// control socket.
pub(super) const VARIABLE: &str = "MCLUSTER_COMPARE_AS";

/// One way to run the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Contestant {
    /// One process with one worker.
    One,
    /// Workers as processes.
    Processes,
    /// Workers as threads.
    Threads,
    /// Workers as processes, each with threads for [`pooled`](crate::pooled) handlers.
    Pool,
}

impl Contestant {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::One, Self::Processes, Self::Threads, Self::Pool];

    /// What it is called: `one`, `processes`, `threads`, `processes+pool`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Processes => "processes",
            Self::Threads => "threads",
            Self::Pool => "processes+pool",
        }
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How the application is to run, for whoever makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    contestant: Contestant,
    workers: usize,
}

impl Setup {
    /// One contestant, `workers` being how many those with several have.
    pub(super) fn of(contestant: Contestant, workers: usize) -> Self {
        let workers = match contestant {
            Contestant::One => 1,
            _ => workers,
        };
        Self {
            contestant,
            workers,
        }
    }

    /// Which of those that are compared it is.
    #[must_use]
    pub fn contestant(&self) -> Contestant {
        self.contestant
    }

    /// What carries the workers.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self.contestant {
            Contestant::Threads => Mode::Threads,
            Contestant::One | Contestant::Processes | Contestant::Pool => Mode::Processes,
        }
    }

    /// How many workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Threads of each worker for [`pooled`](crate::pooled) handlers; None for as many as a cluster
    /// has that was told nothing of it.
    #[must_use]
    pub fn pool(&self) -> Option<usize> {
        match self.contestant {
            Contestant::Pool => None,
            _ => Some(0),
        }
    }
}

/// What a call that compares is to do.
#[derive(Debug)]
pub(super) enum Role {
    /// Compare; the number of the call, for its contestants.
    Compares(u32),
    /// Be a contestant.
    Is(Seat),
    /// Nothing: this process is a contestant of a later call.
    Skips,
}

impl Role {
    /// That of the next call of this process.
    ///
    /// # Errors
    ///
    /// As [`Seat::take`].
    pub(super) fn next() -> Result<Self> {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        static SEAT: OnceLock<Option<Seat>> = OnceLock::new();
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let seat = match SEAT.get() {
            Some(seat) => seat,
            None => {
                let seat = Seat::take()?;
                SEAT.get_or_init(|| seat)
            }
        };
        Ok(Self::of(call, seat.as_ref()))
    }

    fn of(call: u32, seat: Option<&Seat>) -> Self {
        match seat {
            None => Self::Compares(call),
            Some(seat) if seat.call == call => Self::Is(seat.clone()),
            Some(_) => Self::Skips,
        }
    }
}

/// Whether this process was started as a contestant, and has not found its seat yet.
#[cfg(feature = "cli")]
pub(crate) fn is_contestant() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// A contestant's place in the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    /// Which of the calls that compare it belongs to.
    pub(super) call: u32,
    pub(super) setup: Setup,
    /// `HOST:PORT`.
    pub(super) listen: String,
    pub(super) control: PathBuf,
}

impl Seat {
    /// The value of [`VARIABLE`].
    ///
    /// # Errors
    ///
    /// When the path of the control socket is no text.
    pub(super) fn words(&self) -> Result<String> {
        let control = self.control.to_str().ok_or_else(|| {
            let path = self.control.display();
            Error::Failed(format!("the temporary directory is no text: {path}"))
        })?;
        let (call, contestant) = (self.call, self.setup.contestant);
        let workers = self.setup.workers;
        Ok(format!(
            "{call} {contestant} {workers} {} {control}",
            self.listen
        ))
    }

    /// Reads that value; None for what makes no sense.
    fn read(words: &str) -> Option<Self> {
        let mut words = words.splitn(5, ' ');
        let call = words.next()?.parse().ok()?;
        let name = words.next()?;
        let contestant = Contestant::ALL.into_iter().find(|one| one.name() == name)?;
        let workers = words.next()?.parse().ok().filter(|&workers| workers > 0)?;
        let listen = words.next()?.to_owned();
        let control = words.next().filter(|path| !path.is_empty())?;
        Some(Self {
            call,
            setup: Setup::of(contestant, workers),
            listen,
            control: control.into(),
        })
    }

    /// The place of this process, if it was started as a contestant. The variable is removed, so that
    /// nothing started from here takes it for its own.
    ///
    /// # Errors
    ///
    /// When the variable makes no sense.
    pub(super) fn take() -> Result<Option<Self>> {
        let Some(words) = std::env::var_os(VARIABLE) else {
            return Ok(None);
        };
        process::clear_variables(&[VARIABLE]);
        let seat = words.to_str().and_then(Self::read);
        let wrong = || Error::Settings(format!("{VARIABLE} is set, but not by a comparison"));
        seat.map(Some).ok_or_else(wrong)
    }

    /// Is the contestant, until a signal ends it.
    ///
    /// # Errors
    ///
    /// As [`Cluster::run`].
    pub(super) fn serve(self, app: App) -> Result<()> {
        let cluster = Cluster::new(app)
            .mode(self.setup.mode())
            .workers(crate::Workers::Count(self.setup.workers))
            .listen(&self.listen)
            .control(self.control)
            .on_event(announce);
        match self.setup.pool() {
            Some(threads) => cluster.pool(threads).run(),
            None => cluster.run(),
        }
    }
}

fn announce(_: &ClusterHandle, event: &Event) {
    if let Event::Ready { addresses } = event {
        let mut stdout = std::io::stdout().lock();
        for address in addresses {
            // Who compares has gone when nobody reads it; then this process goes too.
            let _ = writeln!(stdout, "listening on {address}");
        }
        let _ = stdout.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for contestant in Contestant::ALL {
            let seat = Seat {
                call: 1,
                setup: Setup::of(contestant, 3),
                listen: "127.0.0.1:0".to_owned(),
                control: "/run/with a space/1.sock".into(),
            };
            assert_eq!(Seat::read(&seat.words().unwrap()), Some(seat));
        }
        for words in [
            "",
            "processes 2 127.0.0.1:0 /a",
            "0 processes",
            "0 processes 2",
            "0 processes 2 127.0.0.1:0",
            "0 processes 2 127.0.0.1:0 ",
            "0 processes 0 127.0.0.1:0 /a",
            "0 processes x 127.0.0.1:0 /a",
            "0 forks 2 127.0.0.1:0 /a",
        ] {
            assert_eq!(Seat::read(words), None, "{words:?}");
        }
    }

    #[test]
    fn a_call_is_for_its_own_contestants() {
        let seat = Seat::read("1 threads 2 127.0.0.1:0 /a");
        assert!(matches!(Role::of(0, seat.as_ref()), Role::Skips));
        assert!(
            matches!(Role::of(1, seat.as_ref()), Role::Is(found) if Some(&found) == seat.as_ref())
        );
        assert!(matches!(Role::of(1, None), Role::Compares(1)));
    }

    #[test]
    fn who_has_what() {
        let of = |contestant| {
            let setup = Setup::of(contestant, 4);
            (setup.mode(), setup.workers(), setup.pool())
        };
        assert_eq!(of(Contestant::One), (Mode::Processes, 1, Some(0)));
        assert_eq!(of(Contestant::Processes), (Mode::Processes, 4, Some(0)));
        assert_eq!(of(Contestant::Threads), (Mode::Threads, 4, Some(0)));
        assert_eq!(of(Contestant::Pool), (Mode::Processes, 4, None));
    }
}
