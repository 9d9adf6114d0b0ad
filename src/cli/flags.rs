//! What may be written on the command line, in the environment and in the file.
//!
//! The options of `serve` are the one list that there is: variables, keys of `mcluster.toml` and
//! what `mcluster config` prints are derived from it by `sources`, `file` and `show`.
//! Those of `start` are with it, those of the commands that steer a running cluster with `steer`, those of the load test with
//! `loadtest`, those of the comparison with `compare`.

use super::compare;
use super::loadtest::Options;
use super::sessions::Place;
use super::start;
use super::steer::Steer;
use super::values::{
    Index, Pool, Requests, Shell, duration, duration_or_none, field_value, head_size, index, name,
    networks, pool, requests, route, size,
};
use crate::http::{ForwardedFields, MAX_FIELDS};
use crate::runtime;
use crate::{Cluster, Limits, Listen, LogFormat, Mode, Networks, SchedulingPolicy, Trust, Workers};
use clap::{Args, Parser, Subcommand, value_parser};
use std::path::PathBuf;
use std::time::Duration;

/// Node's cluster for Rust: one port, many workers, as processes or as threads
#[derive(Debug, Parser)]
#[command(
    name = "mcluster",
    version,
    after_help = "Without a command it serves: see 'mcluster serve --help' and mcluster(1)."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the built-in application, or files with --root, on a cluster of workers
    Serve(Box<Serve>),
    /// Say whether a configuration is valid; takes the options of serve
    Check(Box<Serve>),
    /// Print the configuration in effect, and where each value is from; takes the options of serve
    Config {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        serve: Box<Serve>,
    },
    /// Run any program as the workers of a cluster: a Node script as it is, or one that inherits sockets
    Start(Box<start::Start>),
    /// Print a unit by which a service manager runs a cluster
    Unit(start::Unit),
    #[command(flatten)]
    Steer(Steer),
    /// Send requests to a server, and say what came of them
    Loadtest(Box<Options>),
    /// Compare the built-in application as one worker, as processes, as threads, and with a pool
    Compare(Box<compare::Options>),
    /// Print a script that completes this command's words in a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

impl Cli {
    /// The options of `serve`, for the commands that take them.
    pub(super) fn options(&self) -> Option<&Serve> {
        match &self.command {
            Command::Serve(serve) | Command::Check(serve) | Command::Config { serve, .. } => {
                Some(serve)
            }
            Command::Start(_)
            | Command::Unit(_)
            | Command::Steer(_)
            | Command::Loadtest(_)
            | Command::Compare(_)
            | Command::Completions { .. } => None,
        }
    }
}

/// clap's name for the option that says where the file is. It has no key in it.
pub(super) const CONFIG: &str = "config";

/// Run the built-in application, or files with --root, on a cluster of workers
#[derive(Args, Debug)]
pub(super) struct Serve {
    /// A file with values for the other options
    /// [default: mcluster.toml, where the current directory has one]
    #[arg(id = CONFIG, long, value_name = "PATH", env = "MCLUSTER_CONFIG")]
    pub(super) config: Option<PathBuf>,

    /// What carries a worker: processes or threads
    #[arg(long, env = "MCLUSTER_MODE", default_value = "processes")]
    pub(super) mode: Mode,

    /// How many workers: a number, max, max-1 or a share of the CPUs such as 50%
    /// [default: max, or WEB_CONCURRENCY from the environment]
    #[arg(
        short,
        long,
        short_alias = 'i',
        value_name = "N",
        env = "MCLUSTER_WORKERS",
        default_value = "max",
        hide_default_value = true
    )]
    pub(super) workers: Workers,

    /// Where to listen (repeatable): HOST:PORT, :PORT, [V6]:PORT, unix:PATH or fd:N
    /// [env: MCLUSTER_LISTEN=ADDR,ADDR] [default: 127.0.0.1:3000, or HOST and PORT from the environment]
    #[arg(short, long, value_name = "ADDR")]
    pub(super) listen: Vec<Listen>,

    /// Who accepts connections: rr, least-connections, sticky-ip, sticky-cookie:NAME or
    /// sticky-query:NAME (the primary deals them out), shared, reuseport or sticky-ip:reuseport
    /// (every worker by itself)
    /// [default: rr, or MCLUSTER_SCHED_POLICY=rr|none from the environment]
    #[arg(
        short,
        long,
        value_name = "POLICY",
        env = "MCLUSTER_SCHEDULE",
        default_value = "rr",
        hide_default_value = true
    )]
    pub(super) schedule: SchedulingPolicy,

    /// Threads in each worker for CPU-heavy handlers: a number, or auto; 0 runs them on the loop
    #[arg(long, value_name = "N", env = "MCLUSTER_POOL", value_parser = pool, default_value = "auto")]
    pub(super) pool: Pool,

    /// Serve the files of this directory in place of the built-in application [default: off]
    #[arg(long, value_name = "DIR", env = "MCLUSTER_ROOT")]
    pub(super) root: Option<PathBuf>,

    /// With --root: the files that are the page of their directory, the first that is there
    #[arg(long, value_name = "NAMES", env = "MCLUSTER_INDEX", value_parser = index, default_value = "index.html")]
    pub(super) index: Index,

    /// With --root: list what is in a directory without such a page
    #[arg(long, env = "MCLUSTER_LISTING", value_parser = clap::builder::BoolishValueParser::new())]
    pub(super) listing: bool,

    /// With --root: serve names that begin with a dot too
    #[arg(long, env = "MCLUSTER_DOTFILES", value_parser = clap::builder::BoolishValueParser::new())]
    pub(super) dotfiles: bool,

    /// With --root: the Cache-Control of each file, such as max-age=3600 [default: off]
    #[arg(long, value_name = "VALUE", env = "MCLUSTER_CACHE_CONTROL", value_parser = field_value)]
    pub(super) cache_control: Option<String>,

    /// With --root: for how long a file that was found is answered without another look; 0 looks each time
    #[arg(long, value_name = "TIME", env = "MCLUSTER_FILE_CACHE", value_parser = duration_or_none, default_value = "0")]
    pub(super) file_cache: Duration,

    /// Where /session keeps sessions: memory (of each worker), shared:PATH (a file for all workers), or
    /// redis://HOST:PORT (a server for several machines)
    #[arg(
        long,
        value_name = "STORE",
        env = "MCLUSTER_SESSION_STORE",
        hide_env_values = true,
        default_value = "memory"
    )]
    pub(super) session_store: Place,

    /// The keys that sign session cookies, one a line; MCLUSTER_SESSION_KEY may hold them themselves
    /// [default: made by the store]
    #[arg(long, value_name = "PATH", env = "MCLUSTER_SESSION_KEY_FILE")]
    pub(super) session_key_file: Option<PathBuf>,

    /// Bytes of a request's head
    #[arg(long, value_name = "SIZE", env = "MCLUSTER_MAX_HEAD", value_parser = head_size, default_value = "16k")]
    max_head: usize,

    /// Fields of a request's head
    #[arg(long, value_name = "N", env = "MCLUSTER_MAX_HEADERS", value_parser = value_parser!(u64).range(1..=MAX_FIELDS as u64), default_value = "100")]
    max_headers: u64,

    /// Bytes of a request's body
    #[arg(long, value_name = "SIZE", env = "MCLUSTER_MAX_BODY", value_parser = size, default_value = "1M")]
    max_body: u64,

    /// Bytes of a body that are kept in memory; a larger one lies in an unnamed file below TMPDIR
    #[arg(long, value_name = "SIZE", env = "MCLUSTER_BODY_MEMORY", value_parser = size, default_value = "256k")]
    body_memory: u64,

    /// How long a request's head may take
    #[arg(long, value_name = "TIME", env = "MCLUSTER_HEADER_TIMEOUT", value_parser = duration, default_value = "10s")]
    header_timeout: Duration,

    /// The longest pause in a request's body
    #[arg(long, value_name = "TIME", env = "MCLUSTER_BODY_TIMEOUT", value_parser = duration, default_value = "30s")]
    body_timeout: Duration,

    /// How long a connection may wait between requests
    #[arg(long, value_name = "TIME", env = "MCLUSTER_IDLE_TIMEOUT", value_parser = duration, default_value = "60s")]
    idle_timeout: Duration,

    /// The longest pause of a client that does not take its answer
    #[arg(long, value_name = "TIME", env = "MCLUSTER_WRITE_TIMEOUT", value_parser = duration, default_value = "30s")]
    write_timeout: Duration,

    /// Bytes a second below which a client that sends a body or takes an answer is too slow; 0 is off
    #[arg(long, value_name = "SIZE", env = "MCLUSTER_MIN_RATE", value_parser = size, default_value = "256")]
    min_rate: u64,

    /// Connections of one worker; beyond it takes no new one until one ends
    #[arg(long, value_name = "N", env = "MCLUSTER_MAX_CONNECTIONS", value_parser = value_parser!(u64).range(1..=1_000_000), default_value = "10000")]
    max_connections: u64,

    /// How long a worker that goes may finish what it has; then it is killed
    #[arg(long, value_name = "TIME", env = "MCLUSTER_DRAIN_TIMEOUT", value_parser = duration, default_value = "30s")]
    pub(super) drain_timeout: Duration,

    /// How long to go on serving between being told to stop and draining
    #[arg(long, value_name = "TIME", env = "MCLUSTER_DRAIN_DELAY", value_parser = duration_or_none, default_value = "0")]
    pub(super) drain_delay: Duration,

    /// A worker whose loop stands still for longer is killed and replaced; 0 is off
    #[arg(long, value_name = "TIME", env = "MCLUSTER_WORKER_TIMEOUT", value_parser = duration_or_none, default_value = "30s")]
    worker_timeout: Duration,

    /// How long a new worker may take until it listens
    #[arg(long, value_name = "TIME", env = "MCLUSTER_START_TIMEOUT", value_parser = duration, default_value = "30s")]
    pub(super) start_timeout: Duration,

    /// Replace a worker that has answered so many requests, and up to JITTER more [default: off]
    #[arg(long, value_name = "N[:JITTER]", env = "MCLUSTER_MAX_REQUESTS", value_parser = requests)]
    pub(super) max_requests: Option<Requests>,

    /// Replace a worker that has more memory than this; with processes only [default: off]
    #[arg(long, value_name = "SIZE", env = "MCLUSTER_MAX_MEMORY", value_parser = size)]
    pub(super) max_memory: Option<u64>,

    /// Answer 200 at this path while serving, and 503 once told to stop [default: off]
    #[arg(long, value_name = "PATH", env = "MCLUSTER_HEALTH_PATH", value_parser = route)]
    pub(super) health_path: Option<String>,

    /// Peers that begin each connection by a header of the PROXY protocol (repeatable): networks
    /// such as 10.0.0.0/8, addresses, or unix
    /// [env: MCLUSTER_PROXY_PROTOCOL=CIDR,CIDR] [default: off]
    #[arg(long, value_name = "CIDR", value_parser = networks)]
    pub(super) proxy_protocol: Vec<Networks>,

    /// Proxies that are believed about their clients, and by X-Request-Id about requests
    /// (repeatable) [env: MCLUSTER_TRUSTED_PROXIES=CIDR,CIDR] [default: off]
    #[arg(long, value_name = "CIDR", value_parser = networks)]
    pub(super) trusted_proxies: Vec<Networks>,

    /// The fields by which these proxies name their clients: x-forwarded or forwarded
    #[arg(
        long,
        value_name = "FIELDS",
        env = "MCLUSTER_FORWARDED_FIELDS",
        default_value = "x-forwarded"
    )]
    pub(super) forwarded_fields: ForwardedFields,

    /// Give each answer its request's id as X-Request-Id
    #[arg(long, env = "MCLUSTER_REQUEST_ID", value_parser = clap::builder::BoolishValueParser::new())]
    pub(super) request_id: bool,

    /// Write a line for each answer to this file, or to stdout [default: off]
    #[arg(long, value_name = "PATH|-", env = "MCLUSTER_ACCESS_LOG")]
    pub(super) access_log: Option<PathBuf>,

    /// The lines of the access log: common, combined or json
    #[arg(
        long,
        value_name = "FORMAT",
        env = "MCLUSTER_LOG_FORMAT",
        default_value = "common"
    )]
    pub(super) log_format: LogFormat,

    /// Give each answer a Server field with this text [default: off]
    #[arg(long, value_name = "TEXT", env = "MCLUSTER_SERVER_HEADER", value_parser = field_value)]
    pub(super) server_header: Option<String>,

    #[command(flatten)]
    pub(super) who: Who,

    /// The cluster's name, for the commands that steer it
    #[arg(long, value_name = "NAME", env = "MCLUSTER_NAME", value_parser = name, default_value = runtime::USUAL_NAME)]
    pub(super) name: String,

    #[command(flatten)]
    pub(super) access: Access,

    /// Add the routes that break a worker on purpose: /crash, /panic, /hang
    #[arg(long, env = "MCLUSTER_CHAOS", value_parser = clap::builder::BoolishValueParser::new())]
    pub(super) chaos: bool,
}

/// As whom workers run, and where.
#[derive(Args, Debug)]
pub(super) struct Who {
    /// Workers run as this user, by name or number
    #[arg(long, value_name = "USER", env = "MCLUSTER_USER")]
    pub(super) user: Option<String>,

    /// Workers run in this group, by name or number
    #[arg(long, value_name = "GROUP", env = "MCLUSTER_GROUP")]
    pub(super) group: Option<String>,

    /// The nice value of the workers, from -20 to 19
    #[arg(long, value_name = "N", env = "MCLUSTER_NICE", allow_negative_numbers = true, value_parser = value_parser!(i32).range(-20..=19))]
    pub(super) nice: Option<i32>,

    /// Keep each worker to one CPU
    #[arg(long, env = "MCLUSTER_CPU_AFFINITY", value_parser = clap::builder::BoolishValueParser::new())]
    pub(super) cpu_affinity: bool,
}

/// Who may look at a cluster and steer it, beside its name.
#[derive(Args, Debug)]
pub(super) struct Access {
    /// The control socket, or off; without this NAME.sock in the runtime directory
    #[arg(long, value_name = "PATH|off", env = "MCLUSTER_CONTROL")]
    control: Option<PathBuf>,

    /// Show the pages of the control socket at HOST:PORT too, to read only [default: off]
    #[arg(long, value_name = "HOST:PORT", env = "MCLUSTER_ADMIN")]
    pub(super) admin: Option<Listen>,
}

impl Who {
    pub(super) fn apply(&self, mut cluster: Cluster) -> Cluster {
        cluster = cluster.cpu_affinity(self.cpu_affinity);
        if let Some(user) = &self.user {
            cluster = cluster.user(user);
        }
        if let Some(group) = &self.group {
            cluster = cluster.group(group);
        }
        if let Some(nice) = self.nice {
            cluster = cluster.nice(nice);
        }
        cluster
    }
}

impl Access {
    pub(super) fn apply(&self, mut cluster: Cluster, name: &str) -> Cluster {
        if let Some(address) = &self.admin {
            cluster = cluster.admin(address);
        }
        match self.control.as_deref() {
            None => cluster.name(name),
            Some(path) if path == "off" => cluster,
            Some(path) => cluster.name(name).control(path),
        }
    }

    /// The socket of the cluster `name`; none where it is to have none.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        match self.control.as_deref() {
            None => Some(runtime::control_path(name)),
            Some(path) if path == "off" => None,
            Some(path) => Some(path.to_owned()),
        }
    }
}

impl Serve {
    /// None is off.
    pub(super) fn worker_timeout(&self) -> Option<Duration> {
        Some(self.worker_timeout).filter(|time| !time.is_zero())
    }

    pub(super) fn trust(&self) -> Trust {
        let all = |lists: &[Networks]| {
            let mut sum = Networks::default();
            lists.iter().for_each(|list| sum.extend(list));
            sum
        };
        Trust {
            proxy_protocol: all(&self.proxy_protocol),
            forwarded: all(&self.trusted_proxies),
            fields: self.forwarded_fields,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            head: self.max_head,
            fields: self.max_headers as usize,
            body: self.max_body,
            body_memory: usize::try_from(self.body_memory).unwrap_or(usize::MAX),
            header_timeout: self.header_timeout,
            body_timeout: self.body_timeout,
            idle_timeout: self.idle_timeout,
            write_timeout: self.write_timeout,
            min_rate: self.min_rate,
            connections: self.max_connections as usize,
        }
    }
}
