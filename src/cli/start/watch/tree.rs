//! What `--watch` looks at: the directories that are watched for it, and which changes count.
//!
//! Leaves what comes of a change, and the process where that happens, to `watch`.

use notify::event::{EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where nobody looks for the program.
const NEVER: [&str; 2] = ["node_modules", ".git"];

/// Something to watch, by the path that was asked for: what is there may be replaced.
#[derive(Clone, Debug)]
struct Root {
    asked: PathBuf,
    /// What lies there now, as the kernel names it: events have such paths.
    real: PathBuf,
    /// The names that lead there and may be given to something else: its own, and those of symbolic
    /// links.
    names: Vec<PathBuf>,
}

impl Root {
    fn find(asked: &Path) -> Self {
        let mut names = Vec::new();
        for path in asked.ancestors() {
            let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
            if (is_link || path == asked)
                && let (Some(parent), Some(name)) = (path.parent(), path.file_name())
                && let Ok(parent) = parent.canonicalize()
            {
                names.push(parent.join(name));
            }
        }
        Self {
            asked: asked.to_owned(),
            real: real(asked),
            names,
        }
    }
}

/// What is watched, and what of it is not.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    roots: Vec<Root>,
    logs: Vec<PathBuf>,
    ignored: Vec<String>,
}

impl Tree {
    /// Absolute paths, and patterns of what is ignored below.
    pub(super) fn new<'a>(
        roots: impl IntoIterator<Item = &'a PathBuf>,
        logs: impl IntoIterator<Item = PathBuf>,
        ignored: &[String],
    ) -> Self {
        let roots = roots.into_iter();
        Self {
            roots: roots.map(|path| Root::find(path)).collect(),
            logs: logs.into_iter().map(|path| real(&path)).collect(),
            ignored: ignored.to_vec(),
        }
    }

    /// Looks anew for what lies at the paths that were asked for.
    pub(super) fn find_again(&mut self) {
        for root in &mut self.roots {
            *root = Root::find(&root.asked);
        }
    }

    /// Has all that is there watched.
    ///
    /// # Errors
    ///
    /// Such as too many watches.
    pub(super) fn add_to(&self, watcher: &mut RecommendedWatcher) -> io::Result<()> {
        for root in &self.roots {
            for parent in root.names.iter().filter_map(|name| name.parent()) {
                // It may be closed to this user: then what is replaced there goes unseen.
                if let Err(error) = add(watcher, parent) {
                    log::debug!("{} is not watched: {error}", parent.display());
                }
            }
            let directory = match root.real.is_dir() {
                true => root.real.as_path(),
                // Editors put another file in its place.
                false => root.real.parent().unwrap_or(&root.real),
            };
            add(watcher, directory)?;
            self.add_below(watcher, &root.real)?;
        }
        Ok(())
    }

    /// What is watched, for people.
    pub(super) fn shown(&self) -> impl Iterator<Item = std::path::Display<'_>> {
        self.roots.iter().map(|root| root.asked.display())
    }

    /// The name that leads to something else now: all is to be looked for and watched anew.
    pub(super) fn replaced(&self, event: &Event) -> Option<PathBuf> {
        let is_other = |path: &&PathBuf| {
            let found = fs::symlink_metadata(path);
            // Where a file is put in another's place the directory is the same.
            let is_way = found.is_ok_and(|found| found.is_dir() || found.is_symlink());
            is_way && self.roots.iter().any(|root| root.names.contains(path))
        };
        let arrived = has_arrived(event);
        event
            .paths
            .iter()
            .find(|path| arrived && is_other(path))
            .cloned()
    }

    /// The first file of an event that counts. New directories are watched from now on.
    ///
    /// # Errors
    ///
    /// Such as too many watches.
    pub(super) fn changed(
        &self,
        watcher: &mut RecommendedWatcher,
        event: Event,
    ) -> io::Result<Option<PathBuf>> {
        let counts = match event.kind {
            // Events were lost: anything may have changed.
            _ if event.need_rescan() => {
                return Ok(self.roots.first().map(|root| root.real.clone()));
            }
            EventKind::Modify(ModifyKind::Metadata(_)) => false,
            EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => true,
            _ => false,
        };
        if !counts {
            return Ok(None);
        }
        let arrived = has_arrived(&event);
        let mut paths = event.paths.into_iter();
        let Some(path) = paths.find(|path| self.counts(path)) else {
            return Ok(None);
        };
        let is_directory = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        if arrived && is_directory {
            add(watcher, &path)?;
            self.add_below(watcher, &path)?;
        }
        Ok(Some(path))
    }

    /// Whether a change of this file is one of the program.
    fn counts(&self, path: &Path) -> bool {
        let Some(below) = self
            .roots
            .iter()
            .find_map(|root| path.strip_prefix(&root.real).ok())
        else {
            return false;
        };
        !self.is_log(path) && !self.is_ignored(below)
    }

    /// A log, or one that was moved aside.
    fn is_log(&self, path: &Path) -> bool {
        self.logs.iter().any(|log| {
            let rest = path.as_os_str().as_encoded_bytes();
            let rest = rest.strip_prefix(log.as_os_str().as_encoded_bytes());
            let number = |rest: &[u8]| rest.iter().all(u8::is_ascii_digit);
            rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix(b".").is_some_and(number))
        })
    }

    /// By a name on the way to it, or by all of the way.
    fn is_ignored(&self, below: &Path) -> bool {
        let names: Vec<_> = below.iter().map(OsStr::to_string_lossy).collect();
        let whole = below.to_string_lossy();
        let patterns = self.ignored.iter().map(String::as_str).chain(NEVER);
        patterns
            .map(|pattern| pattern.trim_start_matches("./").trim_end_matches('/'))
            .any(|pattern| {
                matches(pattern, &whole)
                    || whole
                        .strip_prefix(pattern)
                        .is_some_and(|rest| rest.starts_with('/'))
                    || names.iter().any(|name| matches(pattern, name))
            })
    }

    /// Watches the directories below one, but for those that are ignored: notify knows of none.
    fn add_below(&self, watcher: &mut RecommendedWatcher, directory: &Path) -> io::Result<()> {
        let mut directories = vec![directory.to_owned()];
        while let Some(directory) = directories.pop() {
            // What is gone, or is a file, has nothing below it.
            let Ok(entries) = fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = entry.path();
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_directory && self.counts(&path) {
                    add(watcher, &path)?;
                    directories.push(path);
                }
            }
        }
        Ok(())
    }
}

/// Whether something is there that was not, or not by that name.
fn has_arrived(event: &Event) -> bool {
    matches!(
        event.kind,
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(_))
    )
}

/// As the kernel names it: events have such paths.
fn real(path: &Path) -> PathBuf {
    let directory = path.parent().and_then(|parent| parent.canonicalize().ok());
    match (path.canonicalize(), directory, path.file_name()) {
        (Ok(path), ..) => path,
        // A log that is not there yet.
        (Err(_), Some(directory), Some(name)) => directory.join(name),
        _ => path.to_owned(),
    }
}

fn add(watcher: &mut RecommendedWatcher, directory: &Path) -> io::Result<()> {
    match watcher.watch(directory, RecursiveMode::NonRecursive) {
        Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => Ok(()),
        other => other.map_err(|error| io::Error::other(error.to_string())),
    }
}

/// Whether a pattern is all of a text: `*` is any text, `?` any character.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star does not fit.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let cases = [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("*.tmp", "x.tmp", true),
            ("*.tmp", "x.tmp.js", false),
            ("a*b*c", "aXbbYc", true),
            ("a*b*c", "aXbbY", false),
            ("?b", "ab", true),
            ("?", "", false),
            ("**", "a/b", true),
            ("src/*.map", "src/a/b.map", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_counts_as_a_change() {
        let roots = ["/srv", "/etc/app.conf"].map(PathBuf::from);
        let ignored = ["tmp/", "*.map", "./src/gen"].map(str::to_owned);
        let tree = Tree::new(&roots, ["/srv/out.log".into()], &ignored);
        let cases = [
            ("/srv/app.js", true),
            ("/srv/src/a.js", true),
            ("/srv/src/gen/a.js", false),
            ("/srv/gen/a.js", true),
            ("/srv/a.js.map", false),
            ("/srv/src/a.map", false),
            ("/srv/tmp/x", false),
            ("/srv/tmp", false),
            ("/srv/tmpfiles", true),
            ("/srv/node_modules/express/index.js", false),
            ("/srv/.git/HEAD", false),
            ("/srv/out.log", false),
            ("/srv/out.log.12", false),
            ("/srv/out.login", true),
            ("/etc/app.conf", true),
            ("/etc/app.conf~", false),
            ("/other", false),
        ];
        for (path, expected) in cases {
            assert_eq!(tree.counts(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_way_that_leads_elsewhere_is_seen() {
        use notify::event::CreateKind;
        use std::os::unix::fs::symlink;
        let place = std::env::temp_dir().join(format!("mcluster-tree-{}", std::process::id()));
        for release in ["one/src", "two/src"] {
            fs::create_dir_all(place.join(release)).unwrap();
        }
        fs::write(place.join("file"), "").unwrap();
        let place = place.canonicalize().unwrap();
        symlink("one", place.join("current")).unwrap();
        let roots = ["current/src", "file"].map(|name| place.join(name));
        let mut tree = Tree::new(&roots, [], &[]);
        assert!(tree.counts(&place.join("one/src/a.js")));
        let arrives = |name: &str| {
            let event = Event::new(EventKind::Create(CreateKind::Any));
            event.add_path(place.join(name))
        };
        for (name, expected) in [
            ("current", true),
            ("one/src", true),
            ("one", false),
            ("file", false),
        ] {
            assert_eq!(tree.replaced(&arrives(name)).is_some(), expected, "{name}");
        }
        fs::remove_file(place.join("current")).unwrap();
        assert_eq!(tree.replaced(&arrives("current")), None);
        symlink("two", place.join("current")).unwrap();
        assert_eq!(
            tree.replaced(&arrives("current")),
            Some(place.join("current"))
        );
        tree.find_again();
        assert!(tree.counts(&place.join("two/src/a.js")));
        assert!(!tree.counts(&place.join("one/src/a.js")));
        fs::remove_dir_all(&place).unwrap();
    }
}
