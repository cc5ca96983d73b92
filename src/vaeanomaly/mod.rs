//! SECTION:element-vaeanomaly
//!
//! Detects anomalies in the video of a fixed camera. The element trains two small convolutional variational autoencoders
//! on the frames that pass through it, one for appearance and one for motion, without labels and without a model file.
//! Every frame is scored before anything is learnt from it (prequential evaluation).
//!
//! The result travels as [`FrameResult`] in the custom metadata [`META_NAME`] of every buffer, anomalous frames carry a
//! `GstVideoRegionOfInterestMeta`, and element messages on the bus report when an anomaly begins and ends. With
//! `drop-normal=true` frames that belong to no anomaly are dropped.
//!
//! The read-only property `state` shows the life cycle: `warming-up`, `calibrating`, `detecting`, `adapting` after a
//! scene change, and `frozen` with `learn=false`. Labels are assigned in `detecting` and `frozen` only, and nothing is
//! dropped in any other state.
//!
//! ## Example pipelines
//!
//! Print the messages of a stream:
//!
//! ```shell
//! gst-launch-1.0 -m videotestsrc num-buffers=100 pattern=ball ! video/x-raw,width=320,height=240,framerate=10/1 \
//!     ! vaeanomaly ! fakesink
//! ```
//!
//! Record anomalies only:
//!
//! ```shell
//! gst-launch-1.0 -e videotestsrc num-buffers=100 pattern=ball ! video/x-raw,width=320,height=240,framerate=10/1 \
//!     ! vaeanomaly drop-normal=true ! x264enc ! mp4mux ! filesink location=anomalies.mp4
//! ```
//!
//! Since: 0.1
//!
//! ## Notes on properties
//!
//! * `device`: a CUDA device that is requested by name and cannot be used is an error; there is no silent fallback.
//! * `net-arch`: 1 to 6 stages with 1 to 256 filters, kernel 1, 3, 5 or 7, and pooling 1 to 4. The poolings must divide
//!   `model-width`.
//! * `learning-rate`: the first 1000 steps of the appearance model use twice as much, the first 20 s of the motion model six
//!   times as much.
//! * `train-interval`: the first 1500 steps come ten times a second, or with every frame at lower frame rates.
//! * Properties that can safely change at run time are mutable in PLAYING. Invalid values fail the state change with an
//!   error that names the value and its range.
//!
//! # Implementation
//!
//! The element maps formats, properties, messages and metadata to the core in [`crate::detector`] and to the state
//! machine in [`crate::events`].
//!
//! ```text
//! imp::transform_ip -> StreamState::process -> view (mapped, not copied) -> Detector::process
//!                                           -> EventTracker, Retention   -> Outcome
//!                   -> metadata, statistics -> messages, events -> frame passed on or dropped
//! ```

mod enums;
mod imp;
mod lateness;
mod load;
mod message;
mod meta;
mod model;
mod settings;
mod state;
mod stats;
mod view;

use gst::glib;
use gst::prelude::*;

pub use enums::{Cues, PostMessages, State, ThresholdMode};
pub use message::{EVENT_NAME, MESSAGE_NAME};
pub use meta::{FrameResult, META_NAME};

glib::wrapper! {
    /// The `vaeanomaly` element.
    ///
    /// Since: 0.1
    pub struct VaeAnomaly(ObjectSubclass<imp::VaeAnomaly>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// Registers the element, its metadata and its types.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    meta::register();
    for type_ in [
        State::static_type(),
        ThresholdMode::static_type(),
        PostMessages::static_type(),
        Cues::static_type(),
    ] {
        type_.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(
        Some(plugin),
        "vaeanomaly",
        gst::Rank::NONE,
        VaeAnomaly::static_type(),
    )
}
