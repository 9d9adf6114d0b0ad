//! The figures of a cluster as Prometheus text, format 0.0.4: families of samples, in base units.
//!
//! Cluster-wide families carry no worker, so that they go on counting when one is replaced; those
//! of one worker begin with `mcluster_worker_`.

use super::{State, Status, Worker};
use std::fmt::{Display, Write};

/// Powers of two of a microsecond that the latency histogram has as bounds, 16 µs to 8.4 s: edges
/// of the buckets that latencies are counted in, so that each count is exact.
const BOUNDS: std::ops::RangeInclusive<u32> = 4..=23;

/// All figures of `status`, as `GET /metrics` answers them.
pub(crate) fn metrics(status: &Status) -> String {
    let mut text = Text(String::with_capacity(8192));
    cluster(&mut text, status);
    traffic(&mut text, status);
    for family in WORKER_FAMILIES {
        let (name, kind, help, figure) = family;
        text.family(name, kind, help);
        for worker in &status.workers {
            if let Some(value) = figure(worker) {
                let (id, place) = (worker.id.to_string(), worker.place.to_string());
                text.sample(name, &[("worker", &id), ("place", &place)], value);
            }
        }
    }
    text.0
}

fn cluster(text: &mut Text, status: &Status) {
    let name = "mcluster_info";
    text.family(name, GAUGE, "What runs, always 1.");
    let labels = [
        ("name", status.name.as_str()),
        ("version", &status.version),
        ("mode", &status.mode),
        ("schedule", &status.schedule),
    ];
    text.sample(name, &labels, 1);
    text.single(
        "mcluster_uptime_seconds",
        GAUGE,
        "Time since the primary began.",
        status.uptime_s,
    );
    let name = "mcluster_workers";
    text.family(name, GAUGE, "Workers by state.");
    for state in State::ALL {
        let workers = status.workers.iter();
        let count = workers.filter(|worker| worker.state == state).count();
        text.sample(name, &[("state", state.word())], count);
    }
    let singles = [
        (
            "mcluster_workers_wanted",
            "How many workers there should be.",
            f64::from(status.wanted),
        ),
        (
            "mcluster_distribution_jain",
            "Jain's index of the connections of the living workers: 1 is even.",
            status.distribution.jain,
        ),
        (
            "mcluster_distribution_max_share_ratio",
            "The largest part of all connections that one living worker took.",
            status.distribution.max_share,
        ),
    ];
    for (name, help, value) in singles {
        text.single(name, GAUGE, help, value);
    }
}

fn traffic(text: &mut Text, status: &Status) {
    let (totals, lost) = (&status.totals, &status.lost);
    let name = "mcluster_requests_total";
    text.family(name, COUNTER, "Requests answered, by class of status.");
    for (class, count) in (1..).zip(totals.classes) {
        text.sample(name, &[("class", &format!("{class}xx"))], count);
    }
    let singles = [
        (
            "mcluster_connections_total",
            "Connections that workers took.",
            totals.connections,
        ),
        (
            "mcluster_bytes_received_total",
            "Bytes read from connections.",
            totals.bytes_in,
        ),
        (
            "mcluster_bytes_sent_total",
            "Bytes written to connections.",
            totals.bytes_out,
        ),
        (
            "mcluster_lost_workers_total",
            "Workers that died.",
            lost.workers,
        ),
        (
            "mcluster_lost_connections_total",
            "Connections that were open at workers that died.",
            lost.connections,
        ),
        (
            "mcluster_lost_requests_total",
            "Requests that were in flight at workers that died.",
            lost.requests,
        ),
    ];
    for (name, help, value) in singles {
        text.single(name, COUNTER, help, value);
    }
    latency(text, &totals.latency);
}

fn latency(text: &mut Text, buckets: &[(u64, u64)]) {
    let name = "mcluster_request_duration_seconds";
    let help = "Time from a request's last byte to its answer. The sum is an estimate by bucket.";
    text.family(name, "histogram", help);
    let below = |bound: u64| -> u64 {
        let buckets = buckets.iter().filter(|(upper, _)| *upper < bound);
        buckets.map(|(_, count)| count).sum()
    };
    let bucket = format!("{name}_bucket");
    for bound in BOUNDS.map(|power| 1u64 << power) {
        let le = seconds(bound as f64).to_string();
        text.sample(&bucket, &[("le", &le)], below(bound));
    }
    let count: u64 = buckets.iter().map(|(_, count)| count).sum();
    text.sample(&bucket, &[("le", "+Inf")], count);
    let sum: f64 = buckets
        .iter()
        .map(|&(upper, count)| middle(upper) * count as f64)
        .sum();
    text.sample(&format!("{name}_sum"), &[], seconds(sum));
    text.sample(&format!("{name}_count"), &[], count);
}

/// The middle of the bucket that ends at `upper` microseconds: there are four a power of two.
fn middle(upper: u64) -> f64 {
    let width = match upper {
        0..4 => 1,
        _ => 1u64 << (upper.ilog2() - 2),
    };
    upper as f64 - (width - 1) as f64 / 2.0
}

fn seconds(micros: f64) -> f64 {
    micros / 1e6
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// A family's name, its type, what it is, and the figure of a worker where there is one.
type Family = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Worker) -> Option<f64>,
);

const WORKER_FAMILIES: [Family; 12] = [
    (
        "mcluster_worker_uptime_seconds",
        GAUGE,
        "Time since the worker's fork.",
        |worker| Some(worker.uptime_s),
    ),
    (
        "mcluster_worker_open_connections",
        GAUGE,
        "Connections open now.",
        |worker| Some(worker.connections as f64),
    ),
    (
        "mcluster_worker_connections_total",
        COUNTER,
        "Connections that the worker took.",
        |worker| Some(worker.accepted as f64),
    ),
    (
        "mcluster_worker_requests_total",
        COUNTER,
        "Requests that the worker answered.",
        |worker| Some(worker.requests as f64),
    ),
    (
        "mcluster_worker_in_flight_requests",
        GAUGE,
        "Requests at a handler now.",
        |worker| Some(worker.in_flight as f64),
    ),
    (
        "mcluster_worker_cpu_ratio",
        GAUGE,
        "What the worker lately used of one CPU.",
        |worker| worker.cpu_percent.map(|percent| percent / 100.0),
    ),
    (
        "mcluster_worker_resident_memory_bytes",
        GAUGE,
        "Memory of the worker's process, what it shares included.",
        |worker| worker.rss_bytes.map(|bytes| bytes as f64),
    ),
    (
        "mcluster_worker_proportional_memory_bytes",
        GAUGE,
        "Memory of the worker's process, its part of what it shares included.",
        |worker| worker.pss_bytes.map(|bytes| bytes as f64),
    ),
    (
        "mcluster_worker_loop_lag_seconds",
        GAUGE,
        "How long the event loop has been busy without a turn.",
        |worker| Some(worker.loop_lag_ms as f64 / 1e3),
    ),
    (
        "mcluster_worker_pool_threads",
        GAUGE,
        "Threads for CPU-heavy handlers.",
        |worker| Some(worker.pool.threads as f64),
    ),
    (
        "mcluster_worker_pool_waiting",
        GAUGE,
        "Requests that wait for such a thread.",
        |worker| Some(worker.pool.waiting as f64),
    ),
    (
        "mcluster_worker_restarts",
        GAUGE,
        "Workers that had the place before this one.",
        |worker| Some(worker.restarts as f64),
    ),
];

/// The text so far. Writing to a string does not fail, so what `write!` says is dropped.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, words)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", escaped(words));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{after} {value}");
    }

    /// A family of one sample.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

/// What stands between the quotes of a label.
fn escaped(words: &str) -> String {
    let words = words.replace('\\', "\\\\").replace('"', "\\\"");
    words.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::tests::EXAMPLE;
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn example() -> Status {
        let mut status: Status = serde_json::from_str(EXAMPLE).unwrap();
        let mut other = status.workers[0].clone();
        (other.id, other.place, other.cpu_percent) = (2, 1, None);
        status.workers.push(other);
        status
    }

    /// A sample's name and labels, and its value.
    fn samples(text: &str) -> BTreeMap<&str, f64> {
        let mut found = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let twice = found.insert(sample, value.parse().unwrap());
            assert_eq!(twice, None, "{line}");
        }
        found
    }

    #[test]
    fn every_sample_belongs_to_the_family_above_it() {
        let text = metrics(&example());
        assert!(text.ends_with('\n'));
        let (mut families, mut family, mut kind) = (BTreeSet::new(), "", "");
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').unwrap();
                assert!(words.ends_with('.'), "{line}");
                assert!(families.insert(name), "{name} twice");
                let about = format!("# TYPE {name} ");
                (family, kind) = (name, lines.next().unwrap().strip_prefix(&about).unwrap());
                assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                continue;
            }
            let name = line.split(['{', ' ']).next().unwrap();
            let rest = name
                .strip_prefix(family)
                .unwrap_or_else(|| panic!("{line}"));
            let endings: &[&str] = match kind {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(endings.contains(&rest), "{line}");
            assert!(name.starts_with("mcluster_"), "{name}");
        }
        assert!(families.len() > 20);
        samples(&text);
    }

    #[test]
    fn figures_in_base_units() {
        let text = metrics(&example());
        let found = samples(&text);
        let cases = [
            (
                "mcluster_info{name=\"mcluster\",version=\"0.1.0\",mode=\"processes\",schedule=\"rr\"}",
                1.0,
            ),
            ("mcluster_workers{state=\"listening\"}", 2.0),
            ("mcluster_workers{state=\"dead\"}", 0.0),
            ("mcluster_requests_total{class=\"4xx\"}", 11.0),
            ("mcluster_worker_cpu_ratio{worker=\"1\",place=\"0\"}", 0.125),
            (
                "mcluster_worker_requests_total{worker=\"2\",place=\"1\"}",
                4711.0,
            ),
        ];
        for (sample, value) in cases {
            assert_eq!(found.get(sample), Some(&value), "{sample}");
        }
        let unknown = "mcluster_worker_cpu_ratio{worker=\"2\",place=\"1\"}";
        assert_eq!(found.get(unknown), None);
    }

    #[test]
    fn the_histogram_is_cumulative() {
        let text = metrics(&example());
        let found = samples(&text);
        let name = "mcluster_request_duration_seconds";
        let bucket = |le: &str| found[format!("{name}_bucket{{le=\"{le}\"}}").as_str()];
        assert_eq!(bucket("0.000016"), 0.0);
        assert_eq!(bucket("0.000032"), 4000.0);
        assert_eq!(bucket("0.000128"), 4000.0);
        assert_eq!(bucket("0.000256"), 4711.0);
        assert_eq!(bucket("+Inf"), 4711.0);
        assert_eq!(found[format!("{name}_count").as_str()], 4711.0);
        // 28 to 31 and 192 to 223.
        let sum = (29.5 * 4000.0 + 207.5 * 711.0) / 1e6;
        assert!((found[format!("{name}_sum").as_str()] - sum).abs() < 1e-9);
    }

    #[test]
    fn names_cannot_break_a_line() {
        let status = Status {
            name: "a\"b\\c\nd".to_owned(),
            ..Status::default()
        };
        let text = metrics(&status);
        assert!(text.contains(r#"{name="a\"b\\c\nd",version="""#), "{text}");
    }
}
