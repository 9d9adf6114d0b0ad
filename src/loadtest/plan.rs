//! What a load test is to do. Owns the defaults and which wishes make no sense together.

use super::{Error, Result};
use std::time::Duration;

/// Clients at once, unless asked otherwise: loadtest's number.
pub(crate) const CONCURRENCY: usize = 10;

/// How long a run takes when neither a number of requests nor a time is given: loadtest's.
pub(crate) const USUAL_TIME: Duration = Duration::from_secs(10);

/// The most connections that make sense from one address of a machine.
pub(crate) const MOST_CONNECTIONS: usize = 65_000;

/// The most requests on their way on one connection.
pub(crate) const DEEPEST_PIPELINE: usize = 1024;

/// A load test: what is asked for, how often, by how many clients.
///
/// # Examples
///
/// ```no_run
/// use mcluster::loadtest::Loadtest;
///
/// # fn main() -> mcluster::loadtest::Result<()> {
/// let report = Loadtest::new("http://127.0.0.1:3000/")
///     .requests(1000)
///     .concurrency(10)
///     .keep_alive(true)
///     .run()?;
/// assert_eq!(report.completed, 1000);
/// println!("p99 {:?}", report.latency.quantile(0.99));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Loadtest {
    pub(crate) url: String,
    pub(crate) requests: Option<u64>,
    pub(crate) time: Option<Duration>,
    pub(crate) concurrency: usize,
    pub(crate) rate: Option<f64>,
    pub(crate) keep_alive: bool,
    pub(crate) pipeline: usize,
    pub(crate) method: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) cookies: Vec<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) cores: Option<usize>,
}

impl Loadtest {
    /// Ten clients for ten seconds, each with a connection for each request.
    ///
    /// `url` is `http://HOST[:PORT][/PATH]` or, for echo round trips, `ws://`; it is looked at when the
    /// test starts.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            requests: None,
            time: None,
            concurrency: CONCURRENCY,
            rate: None,
            keep_alive: false,
            pipeline: 1,
            method: None,
            headers: Vec::new(),
            cookies: Vec::new(),
            content_type: None,
            body: Vec::new(),
            timeout: None,
            cores: None,
        }
    }

    /// Ends after exactly so many requests.
    #[must_use]
    pub fn requests(mut self, requests: u64) -> Self {
        self.requests = Some(requests);
        self
    }

    /// Sends no request after that time. Those on their way are waited for.
    ///
    /// With a [`rate`](Self::rate) nothing is planned after that time: what was planned before and is
    /// late is still sent.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }

    /// At most so many connections at once, over all threads.
    #[must_use]
    pub fn concurrency(mut self, connections: usize) -> Self {
        self.concurrency = connections;
        self
    }

    /// Sends so many requests a second by a schedule that never slips, instead of one as soon as another
    /// is answered. It may be fractional.
    #[must_use]
    pub fn rate(mut self, requests_a_second: f64) -> Self {
        self.rate = Some(requests_a_second);
        self
    }

    /// Whether connections are kept from request to request.
    #[must_use]
    pub fn keep_alive(mut self, keep: bool) -> Self {
        self.keep_alive = keep;
        self
    }

    /// So many requests on their way on each connection, which is kept (RFC 9112 section 9.3.2).
    #[must_use]
    pub fn pipeline(mut self, requests: usize) -> Self {
        self.pipeline = requests;
        self.keep_alive |= requests > 1;
        self
    }

    /// The method: GET, or POST with a body, unless it is said.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// A field of the requests. It takes the place of one that would be there otherwise (`Host`,
    /// `User-Agent`, `Accept`).
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A cookie, as `NAME=VALUE`.
    #[must_use]
    pub fn cookie(mut self, pair: &str) -> Self {
        self.cookies.push(pair.to_owned());
        self
    }

    /// The body of the requests, or the message to a WebSocket.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The media type of the body, `text/plain` unless it is said.
    #[must_use]
    pub fn content_type(mut self, media_type: &str) -> Self {
        self.content_type = Some(media_type.to_owned());
        self
    }

    /// What takes longer from its beginning counts as a time-out, and its connection is closed. Requests
    /// behind it are sent again on a new one if their method is idempotent, else they are lost with it.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = Some(time);
        self
    }

    /// So many threads of one loop each; half of the CPUs unless it is said.
    #[must_use]
    pub fn cores(mut self, cores: usize) -> Self {
        self.cores = Some(cores);
        self
    }

    /// Whether the numbers make sense.
    ///
    /// # Errors
    ///
    /// Which does not.
    pub(crate) fn judge(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::Usage(what));
        match self {
            _ if !(1..=MOST_CONNECTIONS).contains(&self.concurrency) => refuse(format!(
                "the concurrency is a number from 1 to {MOST_CONNECTIONS}"
            )),
            _ if !(1..=DEEPEST_PIPELINE).contains(&self.pipeline) => refuse(format!(
                "the pipeline is a number from 1 to {DEEPEST_PIPELINE}"
            )),
            _ if self
                .rate
                .is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) =>
            {
                refuse("the rate is a number above 0".to_owned())
            }
            _ if self.requests == Some(0) => refuse("no requests are no test".to_owned()),
            _ if self.cores == Some(0) => refuse("no threads are no test".to_owned()),
            _ => Ok(()),
        }
    }

    /// How long it may send: the time that was given, else the usual one where no number limits it.
    pub(crate) fn limit(&self) -> Option<Duration> {
        match (self.time, self.requests) {
            (None, None) => Some(USUAL_TIME),
            (time, _) => time,
        }
    }
}
