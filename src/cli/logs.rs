//! `mcluster logs`: what the workers of a running cluster write, by its control socket.
//!
//! Passes lines on as they are; what may be asked is with `primary`.

use super::put;
use super::steer::{Cluster, said};
use super::values::name;
use crate::{Error, Result};
use clap::{Args, value_parser};

/// Which lines.
#[derive(Args, Debug)]
pub(super) struct Logs {
    /// The cluster's name, as --name has it
    #[arg(value_name = "NAME", value_parser = name)]
    which: Option<String>,

    #[command(flatten)]
    cluster: Cluster,

    /// How many of the last lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 15)]
    lines: u32,

    /// Go on with those that come, until the cluster ends
    #[arg(short, long)]
    follow: bool,

    /// Those of one worker alone
    #[arg(long, value_name = "ID", value_parser = value_parser!(u32).range(1..))]
    worker: Option<u32>,
}

impl Logs {
    fn target(&self) -> String {
        let mut target = format!("/logs?lines={}", self.lines);
        if let Some(worker) = self.worker {
            target += &format!("&worker={worker}");
        }
        if self.follow {
            target += "&follow=1";
        }
        target
    }
}

/// Prints them.
///
/// # Errors
///
/// When the cluster cannot be reached, or its workers are no programs.
pub(super) fn print(logs: &Logs) -> Result<()> {
    let cluster = &logs.cluster.of(logs.which.as_deref());
    let mut incoming = cluster.ask("GET", &logs.target(), None)?;
    if incoming.status != 200 {
        let answer = incoming.whole().map_err(|why| cluster.failed(why))?;
        return Err(Error::Refused(said(&answer)));
    }
    let mut bytes = Vec::new();
    loop {
        let more = cluster.next(&mut incoming, &mut bytes)?;
        if !put(&bytes)? || !more {
            return Ok(());
        }
        bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        logs: Logs,
    }

    #[test]
    fn what_is_asked_for() {
        let cases = [
            ("logs", "/logs?lines=15"),
            ("logs -n 3", "/logs?lines=3"),
            ("logs -f --worker 2", "/logs?lines=15&worker=2&follow=1"),
            ("logs --lines 0 --follow", "/logs?lines=0&follow=1"),
        ];
        for (words, expected) in cases {
            let line = Line::try_parse_from(words.split(' ')).unwrap();
            assert_eq!(line.logs.target(), expected);
        }
        assert!(Line::try_parse_from(["logs", "--worker", "0"]).is_err());
    }
}
