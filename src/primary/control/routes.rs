//! What may be asked of a running cluster, and the answers' forms.

use crate::app::{App, Elsewhere, Reply, Request, Response};
use crate::primary::SchedulingPolicy;
#[cfg(feature = "programs")]
use crate::primary::program::Wish;
use crate::status::{Outcome, Verdict};
use crate::sys::process;
use crate::worker::WorkerId;
use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const DASHBOARD: &str = include_str!("dashboard.html");

/// What the page may do (its Content-Security-Policy): nothing from elsewhere.
const POLICY: &str = include_str!("policy.txt");

/// Something for the primary to answer.
#[derive(Debug)]
pub(super) enum Asked {
    Status,
    Metrics,
    Health,
    /// With `figures`, the cluster's as well, each second.
    Events {
        figures: bool,
    },
    /// What workers wrote.
    #[cfg(feature = "programs")]
    Logs(Wish),
    Scale(usize),
    Reload,
    Restart,
    Stop,
    Schedule(SchedulingPolicy),
    Disconnect(WorkerId),
    Kill(WorkerId, i32),
}

/// Questions on their way from a handler to the primary, which is the same thread a moment later.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue(Arc<Mutex<Vec<(u64, Asked)>>>);

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Vec<(u64, Asked)>> {
        // Nothing that could panic happens under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that has been asked so far.
    pub(super) fn take(&self) -> Vec<(u64, Asked)> {
        std::mem::take(&mut *self.waiting())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    /// A handler for what has only to be looked at.
    fn read(&self, asked: fn(&Request) -> Asked) -> impl Fn(Request) -> Reply + use<> {
        let queue = self.clone();
        move |request| queue.put(asked(&request))
    }

    /// A handler for what only the control socket has. The TCP pages are to look at: anybody who
    /// reaches them may.
    fn private(
        &self,
        asked: fn(&Request) -> Result<Asked, String>,
        elsewhere: &'static str,
    ) -> impl Fn(Request) -> Reply + use<> {
        let queue = self.clone();
        move |request| {
            if request.peer().is_some() {
                return Reply::Now(refused(403, elsewhere.to_owned()));
            }
            match asked(&request) {
                Ok(asked) => queue.put(asked),
                Err(why) => Reply::Now(refused(400, why)),
            }
        }
    }

    /// A handler for a change.
    fn change(
        &self,
        asked: fn(&Request) -> Result<Asked, String>,
    ) -> impl Fn(Request) -> Reply + use<> {
        self.private(asked, "changes go through the control socket")
    }

    fn put(&self, asked: Asked) -> Reply {
        let queue = self.clone();
        Reply::Elsewhere(Elsewhere::new(move |ticket| {
            queue.waiting().push((ticket, asked));
        }))
    }
}

/// The routes, whose questions go into `queue`.
pub(super) fn app(queue: &Queue) -> App {
    let app = App::new()
        .get("/", |_| {
            plain(Response::html(DASHBOARD)).header("Content-Security-Policy", POLICY)
        })
        .get("/status", queue.read(|_| Asked::Status))
        .get("/metrics", queue.read(|_| Asked::Metrics))
        .get("/healthz", queue.read(|_| Asked::Health))
        .get(
            "/events",
            queue.read(|request| Asked::Events {
                figures: request.query_value("status").is_some(),
            }),
        )
        .post(
            "/scale",
            queue.change(|request| {
                let words = value(request, "workers")?;
                let workers = words.parse();
                let workers = workers.map_err(|_| format!("{words:?} is no number of workers"))?;
                Ok(Asked::Scale(workers))
            }),
        )
        .post("/reload", queue.change(|_| Ok(Asked::Reload)))
        .post("/restart", queue.change(|_| Ok(Asked::Restart)))
        .post("/stop", queue.change(|_| Ok(Asked::Stop)))
        .post(
            "/schedule",
            queue.change(|request| value(request, "policy")?.parse().map(Asked::Schedule)),
        )
        .post(
            "/workers/{id}/disconnect",
            queue.change(|request| Ok(Asked::Disconnect(worker(request)?))),
        )
        .post(
            "/workers/{id}/kill",
            queue.change(|request| {
                let words = request.query_value("signal").unwrap_or("TERM".into());
                let signal = process::signal_number(&words)
                    .ok_or_else(|| format!("{words:?} is no signal"))?;
                Ok(Asked::Kill(worker(request)?, signal))
            }),
        );
    // What programs write may be secret, and is not for everybody who may look at figures.
    #[cfg(feature = "programs")]
    let app = app.get(
        "/logs",
        queue.private(wish, "logs are told at the control socket alone"),
    );
    app
}

/// Which lines of workers are asked for.
#[cfg(feature = "programs")]
fn wish(request: &Request) -> Result<Asked, String> {
    let number = |name: &str, what: &str| {
        let words = request.query_value(name);
        let number = words.map(|words| {
            let number = words.parse::<u32>();
            number.map_err(|_| format!("{words:?} is no {what}"))
        });
        number.transpose()
    };
    Ok(Asked::Logs(Wish {
        lines: number("lines", "number of lines")?.map_or(usize::MAX, |lines| lines as usize),
        worker: number("worker", "worker's number")?.map(WorkerId),
        follow: request.query_value("follow").is_some(),
    }))
}

/// The answer where workers are no programs.
#[cfg(feature = "programs")]
pub(super) fn no_logs() -> Response {
    let why = "the workers are no programs: what they write goes where the primary's log goes";
    refused(404, why.to_owned())
}

fn value(request: &Request, name: &str) -> Result<String, String> {
    let value = request.query_value(name);
    value
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| format!("{name} is missing: ?{name}=..."))
}

fn worker(request: &Request) -> Result<WorkerId, String> {
    let words = request.param("id").unwrap_or_default();
    words
        .parse()
        .map(WorkerId)
        .map_err(|_| format!("{words:?} is no worker's number"))
}

/// What holds for every answer: it is about this moment, and what it says it is.
fn plain(response: Response) -> Response {
    response.header("Cache-Control", "no-store").nosniff()
}

/// An answer as JSON.
pub(super) fn json(status: u16, value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => plain(Response::text(text + "\n"))
            .header("Content-Type", "application/json")
            .with_status(status),
        Err(error) => Response::text(format!("{error}\n")).with_status(500),
    }
}

/// What has become of a change.
pub(super) fn verdict(outcome: Verdict, what: String) -> Response {
    let status = match outcome {
        Verdict::Done => 200,
        Verdict::Failed => 500,
        Verdict::Refused => 409,
    };
    json(status, &Outcome { outcome, what })
}

/// Why a change was not even tried.
pub(super) fn refused(status: u16, what: String) -> Response {
    let outcome = Verdict::Refused;
    json(status, &Outcome { outcome, what })
}

pub(super) fn nobody(id: WorkerId) -> Response {
    refused(404, format!("there is no worker {id}"))
}

pub(super) fn metrics(text: String) -> Response {
    plain(Response::text(text)).header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
}

pub(super) fn health(alive: bool) -> Response {
    match alive {
        true => plain(Response::text("ok\n")),
        false => plain(Response::text("no worker listens\n")).with_status(503),
    }
}
