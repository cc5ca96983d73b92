//! GStreamer plugin: online anomaly detection on live video with convolutional variational autoencoders.
//!
//! # Layout
//!
//! - [`detector`]: the core. Takes views of frames, gives predictions; knows no GStreamer.
//! - [`gate`]: a pure state machine from labels and times to events and verdicts.
//! - [`metrics`]: figures of merit for scores against ground truth.
//! - [`vaeanomaly`]: the element, a thin shell around the two (feature `plugin`, on by default).
//! - `cuda_link`: CUDA's libraries, looked for at run time (feature `cuda`).
//! - [`vaeanomalygate`]: its companion, which keeps events with the seconds before them, raw or encoded.

#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "plugin")]
mod buffer_times;
#[cfg(feature = "cuda")]
pub mod cuda_link;
pub mod detector;
pub mod gate;
pub mod metrics;
#[cfg(feature = "plugin")]
mod plugin;
#[cfg(feature = "plugin")]
pub mod vaeanomaly;
#[cfg(feature = "plugin")]
pub mod vaeanomalygate;

/// Every tensor operation allocates its result. glibc gives such blocks back to the system at once, and page faults then
/// cost as much as the arithmetic.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "plugin")]
pub use plugin::plugin_register_static;
#[cfg(feature = "plugin")]
pub use vaeanomaly::{
    Cues, EVENT_NAME, FrameResult, MESSAGE_NAME, META_NAME, PostMessages, State, ThresholdMode,
};
