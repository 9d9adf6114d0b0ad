//! Where a cluster can be steered from: the control socket, and the address of the pages on TCP.

use crate::net::{Listen, MAX_BACKLOG};
use crate::primary::{Error, Result};
use crate::runtime;
use crate::sys::directory;
use crate::sys::listener::Listener;
use std::path::{Path, PathBuf};

/// Where a cluster is to be steered from.
#[derive(Clone, Debug, Default)]
pub(in crate::primary) struct Access {
    /// The cluster's name.
    pub(in crate::primary) name: Option<String>,
    /// The control socket, if not the usual one for the name.
    pub(in crate::primary) path: Option<PathBuf>,
    /// Where to show the pages on TCP.
    pub(in crate::primary) admin: Option<String>,
}

/// The sockets of a control interface.
#[derive(Debug, Default)]
pub(in crate::primary) struct Sockets {
    pub(in crate::primary) control: Option<Listener>,
    pub(in crate::primary) admin: Option<Listener>,
}

impl Sockets {
    /// Both, as far as they are there.
    pub(in crate::primary) fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.control.iter().chain(&self.admin)
    }

    /// Makes those that `access` wants.
    ///
    /// # Errors
    ///
    /// When a socket cannot be made: above all, when a cluster of that name runs already.
    pub(in crate::primary) fn make(access: &Access) -> Result<Self> {
        let path = access.path();
        Ok(Self {
            control: path.as_deref().map(|path| bind(access, path)).transpose()?,
            admin: access.admin.as_deref().map(bind_admin).transpose()?,
        })
    }
}

impl Access {
    /// Whether the name is one.
    ///
    /// # Errors
    ///
    /// Why it is not.
    pub(in crate::primary) fn check(&self) -> Result<()> {
        match &self.name {
            Some(name) => runtime::check_name(name).map_err(Error::Settings),
            None => Ok(()),
        }
    }

    /// Where the control socket is to be.
    pub(in crate::primary) fn path(&self) -> Option<PathBuf> {
        match (&self.path, &self.name) {
            (Some(path), _) => Some(path.clone()),
            (None, Some(name)) => Some(runtime::control_path(name)),
            (None, None) => None,
        }
    }
}

/// Makes the control socket, in a directory that nobody else may change.
fn bind(access: &Access, path: &Path) -> Result<Listener> {
    let made = match path.parent() {
        Some(directory) if access.path.is_none() => directory::private_directory(directory),
        Some(directory) => directory::safe_directory(directory),
        None => Ok(()),
    };
    made.and_then(|()| Listener::unix_private(path, MAX_BACKLOG))
        .map_err(|source| {
            let address = match source.kind() {
                std::io::ErrorKind::AddrInUse => format!(
                    "the control socket {}: a cluster of this name runs already (--name gives \
                     this one another)",
                    path.display()
                ),
                _ => format!("the control socket {}", path.display()),
            };
            Error::Bind { address, source }
        })
}

fn bind_admin(words: &str) -> Result<Listener> {
    let listen: Listen = words.parse().map_err(Error::Settings)?;
    match listen {
        Listen::Host(..) | Listen::Any(_) => listen.bind().map_err(|source| Error::Bind {
            address: words.to_owned(),
            source,
        }),
        Listen::Unix(_) | Listen::Fd(_) => {
            Err(Error::Settings(format!("{words:?} is no HOST:PORT")))
        }
    }
}
