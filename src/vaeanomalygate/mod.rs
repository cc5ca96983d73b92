/**
 * SECTION:element-vaeanomalygate
 * @see_also: vaeanomaly
 *
 * Keeps the frames of anomalies with the seconds before and after them, and drops the others.
 *
 * It takes any video, raw or encoded, and never looks at the payload, only at flags, times, metadata and events. It
 * learns where anomalies are from `VaeAnomalyMeta` on the buffers, from `vaeanomaly-event` events where an encoder lost the
 * metadata, or (`follow`) from a `vaeanomaly` element on another branch of the same pipeline, matched by running time.
 * Until it has heard from any of these it drops nothing.
 *
 * Behind an encoder, holding the pre-roll costs a few megabytes:
 * |[
 * gst-launch-1.0 -e v4l2src ! videoconvert ! vaeanomaly ! x264enc tune=zerolatency key-int-max=30 ! h264parse ! \
 *     vaeanomalygate pre-roll=5000000000 ! matroskamux ! filesink location=events.mkv
 * ]|
 * The camera's own bits, without transcoding: one branch is decoded for analysis only.
 * |[
 * gst-launch-1.0 -e rtspsrc location=rtsp://camera ! rtph264depay ! h264parse config-interval=-1 ! tee name=t \
 *     t. ! queue ! avdec_h264 ! videoconvert ! vaeanomaly name=eye ! fakesink sync=false \
 *     t. ! queue max-size-time=0 max-size-bytes=0 ! vaeanomalygate follow=eye ! matroskamux ! filesink location=events.mkv
 * ]|
 *
 * What it gives out always starts with a key frame and keeps its order. Frames are held back for up to the pre-roll
 * plus one group of pictures, which the answer to the LATENCY query includes; other branches of a live pipeline need queues of that length.
 */
use gst::glib;
use gst::prelude::*;

mod actions;
mod findings;
mod follow;
mod imp;
mod pool;
mod settings;
mod stream;
mod times;

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
