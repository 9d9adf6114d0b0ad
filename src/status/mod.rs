//! What a cluster says of itself: its figures, what happens in it, and what came of a wish.
//!
//! Values that go over the control socket as JSON, the same for who writes and who reads them.
//! Pure: gathering the figures is left to `primary`, showing them to `cli`; `prometheus` writes
//! them as text for a monitor. A reader ignores members that it does not know.

pub(crate) mod prometheus;

use crate::metrics::jain;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of these shapes. It changes when what is there changes its meaning or goes.
pub(crate) const SCHEMA: u32 = 1;

/// A cluster, now: the answer to `GET /status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// [`SCHEMA`] of who wrote it.
    pub(crate) schema: u32,
    pub(crate) name: String,
    /// Of the program.
    #[serde(default)]
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) mode: String,
    #[serde(default)]
    pub(crate) schedule: String,
    /// The primary's process.
    #[serde(default)]
    pub(crate) pid: i32,
    /// Seconds since the primary began.
    #[serde(default)]
    pub(crate) uptime_s: f64,
    /// Where it listens: `http://127.0.0.1:3000`, `unix:/run/app.sock`.
    #[serde(default)]
    pub(crate) listeners: Vec<String>,
    /// How many workers there should be.
    #[serde(default)]
    pub(crate) wanted: u32,
    /// How many reloads there were.
    #[serde(default)]
    pub(crate) generation: u64,
    pub(crate) workers: Vec<Worker>,
    #[serde(default)]
    pub(crate) distribution: Distribution,
    #[serde(default)]
    pub(crate) lost: Lost,
    #[serde(default)]
    pub(crate) totals: Totals,
}

/// One worker, now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Worker {
    pub(crate) id: u32,
    /// Its process; in threads mode the primary's.
    #[serde(default)]
    pub(crate) pid: i32,
    /// The place that it fills, from 0. Its successor fills the same.
    #[serde(default)]
    pub(crate) place: u32,
    /// How many reloads there were before it.
    #[serde(default)]
    pub(crate) generation: u64,
    #[serde(default)]
    pub(crate) state: State,
    /// Seconds since its fork.
    #[serde(default)]
    pub(crate) uptime_s: f64,
    /// How many workers this place has had before.
    #[serde(default)]
    pub(crate) restarts: u64,
    /// Connections open now.
    #[serde(default)]
    pub(crate) connections: u64,
    /// Connections taken since it began.
    #[serde(default)]
    pub(crate) accepted: u64,
    /// Requests answered since it began.
    #[serde(default)]
    pub(crate) requests: u64,
    /// Requests at a handler now.
    #[serde(default)]
    pub(crate) in_flight: u64,
    /// Of one CPU, lately.
    #[serde(default)]
    pub(crate) cpu_percent: Option<f64>,
    #[serde(default)]
    pub(crate) rss_bytes: Option<u64>,
    #[serde(default)]
    pub(crate) pss_bytes: Option<u64>,
    /// How long its loop has been busy without a turn, in milliseconds.
    #[serde(default)]
    pub(crate) loop_lag_ms: u64,
    #[serde(default)]
    pub(crate) pool: Pool,
    #[serde(default)]
    pub(crate) latency_us: Latency,
    /// What it stands still in, when it does.
    #[serde(default)]
    pub(crate) stuck: Option<Stuck>,
}

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    #[default]
    Forked,
    Online,
    Listening,
    Disconnecting,
    Dead,
    Stuck,
}

impl State {
    pub(crate) const ALL: [Self; 6] = [
        Self::Forked,
        Self::Online,
        Self::Listening,
        Self::Disconnecting,
        Self::Dead,
        Self::Stuck,
    ];

    /// The word for it, as JSON has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Forked => "forked",
            Self::Online => "online",
            Self::Listening => "listening",
            Self::Disconnecting => "disconnecting",
            Self::Dead => "dead",
            Self::Stuck => "stuck",
        }
    }
}

/// A worker's threads for CPU-heavy handlers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Pool {
    pub(crate) threads: u64,
    /// Requests that wait for one.
    pub(crate) waiting: u64,
}

/// Times from a request's last byte to its answer, in microseconds, by the share of requests that
/// took no longer. None before the first answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Latency {
    pub(crate) p50: Option<u64>,
    pub(crate) p90: Option<u64>,
    pub(crate) p99: Option<u64>,
    pub(crate) p999: Option<u64>,
    pub(crate) max: Option<u64>,
}

/// What a loop stands still in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Stuck {
    /// `GET /hang`.
    pub(crate) route: String,
    /// For how long, in milliseconds.
    pub(crate) for_ms: u64,
}

/// How evenly connections went to the workers that live.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Distribution {
    /// Jain's index: 1 when all have the same, one by the number of workers when one has all.
    pub(crate) jain: f64,
    /// What part of all the worker with the most has, from 0 to 1.
    pub(crate) max_share: f64,
}

impl Default for Distribution {
    fn default() -> Self {
        distribution(&[])
    }
}

/// Judges how evenly connections are spread, `accepted` being those of each worker.
pub(crate) fn distribution(accepted: &[u64]) -> Distribution {
    let Some(jain) = jain(accepted.iter().copied()) else {
        return Distribution {
            jain: 1.0,
            max_share: 0.0,
        };
    };
    let shares = accepted.iter().map(|&count| count as f64);
    let total: f64 = shares.clone().sum();
    Distribution {
        jain,
        max_share: shares.fold(0.0, f64::max) / total,
    }
}

/// What was lost since the cluster began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Lost {
    /// Workers that died.
    pub(crate) workers: u64,
    /// Connections that were open at a worker that died.
    pub(crate) connections: u64,
    /// Requests that were in flight at a worker that died.
    pub(crate) requests: u64,
}

/// What all workers together have done, those that are gone included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Totals {
    pub(crate) connections: u64,
    pub(crate) requests: u64,
    /// Answers by class: 1xx to 5xx.
    pub(crate) classes: [u64; 5],
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Answers by latency: the largest of a bucket in microseconds, and how many. Rising, without
    /// empty buckets.
    pub(crate) latency: Vec<(u64, u64)>,
}

/// What came of a wish: the answer to each POST.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) outcome: Verdict,
    /// In words, one line.
    #[serde(default)]
    pub(crate) what: String,
}

/// Whether a wish was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Done,
    /// Tried, and given up.
    Failed,
    /// Not even tried.
    Refused,
}

/// Something that happened: the data of `GET /events`, and with `event` one object by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Event {
    Fork {
        worker: u32,
    },
    Online {
        worker: u32,
        pid: i32,
    },
    Listening {
        worker: u32,
        address: String,
    },
    Disconnect {
        worker: u32,
    },
    Exit {
        worker: u32,
        pid: i32,
        /// In words: `code 0`, `signal 9 (SIGKILL)`.
        how: String,
        #[serde(default)]
        code: Option<i32>,
        #[serde(default)]
        signal: Option<i32>,
        #[serde(default)]
        exited_after_disconnect: bool,
    },
    Message {
        worker: u32,
        bytes: u64,
    },
    Reload {
        outcome: Reload,
        #[serde(default)]
        why: Option<String>,
    },
}

/// How far a reload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reload {
    Began,
    Done,
    Failed,
}

impl Event {
    /// Its name in the stream.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Fork { .. } => "fork",
            Self::Online { .. } => "online",
            Self::Listening { .. } => "listening",
            Self::Disconnect { .. } => "disconnect",
            Self::Exit { .. } => "exit",
            Self::Message { .. } => "message",
            Self::Reload { .. } => "reload",
        }
    }
}

/// In Node's words, as the log has them.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fork { worker } => write!(f, "worker {worker} is forked"),
            Self::Online { worker, pid } => write!(f, "worker {worker} is online (pid {pid})"),
            Self::Listening { worker, address } => {
                write!(f, "worker {worker} is listening on {address}")
            }
            Self::Disconnect { worker } => write!(f, "worker {worker} has disconnected"),
            Self::Exit {
                worker,
                pid,
                how,
                exited_after_disconnect,
                ..
            } => {
                let verb = match exited_after_disconnect {
                    true => "exited",
                    false => "died",
                };
                write!(f, "worker {worker} (pid {pid}) {verb}: {how}")
            }
            Self::Message { worker, bytes } => {
                write!(f, "worker {worker} sent a message of {bytes} bytes")
            }
            Self::Reload { outcome, why } => {
                f.write_str(match outcome {
                    Reload::Began => "a reload began",
                    Reload::Done => "the reload is done",
                    Reload::Failed => "the reload failed",
                })?;
                match why {
                    Some(why) => write!(f, ": {why}"),
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const EXAMPLE: &str = r#"{"schema":1,"name":"mcluster","version":"0.1.0","mode":"processes","schedule":"rr","pid":100,"uptime_s":12.5,"listeners":["http://127.0.0.1:3000"],"wanted":2,"generation":0,"workers":[{"id":1,"pid":101,"place":0,"generation":0,"state":"listening","uptime_s":12.4,"restarts":0,"connections":3,"accepted":120,"requests":4711,"in_flight":0,"cpu_percent":12.5,"rss_bytes":3000000,"pss_bytes":900000,"loop_lag_ms":0,"pool":{"threads":1,"waiting":0},"latency_us":{"p50":31,"p90":60,"p99":200,"p999":900,"max":1000},"stuck":{"route":"GET /hang","for_ms":1200}}],"distribution":{"jain":0.99,"max_share":0.51},"lost":{"workers":0,"connections":0,"requests":0},"totals":{"connections":120,"requests":4711,"classes":[0,4700,0,11,0],"bytes_in":1,"bytes_out":2,"latency":[[31,4000],[223,711]]}}"#;

    #[test]
    fn the_shape_is_the_one_promised() {
        let status: Status = serde_json::from_str(EXAMPLE).unwrap();
        assert_eq!(status.workers[0].state, State::Listening);
        assert_eq!(status.workers[0].stuck.as_ref().unwrap().for_ms, 1200);
        assert_eq!(status.totals.latency, [(31, 4000), (223, 711)]);
        assert_eq!(serde_json::to_string(&status).unwrap(), EXAMPLE);
    }

    #[test]
    fn what_is_missing_has_a_value_and_what_is_new_is_ignored() {
        let little =
            r#"{"schema":1,"name":"a","workers":[{"id":1,"rss_bytes":null,"new":[]}],"more":{}}"#;
        let status: Status = serde_json::from_str(little).unwrap();
        assert_eq!(status.workers[0].rss_bytes, None);
        assert_eq!(status.distribution.jain, 1.0);
        let wrong = [
            "{}",
            "[]",
            "",
            r#"{"schema":1,"name":"a","workers":[{"id":-1}]}"#,
        ];
        for text in wrong {
            assert!(serde_json::from_str::<Status>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_of_states_are_those_of_json() {
        for state in State::ALL {
            let json = serde_json::to_string(&state).unwrap();
            assert_eq!(json, format!("\"{}\"", state.word()));
        }
    }

    #[test]
    fn distributions() {
        let cases: [(&[u64], f64, f64); 6] = [
            (&[], 1.0, 0.0),
            (&[0, 0], 1.0, 0.0),
            (&[7], 1.0, 1.0),
            (&[5, 5, 5, 5], 1.0, 0.25),
            (&[8, 0, 0, 0], 0.25, 1.0),
            (&[1, 3], 0.8, 0.75),
        ];
        for (accepted, jain, max_share) in cases {
            assert_eq!(distribution(accepted), Distribution { jain, max_share });
        }
        let most = distribution(&[u64::MAX, u64::MAX]);
        assert_eq!((most.jain, most.max_share), (1.0, 0.5));
    }

    #[test]
    fn events_in_words_and_in_json() {
        let cases = [
            (r#"{"event":"fork","worker":3}"#, "worker 3 is forked"),
            (
                r#"{"event":"online","worker":3,"pid":103}"#,
                "worker 3 is online (pid 103)",
            ),
            (
                r#"{"event":"listening","worker":3,"address":"http://[::1]:3000"}"#,
                "worker 3 is listening on http://[::1]:3000",
            ),
            (
                r#"{"event":"disconnect","worker":1}"#,
                "worker 1 has disconnected",
            ),
            (
                r#"{"event":"exit","worker":1,"pid":101,"how":"signal 9 (SIGKILL)","code":null,"signal":9,"exited_after_disconnect":false}"#,
                "worker 1 (pid 101) died: signal 9 (SIGKILL)",
            ),
            (
                r#"{"event":"exit","worker":1,"pid":101,"how":"code 0","code":0,"signal":null,"exited_after_disconnect":true}"#,
                "worker 1 (pid 101) exited: code 0",
            ),
            (
                r#"{"event":"message","worker":1,"bytes":10}"#,
                "worker 1 sent a message of 10 bytes",
            ),
            (
                r#"{"event":"reload","outcome":"began","why":null}"#,
                "a reload began",
            ),
            (
                r#"{"event":"reload","outcome":"failed","why":"worker 3 died"}"#,
                "the reload failed: worker 3 died",
            ),
        ];
        for (json, words) in cases {
            let event: Event = serde_json::from_str(json).unwrap();
            assert_eq!(event.to_string(), words);
            assert_eq!(serde_json::to_string(&event).unwrap(), json);
            let start = format!("{{\"event\":\"{}\"", event.name());
            assert!(json.starts_with(&start), "{json}");
        }
    }
}
