//! A network of its own: machines that are network namespaces, all on one bridge.
//!
//! Owns the namespaces, whose names have this process's number, and what was started in them;
//! whatever a test does, nothing of them is left behind when its [`Network`] is dropped. Needs root
//! and `ip`; where that is not allowed [`Network::new`] says so.

use crate::examples::{Missing, tool};
use crate::support::Lines;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// Where `ip` keeps namespaces by their names.
const NAMESPACES: &str = "/run/netns";

/// A program that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Tool {
    child: Child,
    /// All that it says.
    pub(crate) said: Lines,
}

impl Drop for Tool {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("it said:\n{}", self.said.all().join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Namespaces with a bridge between them.
#[derive(Debug)]
pub(crate) struct Network {
    ip: PathBuf,
    /// What the names of all its namespaces begin with.
    prefix: String,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) namespace: String,
}

impl Network {
    /// A network with no machine on it yet, or why there can be none.
    pub(crate) fn new() -> Result<Self, Missing> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("mcluster-{}-{number}", std::process::id());
        let network = Self {
            ip: tool("ip")?,
            prefix,
        };
        let switch = network.name("switch");
        let make = ["netns", "add", &switch];
        let bridge = ["-n", &switch, "link", "add", "bridge", "type", "bridge"];
        for words in [&make[..], &bridge] {
            network.try_ip(words).map_err(Missing::of)?;
        }
        network.ip(&["-n", &switch, "link", "set", "bridge", "up"]);
        Ok(network)
    }

    /// A new machine with these addresses.
    #[track_caller]
    pub(crate) fn machine(&self, name: &str, addresses: &[&str]) -> Machine {
        let (namespace, switch) = (self.name(name), self.name("switch"));
        self.ip(&["netns", "add", &namespace]);
        self.ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        let plug = plug(name);
        let add = ["-n", &switch, "link", "add", "name", &plug, "type", "veth"];
        let peer = ["peer", "name", "eth0", "netns", &namespace];
        self.ip(&[&add[..], &peer].concat());
        self.ip(&["-n", &switch, "link", "set", &plug, "master", "bridge"]);
        for address in addresses {
            self.ip(&["-n", &namespace, "address", "add", address, "dev", "eth0"]);
        }
        self.ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        self.link(name, true);
        Machine { namespace }
    }

    /// Puts a machine's plug in or pulls it out.
    #[track_caller]
    pub(crate) fn link(&self, name: &str, up: bool) {
        let state = if up { "up" } else { "down" };
        self.ip(&[
            "-n",
            &self.name("switch"),
            "link",
            "set",
            &plug(name),
            state,
        ]);
    }

    /// A connection from that machine.
    pub(crate) fn connect(&self, name: &str, address: SocketAddr) -> io::Result<TcpStream> {
        let namespace = File::open(Path::new(NAMESPACES).join(self.name(name)))?;
        // A socket stays in the namespace that it was made in, and a thread goes there alone.
        let connect = || {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            TcpStream::connect(address)
        };
        thread::scope(|scope| scope.spawn(connect).join().unwrap())
    }

    fn name(&self, machine: &str) -> String {
        format!("{}-{machine}", self.prefix)
    }

    #[track_caller]
    fn ip(&self, words: &[&str]) {
        self.try_ip(words).unwrap();
    }

    fn try_ip(&self, words: &[&str]) -> Result<(), String> {
        let said = |error: &str| format!("ip {}: {}", words.join(" "), error.trim());
        let done = Command::new(&self.ip).args(words).output();
        let done = done.map_err(|error| said(&error.to_string()))?;
        match done.status.success() {
            true => Ok(()),
            false => Err(said(&String::from_utf8_lossy(&done.stderr))),
        }
    }
}

/// A machine's end of the cable in the switch.
fn plug(machine: &str) -> String {
    format!("to-{machine}")
}

impl Machine {
    /// Starts a program there, with all that it says in one stream.
    #[track_caller]
    pub(crate) fn run(&self, program: &Path, arguments: &[&str]) -> Tool {
        let script = "exec ip netns exec \"$0\" \"$@\" 2>&1";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, &self.namespace]).arg(program);
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Lines::of(child.stdout.take().unwrap());
        Tool { child, said }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let Ok(all) = std::fs::read_dir(NAMESPACES) else {
            return;
        };
        let own = format!("{}-", self.prefix);
        let names = all.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        for name in names.filter(|name| name.starts_with(&own)) {
            let _ = self.try_ip(&["netns", "del", &name]);
        }
    }
}
