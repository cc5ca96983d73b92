//! What to keep: a pure state machine from labels and times to events and verdicts.
//!
//! Values and times go in, decisions come out. There is no clock, no lock and no GStreamer type in here, so every
//! rule can be tested with numbers alone. Both elements stand on it:
//!
//! * `vaeanomaly` asks [`EventTracker`] what becomes of a labelled frame (begin, update, end of an event) and
//!   [`Retention`] whether the frame goes on.
//! * `vaeanomalygate` holds the newest frames back in a [`Gate`], which asks the same [`Timeline`] and the same
//!   [`Outlet`] as [`Retention`] does.
//!
//! # A frame's way
//!
//! ```text
//! (running time, duration) -> FrameClock -> Span
//! Span + label + scores    -> EventTracker -> event id, begin / update / end
//! Span + claims = Mark     -> Timeline -> which reason there is to keep a frame
//! reason or none           -> Outlet   -> keep (keep-alive too) or drop, key frame needed or not
//! ```
//!
//! All times are running times, or any other time that grows while the stream plays.

mod event;
mod outlet;
mod retention;
mod ring;
mod span;
mod timeline;

pub use event::{Change, EventInfo, EventPolicy, EventTracker, Sighting, Tracked};
pub use outlet::{Outlet, Reason, Tally, Verdict};
pub use retention::{Retention, RetentionPolicy};
pub use ring::{FrameInfo, Gate, GatePolicy, Output};
pub use span::{FrameClock, Span};
pub use timeline::{Mark, Timeline};
