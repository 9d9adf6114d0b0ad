//! `GET /events`: a numbered tick each second. One thread for all streams of a process, while there
//! are any.

use crate::{EventSender, Request, Response, ServerEvent};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(1);

/// How soon a page comes back that was cut off.
const RETRY: Duration = Duration::from_millis(500);

/// One open stream.
struct Stream {
    events: EventSender,
    /// The number of its next tick.
    next: u64,
    /// When that is due.
    due: Instant,
}

impl Stream {
    fn tick(&mut self, first: bool) -> bool {
        let mut event = ServerEvent::new(format!("tick {}", self.next)).id(self.next);
        if first {
            event = event.retry(RETRY);
        }
        self.next = self.next.saturating_add(1);
        self.events.try_send(&event).is_ok()
    }
}

/// What waits for its next tick, in that order: each waits equally long.
struct Streams {
    waiting: VecDeque<Stream>,
    /// Somebody is at it.
    ticking: bool,
}

static STREAMS: Mutex<Streams> = Mutex::new(Streams {
    waiting: VecDeque::new(),
    ticking: false,
});

fn streams() -> MutexGuard<'static, Streams> {
    STREAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins at 1, or behind the event that the page says it had.
pub(super) fn events(request: Request) -> Result<Response, Response> {
    let last = request.last_event_id().and_then(|id| id.parse().ok());
    let (events, response) = Response::events();
    let mut streams = streams();
    // Under the lock, so that the last to come is the last that is due.
    let mut stream = Stream {
        events,
        next: last.map_or(1, |last: u64| last.saturating_add(1)),
        due: Instant::now() + EVERY,
    };
    stream.tick(true);
    streams.waiting.push_back(stream);
    if !streams.ticking {
        let ticker = thread::Builder::new().name("ticks".to_owned());
        match ticker.spawn(tick) {
            Ok(_) => streams.ticking = true,
            Err(error) => {
                streams.waiting.clear();
                log::error!("no thread for ticks: {error}");
                return Err(Response::text("503 Service Unavailable\n").with_status(503));
            }
        }
    }
    Ok(response)
}

/// Ticks until there is no stream.
fn tick() {
    loop {
        let mut streams = streams();
        let now = Instant::now();
        while streams.waiting.front().is_some_and(|one| one.due <= now) {
            let Some(mut stream) = streams.waiting.pop_front() else {
                break;
            };
            if stream.tick(false) {
                stream.due = now + EVERY;
                streams.waiting.push_back(stream);
            }
        }
        let Some(first) = streams.waiting.front() else {
            streams.ticking = false;
            return;
        };
        let due = first.due;
        drop(streams);
        thread::sleep(due.saturating_duration_since(now));
    }
}
