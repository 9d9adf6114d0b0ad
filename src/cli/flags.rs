//! What may be written on the command line and in the environment.

use super::values::{Pool, duration, head_size, pool, size};
use crate::http::MAX_FIELDS;
use crate::{Limits, Listen, Mode, SchedulingPolicy, Workers};
use clap::{Args, Parser, Subcommand, value_parser};
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
    /// Run the built-in application on a cluster of workers
    Serve(Box<Serve>),
}

/// Run the built-in application on a cluster of workers
#[derive(Args, Debug)]
pub(super) struct Serve {
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
        env = "MCLUSTER_WORKERS"
    )]
    workers: Option<Workers>,

    /// Where to listen (repeatable): HOST:PORT, :PORT, [V6]:PORT, unix:PATH or fd:N
    /// [env: MCLUSTER_LISTEN=ADDR,ADDR] [default: 127.0.0.1:3000, or HOST and PORT from the environment]
    #[arg(short, long, value_name = "ADDR")]
    listen: Vec<Listen>,

    /// Who accepts connections: rr (the primary deals them out) or shared (every worker)
    /// [default: rr, or MCLUSTER_SCHED_POLICY=rr|none from the environment]
    #[arg(short, long, value_name = "POLICY", env = "MCLUSTER_SCHEDULE")]
    schedule: Option<SchedulingPolicy>,

    /// Threads in each worker for CPU-heavy handlers: a number, or auto; 0 runs them on the loop
    #[arg(long, value_name = "N", env = "MCLUSTER_POOL", value_parser = pool, default_value = "auto")]
    pub(super) pool: Pool,

    /// Bytes of a request's head
    #[arg(long, value_name = "SIZE", env = "MCLUSTER_MAX_HEAD", value_parser = head_size, default_value = "16k")]
    max_head: usize,

    /// Fields of a request's head
    #[arg(long, value_name = "N", env = "MCLUSTER_MAX_HEADERS", value_parser = value_parser!(u64).range(1..=MAX_FIELDS as u64), default_value = "100")]
    max_headers: u64,

    /// Bytes of a request's body
    #[arg(long, value_name = "SIZE", env = "MCLUSTER_MAX_BODY", value_parser = size, default_value = "1M")]
    max_body: u64,

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

    /// Connections of one worker; beyond it takes no new one until one ends
    #[arg(long, value_name = "N", env = "MCLUSTER_MAX_CONNECTIONS", value_parser = value_parser!(u64).range(1..=1_000_000), default_value = "10000")]
    max_connections: u64,

    /// How long workers may finish when the cluster stops; then they are killed
    #[arg(long, value_name = "TIME", env = "MCLUSTER_DRAIN_TIMEOUT", value_parser = duration, default_value = "30s")]
    pub(super) drain_timeout: Duration,

    /// Add the routes that break a worker on purpose: /crash, /panic, /hang
    #[arg(long, env = "MCLUSTER_CHAOS", value_parser = clap::builder::BoolishValueParser::new())]
    pub(super) chaos: bool,
}

impl Serve {
    /// How many workers, by flag or by the variable that hosting platforms set.
    ///
    /// # Errors
    ///
    /// When the variable makes no sense.
    pub(super) fn workers(&self) -> crate::Result<Workers> {
        match (self.workers, variable("WEB_CONCURRENCY")?) {
            (Some(workers), _) => Ok(workers),
            (None, Some(words)) => in_variable("WEB_CONCURRENCY", words.parse()),
            (None, None) => Ok(Workers::default()),
        }
    }

    /// The policy, by flag or by the variable that Node has under its own prefix.
    ///
    /// # Errors
    ///
    /// When the variable makes no sense.
    pub(super) fn schedule(&self) -> crate::Result<SchedulingPolicy> {
        const NAME: &str = "MCLUSTER_SCHED_POLICY";
        match (self.schedule, variable(NAME)?.as_deref()) {
            (Some(policy), _) => Ok(policy),
            (None, Some("none")) => Ok(SchedulingPolicy::Shared),
            (None, Some(words)) => in_variable(NAME, words.parse()),
            (None, None) => Ok(SchedulingPolicy::default()),
        }
    }

    /// Where to listen: by flag, or by the variables that hosting platforms set. None means the
    /// library's default, which is also what looks for inherited sockets.
    ///
    /// # Errors
    ///
    /// When a variable makes no sense.
    pub(super) fn addresses(&self) -> crate::Result<Vec<Listen>> {
        if !self.listen.is_empty() {
            return Ok(self.listen.clone());
        }
        const NAME: &str = "MCLUSTER_LISTEN";
        if let Some(list) = variable(NAME)? {
            let addresses = list
                .split(',')
                .map(|one| in_variable(NAME, one.trim().parse()));
            return addresses.collect();
        }
        let (host, port) = (variable("HOST")?, variable("PORT")?);
        if host.is_none() && port.is_none() {
            return Ok(Vec::new());
        }
        let host = host.unwrap_or_else(|| "127.0.0.1".to_owned());
        let port = port.unwrap_or_else(|| "3000".to_owned());
        let address = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        Ok(vec![in_variable("HOST and PORT", address.parse())?])
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            head: self.max_head,
            fields: self.max_headers as usize,
            body: self.max_body,
            header_timeout: self.header_timeout,
            body_timeout: self.body_timeout,
            idle_timeout: self.idle_timeout,
            write_timeout: self.write_timeout,
            connections: self.max_connections as usize,
        }
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> crate::Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(crate::Error::Settings(format!("{name}: {error}"))),
    }
}

fn in_variable<T>(name: &str, parsed: Result<T, String>) -> crate::Result<T> {
    parsed.map_err(|why| crate::Error::Settings(format!("{name}: {why}")))
}
