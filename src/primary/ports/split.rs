//! Which socket of a listener each worker accepts from, and which are left to the primary.
//!
//! Owns the groups of sockets, one a place, and what the kernel is told of them: a program that
//! goes by the clients' addresses counts sockets in the order in which they began to listen, so
//! that order is kept to that of the places, or known to be lost.

use super::super::steering;
use super::{Port, Ports, SchedulingPolicy};
use crate::sorted::SortedSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// What the kernel was told of one listener's sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "control", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::primary) struct Steering {
    /// How many places the program knows that they have, if they have one.
    pub(super) places: Option<usize>,
    /// They are no longer in the order of their places.
    pub(super) disordered: bool,
    /// The kernel cannot choose among them, which has been said; until the policy is another.
    pub(super) given_up: bool,
    /// New connections come to these places alone, if there are any.
    #[cfg_attr(feature = "control", serde(default))]
    pub(super) led: SortedSet<usize>,
}

impl Steering {
    /// That of the program before, whose own program for the kernel may have been another. If it
    /// knew nothing of the order, then there is none where sockets are `beside` the first.
    pub(super) fn restored(before: Option<Self>, beside: bool) -> Self {
        match before {
            Some(before) => Self {
                places: before.places.map(|_| 0),
                ..before
            },
            None => Self {
                disordered: beside,
                ..Self::default()
            },
        }
    }
}

/// How the connections of a listener come to workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The primary accepts and deals.
    Dealt,
    /// The primary counts what waits and says who accepts how many of them.
    Granted,
    /// All accept from the first socket.
    Shared,
    /// Each accepts from its own socket.
    Split,
}

impl Port {
    fn way(&self, policy: &SchedulingPolicy) -> Way {
        match policy {
            _ if self.datagrams.is_some() => Way::Shared,
            SchedulingPolicy::Shared => Way::Shared,
            policy if policy.steers() && self.is_steered() => Way::Split,
            policy if policy.grants() && self.counted => Way::Granted,
            policy if policy.steers() || !policy.splits() => Way::Dealt,
            _ if self.alone => Way::Shared,
            _ => Way::Split,
        }
    }

    fn sockets(&self) -> usize {
        self.beside.len() + 1
    }

    /// Whether the kernel chooses the right one of its sockets, or has no choice.
    fn is_steered(&self) -> bool {
        let Steering {
            places,
            disordered,
            given_up,
            ..
        } = &self.steering;
        let fits = self.beside.is_empty() || *places == Some(self.sockets());
        fits && !self.alone && !disordered && !given_up
    }

    /// Whether the kernel is to be told something else than it was.
    fn is_to_be_steered(&self, policy: &SchedulingPolicy) -> bool {
        let Steering {
            places, given_up, ..
        } = &self.steering;
        if self.datagrams.is_some() {
            return false;
        }
        match policy.steers() {
            true => !given_up && !self.is_steered(),
            false => *given_up || places.is_some(),
        }
    }
}

impl Ports {
    /// The socket that the worker at `place` accepts from by itself, if the policy has it do so.
    pub(in crate::primary) fn socket(
        &mut self,
        registry: &mio::Registry,
        number: u32,
        place: usize,
        policy: &SchedulingPolicy,
    ) -> Option<BorrowedFd<'_>> {
        let given_up = policy.steers() && self.ports.get(&number)?.steering.given_up;
        if policy.splits() && !given_up {
            match self.split(registry, number, place) {
                Err(error) if policy.steers() => self.give_up(number, &error.to_string()),
                Err(error) => {
                    let address = &self.ports.get(&number)?.address;
                    log::warn!("{address} is shared rather than split: {error}");
                }
                Ok(()) => {}
            }
            self.steer(number, policy);
        }
        let port = self.ports.get(&number)?;
        if let Some(socket) = &port.datagrams {
            return Some(socket.as_fd());
        }
        let token = match port.way(policy) {
            Way::Dealt | Way::Granted => return None,
            Way::Shared => port.first,
            // The first one also where another could not be made.
            Way::Split => *port.beside.get(&place).unwrap_or(&port.first),
        };
        // One that does not listen at present would wake the worker without end.
        let open = !self.closed.contains(&token);
        let listener = open.then(|| self.gate.listener(token)).flatten();
        listener.map(AsFd::as_fd)
    }

    /// The socket that workers accept from as many as they are granted, if the policy has it so.
    pub(in crate::primary) fn queue(
        &self,
        number: u32,
        policy: &SchedulingPolicy,
    ) -> Option<BorrowedFd<'_>> {
        let port = self.ports.get(&number)?;
        let granted = self.way(port, policy) == Way::Granted && !self.closed.contains(&port.first);
        let listener = granted.then(|| self.gate.listener(port.first)).flatten();
        listener.map(AsFd::as_fd)
    }

    /// The tokens of all such sockets.
    pub(in crate::primary) fn granted(&self, policy: &SchedulingPolicy) -> Vec<usize> {
        let ports = self.ports.values();
        let granted = ports.filter(|port| self.queue(port.number, policy).is_some());
        granted.map(|port| port.first).collect()
    }

    /// Whether the one with `token` is such a socket.
    pub(in crate::primary) fn is_granted(&self, token: usize, policy: &SchedulingPolicy) -> bool {
        let port = self.by_token.get(&token);
        let port = port.and_then(|number| self.ports.get(number));
        port.is_some_and(|port| port.first == token && self.way(port, policy) == Way::Granted)
    }

    /// Has no more connections come to the sockets that nobody accepts from by himself. Workers may
    /// have copies of them, by this policy or one before.
    pub(in crate::primary) fn suspend(&self, policy: &SchedulingPolicy) {
        let ports = self.ports.values();
        let counted = ports.filter(|port| port.counted && !self.keeps);
        let counted = counted.filter(|port| matches!(port.way(policy), Way::Dealt | Way::Granted));
        for listener in counted.filter_map(|port| self.gate.listener(port.first)) {
            if let Err(error) = listener.suspend() {
                log::warn!("{} cannot be closed: {error}", listener.address());
            }
        }
    }

    /// The kernel does not tell how many wait at a listener, though it seemed to: the primary
    /// accepts there.
    pub(in crate::primary) fn cannot_count(&mut self, number: u32) {
        if let Some(port) = self.ports.get_mut(&number) {
            log::debug!("{}: nobody knows how many wait", port.address);
            port.counted = false;
            self.untold = true;
        }
    }

    /// Programs know no grants, and are dealt what the primary accepts.
    fn way(&self, port: &Port, policy: &SchedulingPolicy) -> Way {
        match port.way(policy) {
            Way::Granted if self.keeps => Way::Dealt,
            way => way,
        }
    }

    /// Makes a listener's sockets for all places up to `place`: in their order, as the kernel
    /// counts them.
    fn split(&mut self, registry: &mio::Registry, number: u32, place: usize) -> io::Result<()> {
        for place in 1..=place {
            let Some(port) = self.ports.get(&number).filter(|port| !port.alone) else {
                break;
            };
            if port.beside.contains_key(&place) {
                continue;
            }
            let Some(first) = self.gate.listener(port.first) else {
                break;
            };
            let sibling = first.sibling(port.backlog())?;
            let token = self.keep(registry, sibling, number)?;
            if let Some(port) = self.ports.get_mut(&number) {
                // One that listens again later is counted after this one.
                let of_it = |closed| self.by_token.get(closed) == Some(&number);
                port.steering.disordered |= self.closed.iter().any(of_it);
                port.beside.insert(place, token);
            }
        }
        Ok(())
    }

    /// Makes the sockets that the program at `place` inherits, where each place has its own.
    #[cfg(feature = "programs")]
    pub(in crate::primary) fn split_configured(
        &mut self,
        registry: &mio::Registry,
        place: usize,
        policy: &SchedulingPolicy,
    ) {
        if policy.splits() {
            for number in self.configured.clone() {
                self.socket(registry, number, place, policy);
            }
        }
    }

    /// Closes the sockets of all places from `first` on: nobody accepts from them any more.
    #[cfg(feature = "programs")]
    pub(in crate::primary) fn close_places(&mut self, registry: &mio::Registry, first: usize) {
        let mut tokens = Vec::new();
        for port in self.ports.values_mut() {
            port.beside.retain(|place, token| {
                let stays = *place < first;
                if !stays {
                    tokens.push(*token);
                }
                stays
            });
        }
        for token in tokens {
            self.close_socket(registry, token);
        }
    }

    /// Has new connections of the settings' listeners come to `places` alone, where each has its
    /// own: at others nobody accepts yet, or any more.
    #[cfg(feature = "programs")]
    pub(in crate::primary) fn lead(&mut self, places: &SortedSet<usize>) {
        for number in &self.configured {
            let Some(port) = self.ports.get_mut(number) else {
                continue;
            };
            let Some(first) = self.gate.listener(port.first) else {
                continue;
            };
            let sockets = port.sockets();
            let there = places.iter().copied().filter(|place| *place < sockets);
            let mut led: SortedSet<usize> = there.collect();
            let steering = &mut port.steering;
            if led.len() == sockets || steering.disordered || steering.given_up {
                led.clear();
            }
            if steering.led == led {
                continue;
            }
            let told = match steering::by_lot(&led) {
                Some(program) => first.steer(&program),
                None => first.let_go(),
            };
            if let Err(error) = told {
                let address = &port.address;
                log::warn!("{address}: the kernel chooses among its sockets as it did: {error}");
                steering.given_up = !led.is_empty();
                led.clear();
            }
            steering.led = led;
        }
    }

    /// Whether new connections come to no socket of the worker at `place`, which has some of its own.
    #[cfg(feature = "programs")]
    pub(in crate::primary) fn leads_past(&self, place: usize) -> bool {
        let mut own = self.own_of(place).peekable();
        let past = |led: &SortedSet<usize>| !led.is_empty() && !led.contains(&place);
        own.peek().is_some() && own.all(|(port, _)| past(&port.steering.led))
    }

    /// Whether anybody waits at such a socket.
    #[cfg(feature = "programs")]
    pub(in crate::primary) fn has_waiting(&self, place: usize) -> bool {
        let mut own = self.own_of(place);
        own.any(|(_, token)| {
            let listener = self.gate.listener(token);
            listener.is_some_and(|one| one.has_waiting())
        })
    }

    /// The sockets that the worker at `place` has for itself alone.
    #[cfg(feature = "programs")]
    fn own_of(&self, place: usize) -> impl Iterator<Item = (&Port, usize)> {
        let ports = self.ports.values();
        ports.filter_map(move |port| Some((port, *port.beside.get(&place)?)))
    }

    /// The kernel cannot choose among a listener's sockets: the primary accepts from all of them.
    fn give_up(&mut self, number: u32, why: &str) {
        if let Some(port) = self.ports.get_mut(&number) {
            let address = &port.address;
            log::warn!(
                "{address}: the primary accepts and deals, as by sticky-ip, in place of the \
                 kernel: {why}"
            );
            port.steering.given_up = true;
            self.untold = true;
        }
    }

    /// Tells the kernel how to choose among a listener's sockets, if the policy has it do so and it
    /// does not know; takes that back under another policy.
    fn steer(&mut self, number: u32, policy: &SchedulingPolicy) {
        let Some(port) = self.ports.get_mut(&number) else {
            return;
        };
        let Some(first) = self.gate.listener(port.first) else {
            return;
        };
        if !policy.steers() {
            port.steering.given_up = false;
            if port.steering.places.take().is_some()
                && let Err(error) = first.let_go()
            {
                let address = &port.address;
                log::warn!("{address} goes on going by the clients' addresses: {error}");
            }
            return;
        }
        if !port.is_to_be_steered(policy) {
            return;
        }
        let places = port.sockets();
        let steered = if port.alone {
            Err("it has but one socket".to_owned())
        } else if port.steering.disordered {
            Err("its sockets are not in order".to_owned())
        } else if let Some(program) = steering::program(places) {
            first.steer(&program).map_err(|error| error.to_string())
        } else {
            Err(format!("{places} places are too many"))
        };
        match steered {
            Ok(()) => port.steering.places = Some(places),
            Err(why) => self.give_up(number, &why),
        }
    }

    /// Whether workers are to be told again what they accept from by themselves: once.
    pub(in crate::primary) fn take_untold(&mut self) -> bool {
        std::mem::take(&mut self.untold)
    }

    /// Has the primary accept where nobody else does. `serves` is whether the worker at a place
    /// accepts from its own socket of the listener with a number.
    pub(in crate::primary) fn mind(
        &mut self,
        registry: &mio::Registry,
        policy: &SchedulingPolicy,
        serves: impl Fn(u32, usize) -> bool,
    ) {
        let changed = self
            .ports
            .values()
            .filter(|port| port.is_to_be_steered(policy));
        for number in changed.map(|port| port.number).collect::<Vec<_>>() {
            self.steer(number, policy);
        }
        for port in self.ports.values() {
            let way = self.way(port, policy);
            let others = |place: usize| way == Way::Split && serves(port.number, place);
            let first = match way {
                Way::Shared => self.dealt.contains(&port.number),
                Way::Dealt | Way::Granted | Way::Split => !others(0),
            };
            let counted = way == Way::Granted;
            self.gate.set_counted(registry, port.first, counted);
            self.gate.set_open(registry, port.first, first);
            for (place, token) in port.beside.iter() {
                self.gate.set_open(registry, *token, !others(*place));
            }
        }
    }

    /// Accepts from a listener again before the pause that it alone has is over.
    pub(in crate::primary) fn go_on(&mut self, registry: &mio::Registry, number: u32) {
        let Some(port) = self.ports.get(&number) else {
            return;
        };
        for token in port.beside.values().chain([&port.first]) {
            self.gate.go_on(registry, *token);
        }
    }

    /// Those that somebody listens on who must be dealt to, whatever the policy.
    pub(in crate::primary) fn set_dealt(&mut self, dealt: SortedSet<u32>) {
        self.dealt = dealt;
    }

    /// The sockets that workers accept from by themselves, alone, with the place of each: where a
    /// worker that stands still would leave clients waiting.
    pub(in crate::primary) fn own_sockets(&self) -> impl Iterator<Item = (usize, usize)> {
        let split = self.ports.values().filter(|port| !port.alone);
        split.flat_map(|port| {
            let beside = port.beside.iter().map(|(place, token)| (*place, *token));
            beside.chain([(0, port.first)])
        })
    }
}
