//! Workers that are scripts of the shell, and write.

use super::{Call, NO_HEARTBEAT};
use mcluster::{Cluster, Program, Protocol, Workers};
use std::path::Path;

/// The words: a directory for the control socket and for files; what the worker runs; where its
/// lines go.
pub(super) fn cluster(call: &Call) -> Cluster {
    let (place, to) = (Path::new(&call.words[0]), &call.words[1]);
    let script = std::fs::read_to_string(place.join("script")).expect("a script");
    let program = Program::new("sh", Protocol::Sockets);
    let mut program = program.arg("-c").arg(script).env("PLACE", place);
    match to.as_str() {
        "files" => {
            program = program.output(place.join("out")).error(place.join("error"));
        }
        "rotated" => {
            let log = place.join("log");
            program = program.output(&log).error(&log).rotate(20, 2);
            program = program.no_prefix(true);
        }
        "stalled" => log::set_max_level(log::LevelFilter::Off),
        "stderr" => {}
        _ => panic!("{to:?}"),
    }
    Cluster::of_program(program)
        .workers(Workers::Count(1))
        .listen("127.0.0.1:0")
        .worker_timeout(NO_HEARTBEAT)
        .control(place.join("sock"))
}
