//! A pager that is paused: nobody reads the log, and the cluster goes on as if somebody did.

use crate::client::Client;
use crate::lines::Lines;
use crate::support::{address_of, command, wait_until};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{self, Read};
use std::process::Stdio;

/// Connections: each writes more than one line with all that can be logged.
const CONNECTIONS: usize = 200;

#[test]
fn nobody_reads_the_log() {
    let (mut reader, writer) = io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut serve = command(&["--listen", "127.0.0.1:0", "--workers", "2"]);
    serve
        .env("RUST_LOG", "trace")
        .env("MCLUSTER_CONTROL", "off");
    let mut child = serve.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
    drop(serve);
    let out = Lines::of(child.stdout.take().unwrap());
    let url = out.find(0, |line| {
        line.strip_prefix("listening on ").map(str::to_owned)
    });
    let address = address_of(&url);
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect(address).unwrap();
        assert_eq!(client.get("/").unwrap().status, 200);
    }
    // The primary has much to say as well, and ends in order.
    let pid = Pid::from_raw(child.id() as i32);
    kill(pid, Signal::SIGHUP).unwrap();
    kill(pid, Signal::SIGTERM).unwrap();
    let mut status = None;
    wait_until("it has ended", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success(), "{status:?}");
    let mut log = String::new();
    reader.read_to_string(&mut log).unwrap();
    assert!(log.starts_with('[') && log.len() <= 4096, "{log}");
}
