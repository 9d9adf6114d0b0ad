//! What an application may tell its clients so that they come back to one worker. The form is
//! `server::sticky`'s, and dealing by it the primary's.

use super::Worker;
use crate::server::sticky::value_of;

impl Worker {
    /// What names this worker in the value of a cookie or a query's key: `w3` at the third place.
    /// Under [`SchedulingPolicy::StickyQuery`](crate::SchedulingPolicy::StickyQuery) and
    /// [`StickyCookie`](crate::SchedulingPolicy::StickyCookie) new connections of whoever says so
    /// come to this worker, or to its successor, which has the same name; also with more behind it,
    /// set off by `.`, `-` or `~`. It is no secret, and whoever guesses another gets another worker.
    ///
    /// # Examples
    ///
    /// An id that finds its way back, for `sticky-query:sid`:
    ///
    /// ```
    /// use mcluster::{App, Worker};
    ///
    /// let app = App::new().post("/sessions", |_| {
    ///     let worker = Worker::current().expect("handlers run in workers");
    ///     let id = 0x4f9a; // in earnest, from the kernel's random numbers
    ///     format!("/sessions?sid={}.{id:x}\n", worker.sticky_value())
    /// });
    /// # assert!(app.check().is_ok());
    /// ```
    pub fn sticky_value(&self) -> String {
        value_of(self.place())
    }
}
