//! Listening sockets that block: for programs that were not told otherwise.

use std::io;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::Listener;

impl Listener {
    /// Has everybody who shares the socket wait in accept(2), as those expect who are given one by a
    /// service manager. To be called before anybody has it: who waits by epoll(7) and has made it
    /// non-blocking would stand still over a connection that another took.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2).
    #[cfg(feature = "programs")]
    pub(crate) fn block(&self) -> io::Result<()> {
        let flags = self.status()? - OFlag::O_NONBLOCK;
        fcntl(&self.fd, FcntlArg::F_SETFL(flags))?;
        Ok(())
    }

    /// Blocks if `other` does.
    pub(super) fn block_as(&self, other: &Listener) -> io::Result<()> {
        let flag = OFlag::O_NONBLOCK;
        let mut flags = self.status()?;
        flags.set(flag, other.status()?.contains(flag));
        fcntl(&self.fd, FcntlArg::F_SETFL(flags))?;
        Ok(())
    }

    fn status(&self) -> io::Result<OFlag> {
        Ok(OFlag::from_bits_retain(fcntl(&self.fd, FcntlArg::F_GETFL)?))
    }
}

#[cfg(all(test, feature = "programs"))]
mod tests {
    use super::super::Listener;
    use nix::fcntl::OFlag;

    #[test]
    fn siblings_block_alike() {
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into(), 8, false).expect("a port");
        let blocks = |one: &Listener| !one.status().expect("open").contains(OFlag::O_NONBLOCK);
        assert!(!blocks(&listener));
        assert!(!blocks(&listener.sibling(8).expect("another")));
        listener.block().expect("open");
        assert!(blocks(&listener));
        assert!(blocks(&listener.sibling(8).expect("another")));
    }
}
