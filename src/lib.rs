//! GStreamer plugin: online anomaly detection on live video with convolutional variational autoencoders.
//!
//! # Layout
//!
//! - [`detector`]: the core, from frames to predictions; independent of GStreamer.
//! - [`events`]: a pure state machine from labels and times to events and decisions about frames.
//! - [`metrics`]: figures of merit for scores against ground truth.
//! - [`vaeanomaly`]: the element, a thin shell around the core and the state machine (feature `plugin`, on by default).
//! - [`vaeanomalygate`]: its companion, which keeps events with the seconds before them, raw or encoded.
//! - [`vaeanomalyoverlay`]: draws what was found.
//! - `gstutil`: what the elements share.
//! - `allocator`: where Rust's allocations come from (feature `mimalloc`, on by default).
//! - `cuda_link`: loads CUDA's libraries at run time (feature `cuda`).

#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "mimalloc")]
mod allocator;
#[cfg(feature = "cuda")]
pub mod cuda_link;
pub mod detector;
pub mod events;
#[cfg(feature = "plugin")]
mod gstutil;
pub mod metrics;
#[cfg(feature = "plugin")]
mod plugin;
#[cfg(feature = "plugin")]
pub mod vaeanomaly;
#[cfg(feature = "plugin")]
pub mod vaeanomalygate;
#[cfg(feature = "plugin")]
pub mod vaeanomalyoverlay;

#[cfg(feature = "plugin")]
pub use plugin::plugin_register_static;
#[cfg(feature = "plugin")]
pub use vaeanomaly::{
    ACCEPT_NAME, Cues, EVENT_NAME, FrameResult, MESSAGE_NAME, META_NAME, PostMessages, SmallImage, Stabilise,
    State, Temporal, ThresholdMode,
};
