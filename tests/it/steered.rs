//! A running cluster with a control socket, and the commands that steer it.

use crate::support::{Directory, Mode, Server, command, output};
use std::path::PathBuf;

/// A cluster with a control socket, which lies in a directory of its own.
pub(crate) struct Steered {
    pub(crate) server: Server,
    pub(crate) socket: PathBuf,
    _directory: Directory,
}

impl Steered {
    /// Two workers, with further `arguments`.
    pub(crate) fn start(mode: Mode, arguments: &[&str]) -> Self {
        let directory = Directory::new();
        let socket = directory.file("c.sock");
        let mut all = vec!["--control", socket.to_str().unwrap(), "--workers", "2"];
        all.extend(arguments);
        let server = Server::start(mode, &all);
        Self {
            server,
            socket,
            _directory: directory,
        }
    }

    /// The exit status of a command that steers the cluster, and what it says.
    pub(crate) fn steer(&self, arguments: &[&str]) -> (i32, String) {
        let mut all = arguments.to_vec();
        all.extend(["--control", self.socket.to_str().unwrap()]);
        let output = output(command(&all));
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        (output.status.code().unwrap(), text.trim_end().to_owned())
    }
}
