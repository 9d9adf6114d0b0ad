//! The receiving end of sd_notify(3): a datagram socket with a name of its own, and who sent what
//! comes there.
//!
//! What is said, and whether the sender has anything to say, is left to whoever reads.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, bind, getsockname, setsockopt, socket, sockopt,
};
use nix::unistd;

use super::fds;
use super::process::Pid;
use super::retry;

/// The longest notice, in bytes, as systemd has it. Longer ones are lost.
pub(crate) const LONGEST_NOTICE: usize = 4096;

/// The bytes of a control message that says who sent something, and of no more: where descriptors
/// came as well, the kernel finds no room for them, and closes them.
// SAFETY: CMSG_SPACE only reckons.
const CONTROL_LEN: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as _) } as usize;

/// Room for that, aligned as its header wants it.
#[repr(C)]
struct Control {
    alignment: [libc::cmsghdr; 0],
    bytes: [u8; CONTROL_LEN],
}

/// Where a program says how it is. Its name is in the abstract namespace, chosen by the kernel, so
/// nothing need be removed; but whoever shares the network namespace can send there.
#[derive(Debug)]
pub(crate) struct NoticeSocket {
    fd: OwnedFd,
    name: OsString,
}

/// Who sent a notice, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    /// Not above zero where it is a process that this one cannot see.
    pub(crate) pid: Pid,
    pub(crate) uid: u32,
}

impl Sender {
    /// Whether it is of the process group that `leader` leads: or was perhaps, since it has ended
    /// by now; then it is believed if it was `leader`'s user, or root.
    pub(crate) fn is_of_group(&self, leader: Pid) -> bool {
        let raw = self.pid.as_raw();
        if raw <= 0 {
            return false;
        }
        match unistd::getpgid(Some(unistd::Pid::from_raw(raw))) {
            Ok(group) => group.as_raw() == leader.as_raw(),
            Err(Errno::ESRCH) => self.uid == 0 || user_of(leader) == Some(self.uid),
            Err(_) => false,
        }
    }
}

/// The user that a process runs as.
fn user_of(pid: Pid) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    Some(std::fs::metadata(format!("/proc/{pid}")).ok()?.uid())
}

/// The abstract name of a socket, as `NOTIFY_SOCKET` has it.
fn name_of(fd: &OwnedFd) -> io::Result<OsString> {
    let address: UnixAddr = getsockname(fd.as_raw_fd())?;
    let chosen = address.as_abstract().unwrap_or_default();
    Ok(OsString::from_vec([b"@", chosen].concat()))
}

impl NoticeSocket {
    /// A socket under a free name.
    ///
    /// # Errors
    ///
    /// Those of socket(2) and bind(2), such as `EMFILE`.
    pub(crate) fn new() -> io::Result<NoticeSocket> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        // Before it has a name, or the first notice could come without its sender.
        setsockopt(&fd, sockopt::PassCred, &true)?;
        // No name asks for a free one; see "Autobind feature" in unix(7).
        bind(fd.as_raw_fd(), &UnixAddr::new_unnamed())?;
        NoticeSocket::restored(fd)
    }

    /// One that was made by the program before this one.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub(crate) fn restored(fd: OwnedFd) -> io::Result<NoticeSocket> {
        let name = name_of(&fd)?;
        Ok(NoticeSocket { fd, name })
    }

    /// What `NOTIFY_SOCKET` is to be for those who are to speak here.
    pub(crate) fn name(&self) -> &OsString {
        &self.name
    }

    /// Takes one notice: its length in `buffer`, and who sent it. `None` for one that is too long,
    /// or whose sender is unknown. Descriptors that came with it are closed.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is none; those of recvmsg(2).
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Sender)>> {
        let mut control = Control {
            alignment: [],
            bytes: [0; CONTROL_LEN],
        };
        let mut slice = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let mut message = fds::message(&mut slice);
        message.msg_control = (&raw mut control.bytes).cast();
        message.msg_controllen = CONTROL_LEN as _;
        let (fd, flags) = (
            self.fd.as_raw_fd(),
            libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC,
        );
        // SAFETY: `message` points to `slice`, thereby `buffer`, and to `control`, all alive, of the
        // lengths it says, and borrowed by nobody else; recvmsg writes there and to `message`.
        let received =
            retry(|| Errno::result(unsafe { libc::recvmsg(fd, &raw mut message, flags) }))?;
        // Whatever came after all, whether or not some were cut.
        let mut unwanted = Vec::new();
        // SAFETY: recvmsg succeeded and filled `message` in, `control` is alive, and nobody has
        // taken anything.
        let sender = unsafe {
            fds::take_descriptors(&message, &mut unwanted);
            sender_of(&message)
        };
        let whole = message.msg_flags & libc::MSG_TRUNC == 0;
        Ok(sender
            .filter(|_| whole)
            .map(|sender| (received.unsigned_abs(), sender)))
    }
}

/// Who sent a message, if that came whole.
///
/// # Safety
///
/// recvmsg(2) filled `message` in, and its control buffer is alive.
unsafe fn sender_of(message: &libc::msghdr) -> Option<Sender> {
    // SAFETY: the kernel wrote the control data, so that the headers found by these macros, and as
    // many bytes after each as it says, lie within it.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(found) = header.as_ref() {
            let length = libc::CMSG_LEN(size_of::<libc::ucred>() as _) as usize;
            let kind = (found.cmsg_level, found.cmsg_type);
            if kind == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
                && (*header).cmsg_len as usize >= length
            {
                let data = libc::CMSG_DATA(header).cast::<libc::ucred>();
                let who = data.read_unaligned();
                return Some(Sender {
                    pid: Pid::from_raw(who.pid),
                    uid: who.uid,
                });
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}

impl AsFd for NoticeSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::super::process::pid;
    use super::super::{socket, testing};
    use super::*;

    fn speaker(to: &NoticeSocket) -> UnixDatagram {
        let name = to.name().to_str().and_then(|name| name.strip_prefix('@'));
        let address = SocketAddr::from_abstract_name(name.expect("a name")).expect("short");
        let speaker = UnixDatagram::unbound().expect("a socket");
        speaker.connect_addr(&address).expect("somebody there");
        speaker
    }

    #[test]
    fn notices_come_with_their_sender() {
        let hears = NoticeSocket::new().expect("a socket");
        testing::assert_flags(&hears);
        let mut buffer = [0; LONGEST_NOTICE];
        let nothing = hears.receive(&mut buffer).expect_err("nobody spoke");
        assert!(socket::would_block(&nothing), "{nothing}");
        let speaker = speaker(&hears);
        speaker.send(b"READY=1").expect("room");
        let (length, sender) = hears.receive(&mut buffer).expect("one").expect("whole");
        assert_eq!(&buffer[..length], b"READY=1");
        assert_eq!(sender.pid, pid());
        let group = Pid::from_raw(unistd::getpgrp().as_raw());
        assert!(sender.is_of_group(group));
        assert!(!sender.is_of_group(Pid::from_raw(i32::MAX)));
        speaker.send(&[b'x'; LONGEST_NOTICE + 1]).expect("room");
        speaker.send(&[b'x'; LONGEST_NOTICE]).expect("room");
        assert!(hears.receive(&mut buffer).expect("one").is_none());
        let (length, _) = hears.receive(&mut buffer).expect("one").expect("whole");
        assert_eq!(length, LONGEST_NOTICE);
    }

    /// Sends a notice with `count` descriptors, and checks that none is left of them.
    fn assert_none_kept(count: usize) {
        use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
        use std::io::IoSlice;
        let hears = NoticeSocket::new().expect("a socket");
        let speaker = speaker(&hears);
        let (file, _other) = std::io::pipe().expect("a pipe");
        let link = testing::link_of(&file);
        let before = testing::open_count(&link);
        let fds = vec![file.as_raw_fd(); count];
        let along = [ControlMessage::ScmRights(&fds)];
        let slices = [IoSlice::new(b"FDSTORE=1")];
        let flags = MsgFlags::empty();
        sendmsg::<()>(speaker.as_raw_fd(), &slices, &along, flags, None).expect("room");
        let mut buffer = [0; 64];
        let (length, sender) = hears.receive(&mut buffer).expect("one").expect("whole");
        assert_eq!(&buffer[..length], b"FDSTORE=1");
        assert_eq!(sender.pid, pid());
        assert_eq!(testing::open_count(&link), before, "{count}");
    }

    #[test]
    fn descriptors_that_come_along_are_closed() {
        for count in [1, 2, 253] {
            assert_none_kept(count);
        }
    }

    #[test]
    fn descriptors_are_closed_where_not_all_could_be_had() {
        const INNER: &str = "MCLUSTER_TEST_FEW_DESCRIPTORS";
        if std::env::var_os(INNER).is_some() {
            return assert_none_kept(100);
        }
        let name = "sys::notices::tests::descriptors_are_closed_where_not_all_could_be_had";
        let script = "ulimit -n 32 && exec \"$0\" --exact \"$1\" --test-threads 1";
        let ran = std::process::Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().expect("this program"))
            .arg(name)
            .env(INNER, "1")
            .output()
            .expect("a shell");
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    fn who_cannot_be_seen_is_nobody() {
        let unseen = |raw| Sender {
            pid: Pid::from_raw(raw),
            uid: 0,
        };
        let group = Pid::from_raw(unistd::getpgrp().as_raw());
        // Zero would be this process to getpgid(2).
        assert!(!unseen(0).is_of_group(group));
        assert!(!unseen(-1).is_of_group(group));
        // It has ended, and was of root.
        assert!(unseen(i32::MAX).is_of_group(group));
        let other = Sender {
            uid: u32::MAX - 1,
            ..unseen(i32::MAX)
        };
        assert!(!other.is_of_group(pid()));
    }
}
