//! Which frames belong to an event and which are kept: a pure state machine over labels and times.
//!
//! It has no clock, no lock and no GStreamer type, so every rule can be tested with numbers alone. Both elements use it:
//!
//! * `vaeanomaly` turns labelled frames into events with an [`EventTracker`], and decides with [`Retention`] whether a
//!   frame is passed on.
//! * `vaeanomalygate` holds the newest frames back in a [`Gate`] until it is known whether an event follows.
//!
//! # Data flow
//!
//! ```text
//! (running time, duration)        -> FrameClock   -> Span
//! Span + label + scores           -> EventTracker -> event id, begin / update / end
//! Span + label + id: FrameVerdict -> Timeline     -> KeepReason, if there is one
//! Option<KeepReason>              -> KeepFilter   -> Decision: keep (also as a keep-alive) or drop
//! ```
//!
//! All times are running times, or any other time that grows while the stream plays.

mod event;
mod gate;
mod retention;
mod span;
mod timeline;

pub use event::{EventChange, EventInfo, EventPolicy, EventTracker, Observation, Tracked};
pub use gate::{FrameInfo, Gate, GatePolicy, Output};
pub use retention::{Decision, KeepFilter, KeepReason, Retention, RetentionPolicy, Tally};
pub use span::{FrameClock, Span};
pub use timeline::{FrameVerdict, Timeline};
