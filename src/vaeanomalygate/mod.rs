//! The element `vaeanomalygate`: keeps the frames of anomalies with the seconds before and after them, and drops
//! the others.
//!
//! It takes any video, raw or encoded, and never looks at the payload, only at flags, times, metadata and events. It
//! learns where anomalies are from `VaeAnomalyMeta` on the buffers, from `vaeanomaly-event` events where an encoder
//! lost the metadata, or (`follow`) from a `vaeanomaly` element on another branch of the same pipeline, matched by
//! running time. Until it has heard from any of these it drops nothing.
//!
//! Behind an encoder, holding the pre-roll costs a few megabytes:
//!
//! ```sh
//! gst-launch-1.0 -e v4l2src ! videoconvert ! vaeanomaly ! x264enc tune=zerolatency key-int-max=30 ! h264parse \
//!     ! vaeanomalygate pre-roll=5000000000 ! matroskamux ! filesink location=events.mkv
//! ```
//!
//! The camera's own bits, without transcoding; one branch is decoded for analysis only:
//!
//! ```sh
//! gst-launch-1.0 -e rtspsrc location=rtsp://camera ! rtph264depay ! h264parse ! tee name=t \
//!     t. ! queue ! avdec_h264 ! videoconvert ! vaeanomaly name=eye ! fakesink sync=false \
//!     t. ! queue ! vaeanomalygate follow=eye ! matroskamux ! filesink location=events.mkv
//! ```
//!
//! # What to know
//!
//! * What it gives out starts with a key frame and keeps its order. Give a byte stream that has its parameter sets
//!   only at the start a parser before the gate (`h264parse config-interval=-1`).
//! * Frames are held for up to the pre-roll plus one group of pictures, in `follow` also for as long as the other
//!   branch takes. The answer to the LATENCY query includes that; branches to be muxed with this one need queues of that
//!   length. Sinks that do not synchronise, as `filesink` by default, delay no other branch.
//! * Sound that is muxed with a gated picture waits for the picture's next frame: for up to the keep-alive interval, or the
//!   distance of key frames where that is longer, and with `mp4mux` for twice as long, because it times every sample by the
//!   one after it. Halve `keepalive-interval` there.
//! * Frames held are references. Only where a buffer comes from a pool that makes so many buffers and no more is it
//!   copied, so that the pool does not run dry.
//! * With `keepalive-interval=0` nothing passes before the first event: a sink behind it in a pipeline that is not live
//!   needs `async=false`, or the pipeline waits for it.
//! * It posts element messages named `vaeanomalygate` with `event` = `clip-begin` (`running-time`, `reason`) before the first
//!   frame of a clip and `clip-end` (`running-time`) after its last.

use gst::glib;
use gst::prelude::*;

mod actions;
mod findings;
mod follow;
mod imp;
mod pool;
mod settings;
mod stream;

/// What a `vaeanomalygate` gives out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[repr(u32)]
#[enum_type(name = "GstVaeAnomalyGateRetain")]
pub enum Retain {
    /// Events with their pre- and post-roll, and what must not be dropped.
    #[default]
    #[enum_value(name = "Events with their pre- and post-roll", nick = "event")]
    Event,
    /// Everything.
    #[enum_value(name = "Everything", nick = "all")]
    All,
}

glib::wrapper! {
    /// Keeps the frames of anomalies with the seconds before and after them.
    pub struct VaeAnomalyGate(ObjectSubclass<imp::VaeAnomalyGate>) @extends gst::Element, gst::Object;
}

/// Registers the element with `plugin`.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    Retain::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    gst::Element::register(
        Some(plugin),
        "vaeanomalygate",
        gst::Rank::NONE,
        VaeAnomalyGate::static_type(),
    )
}
