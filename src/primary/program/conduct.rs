//! How the primary behaves with workers that are programs, where that is not as with its own.
//!
//! Owns when one is ready (by the rule in `ready`), what it says, and what waits to be said to it.
//! Leaves executing to `launch`, how one goes to `going`, and dealing to `deal`.

use super::accepting::Looks;
use super::failure::Refusals;
use super::ready::{FAILED, Facts, MOMENT};
use super::{Program, Protocol};
use crate::ipc::Message;
use crate::ipc::user::Message as UserMessage;
use crate::primary::hands::Answer;
use crate::primary::members::Member;
use crate::primary::supervisor::Patience;
use crate::primary::{Event, Primary};
use crate::sorted::SortedSet;
use crate::worker::WorkerId;
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a worker rests at a listener where it has refused a connection.
const REST: Duration = Duration::from_millis(20);

/// Lines that may wait in a channel for room before what the application says waits here.
const MOST_WAITING: usize = 16;

/// A process that ends closes its channel a moment before: for so long it is nothing else.
const LAST_MOMENT: Duration = Duration::from_millis(100);

/// How long a program may live that has closed its channel, before it gets a signal.
const AFTERLIFE: Duration = Duration::from_secs(1);

/// One that ends within so long of its launch, in whatever way, would be replaced without end.
const SOON: Duration = Duration::from_secs(5);

/// How long a listener stays open that nobody uses any more: whoever closes it may be about to go,
/// and another is to find it.
const UNUSED: Duration = Duration::from_secs(1);

/// What a Node program says when it is ready, by PM2's custom.
const READY: &[u8] = b"\"ready\"";

/// What the primary knows of one worker that is a program.
#[derive(Debug, Default)]
pub(in crate::primary) struct Conduct {
    /// When it has said that it is there, one that is spoken to.
    online: Option<Instant>,
    /// It has said that it is ready.
    pub(in crate::primary) said_ready: bool,
    /// It was seen to accept, one that is not spoken to.
    pub(in crate::primary) accepts: bool,
    /// When that is looked for.
    pub(super) looks: Looks,
    /// It has listened somewhere: where it has not, its channel has nothing to hold open, and closes
    /// as soon as it is told to go.
    pub(super) listened: bool,
    /// It goes by its own wish, and need not be told.
    pub(super) goes: bool,
    /// Its channel has been closed since then.
    pub(super) closed: Option<Instant>,
    /// It has had its signal.
    pub(super) signalled: bool,
    /// It gets it when what waits at its sockets is accepted, since then.
    pub(super) clears: Option<Instant>,
    /// What the application says to it, and how many bytes that is.
    pub(super) texts: VecDeque<UserMessage>,
    bytes: usize,
    /// That number has changed and has not been told.
    eased: bool,
}

impl Conduct {
    /// Its program runs from now on.
    pub(in crate::primary) fn begins(&mut self, now: Instant) {
        self.online.get_or_insert(now);
    }

    /// Takes a message of the application's.
    pub(in crate::primary) fn push(&mut self, message: UserMessage) {
        self.bytes += message.bytes().len();
        self.texts.push_back(message);
        self.eased = true;
    }

    /// It listens somewhere.
    pub(in crate::primary) fn note_listening(&mut self) {
        self.listened = true;
    }

    /// Bytes that wait.
    pub(in crate::primary) fn queued(&self) -> usize {
        self.bytes
    }

    /// Whether anything waits.
    pub(in crate::primary) fn has_texts(&self) -> bool {
        !self.texts.is_empty()
    }

    /// When something is to be done about one that has closed its channel; `leaving` is whether it
    /// was to go.
    fn deadline(&self, leaving: bool) -> Option<Instant> {
        let since = self.closed?;
        match leaving {
            _ if self.signalled => None,
            false => Some(since + LAST_MOMENT),
            true => Some(since + self.afterlife()),
        }
    }

    /// How long it may live without its channel before it gets its signal.
    pub(super) fn afterlife(&self) -> Duration {
        match self.listened {
            true => AFTERLIFE,
            // It has no connections to end, and all of its time is for what else it does.
            false => LAST_MOMENT,
        }
    }
}

/// What the primary knows of all of them.
#[derive(Debug, Default)]
pub(in crate::primary) struct State {
    /// Somebody has listened somewhere, or said that it was ready.
    pub(super) ever: bool,
    /// When to close what nobody uses.
    unused_at: Option<Instant>,
    /// Where workers could not listen.
    pub(in crate::primary) refusals: Refusals,
    /// The places whose own sockets a worker had once more for those who waited there, though by the
    /// policy it should have had none.
    pub(super) once_more: SortedSet<usize>,
}

impl State {
    /// Somebody listens somewhere.
    pub(in crate::primary) fn note_listening(&mut self) {
        self.ever = true;
    }
}

impl Program {
    /// What users call it: the script, or the executable.
    pub(in crate::primary) fn label(&self) -> String {
        let path = self.script.as_ref().unwrap_or(&self.executable);
        let name = Path::new(path).file_name().unwrap_or(path);
        name.to_string_lossy().replace(char::is_control, "?")
    }

    /// How long its workers may take.
    pub(in crate::primary) fn patience(&self, drain: Duration) -> Patience {
        let start = match self.protocol {
            Protocol::Node if !self.wait_ready => self.listen_timeout.saturating_mul(FAILED),
            Protocol::Node | Protocol::Sockets => self.listen_timeout,
        };
        Patience {
            drain,
            start,
            restart: self.restart_delay,
            soon: SOON,
        }
    }

    /// From when on it counts how long a worker takes.
    fn runs_since(&self, member: &Member) -> Option<Instant> {
        match self.protocol {
            Protocol::Node => member.conduct.online,
            Protocol::Sockets => Some(member.since),
        }
    }

    /// Whether the primary has its connections: it deals them, or hands over sockets.
    pub(in crate::primary) fn is_dealt(&self) -> bool {
        self.protocol == Protocol::Node
    }
}

impl Member {
    /// Says as much of what the application says as there is room for.
    pub(in crate::primary) fn send_texts(&mut self) {
        while self.channel.count_unsent() < MOST_WAITING
            && let Some(message) = self.conduct.texts.pop_front()
        {
            self.conduct.bytes -= message.bytes().len();
            self.conduct.eased = true;
            self.say(&Message::Text(message.into_bytes()));
        }
        if !self.conduct.has_texts()
            && let Some(hand_back) = self.owes_last_word.take()
        {
            let more = false;
            self.say(&Message::Disconnect { hand_back, more });
        }
    }

    /// A program's connections are counted here: it says no more of them than that it has them.
    fn answered(&mut self, connection: u64, accepted: bool, now: Instant) -> Option<Answer> {
        match self.hand.answer(connection, accepted) {
            Answer::Unasked => {
                log::debug!("{self} answers for connection {connection}, which it was not asked");
                None
            }
            Answer::Taken => {
                self.slot.count_taken();
                Some(Answer::Taken)
            }
            Answer::Refused(arrival) => {
                self.rests.insert(arrival.listener, now + REST);
                Some(Answer::Refused(arrival))
            }
        }
    }
}

impl Primary {
    /// Hears what only a program says.
    pub(in crate::primary) fn hear_program(&mut self, id: WorkerId, message: Message) {
        let now = self.reactor.now();
        let Some(member) = self.members.get_mut(id).filter(|one| one.is_program()) else {
            return;
        };
        match message {
            Message::Answered {
                connection,
                accepted,
            } => {
                match member.answered(connection, accepted, now) {
                    // First in line, as it has waited longest.
                    Some(Answer::Refused(arrival)) => self.waiting.push_front(*arrival),
                    Some(Answer::Taken) => {}
                    Some(Answer::Unasked) | None => return,
                }
                self.drop_hopeless();
                self.let_come(id);
            }
            Message::Close { listener } => {
                let known = member.listens.remove(&listener);
                member.shares.remove(&listener);
                if known {
                    log::debug!("{member} no longer listens on listener {listener}");
                }
                if !member.leaving {
                    // One that goes closes all, and whoever comes in its place is to find them.
                    self.ports.release(listener, id);
                    self.close_unused_later();
                }
            }
            Message::Mine(value) => {
                let place = member.place;
                self.owned.learn(value.as_bytes(), place);
            }
            Message::Text(json) => {
                if json == READY {
                    member.conduct.said_ready = true;
                    self.programs.ever |= self.waits_for_word();
                }
                let message = UserMessage::from(json);
                self.tell(&Event::Message {
                    worker: id,
                    message,
                });
            }
            other => log::debug!("{member} says what a program does not: {other:?}"),
        }
    }

    fn waits_for_word(&self) -> bool {
        let program = self.rules.program.as_ref();
        program.is_some_and(|program| program.wait_ready)
    }

    /// A program goes by its own wish.
    pub(in crate::primary) fn program_leaves(&mut self, id: WorkerId) {
        if let Some(member) = self.members.get_mut(id).filter(|one| one.is_program()) {
            member.conduct.goes = true;
            member.leaving = true;
        }
    }

    /// The channel of a program is closed.
    pub(in crate::primary) fn program_hung_up(&mut self, id: WorkerId) {
        let now = self.reactor.now();
        if let Some(member) = self.members.get_mut(id).filter(|one| one.is_program()) {
            member.conduct.closed.get_or_insert(now);
        }
    }

    /// Finds those that are ready by now, those that outlive their channel, and what nobody uses.
    pub(in crate::primary) fn mind_programs(&mut self) {
        if self.rules.program.is_none() {
            return;
        }
        // Before anybody is told that there are fewer workers, and connects.
        self.mind_places();
        let now = self.reactor.now();
        self.find_accepting();
        let starting = self.members.iter().filter(|one| is_starting(one));
        for id in starting.map(|one| one.id).collect::<Vec<_>>() {
            if let Some(missing) = self.is_program_ready(id) {
                self.warn_of(&missing, id);
                self.accepts_now(id);
                self.ready(id);
                self.close_unused_later();
            }
        }
        let due = |one: &&Member| {
            one.conduct
                .deadline(one.leaving)
                .is_some_and(|at| at <= now)
        };
        let due = self.members.iter().filter(due);
        for id in due.map(|one| one.id).collect::<Vec<_>>() {
            self.outlives_its_channel(id);
        }
        if self.programs.unused_at.is_some_and(|at| at <= now) {
            self.programs.unused_at = None;
            self.close_unused();
        }
    }

    /// Where others listen and it does not, if it is ready all the same.
    fn is_program_ready(&self, id: WorkerId) -> Option<Vec<u32>> {
        let (program, member) = (self.rules.program.as_ref()?, self.members.get(id)?);
        let others: Vec<&Member> = self.members.iter().filter(|one| one.stays()).collect();
        let named = self.ports.iter().map(|port| port.number);
        let facts = Facts {
            protocol: program.protocol,
            wait_ready: program.wait_ready,
            said_ready: member.conduct.said_ready,
            accepts: member.conduct.accepts,
            listens: &member.listens,
            others: others.iter().map(|one| &one.listens).collect(),
            named: named
                .filter(|number| self.ports.is_configured(*number))
                .collect(),
            replaces: others.iter().any(|one| one.place == member.place),
            ever: self.programs.ever,
            age: program
                .runs_since(member)
                .map(|since| self.reactor.now().saturating_duration_since(since)),
            timeout: program.listen_timeout,
        };
        let looked_for = program.is_dealt() && !program.wait_ready;
        facts.is_ready().then(|| match looked_for {
            true => facts.missing(),
            false => Vec::new(),
        })
    }

    /// Says of one that is taken for ready where it does not listen.
    fn warn_of(&self, missing: &[u32], id: WorkerId) {
        let ports = missing.iter().filter_map(|number| self.ports.get(*number));
        let urls: Vec<String> = ports.map(super::super::ports::Port::url).collect();
        if let Some(member) = self.members.get(id).filter(|_| !urls.is_empty()) {
            let urls = urls.join(", ");
            log::warn!("{member} is taken for ready, but does not listen on {urls} as others do");
        }
    }

    /// Has what nobody uses any more closed in a while.
    pub(in crate::primary) fn close_unused_later(&mut self) {
        let at = self.reactor.now() + UNUSED;
        self.programs.unused_at = Some(at);
    }

    /// Closes what nobody uses, if all are there who could have asked for it again.
    fn close_unused(&mut self) {
        if self.is_stopping() || !self.supervisor.all_listening() || self.supervisor.reloading() {
            return;
        }
        self.ports.close_unused(self.reactor.registry());
        self.drop_hopeless();
    }

    /// What programs accept by: those that were given a socket accept from it by themselves, and
    /// others must be dealt to, whatever the policy has become since.
    pub(in crate::primary) fn dealt_listeners(&self) -> SortedSet<u32> {
        let stay = self.members.iter().filter(|one| one.ready && !one.leaving);
        let dealt = stay.flat_map(|one| one.listens.difference(&one.shares));
        dealt.copied().collect()
    }

    /// Workers that are programs learn of another policy when they start.
    pub(in crate::primary) fn reload_for_policy(&mut self) {
        if self.rules.program.is_some() {
            log::info!("workers that are programs are replaced, so that it takes effect");
            self.programs.once_more.clear();
            self.wishes.reload_again = true;
        }
    }

    /// When [`Primary::mind_programs`] must be called, if nothing happens before.
    pub(in crate::primary) fn programs_deadline(&self) -> Option<Instant> {
        let program = self.rules.program.as_ref()?;
        let now = self.reactor.now();
        let late = |one: &Member, time| {
            let since = program.runs_since(one).filter(|_| is_starting(one))?;
            Some(since + time).filter(|at| *at > now)
        };
        let timeout = program.listen_timeout;
        let all = self.members.iter().flat_map(|one| {
            let closed = one.conduct.deadline(one.leaving);
            [late(one, timeout), late(one, timeout.max(MOMENT)), closed]
        });
        let others = [
            self.programs.unused_at,
            self.accepting_deadline(),
            self.clearing_deadline(),
        ];
        all.chain(others).flatten().min()
    }

    /// Tells whoever waits for it that there is room again for messages to programs.
    pub(in crate::primary) fn report_texts(&mut self) {
        let eased = self.members.iter_mut();
        let eased =
            eased.filter_map(|one| std::mem::take(&mut one.conduct.eased).then_some(one.id));
        for id in eased.collect::<Vec<_>>() {
            self.report_queue(id);
        }
    }
}

pub(super) fn is_starting(one: &Member) -> bool {
    one.is_program() && !one.ready && !one.leaving && !one.hung_up
}
