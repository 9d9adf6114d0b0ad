//! What goes on beside the measuring: signals that end it, and how far it is.

use crate::loadtest::{Loadtest, Report, Running};
use crate::sys::process::signal_name;
use crate::sys::signal::{self, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SignalFd};
use crate::{Error, Result};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at signals.
const TICK: Duration = Duration::from_millis(50);

/// How far a comparison is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// What of it is done, from 0 to 1, by time.
    pub share: f64,
    /// What is measured now: `round 1 of 3: hello, threads`.
    pub what: String,
    /// How long all of it takes, about.
    pub expected: Duration,
}

/// Whom to tell how far it is.
pub(super) type Observer = Box<dyn FnMut(&Progress)>;

/// Looks at signals and tells how far it is, while something is measured.
pub(super) struct Watch<'a> {
    signals: SignalFd,
    observer: &'a mut Observer,
    progress: Progress,
    /// Expected for the steps that are over, and for this one.
    done: Duration,
    step: Duration,
    began: Instant,
    told: Instant,
    over: bool,
}

impl<'a> Watch<'a> {
    /// From now on signals that end the process wait until they are looked at.
    ///
    /// # Errors
    ///
    /// When the system has no descriptor for them.
    pub(super) fn new(observer: &'a mut Observer, expected: Duration) -> Result<Self> {
        // Who was started to outlive its terminal does.
        let signals = match signal::is_ignored(SIGHUP) {
            true => SignalFd::new(&[SIGINT, SIGQUIT, SIGTERM]),
            false => SignalFd::new(&[SIGINT, SIGQUIT, SIGTERM, SIGHUP]),
        };
        let signals = signals.map_err(Error::io("signals"))?;
        let now = Instant::now();
        Ok(Self {
            signals,
            observer,
            progress: Progress {
                expected,
                ..Progress::default()
            },
            done: Duration::ZERO,
            step: Duration::ZERO,
            began: now,
            told: now,
            over: false,
        })
    }

    /// What is measured from now on, and how long that should take.
    pub(super) fn begin(&mut self, what: String, expected: Duration) {
        self.done += self.step;
        self.step = expected;
        self.began = Instant::now();
        self.progress.what = what;
        self.tell();
    }

    /// All is done.
    pub(super) fn end(&mut self) {
        self.begin(String::new(), Duration::ZERO);
    }

    fn tell(&mut self) {
        let done = self.done + self.began.elapsed().min(self.step);
        let expected = self.progress.expected.as_secs_f64();
        self.progress.share = (done.as_secs_f64() / expected).clamp(0.0, 1.0);
        self.told = Instant::now();
        (self.observer)(&self.progress);
    }

    /// To be called again and again.
    ///
    /// # Errors
    ///
    /// When a signal says that it is to end.
    pub(super) fn tick(&mut self) -> Result<()> {
        if self.told.elapsed() >= TICK {
            self.tell();
        }
        match self.signals.read().map_err(Error::io("signals"))? {
            Some(signal) => {
                self.over = true;
                let name = signal_name(signal).unwrap_or("a signal");
                Err(Error::Failed(format!("ended by {name}")))
            }
            None => Ok(()),
        }
    }

    /// Whether a signal has said that it is to end.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Waits for what may take a while, on a thread of its own.
    ///
    /// # Errors
    ///
    /// When it takes longer than that, and as [`Watch::tick`]; then nobody waits for it any more.
    pub(super) fn wait<T: Send + 'static>(
        &mut self,
        at_most: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let deadline = Instant::now() + at_most;
        meanwhile(work, TICK, || {
            self.tick()?;
            match Instant::now() < deadline {
                true => Ok(()),
                false => Err(Error::Failed(format!("no answer within {at_most:?}"))),
            }
        })
    }

    /// Lets time pass.
    ///
    /// # Errors
    ///
    /// As [`Watch::tick`].
    pub(super) fn pause(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            self.tick()?;
            match end.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Ok(()),
                left => thread::sleep(left.min(TICK)),
            }
        }
    }

    /// Waits for the end of a load test.
    ///
    /// # Errors
    ///
    /// As [`Watch::tick`].
    pub(super) fn finish(&mut self, test: Running) -> Result<Report> {
        while !test.wait(TICK) {
            self.tick()?;
        }
        Ok(test.finish())
    }

    /// Runs a load test.
    ///
    /// # Errors
    ///
    /// When it cannot begin, and as [`Watch::tick`].
    pub(super) fn run(&mut self, test: Loadtest) -> Result<Report> {
        let test = test.start()?;
        self.finish(test)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // One that waits now has done what it was for.
        while let Ok(Some(_)) = self.signals.read() {}
        self.signals.restore_mask();
    }
}

/// What a thread of its own makes of something that may take long, as looking up a name or asking a
/// server does. `look` is called again and again meanwhile.
///
/// # Errors
///
/// That of `look`: then nobody waits for the thread any more. When there is no room for a thread.
pub(crate) fn meanwhile<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    every: Duration,
    mut look: impl FnMut() -> Result<()>,
) -> Result<T> {
    let (sender, receiver) = mpsc::channel();
    let act = move || drop(sender.send(work()));
    let thread = thread::Builder::new().name("question".to_owned());
    thread.spawn(act).map_err(Error::io("a thread"))?;
    loop {
        match receiver.recv_timeout(every) {
            Ok(made) => return Ok(made),
            Err(RecvTimeoutError::Timeout) => look()?,
            // Its panic has been told of already.
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::Failed("a thread panicked".to_owned()));
            }
        }
    }
}
