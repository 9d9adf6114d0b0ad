//! What the application, a signal or a control client asks of a running cluster.

use super::event::Reload;
use super::handle::{Callback, Wish};
use super::supervisor::{Change, Outcome};
use super::{Event, Primary};
use crate::ipc::user::Kind;
use crate::sorted::{SortedMap, SortedSet};
use crate::sys::process;
use crate::worker::WorkerId;
use std::time::{Duration, Instant};

/// Wishes whose outcome somebody waits for.
#[derive(Default)]
pub(super) struct State {
    /// Variables for workers that are about to be launched.
    env: SortedMap<WorkerId, Vec<(String, String)>>,
    /// The reload that is under way, and how many starts had failed when it began.
    reload: Option<(Change, u64)>,
    /// Another is to follow it: what workers are to find was changed meanwhile.
    pub(super) reload_again: bool,
    /// Who waits for the end of which workers.
    farewells: Vec<(SortedSet<WorkerId>, Callback)>,
    /// Nothing is granted before: a fork was refused, and who asks for another at once would keep
    /// the primary from everything else.
    pub(super) held_until: Option<Instant>,
}

/// How long wishes wait after a fork that was refused.
const HOLD: Duration = Duration::from_millis(100);

impl Primary {
    /// Tells the application what the cluster runs by, before anything else happens.
    pub(super) fn set_up(&mut self) {
        if let Some(settings) = self.handle.settings().cloned() {
            self.tell(&Event::Setup { settings });
        }
    }

    /// Does what was asked for.
    pub(super) fn grant_wishes(&mut self) {
        let now = self.reactor.now();
        self.wishes.held_until.take_if(|at| *at <= now);
        while self.may_grant()
            && let Some(wish) = self.handle.next_wish()
        {
            match wish {
                Wish::Fork { id, env } => self.wish_fork(id, env),
                Wish::Send { id } => self.send_messages(id),
                Wish::Disconnect { id } => self.disconnect(id),
                Wish::Kill { id, signal } => {
                    if let Err(error) = self.signal_worker(id, signal) {
                        log::warn!("{error}");
                    }
                }
                Wish::DisconnectAll { done } => self.disconnect_all(done),
                Wish::Scale { workers } => self.scale(workers),
                Wish::Reload => self.reload(),
                Wish::Restart => {
                    if let Err(why) = self.begin_restart() {
                        log::warn!("not restarted: {why}");
                    }
                }
                Wish::Schedule { policy } => {
                    if let Err(why) = self.set_policy(policy) {
                        log::error!("{why}");
                    }
                }
                Wish::Stop => self.stop(),
            }
        }
    }

    /// Whether there is no reason to wait with what was asked for.
    fn may_grant(&self) -> bool {
        self.wishes.held_until.is_none()
    }

    /// Whether something was asked for that can be done now.
    pub(super) fn has_wishes(&self) -> bool {
        self.may_grant() && self.handle.has_wishes()
    }

    fn wish_fork(&mut self, id: WorkerId, env: Vec<(String, String)>) {
        let senseless = env
            .iter()
            .find(|(name, value)| !process::is_variable(name, value));
        let forked = match senseless {
            Some((name, _)) => Err(format!("{name:?} is no name of a variable")),
            None => self.supervisor.fork(id, self.reactor.now()),
        };
        if !env.is_empty() && self.rules.mode == super::Mode::Threads {
            log::warn!("worker {id} gets no variables: threads share the environment");
        } else if !env.is_empty() {
            self.wishes.env.insert(id, env);
        }
        if let Err(why) = forked {
            self.wishes.env.remove(&id);
            self.wishes.held_until = Some(self.reactor.now() + HOLD);
            log::error!("worker {id} cannot be launched: {why}");
            self.gone(id, 0, &super::vessel::Exit::Failed(why));
        }
    }

    /// The variables that a worker was wished with.
    pub(super) fn env_of(&mut self, id: WorkerId) -> Vec<(String, String)> {
        self.wishes.env.remove(&id).unwrap_or_default()
    }

    /// Sends what was said to a worker, if it has been launched.
    pub(super) fn send_messages(&mut self, id: WorkerId) {
        let Some(handle) = self.handle.worker(id) else {
            return;
        };
        let Some(member) = self.members.get_mut(id) else {
            // It has yet to be launched: then it asks again.
            return;
        };
        if member.is_program() {
            while let Some((kind, message)) = handle.next_unsent() {
                // What goes to connections and subscribers is for workers that know of them.
                if kind == Kind::Message {
                    member.conduct.push(message);
                }
            }
            member.send_texts();
            return self.report_queue(id);
        }
        while let Some((kind, message)) = handle.next_unsent() {
            if let Err(error) = member.outbox.push(kind, message) {
                handle.misses(&error);
            }
        }
        member.send_pieces();
        self.report_queue(id);
    }

    /// Has one worker finish and go.
    pub(super) fn disconnect(&mut self, id: WorkerId) {
        if let Some(member) = self.members.get_mut(id) {
            member.leaves();
        }
        // One that has yet to be launched is told as soon as it is.
        self.supervisor.leaves(id, self.reactor.now());
    }

    /// Sends a worker's process a signal.
    ///
    /// # Errors
    ///
    /// When there is no such worker, or the signal cannot be sent.
    pub(super) fn signal_worker(&mut self, id: WorkerId, signal: i32) -> Result<(), String> {
        let Some(member) = self.members.get(id) else {
            if self.supervisor.expects(id) {
                log::info!("worker {id} has yet to be launched: it is told to go");
                self.disconnect(id);
                return Ok(());
            }
            return Err(format!("there is no worker {id}"));
        };
        if !member.carrier.is_process() {
            log::info!("worker {id} is a thread, which no signal reaches: it is told to go");
            self.disconnect(id);
            return Ok(());
        }
        process::kill(member.carrier.pid(), signal)
            .map_err(|error| format!("signal {signal} for {member}: {error}"))
    }

    fn disconnect_all(&mut self, done: Callback) {
        log::info!("all {} workers leave", self.members.len());
        self.supervisor.set_unmanaged();
        self.supervisor.disconnect(self.reactor.now());
        for member in self.members.iter_mut() {
            member.leaves();
        }
        let ids = self.supervisor.expected().collect();
        self.wishes.farewells.push((ids, done));
    }

    /// Has there be so many workers, unless they are the application's to manage.
    pub(super) fn scale_by_signal(&mut self, workers: usize) {
        match self.supervisor.must_manage() {
            Ok(()) => self.scale(workers),
            Err(why) => log::warn!("not scaled: {why}"),
        }
    }

    fn scale(&mut self, workers: usize) {
        let before = self.supervisor.wanted();
        match self.supervisor.scale(workers) {
            Ok(_) if before == workers => {}
            Ok(_) => log::info!("{workers} workers in place of {before}"),
            Err(why) => log::warn!("{why}"),
        }
    }

    /// Begins a reload.
    pub(super) fn reload(&mut self) {
        match self.begin_reload() {
            Ok(_) => {}
            Err(why) => log::warn!("not reloaded: {why}"),
        }
    }

    /// Begins a reload, as soon as none is under way.
    pub(super) fn reload_or_later(&mut self) {
        if self.supervisor.reloading() {
            log::info!("a reload is under way: another follows it");
            self.wishes.reload_again = true;
        } else {
            self.reload();
        }
    }

    /// Begins the one that was to come later, if it can.
    fn reload_again(&mut self) {
        if self.supervisor.reloading() {
            return;
        }
        if std::mem::take(&mut self.wishes.reload_again) && !self.was_told_to_stop() {
            self.reload();
        }
    }

    /// Begins a reload.
    ///
    /// # Errors
    ///
    /// When one is under way, or the application manages its workers.
    pub(super) fn begin_reload(&mut self) -> Result<Change, String> {
        // One that is over, which nobody has been told yet: by then it could not be told from this.
        self.conclude_changes();
        self.conclude_reload();
        let change = self.supervisor.reload()?;
        self.wishes.reload_again = false;
        if self.wishes.reload.take().is_some() {
            // All were new, though not all of the old gone.
            self.tell_reload(Outcome::Done);
        }
        log::info!("reloading: workers are replaced one by one");
        self.wishes.reload = Some((change, self.supervisor.failed_starts()));
        let reload = Reload::Began;
        self.tell(&Event::Reload { reload });
        Ok(change)
    }

    /// Replaces all workers at once.
    ///
    /// # Errors
    ///
    /// When the application manages its workers.
    pub(super) fn begin_restart(&mut self) -> Result<Change, String> {
        let change = self.supervisor.restart(self.reactor.now())?;
        log::info!("restarting: all workers are replaced at once");
        for member in self.members.iter_mut() {
            member.leaves();
        }
        Ok(change)
    }

    /// Says what has become of what was asked for.
    pub(super) fn conclude(&mut self) {
        self.dismiss();
        let (done, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.wishes.farewells)
            .into_iter()
            .partition(|(ids, _)| !ids.iter().any(|id| self.supervisor.expects(*id)));
        self.wishes.farewells = waiting;
        for (_, done) in done {
            self.courtesy.end();
            done(&self.handle);
        }
        self.supervisor.conclude_reload();
        self.conclude_reload();
        self.conclude_changes();
        self.reload_again();
        let over = !self.supervisor.managed()
            && self.members.is_empty()
            && !self.supervisor.expects_anybody()
            && !self.handle.has_wishes();
        // An application that manages its workers and has none, and wishes for none, is done: as
        // in Node, where nothing then holds the primary's loop.
        if over && !self.supervisor.stopping() {
            self.supervisor.stop(self.reactor.now());
        }
    }

    /// Workers that were wished for and not launched before a stop never come.
    fn dismiss(&mut self) {
        if !self.supervisor.stopping() {
            return;
        }
        for worker in self.handle.workers() {
            let id = worker.id();
            if worker.pid().is_none() && !self.supervisor.expects(id) {
                let why = "the cluster is stopping".to_owned();
                self.gone(id, 0, &super::vessel::Exit::Failed(why));
            }
        }
    }

    fn conclude_reload(&mut self) {
        let Some((change, failed_starts)) = self.wishes.reload else {
            return;
        };
        let outcome = self.supervisor.outcome(change, failed_starts);
        if outcome != Outcome::Pending {
            self.wishes.reload = None;
            self.tell_reload(outcome);
        }
    }

    fn tell_reload(&mut self, outcome: Outcome) {
        let reload = match outcome {
            Outcome::Pending => return,
            Outcome::Done => {
                log::info!("reloaded: all workers are new");
                Reload::Done
            }
            Outcome::Failed => {
                let why = self.last_exit.clone();
                log::error!("not reloaded, the workers before stay: the new one failed: {why}");
                Reload::Failed { why }
            }
        };
        self.tell(&Event::Reload { reload });
    }
}
