//! Random walks: whatever happens in whatever order, some things always hold, and all ends well.

use super::*;

/// Numbers by xorshift: the same for a seed on every machine.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }
}

/// A cluster to which anything may happen.
struct Walk {
    stage: Stage,
    dice: Dice,
    /// Nobody can be killed.
    threads: bool,
    /// Killed, and not gone yet.
    killed: Vec<WorkerId>,
    /// What was done, for who wants to know how it came about.
    path: Vec<String>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut walk = Self {
            stage: Stage::serving(3),
            // Seeds that differ little begin alike, and zero would stay so.
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            threads: seed % 2 == 1,
            killed: Vec::new(),
            path: vec![format!("seed {seed}")],
        };
        if seed % 5 == 4 {
            walk.stage.supervisor.set_unmanaged();
        }
        walk
    }

    fn pick(&mut self, which: impl Fn(&Occupant) -> bool) -> Option<WorkerId> {
        let all = self.stage.supervisor.occupants.iter();
        let all: Vec<_> = all.filter(|(_, one)| one.launched && which(one)).collect();
        (!all.is_empty()).then(|| *all[self.dice.throw(all.len())].0)
    }

    /// Something happens.
    fn step(&mut self) {
        let now = self.stage.now;
        let what = self.dice.throw(16);
        let who = match what {
            0..4 => self.pick(|one| one.step == Step::Starting),
            6 => self.pick(|one| one.is_leaving() && !one.stuck && !one.abandoned),
            11 | 12 => self.pick(|one| one.step != Step::Starting),
            _ => self.pick(|_| true),
        };
        let size = 1 + self.dice.throw(5);
        let supervisor = &mut self.stage.supervisor;
        let done = match (what, who) {
            (0..4, Some(id)) => {
                supervisor.listening(id);
                "listens"
            }
            (4, Some(id)) => {
                supervisor.exited(id, Death::Crash, now);
                "crashes"
            }
            (5, Some(id)) => {
                supervisor.exited(id, Death::Killed, now);
                "is killed"
            }
            (6, Some(id)) => {
                supervisor.exited(id, Death::InOrder, now);
                "ends"
            }
            (7, _) => {
                // Refused where the application manages them, or one is under way.
                let _ = supervisor.reload();
                "reload"
            }
            (8, _) if supervisor.managed() || size == 1 => {
                supervisor.scale(size).unwrap();
                "scale"
            }
            (8 | 9, _) if !supervisor.managed() => {
                let id = next_id(&supervisor.ids());
                supervisor.fork(id, now).unwrap();
                "fork"
            }
            (9, _) => {
                let _ = supervisor.restart(now);
                "restart"
            }
            (10, Some(id)) => {
                supervisor.worn(id);
                "is worn"
            }
            (11, Some(id)) if self.threads => {
                supervisor.stuck(id, true);
                "stands still"
            }
            (12, Some(id)) if self.threads => {
                supervisor.stuck(id, false);
                "goes on"
            }
            (13, Some(id)) => {
                supervisor.leaves(id, now);
                "leaves"
            }
            _ => {
                // To the moment that it waits for, or just somewhere.
                let millis = match (self.stage.waits(), self.dice.throw(3)) {
                    (Some(wait), 0) => wait as u64 + 1,
                    (_, 1) => self.dice.throw(15_000) as u64,
                    _ => self.dice.throw(300) as u64,
                };
                self.stage.later(millis);
                "time"
            }
        };
        self.path.push(format!("{done} {who:?} {size}"));
    }

    /// What the primary does after whatever happened.
    fn reconcile(&mut self) {
        for _ in 0..50 {
            self.stage.supervisor.conclude_reload();
            let now = self.stage.now;
            let actions = self.stage.supervisor.reconcile(now);
            if actions.is_empty() {
                return self.check();
            }
            self.path.push(format!("{actions:?}"));
            for action in actions {
                match action {
                    Action::Fork { id, .. } if self.dice.throw(10) == 0 => {
                        self.stage.supervisor.exited(id, Death::Crash, now);
                    }
                    Action::Kill(id) if self.threads => {
                        self.stage.supervisor.abandoned(id, now);
                    }
                    Action::Kill(id) => self.killed.push(id),
                    Action::Fork { .. } | Action::Disconnect { .. } => {}
                    Action::Finish | Action::GiveUp { .. } => panic!("{:#?}", self.path),
                }
            }
        }
        panic!("it never comes to rest: {:#?}", self.path);
    }

    /// What holds whenever it has done all it wanted.
    fn check(&self) {
        let supervisor = &self.stage.supervisor;
        let path = &self.path;
        assert!(supervisor.occupants.len() <= MAX_ALIVE, "{path:#?}");
        let deadline = supervisor.deadline();
        assert!(deadline.is_none_or(|at| at > self.stage.now), "{path:#?}");
        for place in supervisor.places.keys() {
            let here = supervisor.occupants.values();
            let here = here.filter(|one| one.place == *place && one.is_ready());
            assert!(here.count() <= 1, "two at {place}: {path:#?}");
        }
    }

    /// From now on nothing goes wrong: what is under way must come to its end.
    fn calm_down(&mut self) {
        for _ in 0..500 {
            let now = self.stage.now;
            let supervisor = &mut self.stage.supervisor;
            let of = |supervisor: &Supervisor, which: fn(&Occupant) -> bool| -> Vec<WorkerId> {
                let all = supervisor.occupants.iter();
                all.filter(|(_, one)| one.launched && which(one))
                    .map(|(id, _)| *id)
                    .collect()
            };
            let coming = of(supervisor, |one| one.step == Step::Starting);
            let going = |one: &Occupant| one.is_leaving() && !one.stuck && !one.abandoned;
            let going = of(supervisor, going);
            let deadline = supervisor.deadline();
            for id in &coming {
                supervisor.listening(*id);
            }
            let killed = std::mem::take(&mut self.killed);
            for id in going.iter().chain(&killed) {
                supervisor.exited(*id, Death::InOrder, now);
            }
            if coming.is_empty() && going.is_empty() && killed.is_empty() {
                match deadline {
                    Some(at) => self.stage.now = at,
                    None => break,
                }
            }
            self.reconcile();
        }
        let supervisor = &self.stage.supervisor;
        let path = &self.path;
        assert!(supervisor.all_listening(), "{path:#?}");
        assert!(!supervisor.reloading(), "{path:#?}");
        let outcome = supervisor.outcome(Change::Scale, supervisor.failed_starts());
        assert_eq!(outcome, Outcome::Done, "{path:#?}");
        if supervisor.managed {
            let serving = supervisor.occupants.values().filter(|one| one.is_ready());
            assert_eq!(serving.count(), supervisor.wanted, "{path:#?}");
        }
    }
}

#[test]
fn whatever_happens_all_ends_well() {
    for seed in 0..2000 {
        let mut walk = Walk::new(seed);
        walk.reconcile();
        for _ in 0..100 {
            walk.step();
            walk.reconcile();
        }
        walk.calm_down();
    }
}
