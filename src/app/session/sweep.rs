//! The stores of a process, for whoever has them swept.
//!
//! A worker finds the stores of its application here, not by asking the application: handlers hold
//! them, in closures.

use super::SessionStore;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

/// Filled before the cluster starts, so a forked worker has what its primary had.
static STORES: Mutex<Vec<Weak<dyn SessionStore>>> = Mutex::new(Vec::new());

/// Remembers a store for as long as somebody holds it.
pub(super) fn register(store: &Arc<dyn SessionStore>) {
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    stores.retain(|store| store.strong_count() > 0);
    stores.push(Arc::downgrade(store));
}

fn stores() -> Vec<Arc<dyn SessionStore>> {
    let stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    stores.iter().filter_map(Weak::upgrade).collect()
}

/// Whether there is anything to sweep.
pub(crate) fn is_wanted() -> bool {
    !stores().is_empty()
}

/// Who sweeps already: a store that takes longer than it should is not asked twice at once.
static SWEEPING: Mutex<()> = Mutex::new(());

/// Has each store forget what has expired by `now`. May wait as long as its stores do.
pub(crate) fn sweep(now: SystemTime) {
    let Ok(_only) = SWEEPING.try_lock() else {
        return;
    };
    for store in stores() {
        match store.sweep(now) {
            Ok(0) => {}
            Ok(count) => log::debug!("{count} sessions had expired"),
            Err(error) => super::SessionError::from(error).note(),
        }
    }
}
