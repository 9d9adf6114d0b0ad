//! Looking at other processes from outside, by proc(5).

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::net::SocketAddr;

/// The fields of `/proc/PROCESS/stat` from the third on, which is the state.
fn stat(process: impl Display) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before them may contain anything, even parentheses.
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// A line of `/proc/PROCESS/status`, without its name. `PROCESS` is a number, or `PID/task/TID`.
pub(crate) fn status(process: impl Display, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Some(line?.strip_prefix(':')?.trim().to_owned())
}

/// The numbers in such a line.
pub(crate) fn numbers(process: impl Display, name: &str) -> Vec<u32> {
    let line = status(process, name).unwrap_or_default();
    let words = line.split_whitespace();
    words.map(|word| word.parse().unwrap()).collect()
}

/// The threads of a process: `PID/task/TID`, and the name of each.
pub(crate) fn threads(pid: i32) -> Vec<(String, String)> {
    let all = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let one = |entry: fs::DirEntry| {
        let path = format!("{pid}/task/{}", entry.file_name().to_str()?);
        let name = status(&path, "Name")?;
        Some((path, name))
    };
    all.filter_map(|entry| one(entry.ok()?)).collect()
}

/// The nice value of a process or a thread.
pub(crate) fn nice(process: impl Display) -> i32 {
    stat(process).unwrap()[16].parse().unwrap()
}

/// Whether a process has ended and nobody has buried it.
pub(crate) fn is_unburied(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] == "Z")
}

/// The living and the unburied children of a process.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    let all = fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parent = parent.to_string();
    pids.filter(|&pid| stat(pid).is_some_and(|fields| fields[1] == parent))
        .collect()
}

/// Whether every thread of a process is stopped.
pub(crate) fn is_stopped(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] == "T")
}

/// The time that a process has spent on a processor, in ticks of a hundredth of a second.
pub(crate) fn ticks(pid: i32) -> u64 {
    let fields = stat(pid).unwrap();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The bytes of memory that a process has written to for itself alone: its sockets' buffers, which are the
/// kernel's, are not among them.
pub(crate) fn private_bytes(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    // What is clean is of the program's file: its own while no other process runs the same.
    let private = text
        .lines()
        .filter(|line| line.starts_with("Private_Dirty:"));
    let kilobytes =
        |line: &str| -> u64 { line.split_whitespace().nth(1).unwrap().parse().unwrap() };
    private.map(kilobytes).sum::<u64>() * 1024
}

/// The open descriptors of a process and what each is.
pub(crate) fn descriptors(pid: i32) -> Vec<(u32, String)> {
    let Ok(all) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    // One may be closed between being listed and being read.
    let one = |entry: fs::DirEntry| {
        let what = fs::read_link(entry.path()).ok()?;
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, what.to_str()?.to_owned()))
    };
    let mut all: Vec<_> = all.filter_map(|entry| one(entry.ok()?)).collect();
    all.sort();
    all
}

/// The sockets among them, but for the standard streams: `socket:[INODE]`.
pub(crate) fn sockets(pid: i32) -> BTreeSet<String> {
    let all = descriptors(pid).into_iter();
    all.filter(|(number, what)| *number > 2 && what.starts_with("socket:"))
        .map(|(_, what)| what)
        .collect()
}

/// The listener at an IPv4 address, as `socket:[INODE]`.
pub(crate) fn listener(address: SocketAddr) -> String {
    listeners(address).swap_remove(0)
}

/// All of them, where several listen there.
pub(crate) fn listeners(address: SocketAddr) -> Vec<String> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", address.port());
    let rows = table.lines().map(|line| line.split_whitespace().collect());
    // Columns: number, local address, remote address, state (0A: listening), ..., inode.
    rows.filter(|row: &Vec<&str>| row.len() > 9 && row[1].ends_with(&port) && row[3] == "0A")
        .map(|row| format!("socket:[{}]", row[9]))
        .collect()
}
