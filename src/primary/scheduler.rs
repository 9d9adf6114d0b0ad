//! Which worker gets the next connection: decided in pure code.
//!
//! Owns the order of the round; leaves knowing the workers to its caller, and where clients belong
//! to `rendezvous`.

use super::rendezvous::Affinity;
use crate::http::is_token;
use crate::worker::WorkerId;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Bytes that the name of a cookie or of a query's key may have.
const LONGEST_NAME: usize = 64;

/// Who accepts connections, and which worker gets them.
///
/// Under the sticky policies clients belong to places, of which a cluster of N workers has N, and
/// the successor of a worker has its place. A connection stays with its worker, whatever later
/// requests on it say. A worker that has as many connections as it may counts as one that is not
/// there for those that come then; for one that has its hands full, or stands still, they wait.
///
/// # Examples
///
/// ```
/// use mcluster::SchedulingPolicy;
///
/// let policy: SchedulingPolicy = "sticky-cookie:worker".parse().unwrap();
/// assert_eq!(policy, SchedulingPolicy::StickyCookie("worker".into()));
/// assert_eq!(policy.to_string(), "sticky-cookie:worker");
/// assert!("sticky-cookie:a;b".parse::<SchedulingPolicy>().is_err(), "no name of a cookie");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchedulingPolicy {
    /// The primary deals them out in turn (Node's `SCHED_RR`): equal shares, and a worker that
    /// stands still is passed over. At TCP ports workers accept as many as they are dealt; at unix
    /// sockets, and for programs, the primary accepts and hands over.
    #[default]
    RoundRobin,
    /// Every worker accepts from the shared listener by itself (Node's `SCHED_NONE`): no work for
    /// the primary, and shares as the kernel wakes.
    Shared,
    /// Every worker accepts from a listening socket of its own, between which the kernel spreads
    /// connections by their addresses (`SO_REUSEPORT`). The primary makes and keeps the sockets:
    /// what waits at a worker that dies or stands still goes to another. Unix sockets and
    /// inherited ones are shared instead.
    ReusePort,
    /// As [`SchedulingPolicy::RoundRobin`], but each connection goes to the worker that has the
    /// fewest open.
    LeastConnections,
    /// The primary accepts and deals each client, by its address, to the worker at one place as
    /// long as there is one. Where a place is lost or added, only the clients that were or will be
    /// its own go elsewhere (rendezvous hashing); the successor of a worker has its place. Clients
    /// without an address, at a unix socket, have their turn. Of a peer that must begin by a
    /// header of the PROXY protocol, the address in that header is what counts.
    StickyIp,
    /// The primary accepts and looks at the first request, without consuming it, for the cookie
    /// with this name. `w3`, or `w3` followed by `.`, `-` or `~` and anything, names the third
    /// place and goes there; any other value goes to one place as long as there is one, as an
    /// address does under [`SchedulingPolicy::StickyIp`]. Without the cookie a client has its turn,
    /// and the answer sets it: `NAME=w3.5f0c91d2; Path=/; HttpOnly; SameSite=Lax`, with `Secure` where the
    /// client came by https as trusted proxies say; unless the handler sets it by itself. A client
    /// that has not sent its head within five seconds, or within the limits of a head, has its turn.
    ///
    /// The name is a token of at most 64 bytes.
    StickyCookie(Cow<'static, str>),
    /// The same by the first value of this key in the first request's query. Nobody sets it but
    /// the application, to which [`Worker::sticky_value`](crate::Worker::sticky_value) tells what
    /// names its worker.
    ///
    /// The key is of at most 64 bytes, without `&`, `=`, `#` and controls.
    StickyQuery(Cow<'static, str>),
    /// As [`SchedulingPolicy::ReusePort`], but the kernel chooses the socket as
    /// [`SchedulingPolicy::StickyIp`] would: each client, by its address, stays with the worker at
    /// one place, and the primary has no work with it. The kernel sees the address that packets
    /// come from, which behind a balancer is the balancer's, whatever the PROXY protocol says; and
    /// it chooses when a connection begins, not when it is accepted. Where it cannot choose (unix
    /// sockets, inherited ones, more than 268 places), the primary accepts and deals as under
    /// [`SchedulingPolicy::StickyIp`].
    StickyIpReusePort,
}

impl SchedulingPolicy {
    /// Whether clients stay with their workers.
    pub(super) fn is_sticky(&self) -> bool {
        self.goes_by_address() || matches!(self, Self::StickyCookie(_) | Self::StickyQuery(_))
    }

    /// Whether clients stay with their workers by their addresses.
    pub(super) fn goes_by_address(&self) -> bool {
        matches!(self, Self::StickyIp | Self::StickyIpReusePort)
    }

    /// Whether each worker accepts from a socket of its own, where that can be.
    pub(super) fn splits(&self) -> bool {
        matches!(self, Self::ReusePort | Self::StickyIpReusePort)
    }

    /// Whether any connection may be anybody's whose turn it is, so that nothing need be known of it.
    pub(super) fn grants(&self) -> bool {
        matches!(self, Self::RoundRobin | Self::LeastConnections)
    }

    /// Whether the kernel chooses the socket by the client's address, where it can.
    pub(super) fn steers(&self) -> bool {
        matches!(self, Self::StickyIpReusePort)
    }

    /// The cookie that names a client's worker, if there is one.
    pub(super) fn cookie(&self) -> Option<&str> {
        match self {
            Self::StickyCookie(name) => Some(name),
            _ => None,
        }
    }

    /// Whether it makes sense: a name may not have gone through [`FromStr`].
    ///
    /// # Errors
    ///
    /// Says what does not.
    pub(super) fn check(&self) -> Result<(), String> {
        let (what, name) = match self {
            Self::StickyCookie(name) => ("a cookie", name),
            Self::StickyQuery(name) => ("a query's key", name),
            _ => return Ok(()),
        };
        let bad = |why: &str| Err(format!("{name:?} is no name of {what}: {why}"));
        let splits = |byte: u8| byte.is_ascii_control() || b"&=#".contains(&byte);
        if name.is_empty() {
            return bad("it is empty");
        }
        if name.len() > LONGEST_NAME {
            return bad("it is longer than 64 bytes");
        }
        match self {
            Self::StickyCookie(_) if !is_token(name.as_bytes()) => {
                bad("letters, digits and !#$%&'*+-.^_`|~ alone")
            }
            Self::StickyQuery(_) if name.bytes().any(splits) => bad("no &, =, # or control"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for SchedulingPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobin => f.write_str("rr"),
            Self::Shared => f.write_str("shared"),
            Self::ReusePort => f.write_str("reuseport"),
            Self::LeastConnections => f.write_str("least-connections"),
            Self::StickyIp => f.write_str("sticky-ip"),
            Self::StickyIpReusePort => f.write_str("sticky-ip:reuseport"),
            Self::StickyCookie(name) => write!(f, "sticky-cookie:{name}"),
            Self::StickyQuery(name) => write!(f, "sticky-query:{name}"),
        }
    }
}

impl FromStr for SchedulingPolicy {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let named = |name: &str| Cow::Owned(name.to_owned());
        let policy = match word.split_once(':') {
            Some(("sticky-cookie", name)) => Self::StickyCookie(named(name)),
            Some(("sticky-query", name)) => Self::StickyQuery(named(name)),
            _ => return Self::of_word(word),
        };
        policy.check().map(|()| policy)
    }
}

impl SchedulingPolicy {
    fn of_word(word: &str) -> Result<Self, String> {
        match word {
            "rr" => Ok(Self::RoundRobin),
            // Node's word for it is `none`.
            "shared" | "none" => Ok(Self::Shared),
            "reuseport" => Ok(Self::ReusePort),
            "least-connections" => Ok(Self::LeastConnections),
            "sticky-ip" => Ok(Self::StickyIp),
            "sticky-ip:reuseport" => Ok(Self::StickyIpReusePort),
            "sticky-cookie" | "sticky-query" => Err(format!("{word} needs a name: {word}:NAME")),
            _ => Err(format!(
                "{word:?} is no policy (rr, shared, reuseport, least-connections, sticky-ip, \
                 sticky-ip:reuseport, sticky-cookie:NAME or sticky-query:NAME)"
            )),
        }
    }
}

/// A worker as the scheduler sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) id: WorkerId,
    /// Where it is.
    pub(super) place: usize,
    /// How many connections it may be handed before it takes some.
    pub(super) room: usize,
    /// Connections that are its own, taken or not.
    pub(super) open: usize,
    /// How many these may be; none where it takes no more.
    pub(super) most: usize,
    /// Its loop stands still: only if there is nobody else.
    pub(super) still: bool,
}

/// Who gets a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The one with this index.
    Who(usize),
    /// The one whose it is, when that has taken some of what it was handed.
    Later,
    /// Nobody at present.
    Nobody,
}

/// The round: everybody in turn, or whoever has the fewest and is next in turn.
#[derive(Debug, Default)]
pub(super) struct Round {
    last: Option<WorkerId>,
}

impl Round {
    /// Who gets the next connection, among `candidates` in the order of their ids: one that has room
    /// and that `fit` holds of. One that stands still is passed over while another has room; but not
    /// by a connection that belongs somewhere, which has no turn: while it is `patient` it waits for
    /// whoever has that place.
    pub(super) fn pick(
        &mut self,
        candidates: &[Candidate],
        policy: &SchedulingPolicy,
        affinity: Option<Affinity>,
        patient: bool,
        fit: impl Fn(usize) -> bool,
    ) -> Choice {
        if let Some(affinity) = affinity.filter(|_| policy.is_sticky()) {
            // The last of equals: in a reload two have the same place, and one of them will stay.
            let heaviest = |could: &dyn Fn(&Candidate) -> bool| {
                let fitting = |index: &usize| could(&candidates[*index]) && fit(*index);
                let all = (0..candidates.len()).filter(fitting);
                all.max_by_key(|&index| affinity.weight(candidates[index].place))
            };
            let home = heaviest(&|one| one.open < one.most);
            return match home {
                None => Choice::Nobody,
                Some(index) if candidates[index].room > 0 => Choice::Who(index),
                Some(_) if patient => Choice::Later,
                Some(_) => heaviest(&|one| one.room > 0).map_or(Choice::Nobody, Choice::Who),
            };
        }
        self.turn(candidates, policy, fit)
            .map_or(Choice::Nobody, Choice::Who)
    }

    fn turn(
        &mut self,
        candidates: &[Candidate],
        policy: &SchedulingPolicy,
        fit: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let moving = |index: usize| !candidates[index].still && fit(index);
        let index = self
            .next(candidates, policy, moving)
            .or_else(|| self.next(candidates, policy, fit))?;
        self.last = Some(candidates[index].id);
        Some(index)
    }

    fn next(
        &self,
        candidates: &[Candidate],
        policy: &SchedulingPolicy,
        fit: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let start = candidates.partition_point(|one| Some(one.id) <= self.last);
        let count = candidates.len();
        let mut round = (0..count)
            .map(|step| (start + step) % count)
            .filter(|&index| candidates[index].room > 0 && fit(index));
        match policy {
            // The first of equals, so that they have their turns.
            SchedulingPolicy::LeastConnections => round.min_by_key(|&index| candidates[index].open),
            _ => round.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers in the words `ID:ROOM`, an `s` behind for one that stands still, `/OPEN` behind
    /// that for what it has.
    fn candidates(line: &str) -> Vec<Candidate> {
        let one = |word: &str| {
            let (id, rest) = word.split_once(':').unwrap();
            let (room, open) = rest.split_once('/').unwrap_or((rest, "0"));
            let still = room.ends_with('s');
            Candidate {
                id: WorkerId(id.parse().unwrap()),
                place: id.parse().unwrap(),
                room: room.trim_end_matches('s').parse().unwrap(),
                open: open.parse().unwrap(),
                most: 100,
                still,
            }
        };
        line.split_whitespace().map(one).collect()
    }

    /// Deals `count` connections and says who got them; number 9 never fits.
    fn deal(round: &mut Round, policy: &SchedulingPolicy, line: &str, count: usize) -> String {
        let mut candidates = candidates(line);
        let nine = candidates.iter().position(|one| one.id == WorkerId(9));
        let fit = |index| Some(index) != nine;
        let pick = |_| match round.pick(&candidates, policy, None, true, fit) {
            Choice::Who(index) => {
                candidates[index].room -= 1;
                candidates[index].open += 1;
                candidates[index].id.to_string()
            }
            Choice::Later | Choice::Nobody => "-".to_owned(),
        };
        (0..count).map(pick).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_round() {
        let cases = [
            ("everybody in turn", "1:9 2:9 3:9", 5, "1 2 3 1 2"),
            ("no room, no turn", "1:9 2:0 3:9", 4, "1 3 1 3"),
            ("room runs out", "1:1 2:2 3:0", 4, "1 2 2 -"),
            ("still ones are passed over", "1:9 2:9s 3:9", 4, "1 3 1 3"),
            ("unless nobody else has room", "1:1 2:9s", 4, "1 2 2 2"),
            ("who has more gets no less", "1:9/5 2:9/0", 4, "1 2 1 2"),
            ("who does not fit gets none", "1:9 9:9", 2, "1 1"),
            ("nobody", "", 1, "-"),
        ];
        for (name, line, count, expected) in cases {
            let policy = &SchedulingPolicy::RoundRobin;
            let dealt = deal(&mut Round::default(), policy, line, count);
            assert_eq!(dealt, expected, "{name}");
        }
    }

    #[test]
    fn the_fewest_first() {
        let cases = [
            ("equals in turn", "1:9 2:9 3:9", 4, "1 2 3 1"),
            (
                "the emptiest until it is level",
                "1:9/3 2:9/0 3:9/2",
                5,
                "2 2 3 2 3",
            ),
            ("room counts first", "1:9/3 2:1/0", 3, "2 1 1"),
            ("still ones are passed over", "1:9/8 2:9s/0", 2, "1 1"),
        ];
        for (name, line, count, expected) in cases {
            let policy = &SchedulingPolicy::LeastConnections;
            let dealt = deal(&mut Round::default(), policy, line, count);
            assert_eq!(dealt, expected, "{name}");
        }
    }

    #[test]
    fn the_round_goes_on_where_it_was_when_workers_change() {
        let policy = &SchedulingPolicy::RoundRobin;
        let mut round = Round::default();
        assert_eq!(deal(&mut round, policy, "1:9 2:9 3:9", 2), "1 2");
        assert_eq!(deal(&mut round, policy, "1:9 3:9 4:9", 3), "3 4 1");
        assert_eq!(deal(&mut round, policy, "5:9 6:9", 1), "5");
        assert_eq!(deal(&mut round, policy, "5:9 6:9", 2), "6 5");
    }

    #[test]
    fn who_belongs_somewhere_has_no_turn() {
        let all = candidates("1:9 2:9s 3:0/100 4:9 5:0");
        let others = ["sticky-cookie:a", "sticky-query:a"].map(|word| word.parse().unwrap());
        let mut round = Round::default();
        let mut patiently =
            |affinity, policy, patient| match round.pick(&all, policy, affinity, patient, |_| true)
            {
                Choice::Who(index) => Some(all[index].id.0),
                Choice::Later => Some(0),
                Choice::Nobody => None,
            };
        let five = Some(Affinity::of_place(5));
        let sticky = &SchedulingPolicy::StickyIp;
        assert_eq!(patiently(five, sticky, true), Some(0), "its hands are full");
        assert!(patiently(five, sticky, false).is_some_and(|id| id != 5 && id != 0));
        let mut pick = |affinity, policy| patiently(affinity, policy, false);
        assert_eq!(pick(Some(Affinity::of_place(1)), sticky), Some(1));
        assert_eq!(
            pick(Some(Affinity::of_place(2)), sticky),
            Some(2),
            "even if it stands still"
        );
        let instead = pick(Some(Affinity::of_place(3)), sticky);
        assert!(instead.is_some_and(|id| id != 3), "it has no room");
        assert_eq!(pick(None, sticky), Some(1), "their turns go on");
        assert_eq!(pick(None, sticky), Some(4));
        for other in &others {
            assert_eq!(pick(Some(Affinity::of_place(4)), other), Some(4));
            assert_eq!(pick(Some(Affinity::of_place(3)), other), instead);
        }
        let rr = &SchedulingPolicy::RoundRobin;
        assert_eq!(pick(Some(Affinity::of_place(4)), rr), Some(1));
        // Where two have one place, one of them is about to go.
        let mut both = candidates("1:9 5:9");
        both[1].place = 1;
        let one = Some(Affinity::of_place(1));
        let choice = Round::default().pick(&both, sticky, one, true, |_| true);
        assert_eq!(choice, Choice::Who(1));
    }

    #[test]
    fn policies_have_names() {
        let longest = "n".repeat(LONGEST_NAME);
        for policy in [
            SchedulingPolicy::RoundRobin,
            SchedulingPolicy::Shared,
            SchedulingPolicy::ReusePort,
            SchedulingPolicy::LeastConnections,
            SchedulingPolicy::StickyIp,
            SchedulingPolicy::StickyCookie("__Host-w".into()),
            SchedulingPolicy::StickyCookie("&|#".into()),
            SchedulingPolicy::StickyCookie(longest.clone().into()),
            SchedulingPolicy::StickyQuery("a b:ü+".into()),
            SchedulingPolicy::StickyQuery(longest.clone().into()),
            SchedulingPolicy::StickyIpReusePort,
        ] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!("none".parse(), Ok(SchedulingPolicy::Shared));
        let long = format!("sticky-cookie:{longest}n");
        for (word, why) in [
            ("RR", "no policy (rr,"),
            ("sticky", "sticky-query:NAME)"),
            ("rr:x", "no policy"),
            ("sticky-cookie", "needs a name: sticky-cookie:NAME"),
            ("sticky-query", "needs a name: sticky-query:NAME"),
            ("sticky-cookie:", "it is empty"),
            ("sticky-query:", "it is empty"),
            (
                "sticky-cookie:a b",
                "\"a b\" is no name of a cookie: letters",
            ),
            ("sticky-cookie:a=b", "letters"),
            ("sticky-cookie:ü", "letters"),
            ("sticky-query:a=b", "no name of a query's key: no &, =, #"),
            ("sticky-query:a&b", "control"),
            ("sticky-query:a#b", "control"),
            ("sticky-query:a\tb", "control"),
            (&long, "longer than 64"),
        ] {
            let error = word.parse::<SchedulingPolicy>().unwrap_err();
            assert!(error.contains(why), "{word:?}: {error}");
        }
    }
}
