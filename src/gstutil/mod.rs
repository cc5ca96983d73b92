//! What the elements share: locking, buffer times, property specifications, and the names in metadata and events.

mod buffer_times;
mod names;
mod property;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use buffer_times::{BufferTime, BufferTimes};
#[cfg(test)]
pub(crate) use names::nick;
pub(crate) use names::{label_name, parse_label, same_variants, time_field, to_clock_time};
pub(crate) use property::{
    Mutable, boolean, clock_time, double, get, mutable_text, string, text, time, uint,
};

/// Locks a mutex, also after a panic: every value behind a mutex of the elements is written in one piece and stays valid.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
