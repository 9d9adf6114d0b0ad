//! Sessions: what an application keeps of a client between its requests.
//!
//! [`SessionStore`] is where they are kept. Owns what is asked of a store; leaves where and how to
//! each of them.

mod store;

pub use store::{Record, SessionId, SessionStore, StoreError};
