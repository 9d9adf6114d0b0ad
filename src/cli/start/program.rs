//! From one application's options to its [`Cluster`]: what is executed, by what, and where it is.
//!
//! Looks at files and at `PATH`; runs nothing.

use super::super::table::plain;
use super::plan::App;
use super::words::split;
use crate::sys::process;
use crate::{Cluster, Error, Program, Protocol, Result};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What runs files that are no programs by themselves, by their names' endings, as PM2 has it.
const INTERPRETERS: [(&str, &str); 5] = [
    ("sh", "bash"),
    ("py", "python3"),
    ("rb", "ruby"),
    ("php", "php"),
    ("pl", "perl"),
];

/// The endings of what Node runs.
const NODE_SCRIPTS: [&str; 6] = ["js", "cjs", "mjs", "ts", "cts", "mts"];

/// What speaks as Node's workers do.
const NODES: [&str; 3] = ["node", "nodejs", "deno"];

/// Programs that start another Node process, and take for themselves what was meant for that one; with
/// what to write in their place.
const WRAPPERS: [(&str, &str); 14] = [
    ("npm", SCRIPT),
    ("npx", SCRIPT),
    ("pnpm", SCRIPT),
    ("pnpx", SCRIPT),
    ("yarn", SCRIPT),
    ("bunx", SCRIPT),
    ("tsx", "mcluster start app.ts --node-args '--import tsx'"),
    (
        "ts-node",
        "mcluster start app.ts --node-args '-r ts-node/register'",
    ),
    (
        "ts-node-dev",
        "mcluster start app.ts --node-args '-r ts-node/register' --watch .",
    ),
    ("nodemon", "mcluster start app.js --watch ."),
    ("node-dev", "mcluster start app.js --watch ."),
    ("forever", "mcluster start app.js"),
    ("pm2", "mcluster start app.js"),
    ("pm2-runtime", "mcluster start app.js"),
];
const SCRIPT: &str = "mcluster start with the script that it would run";

/// How a program is executed.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    executable: OsString,
    /// Whether it is Node, or its like.
    is_node: bool,
    /// What is run by it; none where it is the program itself.
    script: Option<PathBuf>,
}

/// The cluster that an application makes.
///
/// # Errors
///
/// When there is no such program, or nothing is known to run it.
pub(super) fn cluster(app: &App) -> Result<Cluster> {
    let options = &app.options;
    let mut cluster = Cluster::of_program(program(app)?)
        .workers(options.workers)
        .drain_timeout(options.drain_timeout);
    if let Some(policy) = &options.schedule {
        cluster = cluster.schedule(policy.clone());
    }
    for address in &options.listen {
        cluster = cluster.listen(address);
    }
    if let Some(bytes) = options.max_memory {
        cluster = cluster.max_memory(bytes);
    }
    cluster = options.who.apply(cluster);
    Ok(options.access.apply(cluster, &app.name))
}

fn program(app: &App) -> Result<Program> {
    let options = &app.options;
    let wrong = |why: String| {
        let why = format!("{}: {why}", app.program.to_string_lossy());
        Error::Settings(plain(&why))
    };
    let line = line(app).map_err(wrong)?;
    let protocol = match line.is_node {
        true => Protocol::Node,
        false => Protocol::Sockets,
    };
    let mut program = match (&line.script, line.is_node) {
        (Some(script), true) => Program::node(script).interpreter(&line.executable),
        (Some(script), false) => Program::new(script, protocol).interpreter(&line.executable),
        (None, _) => Program::new(&line.executable, protocol),
    };
    let node_args = options.node_args.iter().flat_map(|words| split(words));
    let node_args = app.node_args.iter().cloned().chain(node_args);
    program = program.node_args(node_args).args(&app.args);
    for pair in &options.env {
        match &pair.value {
            Some(value) => program = program.env(&pair.name, value),
            None => {
                return Err(Error::Settings(format!(
                    "--env {}: that is no KEY=VALUE",
                    pair.name
                )));
            }
        }
    }
    if let Some(directory) = &options.cwd {
        let is_there = fs::metadata(directory).is_ok_and(|found| found.is_dir());
        if !is_there {
            let why = format!("cwd: {}: there is no such directory", directory.display());
            return Err(wrong(why));
        }
        program = program.directory(absolute(directory));
    }
    let [output, error] = logs(app);
    if options.rotate.is_some() && output.is_none() && error.is_none() {
        return Err(wrong(
            "rotate: there is no file, neither --output nor --error".to_owned(),
        ));
    }
    if let Some(path) = output {
        program = program.output(path);
    }
    if let Some(path) = error {
        program = program.error(path);
    }
    if let Some(rotation) = options.rotate {
        program = program.rotate(rotation.bytes, rotation.keep);
    }
    // It was looked at when it was read.
    let signal = process::signal_number(&options.kill_signal);
    Ok(program
        .kill_signal(signal.unwrap_or_default())
        .log_time(options.time)
        .no_prefix(options.no_prefix)
        .wait_ready(options.wait_ready)
        .listen_timeout(options.listen_timeout)
        .hold_idle(options.hold_idle)
        .restart_delay(options.restart_delay))
}

/// Where the workers' lines go, of stdout and of stderr.
pub(super) fn logs(app: &App) -> [Option<PathBuf>; 2] {
    let options = &app.options;
    [&options.output, &options.error].map(|path| Some(within(app, path.as_deref()?)))
}

/// Whether these have a directory to be in.
///
/// # Errors
///
/// When one has none.
pub(super) fn judge_logs(app: &App) -> Result<()> {
    for (key, path) in ["output", "error"].iter().zip(logs(app)) {
        let Some(path) = path else { continue };
        let directory = path.parent().filter(|directory| !directory.is_dir());
        if let Some(directory) = directory {
            let directory = directory.display();
            let why = format!("{key}: {directory}: there is no such directory");
            return Err(Error::Settings(why));
        }
    }
    Ok(())
}

/// A path as the application means it: from its own directory.
pub(super) fn within(app: &App, path: &Path) -> PathBuf {
    match &app.options.cwd {
        Some(directory) => absolute(&directory.join(path)),
        None => absolute(path),
    }
}

/// Without a look at what is there.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether it is Node that runs an application.
pub(super) fn is_node_program(app: &App) -> bool {
    line(app).is_ok_and(|line| line.is_node)
}

fn line(app: &App) -> std::result::Result<Line, String> {
    let interpreter = app.options.interpreter.as_deref();
    refuse_wrapper(OsStr::new(interpreter.unwrap_or_default()))?;
    refuse_wrapper(&app.program)?;
    let by = |executable: &str, script| Line {
        executable: executable.into(),
        is_node: is_node(OsStr::new(executable)),
        script: Some(script),
    };
    let line = match (interpreter, file(app)) {
        (None | Some("none"), None) => in_path(&app.program)?,
        (Some(_), None) => return Err("there is no such file".to_owned()),
        (Some("none"), Some(path)) => itself(path),
        (Some(name), Some(path)) => by(name, path),
        (None, Some(path)) => match by_itself(&path)? {
            Some(name) => by(name, path),
            None => itself(path),
        },
    };
    if !line.is_node && (!app.options.node_args.is_empty() || !app.node_args.is_empty()) {
        return Err("node-args: it is not run by node".to_owned());
    }
    Ok(line)
}

fn itself(path: PathBuf) -> Line {
    Line {
        is_node: is_node(path.as_os_str()),
        executable: path.into_os_string(),
        script: None,
    }
}

fn is_node(program: &OsStr) -> bool {
    let name = Path::new(program).file_name();
    NODES.iter().any(|node| name == Some(OsStr::new(node)))
}

fn refuse_wrapper(program: &OsStr) -> std::result::Result<(), String> {
    let name = Path::new(program).file_name();
    let found = WRAPPERS
        .iter()
        .find(|(wrapper, _)| name == Some(OsStr::new(wrapper)));
    match found {
        None => Ok(()),
        Some((_, instead)) => Err(format!(
            "it starts the program as a process of its own, which is then no worker; try: {instead}"
        )),
    }
}

/// The file that is meant: from the application's directory, else from where this program was started.
fn file(app: &App) -> Option<PathBuf> {
    let program = Path::new(&app.program);
    let mut with_ending = app.program.clone();
    with_ending.push(".js");
    let directory = app.options.cwd.as_deref();
    let places = directory.into_iter().chain([Path::new("")]);
    let names = [program, Path::new(&with_ending)];
    // A word without a slash is a program of that name, unless a file here has it.
    let mut paths =
        places.flat_map(|place| names.iter().map(move |name| absolute(&place.join(name))));
    paths.find(|path| path.exists())
}

/// A program that is found by its name alone.
fn in_path(name: &OsStr) -> std::result::Result<Line, String> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let here = !name.as_encoded_bytes().contains(&b'/')
        && std::env::split_paths(&places).any(|place| is_executable(&place.join(name)));
    match here {
        true => Ok(Line {
            executable: name.to_owned(),
            is_node: is_node(name),
            script: None,
        }),
        false => Err("there is no such file or program".to_owned()),
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// What runs a file of which nobody has said it; none where it runs by itself.
fn by_itself(path: &Path) -> std::result::Result<Option<&'static str>, String> {
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    if path.is_dir() || NODE_SCRIPTS.contains(&ending) || asks_for_node(path) {
        return Ok(Some("node"));
    }
    let known = INTERPRETERS.iter().find(|(other, _)| *other == ending);
    match known {
        // Executable by its mode alone, as all files are on some file systems.
        Some((_, name)) if !(is_executable(path) && is_for_the_kernel(path)) => Ok(Some(name)),
        _ if is_executable(path) => Ok(None),
        _ => Err("it is not executable; --interpreter says what runs it".to_owned()),
    }
}

/// Whether the kernel can execute a file; one that cannot be read may be such.
fn is_for_the_kernel(path: &Path) -> bool {
    start_of(path).is_none_or(|start| start.starts_with(b"#!") || start.starts_with(b"\x7fELF"))
}

fn start_of(path: &Path) -> Option<Vec<u8>> {
    let mut start = Vec::new();
    let file = File::open(path).ok()?;
    file.take(128).read_to_end(&mut start).ok()?;
    Some(start)
}

/// Whether the first line of a script names node.
fn asks_for_node(path: &Path) -> bool {
    let start = start_of(path).unwrap_or_default();
    let line = start.split(|&byte| byte == b'\n').next();
    let line = line.and_then(|line| line.strip_prefix(b"#!"));
    let line = line.map(String::from_utf8_lossy).unwrap_or_default();
    line.split_whitespace()
        .any(|word| is_node(OsStr::new(word)))
}

#[cfg(test)]
mod tests {
    use super::super::plan::testing::app;
    use super::*;

    /// A directory with files, removed when dropped.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str, files: &[(&str, &str, u32)]) -> Self {
            let path =
                std::env::temp_dir().join(format!("mcluster-start-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            for (name, text, mode) in files {
                let file = path.join(name);
                fs::write(&file, text).unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_runs_a_program() {
        let files = [
            ("app.js", "", 0o644),
            ("app.ts", "", 0o755),
            ("job.py", "", 0o644),
            ("bare.py", "print(1)\n", 0o755),
            ("run.py", "#!/usr/bin/python3\n", 0o755),
            ("cli", "#!/usr/bin/env node\n", 0o755),
            ("tool", "\u{7f}ELF", 0o755),
            ("node", "", 0o755),
            ("notes", "", 0o644),
        ];
        let directory = Directory::new("runs", &files);
        let place = directory.0.to_str().unwrap();
        // The program, an interpreter, what is executed, whether it is Node.
        let cases = [
            ("app.js", "", "node", true),
            ("app", "", "node", true),
            ("app.ts", "", "node", true),
            ("cli", "", "node", true),
            ("app.js", "/opt/tool", "/opt/tool", false),
            ("app.js", "/opt/node/bin/node", "/opt/node/bin/node", true),
            ("job.py", "", "python3", false),
            ("bare.py", "", "python3", false),
            ("run.py", "", "run.py", false),
            ("run.py", "pypy", "pypy", false),
            ("tool", "", "tool", false),
            ("cli", "none", "cli", false),
            ("node", "", "node", true),
            ("sh", "", "sh", false),
        ];
        for (program, interpreter, expected, is_node) in cases {
            let mut flags = vec!["--cwd", place];
            if !interpreter.is_empty() {
                flags.extend(["--interpreter", interpreter]);
            }
            let found = line(&app(program, &flags)).unwrap();
            let itself = found.script.is_none() && Path::new(&found.executable).is_absolute();
            let name = match itself && interpreter.is_empty() || interpreter == "none" {
                true => Path::new(&found.executable).file_name().unwrap(),
                false => &found.executable,
            };
            assert_eq!(name, OsStr::new(expected), "{program}");
            assert_eq!(found.is_node, is_node, "{program} {interpreter}");
        }
        for (program, flags, expected) in [
            ("notes", &[][..], "--interpreter says"),
            ("missing.js", &[], "no such file"),
            ("missing.js", &["--interpreter", "node"], "no such file"),
            ("tool", &["--node-args", "--x"], "not run by node"),
        ] {
            let mut all = vec!["--cwd", place];
            all.extend(flags);
            let why = line(&app(program, &all)).unwrap_err();
            assert!(why.contains(expected), "{program}: {why}");
        }
    }

    #[test]
    fn wrappers_are_refused_with_what_to_write() {
        for (program, flags, hint) in [
            ("npm", &[][..], "the script that it would run"),
            ("./node_modules/.bin/tsx", &[], "--node-args '--import tsx'"),
            ("app.ts", &["--interpreter", "ts-node"], "ts-node/register"),
            ("nodemon", &[], "--watch ."),
        ] {
            let why = line(&app(program, flags)).unwrap_err();
            assert!(why.contains(hint), "{program}: {why}");
        }
    }
}
