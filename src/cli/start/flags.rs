//! What may be written behind `start` and `unit`.
//!
//! [`Options`] is what one application may have: its flags are the keys of an `[[app]]` table, too.
//! The rest of [`Start`] says which applications there are.

use super::super::flags::{Access, Who};
use super::super::steer;
use super::super::values::{duration, duration_or_none, name, signal, size};
use super::words::{Pair, Part, Rotation, pair, part, rotation, workers};
use crate::{Listen, SchedulingPolicy, Workers};
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// clap's names for what stands behind `start` without a flag.
pub(super) const PROGRAM: &str = "program";
pub(super) const ARGS: &str = "args";

/// Run any program as the workers of a cluster: a Node script as it is, or one that inherits sockets
#[derive(Args, Debug)]
#[command(
    override_usage = "mcluster start [OPTIONS] [PROGRAM] [-- ARGS]...",
    after_help = "See mcluster-start(1)."
)]
pub(in crate::cli) struct Start {
    /// A Node script, an executable, or an ecosystem file of PM2 (*.config.js, *.json); without one,
    /// the [[app]] tables of mcluster.toml
    #[arg(id = PROGRAM, value_name = "PROGRAM")]
    pub(super) program: Option<OsString>,

    /// What the program is given
    #[arg(id = ARGS, value_name = "ARGS", last = true)]
    pub(super) args: Vec<OsString>,

    /// The file whose [[app]] tables are meant when no PROGRAM is named
    /// [default: mcluster.toml, where the current directory has one]
    #[arg(long, value_name = "PATH", env = "MCLUSTER_CONFIG")]
    pub(super) config: Option<PathBuf>,

    /// Of several applications in a file, these alone
    #[arg(long, value_name = "NAME,NAME", env = "MCLUSTER_ONLY", value_delimiter = ',', value_parser = name)]
    pub(super) only: Vec<String>,

    /// Of an ecosystem file, take the variables of env_NAME too; --env NAME means the same
    #[arg(long, value_name = "NAME", env = "MCLUSTER_ENV_NAME")]
    pub(super) env_name: Option<String>,

    /// Run in the background: return once it is ready, or has failed
    #[arg(short, long, env = "MCLUSTER_DETACH", value_parser = BoolishValueParser::new())]
    pub(super) detach: bool,

    /// The process that started this one as one of several applications; they end together.
    #[arg(long, hide = true, value_parser = part)]
    pub(super) part: Option<Part>,

    #[command(flatten)]
    pub(super) options: Options,
}

/// What one application may have beside its program and that program's arguments.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// How many workers: a number, max, max-1 or a share of the CPUs such as 50%
    /// [default: max, or WEB_CONCURRENCY from the environment; 1 for an ecosystem file's]
    #[arg(
        short,
        long,
        short_alias = 'i',
        alias = "instances",
        value_name = "N",
        env = "MCLUSTER_WORKERS",
        value_parser = workers,
        allow_negative_numbers = true,
        default_value = "max",
        hide_default_value = true
    )]
    pub(super) workers: Workers,

    /// The cluster's name, for the commands that steer it
    /// [default: the program's file name, without what follows its last dot]
    #[arg(long, value_name = "NAME", env = "MCLUSTER_NAME", value_parser = name)]
    pub(super) name: Option<String>,

    /// Sockets for the workers to inherit (repeatable): HOST:PORT, :PORT, [V6]:PORT, unix:PATH or
    /// fd:N [env: MCLUSTER_LISTEN=ADDR,ADDR] [default: none; a Node program says by itself where]
    #[arg(short, long, value_name = "ADDR")]
    pub(super) listen: Vec<Listen>,

    /// Who accepts connections: rr, sticky-ip, sticky-cookie:NAME or sticky-query:NAME (the primary
    /// deals them out), shared, reuseport or sticky-ip:reuseport (every worker by itself)
    /// [default: rr, or MCLUSTER_SCHED_POLICY=rr|none or NODE_CLUSTER_SCHED_POLICY; shared for
    /// programs other than Node's]
    #[arg(short, long, value_name = "POLICY", env = "MCLUSTER_SCHEDULE")]
    pub(super) schedule: Option<SchedulingPolicy>,

    /// What runs the program, or none when it is one by itself [default: by its name]
    #[arg(long, value_name = "PATH|none", env = "MCLUSTER_INTERPRETER")]
    pub(super) interpreter: Option<String>,

    /// Options for node itself, split at blanks (repeatable) [env: MCLUSTER_NODE_ARGS]
    #[arg(
        long,
        alias = "interpreter-args",
        value_name = "ARGS",
        allow_hyphen_values = true
    )]
    pub(super) node_args: Vec<String>,

    /// Where the program is run [default: the current directory]
    #[arg(long, value_name = "DIR", env = "MCLUSTER_CWD")]
    pub(super) cwd: Option<PathBuf>,

    /// A variable for its environment (repeatable) [env: MCLUSTER_ENV=KEY=VALUE,KEY=VALUE]
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(super) env: Vec<Pair>,

    /// Take a worker for ready when it says so: process.send('ready'), or READY=1 of sd_notify(3)
    #[arg(long, env = "MCLUSTER_WAIT_READY", value_parser = BoolishValueParser::new())]
    pub(super) wait_ready: bool,

    /// How long a worker may take until it is ready; without --wait-ready a Node program that should
    /// listen may take ten times as long
    #[arg(long, value_name = "TIME", env = "MCLUSTER_LISTEN_TIMEOUT", value_parser = duration, default_value = "3s")]
    pub(super) listen_timeout: Duration,

    /// How long a worker that goes may finish what it has; then it is killed
    #[arg(long, visible_alias = "kill-timeout", value_name = "TIME", env = "MCLUSTER_DRAIN_TIMEOUT", value_parser = duration, default_value = "30s")]
    pub(super) drain_timeout: Duration,

    /// How long idle connections of a Node worker that goes wait for a last request; 0 closes them at
    /// once, though one may be on its way
    #[arg(long, value_name = "TIME", env = "MCLUSTER_HOLD_IDLE", value_parser = duration_or_none, default_value = "1s")]
    pub(super) hold_idle: Duration,

    /// The signal that has a worker go, for one that is not told to by its channel
    #[arg(long, value_name = "SIGNAL", env = "MCLUSTER_KILL_SIGNAL", value_parser = signal, default_value = "TERM")]
    pub(super) kill_signal: String,

    /// How long a worker's place stays empty at least when it has ended by itself
    #[arg(long, value_name = "TIME", env = "MCLUSTER_RESTART_DELAY", value_parser = duration_or_none, default_value = "0")]
    pub(super) restart_delay: Duration,

    /// Replace a worker that has more memory than this [default: off]
    #[arg(long, visible_alias = "max-memory-restart", value_name = "SIZE", env = "MCLUSTER_MAX_MEMORY", value_parser = size)]
    pub(super) max_memory: Option<u64>,

    /// Reload when a file changes here or below (repeatable) [env: MCLUSTER_WATCH=PATH,PATH]
    /// [default: off]
    #[arg(long, value_name = "PATH")]
    pub(super) watch: Vec<PathBuf>,

    /// With --watch: not for these, by a name or a path with * and ? (repeatable), beside
    /// node_modules, .git and the log files [env: MCLUSTER_IGNORE_WATCH=PATTERN,PATTERN]
    #[arg(long, value_name = "PATTERN")]
    pub(super) ignore_watch: Vec<String>,

    /// Append what workers write to stdout to this file [default: stderr, beside the log]
    #[arg(short, long, value_name = "FILE", env = "MCLUSTER_OUTPUT")]
    pub(super) output: Option<PathBuf>,

    /// Append what workers write to stderr to this file [default: stderr, beside the log]
    #[arg(short, long, value_name = "FILE", env = "MCLUSTER_ERROR")]
    pub(super) error: Option<PathBuf>,

    /// Move such a file aside before it is longer than this, and keep so many [default: off]
    #[arg(long, value_name = "SIZE[:KEEP]", env = "MCLUSTER_ROTATE", value_parser = rotation)]
    pub(super) rotate: Option<Rotation>,

    /// Begin each line of the workers with the time
    #[arg(long, env = "MCLUSTER_TIME", value_parser = BoolishValueParser::new())]
    pub(super) time: bool,

    /// Leave the worker's number out before each line
    #[arg(long, env = "MCLUSTER_NO_PREFIX", value_parser = BoolishValueParser::new())]
    pub(super) no_prefix: bool,

    #[command(flatten)]
    pub(super) who: Who,

    #[command(flatten)]
    pub(super) access: Access,
}

/// Print a unit by which a service manager runs a cluster
#[derive(Args, Debug)]
pub(in crate::cli) struct Unit {
    /// Which manager
    #[arg(value_name = "MANAGER")]
    pub(super) manager: Manager,

    #[command(flatten)]
    pub(super) cluster: steer::Cluster,

    /// The file with the [[app]] of that name, where no such cluster runs
    /// [default: mcluster.toml, where the current directory has one]
    #[arg(long, value_name = "PATH", env = "MCLUSTER_CONFIG")]
    pub(super) config: Option<PathBuf>,
}

/// What can be given a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Manager {
    Systemd,
}
