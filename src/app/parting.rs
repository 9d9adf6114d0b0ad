//! A handler's panic that carries the cookie its client is to have all the same.
//!
//! Owns how it is carried past the middleware, as a panic that it stays. Leaves the answer to the
//! application.

use super::{Abandon, Cookie};
use std::any::Any;
use std::panic::resume_unwind;

struct Parting {
    panic: Box<dyn Any + Send>,
    cookie: Cookie,
}

/// Goes on panicking, with the cookie if there is one.
pub(in crate::app) fn resume(panic: Box<dyn Any + Send>, cookie: Option<Cookie>) -> ! {
    match cookie {
        // Nothing is answered by a worker that is given up.
        Some(cookie) if !panic.is::<Abandon>() => {
            resume_unwind(Box::new(Parting { panic, cookie }))
        }
        _ => resume_unwind(panic),
    }
}

/// The panic itself, and the cookies that came with it, the first to be set first.
pub(super) fn take(mut panic: Box<dyn Any + Send>) -> (Box<dyn Any + Send>, Vec<Cookie>) {
    let mut cookies = Vec::new();
    loop {
        match panic.downcast::<Parting>() {
            Ok(parting) => {
                cookies.insert(0, parting.cookie);
                panic = parting.panic;
            }
            Err(panic) => return (panic, cookies),
        }
    }
}
