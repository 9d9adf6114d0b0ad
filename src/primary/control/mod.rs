//! The control interface: HTTP on a socket of this user's alone, and the same pages to read on TCP.
//!
//! The primary serves it with the crate's own [`Server`] on its own loop. `routes` says what may be
//! asked; an answer that needs the primary is made there, after the turn's events, and one that
//! waits for a change when the change has come about. `figures` gathers the cluster's figures,
//! `stream` tells subscribers what happens.

mod figures;
mod routes;
mod sockets;
mod stream;

pub(super) use figures::Samples;
pub(super) use sockets::{Access, Sockets};

use super::peek::is_peeked;
use super::program::{is_notice, is_output};
use super::supervisor::{Change, Outcome};
use super::{Error, Event, Primary, Result};
use crate::app::Response;
use crate::net::{Reactor, Ready};
use crate::server::{BESIDE, Limits, Server};
use crate::status::Verdict;
use crate::sys::listener::Listener;
use crate::worker::WorkerId;
use routes::{Asked, Queue, refused, verdict};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream::Subscriber;

/// The tokens of the control socket and of the pages on TCP.
const CONTROL: usize = 1;
const ADMIN: usize = 2;

/// Connections of the control socket, and of the pages on TCP.
const MOST: usize = 256;
const MOST_ONLOOKERS: usize = 64;

/// How long the last answers may take to get out.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Somebody who waits for a change.
#[derive(Debug)]
struct Waiting {
    ticket: u64,
    what: Awaited,
}

/// What is waited for.
#[derive(Debug)]
enum Awaited {
    Change {
        change: Change,
        /// How many starts had failed when it was asked for.
        failed_starts: u64,
    },
    Exit(WorkerId),
    Stop,
}

/// The control server and those who wait for something at it.
pub(super) struct Console {
    server: Server,
    /// That of the pages on TCP, with a limit of its own: those who look on take nothing from those
    /// who steer.
    onlookers: Server,
    queue: Queue,
    name: String,
    /// The control socket's, to be removed at the end.
    listener: Option<Listener>,
    /// That of the pages on TCP.
    admin: Option<Listener>,
    waiting: Vec<Waiting>,
    subscribers: Vec<Subscriber>,
    samples: Samples,
    /// Events told so far: each has a number.
    told: u64,
    /// When the next figures, or the next sign of life, are due at subscribers.
    tick_at: Option<Instant>,
    /// When subscribers last heard anything.
    heard_at: Instant,
    /// When the last turn began.
    turned_at: Instant,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("name", &self.name)
            .field("waiting", &self.waiting.len())
            .field("subscribers", &self.subscribers.len())
            .finish_non_exhaustive()
    }
}

impl Console {
    /// The server on sockets that listen already.
    pub(super) fn on(
        name: &str,
        control: Option<Listener>,
        admin: Option<Listener>,
        registry: &mio::Registry,
    ) -> Result<Option<Self>> {
        if control.is_none() && admin.is_none() {
            return Ok(None);
        }
        let queue = Queue::default();
        let app = Arc::new(routes::app(&queue));
        let server = |connections| {
            let limits = Limits {
                connections,
                body: 64 * 1024,
                ..Limits::default()
            };
            Server::new(Arc::clone(&app), limits, 0, 0, None, None)
        };
        let (mut server, mut onlookers) = (server(MOST), server(MOST_ONLOOKERS).beside());
        let mut kept = None;
        if let Some(listener) = control {
            log::info!("control socket {}", listener.address());
            let copy = listener.try_clone().map_err(Error::io("control socket"))?;
            kept = Some(listener);
            server
                .listen(registry, copy, CONTROL)
                .map_err(Error::io("control socket"))?;
        }
        if let Some(listener) = &admin {
            log::info!("admin pages on http://{}", listener.address());
            let copy = listener.try_clone().map_err(Error::io("admin pages"))?;
            onlookers
                .listen(registry, copy, ADMIN)
                .map_err(Error::io("admin pages"))?;
        }
        Ok(Some(Self {
            server,
            onlookers,
            queue,
            name: name.to_owned(),
            listener: kept,
            admin,
            waiting: Vec::new(),
            subscribers: Vec::new(),
            samples: Samples::default(),
            told: 0,
            tick_at: None,
            heard_at: Instant::now(),
            turned_at: Instant::now(),
        }))
    }

    /// The control socket and that of the pages, for the next program.
    pub(super) fn sockets(&self) -> (Option<&Listener>, Option<&Listener>) {
        (self.listener.as_ref(), self.admin.as_ref())
    }

    /// Whether an event with this token is the console's.
    pub(super) fn owns(token: usize) -> bool {
        // Connections have their generation in the upper half of their token.
        let of_programs = is_output(token) || is_notice(token);
        let key = token >> 32 != 0 && !is_peeked(token) && !of_programs;
        token == CONTROL || token == ADMIN || key
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        if !self.queue.is_empty() {
            return Some(self.turned_at);
        }
        let servers = [self.server.deadline(), self.onlookers.deadline()];
        servers.into_iter().chain([self.tick_at]).flatten().min()
    }

    /// Has the server do what it can, before anything else is asked.
    fn turn(&mut self, reactor: &Reactor, ready: &[Ready]) {
        self.turned_at = reactor.now();
        self.server.begin(self.turned_at);
        self.onlookers.begin(self.turned_at);
        for ready in ready {
            let server = match ready.token {
                CONTROL => &mut self.server,
                ADMIN => &mut self.onlookers,
                token => self.server_of(token as u64),
            };
            server.ready(reactor.registry(), *ready);
        }
        for server in [&mut self.server, &mut self.onlookers] {
            server.proceed(reactor.registry());
            server.end();
        }
    }

    /// The server that has the connection with this token or ticket.
    fn server_of(&mut self, ticket: u64) -> &mut Server {
        match ticket & BESIDE {
            0 => &mut self.server,
            _ => &mut self.onlookers,
        }
    }

    fn answer(&mut self, registry: &mio::Registry, ticket: u64, response: Response) {
        self.server_of(ticket).answer(registry, ticket, response);
    }
}

impl Primary {
    /// Serves the control interface: what has come, and what was waited for.
    pub(super) fn serve_console(&mut self, ready: &[Ready]) {
        let Some(console) = &mut self.console else {
            return;
        };
        console.turn(&self.reactor, ready);
        // An answer lets its connection go on, whose next question is for the next turn: a client
        // that asks without end would have the loop for itself.
        for (ticket, asked) in console.queue.take() {
            self.asked(ticket, asked);
        }
        self.tick();
    }

    fn answer(&mut self, ticket: u64, response: Response) {
        if let Some(console) = &mut self.console {
            console.answer(self.reactor.registry(), ticket, response);
        }
    }

    fn asked(&mut self, ticket: u64, asked: Asked) {
        let what = match asked {
            Asked::Status => {
                let status = self.status();
                return self.answer(ticket, routes::json(200, &status));
            }
            Asked::Metrics => {
                let metrics = crate::status::prometheus::metrics(&self.status());
                return self.answer(ticket, routes::metrics(metrics));
            }
            Asked::Health => {
                let now = self.reactor.now();
                let alive = self.members.iter().any(|one| one.serves(now));
                return self.answer(ticket, routes::health(alive));
            }
            Asked::Events { figures } => return self.subscribe(ticket, figures),
            #[cfg(feature = "programs")]
            Asked::Logs(wish) => {
                let told = self.told_output(wish);
                let response = told.unwrap_or_else(routes::no_logs);
                return self.answer(ticket, response);
            }
            Asked::Scale(workers) => match self.supervisor.must_manage() {
                Err(why) => Err(why),
                Ok(()) => match self.supervisor.scale(workers) {
                    Ok(change) => {
                        log::info!("{workers} workers, by the control socket");
                        Ok(change)
                    }
                    Err(why) => return self.answer(ticket, refused(400, why)),
                },
            },
            Asked::Reload => self.begin_reload(),
            Asked::Restart => self.begin_restart(),
            Asked::Schedule(policy) => {
                let what = format!("schedule {policy}");
                let response = match self.set_policy(policy) {
                    Err(why) => refused(400, why),
                    // Programs learn of it when they start: that takes a while, and may fail.
                    Ok(()) if self.wishes.reload_again => match self.begin_reload() {
                        Ok(change) => {
                            let failed_starts = self.supervisor.failed_starts();
                            let what = Awaited::Change {
                                change,
                                failed_starts,
                            };
                            return self.await_it(ticket, what);
                        }
                        Err(_) => {
                            let what = format!("{what}, by another reload after the present one");
                            verdict(Verdict::Done, what)
                        }
                    },
                    Ok(()) => verdict(Verdict::Done, what),
                };
                return self.answer(ticket, response);
            }
            Asked::Stop => {
                self.await_it(ticket, Awaited::Stop);
                return self.stop();
            }
            Asked::Disconnect(id) => {
                if self.members.get(id).is_none() {
                    return self.answer(ticket, routes::nobody(id));
                }
                self.disconnect(id);
                return self.await_it(ticket, Awaited::Exit(id));
            }
            Asked::Kill(id, signal) => return self.asked_to_kill(ticket, id, signal),
        };
        match what {
            Ok(change) => {
                let failed_starts = self.supervisor.failed_starts();
                let what = Awaited::Change {
                    change,
                    failed_starts,
                };
                self.await_it(ticket, what);
            }
            Err(why) => self.answer(ticket, refused(409, why)),
        }
    }

    fn asked_to_kill(&mut self, ticket: u64, id: WorkerId, signal: i32) {
        if self.members.get(id).is_none() {
            return self.answer(ticket, routes::nobody(id));
        }
        match self.signal_worker(id, signal) {
            Err(why) => self.answer(ticket, verdict(Verdict::Failed, why)),
            // What these do to a worker is known, and worth waiting for.
            Ok(()) if [libc::SIGKILL, libc::SIGTERM, libc::SIGQUIT].contains(&signal) => {
                self.await_it(ticket, Awaited::Exit(id));
            }
            Ok(()) => {
                let what = format!("signal {signal} sent to worker {id}");
                self.answer(ticket, verdict(Verdict::Done, what));
            }
        }
    }

    fn await_it(&mut self, ticket: u64, what: Awaited) {
        if let Some(console) = &mut self.console {
            console.waiting.push(Waiting { ticket, what });
        }
    }

    /// Answers those whose change has come about, or has failed.
    pub(super) fn conclude_changes(&mut self) {
        let Some(console) = &mut self.console else {
            return;
        };
        let supervisor = &self.supervisor;
        let over = console
            .waiting
            .extract_if(.., |waiting| match waiting.what {
                Awaited::Change {
                    change,
                    failed_starts,
                } => supervisor.outcome(change, failed_starts) != Outcome::Pending,
                Awaited::Exit(_) | Awaited::Stop => false,
            });
        for Waiting { ticket, what } in over.collect::<Vec<_>>() {
            let Awaited::Change {
                change,
                failed_starts,
            } = what
            else {
                continue;
            };
            let count = self.supervisor.wanted();
            let response = match self.supervisor.outcome(change, failed_starts) {
                Outcome::Failed => {
                    let why = format!("{}: {}", failed(change), self.last_exit);
                    verdict(Verdict::Failed, why)
                }
                Outcome::Done | Outcome::Pending => verdict(Verdict::Done, done(change, count)),
            };
            self.answer(ticket, response);
        }
    }

    /// Tells subscribers what happened, and those who waited for just that.
    pub(super) fn note(&mut self, event: &Event) {
        let Some(console) = &mut self.console else {
            return;
        };
        console.publish(event);
        let Event::Exit {
            worker, pid, how, ..
        } = event
        else {
            return;
        };
        let over = console.waiting.extract_if(
            ..,
            |waiting| matches!(waiting.what, Awaited::Exit(id) if id == *worker),
        );
        for waiting in over.collect::<Vec<_>>() {
            let what = format!("worker {worker} (pid {pid}) is gone: {how}");
            self.answer(waiting.ticket, verdict(Verdict::Done, what));
        }
    }

    /// The last answers of a primary that stops. `failed` is why, if it did not stop in order.
    pub(super) fn close_console(&mut self, failed: Option<&str>) {
        let Some(mut console) = self.console.take() else {
            return;
        };
        #[cfg(feature = "programs")]
        self.end_followers();
        let registry = self.reactor.registry();
        for Waiting { ticket, what } in std::mem::take(&mut console.waiting) {
            let response = match (&what, failed) {
                (_, Some(why)) => verdict(Verdict::Failed, why.to_owned()),
                (Awaited::Stop, None) => verdict(Verdict::Done, "stopped".to_owned()),
                (_, None) => verdict(Verdict::Failed, "the cluster has stopped".to_owned()),
            };
            console.answer(registry, ticket, response);
        }
        console.end_streams();
        if let Some(listener) = &console.listener
            && let Err(error) = listener.unlink()
        {
            log::warn!("{} cannot be removed: {error}", listener.address());
        }
        console.server.drain(registry, false);
        console.onlookers.drain(registry, false);
        let end = Instant::now() + LAST_WORDS;
        let open = |console: &Console| !(console.server.is_empty() && console.onlookers.is_empty());
        while open(&console) && self.reactor.now() < end {
            let deadline = console.deadline().map_or(end, |at| at.min(end));
            if self.reactor.wait(Some(deadline)).is_err() {
                break;
            }
            let ready: Vec<Ready> = self.reactor.ready().collect();
            let ours: Vec<Ready> = ready
                .into_iter()
                .filter(|one| Console::owns(one.token))
                .collect();
            console.turn(&self.reactor, &ours);
            for (ticket, _) in console.queue.take() {
                let late = "the cluster has stopped".to_owned();
                let late = verdict(Verdict::Failed, late);
                console.answer(self.reactor.registry(), ticket, late);
            }
        }
    }
}

fn done(change: Change, workers: usize) -> String {
    match change {
        Change::Scale => format!("{workers} workers"),
        Change::Reload { .. } => format!("reloaded: {workers} new workers"),
        Change::Restart { .. } => format!("restarted: {workers} new workers"),
    }
}

fn failed(change: Change) -> &'static str {
    match change {
        Change::Scale => "a new worker failed, and is tried again",
        Change::Reload { .. } => "not reloaded, the workers before stay: the new one failed",
        Change::Restart { .. } => "a new worker failed, and is tried again",
    }
}
