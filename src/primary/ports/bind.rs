//! What Node programs have the primary bind, and until when it stays bound.
//!
//! Owns which of their questions mean the same listener, how each kind is made, and when one
//! closes that nobody uses. Leaves what workers may have at all to `asked`.

use super::{Port, Ports, asked};
use crate::ipc::{Ask, Bind, Place, Refusal};
use crate::net::{MAX_BACKLOG, bind_tcp, url};
use crate::sys::exec;
use crate::sys::listener::Listener;
use crate::worker::WorkerId;
use std::io;

/// Connections that wait where a program does not say how many may: as in Node.
const BACKLOG: i32 = 511;

/// What everybody may do with a socket's file, in the bits of chmod(2).
const READABLE: u32 = 0o444;
const WRITABLE: u32 = 0o222;

/// The descriptor of a program that is the settings' first listener; the others follow.
const FIRST_INHERITED: i32 = 3;

impl Port {
    /// How many connections may wait in each of its sockets.
    pub(super) fn backlog(&self) -> i32 {
        match &self.ask {
            Some(Ask::Bind(bind)) => backlog(bind),
            _ => MAX_BACKLOG,
        }
    }

    /// Whether nobody needs it: the settings do not name it, and who asked for it is gone.
    pub(super) fn is_unused(&self) -> bool {
        self.ask.is_some() && self.users.is_empty()
    }

    /// Whether it was made for the same question.
    fn is_bound_as(&self, bind: &Bind) -> bool {
        let Some(Ask::Bind(own)) = &self.ask else {
            return false;
        };
        let one_alone = !is_any_port(&bind.place) || own.nth == bind.nth;
        own.place == bind.place && one_alone
    }
}

impl Ports {
    /// The listener that a program asks for, made if nobody has asked for it before.
    ///
    /// # Errors
    ///
    /// Why it cannot be had, with the number that the program expects of the kernel.
    pub(super) fn find_bound(
        &mut self,
        registry: &mio::Registry,
        bind: &Bind,
        who: WorkerId,
        dropped: bool,
    ) -> Result<u32, Refusal> {
        let number = match self.bound(bind, who)? {
            Some(number) => number,
            None => self.make_bound(registry, bind, dropped)?,
        };
        if let Some(port) = self.ports.get_mut(&number)
            && port.data.is_none()
        {
            port.data.clone_from(&bind.data);
        }
        Ok(number)
    }

    /// The listener for a question, if it is there and the one who asks has not got it already.
    fn bound(&self, bind: &Bind, who: WorkerId) -> Result<Option<u32>, Refusal> {
        let unused = |port: &&Port| !port.users.contains(&who);
        let port = match self.inherited_by_all(&bind.place) {
            Some(port) => Some(port),
            // The first one that it has not: several of one worker may go by the same address.
            None if may_have_several(&bind.place) => {
                let mut same = self.iter().filter(|port| port.is_bound_as(bind));
                return Ok(same.find(unused).map(|port| port.number));
            }
            None => self.iter().find(|port| port.is_bound_as(bind)),
        };
        match port {
            Some(port) if !unused(&port) => Err(Refusal {
                errno: libc::EADDRINUSE,
                why: "it listens there already".to_owned(),
            }),
            port => Ok(port.map(|port| port.number)),
        }
    }

    /// The settings' listener that a program knows by a descriptor: it has inherited them all.
    fn inherited_by_all(&self, place: &Place) -> Option<&Port> {
        let Place::Fd {
            fd,
            datagrams: false,
        } = place
        else {
            return None;
        };
        let index = usize::try_from(fd.checked_sub(FIRST_INHERITED)?).ok()?;
        self.get(*self.configured.get(index)?)
    }

    fn make_bound(
        &mut self,
        registry: &mio::Registry,
        bind: &Bind,
        dropped: bool,
    ) -> Result<u32, Refusal> {
        asked::judge_place(&bind.place, dropped, self.count_asked())?;
        // What the first one tells is kept once, beside it.
        let ask = Ask::Bind(Bind {
            data: None,
            ..bind.clone()
        });
        if let Place::Fd { fd, .. } = bind.place
            && let Err(error) = exec::look_at(fd)
        {
            // What this program has opened by itself is none of theirs.
            let why = error.to_string();
            return Err(Refusal {
                errno: libc::EBADF,
                why,
            });
        }
        let made = match &bind.place {
            Place::Tcp {
                address,
                port,
                v6_only,
            } => bind_tcp(*address, *port, *v6_only, backlog(bind)),
            Place::Unix {
                path,
                readable_all,
                writable_all,
            } => {
                let more = if *readable_all { READABLE } else { 0 }
                    | if *writable_all { WRITABLE } else { 0 };
                Listener::unix_for_all(path, backlog(bind), more)
            }
            Place::Fd {
                fd,
                datagrams: false,
            } => Listener::inherited_or_bound(*fd, backlog(bind)),
            Place::Udp { .. } | Place::Fd { .. } => {
                return self.make_datagrams(&bind.place, ask);
            }
        };
        let listener = made.map_err(refusal)?;
        log::info!("listening on {}", url(listener.address()));
        self.insert(registry, listener, Some(ask)).map_err(refusal)
    }

    /// A worker that lives has closed its listener, which by itself closes nothing: it may be about
    /// to go, and who comes in its place is to find it. [`Ports::close_unused`] closes it.
    pub(in crate::primary) fn release(&mut self, number: u32, who: WorkerId) {
        if let Some(port) = self.ports.get_mut(&number) {
            port.users.remove(&who);
        }
    }

    /// Closes what workers have asked for and nobody uses: once all are there who could have asked
    /// for it again.
    pub(in crate::primary) fn close_unused(&mut self, registry: &mio::Registry) {
        let unused = self.iter().filter(|port| port.is_unused());
        for number in unused.map(|port| port.number).collect::<Vec<_>>() {
            self.close(registry, number);
        }
    }

    /// How many connections may wait in a socket.
    pub(super) fn backlog_of(&self, token: usize) -> i32 {
        let port = self.number_of(token).and_then(|number| self.get(number));
        port.map_or(MAX_BACKLOG, Port::backlog)
    }
}

fn backlog(bind: &Bind) -> i32 {
    bind.backlog.filter(|more| *more != 0).unwrap_or(BACKLOG)
}

/// Whether the kernel chooses the port, so that asking again means another one.
fn is_any_port(place: &Place) -> bool {
    matches!(
        place,
        Place::Tcp { port: 0, .. } | Place::Udp { port: 0, .. }
    )
}

/// Whether one worker may have several there at once.
fn may_have_several(place: &Place) -> bool {
    matches!(
        place,
        Place::Udp {
            reuse_address: true,
            port: 1..,
            ..
        }
    )
}

/// Why it could not be made. Programs know reasons by number, so there always is one.
pub(super) fn refusal(error: io::Error) -> Refusal {
    let errno = error.raw_os_error().unwrap_or(match error.kind() {
        io::ErrorKind::AddrInUse => libc::EADDRINUSE,
        io::ErrorKind::NotFound => libc::ENOENT,
        _ => libc::EINVAL,
    });
    let why = error.to_string();
    Refusal { errno, why }
}

#[cfg(test)]
mod tests;
