//! What workers may have the primary listen on for them.
//!
//! Owns the rules alone: a worker may be anybody's who has broken into it, and the primary has
//! rights that it has not.

use crate::ipc::{Place, Refusal};
use crate::net::Listen;
use std::net::IpAddr;

/// Listeners that workers may have made, all together.
pub(super) const MOST_ASKED: usize = 64;

/// Ports below this one are for the privileged: see ip(7).
const FIRST_FOR_ALL: u16 = 1024;

/// What `words` ask for, if that is to be had where workers have made the primary listen on `made`
/// others. Workers that have `dropped` the primary's rights get nothing by them: no path, no
/// descriptor, no port that they could not take by themselves.
///
/// # Errors
///
/// Why not.
pub(super) fn judge(words: &str, dropped: bool, made: usize) -> Result<Listen, Refusal> {
    let listen: Listen = words.parse().map_err(refused)?;
    if made >= MOST_ASKED {
        return Err(refused(format!(
            "{words}: workers listen on {MOST_ASKED} addresses already, and on no more"
        )));
    }
    if let Listen::Host(host, _) = &listen
        && host != "localhost"
        && host.parse::<IpAddr>().is_err()
    {
        // Asking a name server would keep the loop from all else.
        let why = format!("{words}: a primary looks no names up, only workers do");
        return Err(refused(why));
    }
    let rights = match &listen {
        _ if !dropped => None,
        Listen::Unix(_) => Some("a path"),
        Listen::Fd(_) => Some("a descriptor"),
        Listen::Host(_, port) | Listen::Any(port) if (1..FIRST_FOR_ALL).contains(port) => {
            Some("a port below 1024")
        }
        Listen::Host(..) | Listen::Any(_) => None,
    };
    match rights {
        None => Ok(listen),
        Some(what) => Err(refused(format!(
            "{words}: workers of another user have no {what} made for them; it belongs in the \
             cluster's settings"
        ))),
    }
}

/// The same for what a program asks to have bound: names it has looked up by itself.
///
/// # Errors
///
/// Why not; `EACCES` is for rights, as the kernel would have said.
pub(super) fn judge_place(place: &Place, dropped: bool, made: usize) -> Result<(), Refusal> {
    if made >= MOST_ASKED {
        return Err(Refusal {
            errno: libc::EMFILE,
            why: format!("workers listen on {MOST_ASKED} addresses already, and on no more"),
        });
    }
    let rights = match place {
        _ if !dropped => None,
        Place::Unix { .. } => Some("path"),
        Place::Fd { .. } => Some("descriptor"),
        Place::Tcp { port, .. } | Place::Udp { port, .. } => {
            let privileged = (1..FIRST_FOR_ALL).contains(port);
            privileged.then_some("port below 1024")
        }
    };
    match rights {
        None => Ok(()),
        Some(what) => Err(Refusal {
            errno: libc::EACCES,
            why: format!(
                "workers of another user have no {what} made for them; it belongs in the \
                 cluster's settings"
            ),
        }),
    }
}

fn refused(why: String) -> Refusal {
    Refusal { errno: 0, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_get_nothing_by_rights_that_they_have_dropped() {
        let cases = [
            ("127.0.0.1:0", None, None),
            ("localhost:3000", None, None),
            ("[::1]:1024", None, None),
            (":0", None, None),
            ("127.0.0.1:80", None, Some("below 1024")),
            (":1023", None, Some("below 1024")),
            ("unix:/run/x.sock", None, Some("a path")),
            ("fd:7", None, Some("a descriptor")),
            (
                "example.com:3000",
                Some("looks no names up"),
                Some("looks no names up"),
            ),
            ("nonsense", Some("port is missing"), Some("port is missing")),
        ];
        for (words, as_before, dropped) in cases {
            for (dropped, why) in [(false, as_before), (true, dropped)] {
                let found = judge(words, dropped, MOST_ASKED - 1).map_err(|refusal| refusal.why);
                match (found, why) {
                    (Ok(listen), None) => assert_eq!(listen.to_string(), words),
                    (Err(found), Some(why)) => assert!(found.contains(why), "{words}: {found}"),
                    (found, why) => panic!("{words}, {dropped}: {found:?}, not {why:?}"),
                }
            }
        }
        assert!(judge("127.0.0.1:0", false, MOST_ASKED).is_err(), "too many");
    }
}
