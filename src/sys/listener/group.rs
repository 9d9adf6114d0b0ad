//! Groups of sockets on one address, and the program by which the kernel chooses among them; see
//! socket(7).
//!
//! What the program says is left to whoever writes it, and so is the order of the group: that in
//! which its sockets began to listen, as long as none of them stops.

use super::{Address, Listener};
use crate::sys::retry;
use nix::errno::Errno;
use std::io;
use std::os::fd::AsRawFd;

/// One instruction of classic BPF.
pub(crate) type Instruction = libc::sock_filter;

/// A program that names no socket.
const NONE: Instruction = Instruction {
    code: (libc::BPF_RET | libc::BPF_K) as u16,
    jt: 0,
    jf: 0,
    k: u32::MAX,
};

impl Listener {
    /// Has the kernel ask `program`, at every new connection, which socket of the group that this
    /// one is in gets it: the answer counts the sockets in the order in which they began to listen.
    /// Where it names none, the kernel chooses as it would have. A program before it is replaced in
    /// one step. For every process that shares the sockets, and without privilege.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a Unix socket; `EINVAL` where there is no group, which takes a
    /// [`Listener::sibling`], and for a program that makes no sense; `ENOMEM` for one that is too
    /// long for the limit net.core.optmem_max.
    pub(crate) fn steer(&self, program: &[Instruction]) -> io::Result<()> {
        let Address::Inet(_) = self.address else {
            let what = format!("{} is in no group", self.address);
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        };
        let length = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
        let program = libc::sock_fprog {
            len: length,
            filter: program.as_ptr().cast_mut(),
        };
        let start = (&raw const program).cast();
        let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
        let (fd, option) = (self.as_raw_fd(), libc::SO_ATTACH_REUSEPORT_CBPF);
        // SAFETY: `start` has `size` bytes and points to the instructions, as many as it says; all
        // outlive the call, which only reads them.
        let attach = || unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, start, size) };
        retry(|| Errno::result(attach())).map(drop)
    }

    /// Takes the group's program away, if it has one.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub(crate) fn let_go(&self) -> io::Result<()> {
        let nothing: libc::c_int = 0;
        let start = (&raw const nothing).cast();
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        let (fd, option) = (self.as_raw_fd(), libc::SO_DETACH_REUSEPORT_BPF);
        // SAFETY: `start` has `size` bytes and outlives the call, which only reads them.
        let detach = || unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, start, size) };
        match retry(|| Errno::result(detach())) {
            // Before Linux 5.3 one is only replaced: by one that names none.
            Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => self.steer(&[NONE]),
            // There is none, or no group.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => {
                Ok(())
            }
            outcome => outcome.map(drop),
        }
    }
}
