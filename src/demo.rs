//! The built-in application: what `mcluster` serves when it is given nothing else.
//!
//! Written against the public library alone, as a user would.

mod ticks;

use crate::session::{Session, SessionError, Sessions};
use crate::ws;
use crate::{App, Mode, Request, Response, abandon_worker, after, pooled};
use std::cell::OnceCell;
use std::sync::OnceLock;
use std::time::Duration;

/// What `/heavy` counts to, unless asked otherwise, and at most.
const HEAVY: u64 = 5_000_000;
const HEAVIEST: u64 = 10_000_000_000;

/// The longest that `/slow` and `/hang` take.
const LONGEST: Duration = Duration::from_secs(3600);

/// The routes; with `chaos` also those that break a worker on purpose.
pub(crate) fn app(mode: Mode, chaos: bool, sessions: &Sessions) -> App {
    let app = App::new()
        .get("/", move |request: Request| home(mode, &request))
        .get("/heavy", pooled(heavy))
        .get("/slow", slow)
        .post("/echo", echo)
        .get("/ws", echo_messages)
        .get("/stream", stream)
        .get("/status/{code}", status)
        .get("/session", sessions.with(visits))
        .get("/events", ticks::events);
    let app = if chaos { with_chaos(app) } else { app };
    // What clients send comes back to them: no browser is to guess what it is.
    app.wrap(|request, next| {
        let careful = |response: Response| response.or_header("X-Content-Type-Options", "nosniff");
        next.run(request).map(careful)
    })
}

fn with_chaos(app: App) -> App {
    app.get("/crash", |_| -> Response { std::process::abort() })
        .get("/panic", |request: Request| -> Response {
            match request.query_value("worker") {
                // What no handler's 500 contains: in threads mode the only way to lose one worker.
                Some(_) => abandon_worker("GET /panic?worker"),
                None => panic!("GET /panic"),
            }
        })
        .get("/hang", |request: Request| match millis(&request) {
            Ok(time) => {
                std::thread::sleep(time);
                Ok(format!("hung for {} ms\n", time.as_millis()))
            }
            Err(refusal) => Err(refusal),
        })
}

fn home(mode: Mode, request: &Request) -> &'static str {
    // Asked once a process: handlers run after the fork.
    static LINE: OnceLock<String> = OnceLock::new();
    let line = LINE.get_or_init(|| format!("Handled by process {}\n", std::process::id()));
    thread_local! {
        /// The same of a worker that is a thread. Some bytes that the thread leaves behind.
        static OWN: OnceCell<&'static str> = const { OnceCell::new() };
    }
    match mode {
        Mode::Processes => line,
        Mode::Threads => OWN.with(|own| {
            let whole = || format!("{} thread {}\n", line.trim_end(), request.worker());
            *own.get_or_init(|| whole().leak())
        }),
    }
}

fn bad(what: &str) -> Response {
    Response::text(format!("400 Bad Request: {what}\n")).with_status(400)
}

/// The value of `name` in the query, from 0 to `most`; `default` where it is absent.
fn number(request: &Request, name: &str, default: u64, most: u64) -> Result<u64, Response> {
    let Some(value) = request.query_value(name) else {
        return Ok(default);
    };
    match value.parse() {
        Ok(number) if number <= most => Ok(number),
        _ => Err(bad(&format!("{name} is a number from 0 to {most}"))),
    }
}

fn millis(request: &Request) -> Result<Duration, Response> {
    let most = LONGEST.as_millis() as u64;
    number(request, "ms", 1000, most).map(Duration::from_millis)
}

fn heavy(request: Request) -> Result<String, Response> {
    let n = number(&request, "n", HEAVY, HEAVIEST)?;
    // One by one, which black_box keeps the optimizer from taking together.
    let total = (0..n).fold(0u64, |total, _| std::hint::black_box(total + 1));
    Ok(format!("Total: {total}\n"))
}

fn slow(request: Request) -> crate::Reply {
    match millis(&request) {
        Ok(time) => after(time, move || format!("waited {} ms\n", time.as_millis())),
        Err(refusal) => crate::Reply::Now(refusal),
    }
}

fn echo(request: Request) -> Response {
    let content_type = request.header("content-type").map(<[u8]>::to_vec);
    let response = Response::bytes(request.into_body());
    match content_type {
        Some(content_type) => response.header("Content-Type", content_type),
        None => response,
    }
}

fn echo_messages(request: Request) -> ws::Upgrade {
    ws::upgrade(&request).on_message(|socket, message| {
        // Refused only once it is closed: then there is nobody to tell.
        let _ = socket.send(message);
    })
}

fn stream(request: Request) -> Result<Response, Response> {
    let n = number(&request, "n", 10, u64::MAX)?;
    Ok(Response::stream((1..=n).map(|line| format!("{line}\n"))))
}

/// Counts its client's visits in the session.
fn visits(request: Request, session: &mut Session) -> Result<String, SessionError> {
    let count = |data: &[u8]| -> u64 {
        let text = std::str::from_utf8(data).ok();
        text.and_then(|text| text.parse().ok()).unwrap_or_default()
    };
    let more = |data: &[u8]| count(data).saturating_add(1).to_string().into_bytes();
    let visits = count(session.update(more)?);
    Ok(format!("visits {visits}, worker {}\n", request.worker()))
}

fn status(request: Request) -> Response {
    let code = request.param("code").and_then(|code| code.parse().ok());
    match code {
        Some(code @ 200..=599) => {
            let reason = crate::http::reason(code);
            let response = Response::text(format!("{code} {reason}\n")).with_status(code);
            // What RFC 9110 15.5 has these carry.
            match code {
                401 => response.header("WWW-Authenticate", "Basic realm=\"status\""),
                405 => response.header("Allow", "GET, HEAD, OPTIONS"),
                407 => response.header("Proxy-Authenticate", "Basic realm=\"status\""),
                426 => response.header("Upgrade", "websocket"),
                _ => response,
            }
        }
        _ => bad("the code is a number from 200 to 599"),
    }
}
