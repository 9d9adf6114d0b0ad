//! Sessions: what an application keeps of a client between its requests.
//!
//! [`Sessions`] finds the one that a request's cookie names, gives it to the handler as a [`Session`],
//! and sees to the cookie; [`Keys`] sign that; a [`SessionStore`] keeps what is kept. Owns what a session
//! is and how long it lives; leaves where and how it is kept to each store.

mod error;
mod keys;
mod memory;
mod one;
#[cfg(feature = "redis")]
mod redis;
mod sessions;
mod shared;
mod store;
pub(crate) mod sweep;
#[cfg(test)]
mod tests;

#[cfg(feature = "redis")]
pub use self::redis::RedisStore;
pub use error::SessionError;
pub use keys::Keys;
pub use memory::MemoryStore;
pub use one::Session;
pub use sessions::Sessions;
pub use shared::SharedStore;
pub use store::{Record, SessionId, SessionStore, StoreError};
