//! SECTION:element-vaeanomalygate
//!
//! Passes on the frames of anomalies, from some time before to some time after them, and drops the others. The element
//! takes any video, raw or encoded. It looks at flags, times, metadata and events, and at the payload only to find the IDR
//! frames of H.264 and H.265.
//!
//! It learns about anomalies from `VaeAnomalyMeta` on the buffers, from `vaeanomaly-event` events where an encoder lost the
//! metadata, or with `follow` from a `vaeanomaly` element on another branch of the same pipeline, matched by running time.
//! Nothing is dropped before the first of these arrives.
//!
//! ## Example pipelines
//!
//! Behind an encoder, where holding the pre-roll back takes a few megabytes:
//!
//! ```shell
//! gst-launch-1.0 -e videotestsrc num-buffers=200 pattern=ball ! video/x-raw,width=320,height=240,framerate=10/1 \
//!     ! vaeanomaly ! x264enc tune=zerolatency key-int-max=30 ! h264parse ! vaeanomalygate pre-roll=5000000000 \
//!     ! matroskamux ! filesink location=events.mkv
//! ```
//!
//! The camera's own bits without transcoding; one branch is decoded for analysis only:
//!
//! ```shell
//! gst-launch-1.0 -e videotestsrc num-buffers=200 pattern=ball ! video/x-raw,width=320,height=240,framerate=10/1 \
//!     ! x264enc tune=zerolatency key-int-max=30 ! h264parse ! tee name=t \
//!     t. ! queue ! avdec_h264 ! videoconvert ! vaeanomaly name=eye ! fakesink sync=false \
//!     t. ! queue ! vaeanomalygate follow=eye ! matroskamux ! filesink location=events.mkv
//! ```
//!
//! Since: 0.1
//!
//! ## Usage notes
//!
//! * The output starts with a key frame and is in input order. Add a parser upstream to a byte stream that carries its
//!   parameter sets only at the start (`h264parse config-interval=-1`).
//! * Frames are held for up to the pre-roll plus one group of pictures, with `follow` also for as long as the other branch
//!   takes. The answer to the LATENCY query includes this; branches that are muxed with this one need queues of that
//!   length. Sinks that do not synchronise, such as `filesink` by default, delay no other branch.
//! * The announced latency covers groups of pictures of up to five seconds. With a longer key-frame distance a warning is
//!   posted in live pipelines, and synchronised sinks behind the gate are late.
//! * A clip starts at a key frame: in H.264 and H.265 at an IDR frame, or, where none comes for five seconds, at another
//!   frame that the parser marks as a key frame, such as a recovery point (open groups of pictures, intra refresh).
//!   `avdec_h264` shows all frames from there on, with intra refresh incomplete ones at first, which other decoders discard:
//!   use an encoder that inserts IDR frames.
//! * Audio that is muxed with gated video waits for the next video frame: for up to the keep-alive interval, or the
//!   key-frame distance where that is longer, and with `mp4mux` for twice as long, because it needs the next sample to
//!   time the current one. Halve `keepalive-interval` there.
//! * Held frames are references. Only buffers from a pool with a maximum number of buffers are copied, so that the pool does
//!   not run dry.
//! * A sink behind the gate may need `async=false` in a pipeline that is not live, or the pipeline waits for it: with
//!   `keepalive-interval=0`, where no normal frame is passed on before the first event, and with `follow` behind a muxer
//!   that needs a second frame for its first output (`oggmux`), which the followed branch analyses only in PLAYING.
//! * If a followed element sends nothing for five seconds in PLAYING, or has reached its end, all frames without a verdict are
//!   kept until there are verdicts again; the former posts a warning.
//! * In `stats`, every frame that came in is in one count: `frames-in` = `frames-out` + `frames-dropped` +
//!   `frames-discarded` (held at a flush, or not accepted downstream); `frames-held` more are undecided. `frames-lost` is the
//!   part of `frames-dropped` that belonged to an event, but could not be decoded.
//! * Element messages `vaeanomalygate` are posted with `event` = `clip-begin` (`running-time`, `reason`) before the first
//!   frame of a clip and `clip-end` (`running-time`) after its last.
//!
//! ## Recordings after a crash
//!
//! What can be read of a recording whose process was killed, up to the last frame that the gate had output:
//!
//! | behind the gate | readable |
//! |---|---|
//! | `matroskamux ! filesink buffer-mode=unbuffered` | all |
//! | `matroskamux ! filesink` | all but up to 64 KiB |
//! | `mpegtsmux ! filesink buffer-mode=unbuffered` | all |
//! | `mp4mux fragment-duration=1000 ! filesink buffer-mode=unbuffered` | all but the last second |
//! | `mp4mux reserved-max-duration=3600000000000 reserved-moov-update-period=1000000000 ! filesink buffer-mode=unbuffered` | all but the last second |
//! | `mp4mux ! filesink` | nothing |
//! | `splitmuxsink max-size-time=2000000000` | all files but the last |
//!
//! The frames that the gate itself holds are lost: up to the pre-roll and a group of pictures, but none of an open event.

use gst::glib;
use gst::prelude::*;

mod actions;
mod follow;
mod imp;
mod key_frames;
mod remote;
mod settings;
mod state;

/// Which frames a `vaeanomalygate` keeps.
///
/// Since: 0.1
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[repr(u32)]
#[enum_type(name = "GstVaeAnomalyGateRetain")]
pub enum Retain {
    /// Events with their pre- and post-roll, and what must not be dropped.
    #[default]
    #[enum_value(name = "Event: events with their pre- and post-roll", nick = "event")]
    Event,
    /// All frames.
    #[enum_value(name = "All: all frames", nick = "all")]
    All,
}

glib::wrapper! {
    /// The `vaeanomalygate` element.
    ///
    /// Since: 0.1
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
