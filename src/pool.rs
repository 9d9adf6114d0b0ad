//! Threads for handlers that compute or wait: a bounded queue, results back by the loop's waker.
//!
//! Owns the threads and the queue; leaves to the caller what a job is and whom its result is for.
//! Threads start with the first job, so a worker without such handlers has none.

use crate::net::Waker;
use crate::sys::cpu;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Jobs that may wait for each thread before the pool says that it is full.
pub(crate) const WAITING_PER_THREAD: usize = 64;

/// How much nicer than its loop a thread is that makes way: a third of the loop's weight where both
/// want one CPU, so that jobs go on beside a busy loop, or beside other programs.
const NICER: i32 = 5;

/// How long such a thread may compute at a time. Longer than the scheduler's usual slice of a few
/// milliseconds, so a loop that wakes up need not wait for the end of it.
const SLICE: Duration = Duration::from_millis(20);

/// What a thread does before its first job.
pub(crate) type OnStart = Arc<dyn Fn() + Send + Sync>;

/// Something to do on another thread.
pub(crate) type Job<T> = Box<dyn FnOnce() -> T + Send>;

struct Task<T> {
    ticket: u64,
    job: Job<T>,
    cancelled: Arc<AtomicBool>,
    queued: Instant,
}

/// A finished job.
pub(crate) struct Done<T> {
    /// The number given with the job.
    pub(crate) ticket: u64,
    /// What the job returned, or what it panicked with.
    pub(crate) outcome: Result<T, Box<dyn Any + Send>>,
    /// How long it waited for a thread.
    pub(crate) waited: Duration,
    /// How long it ran.
    pub(crate) ran: Duration,
}

/// Cancels a job that has not begun when dropped.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<AtomicBool>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Named threads that run jobs.
pub(crate) struct Pool<T> {
    name: String,
    size: usize,
    started: bool,
    waker: Waker,
    jobs: Sender<Task<T>>,
    queue: Receiver<Task<T>>,
    results: Receiver<Done<T>>,
    report: Sender<Done<T>>,
    on_start: Option<OnStart>,
    makes_way: bool,
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name)
            .field("size", &self.size)
            .field("waiting", &self.jobs.len())
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Pool<T> {
    /// A pool of `size` threads (at least one), named `name` and a number.
    pub(crate) fn new(name: &str, size: usize, waker: Waker) -> Self {
        let size = size.max(1);
        let (jobs, queue) = bounded(size * WAITING_PER_THREAD);
        // As many results as jobs can be out, so this is bounded by the queue above.
        let (report, results) = unbounded();
        Self {
            name: name.to_owned(),
            size,
            started: false,
            waker,
            jobs,
            queue,
            results,
            report,
            on_start: None,
            makes_way: false,
        }
    }

    /// Has its threads leave their CPU to the loop whenever that has something to do: for jobs that
    /// compute, and would keep it.
    pub(crate) fn making_way(mut self) -> Self {
        self.makes_way = true;
        self
    }

    /// Has each thread do `on_start` before its first job; for threads that start from now on.
    pub(crate) fn on_start(&mut self, on_start: OnStart) {
        self.on_start = Some(on_start);
    }

    /// Queues a job. Dropping the ticket cancels it unless it has begun.
    ///
    /// # Errors
    ///
    /// Gives the job back when the queue is full.
    ///
    /// # Panics
    ///
    /// Never; when no thread can be started the job is given back as well.
    pub(crate) fn submit(
        &mut self,
        ticket: u64,
        now: Instant,
        job: Job<T>,
    ) -> Result<Ticket, Job<T>> {
        if !self.started
            && let Err(error) = self.start()
        {
            log::error!("no thread for handlers: {error}");
            return Err(job);
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let task = Task {
            ticket,
            job,
            cancelled: Arc::clone(&cancelled),
            queued: now,
        };
        match self.jobs.try_send(task) {
            Ok(()) => Ok(Ticket(cancelled)),
            Err(TrySendError::Full(task) | TrySendError::Disconnected(task)) => Err(task.job),
        }
    }

    /// The next result, if one is there.
    pub(crate) fn next_done(&self) -> Option<Done<T>> {
        self.results.try_recv().ok()
    }

    /// Jobs that wait for a thread.
    pub(crate) fn waiting(&self) -> usize {
        self.jobs.len()
    }

    /// Starts the threads; one is enough to go on with.
    fn start(&mut self) -> io::Result<()> {
        for number in 1..=self.size {
            let queue = self.queue.clone();
            let report = self.report.clone();
            let waker = self.waker.clone();
            let on_start = self.on_start.clone();
            let makes_way = self.makes_way;
            let spawned = std::thread::Builder::new()
                .name(format!("{} {number}", self.name))
                .spawn(move || {
                    if makes_way && let Err(error) = cpu::make_way(NICER, SLICE) {
                        log::debug!("a thread for handlers competes with its loop: {error}");
                    }
                    if let Some(on_start) = on_start {
                        on_start();
                    }
                    work(&queue, &report, &waker);
                });
            match spawned {
                Ok(_) => self.started = true,
                Err(error) if !self.started => return Err(error),
                Err(error) => log::warn!("{} of {} pool threads: {error}", number - 1, self.size),
            }
        }
        Ok(())
    }
}

/// One thread: runs jobs until the pool is dropped.
fn work<T>(queue: &Receiver<Task<T>>, report: &Sender<Done<T>>, waker: &Waker) {
    while let Ok(task) = queue.recv() {
        if task.cancelled.load(Ordering::Relaxed) {
            // What the job holds may panic when it is dropped, too.
            if catch_unwind(AssertUnwindSafe(|| drop(task.job))).is_err() {
                log::error!("a cancelled job panicked when it was dropped");
            }
            continue;
        }
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(task.job));
        let done = Done {
            ticket: task.ticket,
            outcome,
            waited: begun.saturating_duration_since(task.queued),
            ran: begun.elapsed(),
        };
        if report.send(done).is_err() {
            return;
        }
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Reactor;

    const WAKER: usize = 1;

    fn pool(reactor: &Reactor, size: usize) -> Pool<u32> {
        Pool::new("test", size, reactor.waker(WAKER).unwrap())
    }

    fn collect(reactor: &mut Reactor, pool: &Pool<u32>, count: usize) -> Vec<Done<u32>> {
        let mut all = Vec::new();
        while all.len() < count {
            reactor.wait(None).unwrap();
            assert!(reactor.ready().all(|ready| ready.token == WAKER));
            all.extend(std::iter::from_fn(|| pool.next_done()));
        }
        all
    }

    #[test]
    fn results_come_back_with_their_tickets_and_times() {
        let mut reactor = Reactor::new().unwrap();
        let mut pool = pool(&reactor, 2);
        let now = Instant::now();
        let tickets: Vec<_> = (0..10)
            .map(|n| pool.submit(n, now, Box::new(move || n as u32 * 2)))
            .collect();
        let mut done = collect(&mut reactor, &pool, 10);
        done.sort_by_key(|done| done.ticket);
        for (n, done) in done.into_iter().enumerate() {
            assert_eq!(done.ticket, n as u64);
            assert_eq!(done.outcome.unwrap(), n as u32 * 2);
            assert!(done.waited + done.ran <= now.elapsed());
        }
        drop(tickets);
    }

    #[test]
    fn threads_that_make_way_are_nicer_than_the_loop() {
        fn nice() -> u32 {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("/proc");
            let (_, fields) = stat.rsplit_once(") ").expect("a name");
            let nice = fields.split(' ').nth(19 - 3).expect("field 19");
            nice.parse().expect("none is below zero")
        }
        for (makes_way, more) in [(false, 0), (true, NICER as u32)] {
            let mut reactor = Reactor::new().unwrap();
            let mut pool = pool(&reactor, 1);
            if makes_way {
                pool = pool.making_way();
            }
            let _ticket = pool.submit(1, Instant::now(), Box::new(nice));
            let done = collect(&mut reactor, &pool, 1).pop().unwrap();
            assert_eq!(done.outcome.unwrap(), (nice() + more).min(19));
        }
    }

    #[test]
    fn a_panic_is_a_result() {
        let mut reactor = Reactor::new().unwrap();
        let mut pool = pool(&reactor, 1);
        let _ticket = pool.submit(7, Instant::now(), Box::new(|| panic!("seven")));
        let done = collect(&mut reactor, &pool, 1).pop().unwrap();
        assert_eq!(
            *done.outcome.unwrap_err().downcast::<&str>().unwrap(),
            "seven"
        );
        let _ticket = pool.submit(8, Instant::now(), Box::new(|| 8));
        assert_eq!(collect(&mut reactor, &pool, 1)[0].ticket, 8);
    }

    #[test]
    fn a_full_queue_gives_the_job_back_and_a_cancelled_job_is_skipped() {
        let mut reactor = Reactor::new().unwrap();
        let mut pool = pool(&reactor, 1);
        let (release, gate) = bounded::<()>(0);
        let (entered, begun) = bounded::<()>(0);
        let now = Instant::now();
        let first = pool.submit(
            0,
            now,
            Box::new(move || {
                entered.send(()).unwrap();
                gate.recv().unwrap();
                0
            }),
        );
        begun.recv().unwrap();
        let waiting: Vec<_> = (1..=WAITING_PER_THREAD as u64)
            .map(|n| pool.submit(n, now, Box::new(|| 1)).ok().unwrap())
            .collect();
        assert_eq!(pool.waiting(), WAITING_PER_THREAD);
        assert!(pool.submit(99, now, Box::new(|| 1)).is_err());
        drop(waiting);
        release.send(()).unwrap();
        assert_eq!(collect(&mut reactor, &pool, 1)[0].ticket, 0);
        let _last = loop {
            // The thread skips the cancelled ones; there is room as soon as it has begun to.
            match pool.submit(100, now, Box::new(|| 100)) {
                Ok(ticket) => break ticket,
                Err(_) => std::thread::yield_now(),
            }
        };
        let done = collect(&mut reactor, &pool, 1);
        assert_eq!((done.len(), done[0].ticket), (1, 100));
        drop(first);
    }
}
