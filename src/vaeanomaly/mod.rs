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
//! cut and while the light changes, for five seconds at most, and `frozen` with `learn=false`. Labels are assigned in `detecting` and `frozen` only, and nothing is
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
//! Keep what was learnt over restarts, and freeze it:
//!
//! ```shell
//! gst-launch-1.0 -e videotestsrc num-buffers=100 pattern=ball ! video/x-raw,width=320,height=240,framerate=10/1 \
//!     ! vaeanomaly name=door model-location=/tmp/%s.safetensors ! fakesink
//! gst-launch-1.0 -e videotestsrc num-buffers=100 pattern=ball ! video/x-raw,width=320,height=240,framerate=10/1 \
//!     ! vaeanomaly name=door model-location=/tmp/%s.safetensors learn=false ! fakesink
//! ```
//!
//! ## Signals
//!
//! Action signals, which may be emitted from any thread and wait for the current frame at most:
//!
//! * `save-model(location) -> bool`, `load-model(location) -> bool`: an empty location is `model-location`. The caller waits for
//!   the file. Events and frames are counted on from the larger number, and an open event ends.
//! * `reset-model()`: forgets all that was learnt, also what was accepted.
//! * `accept-event(event-id) -> bool`: what was seen in this event was normal. Its frames join the replay, and scores at the
//!   same locations count as usual up to 1.5 times what they were; stronger ones, and others elsewhere, count in full. The
//!   last 64 events since start can be accepted. A large thing hides smaller ones at its locations. How many later
//!   events of the kind, and of other kinds, are no longer found: `examples/evaluate/README.md`.
//!   The custom upstream event [`ACCEPT_NAME`] does the same.
//!
//! ## The model file
//!
//! A safetensors file with all that was learnt; see [`crate::detector::store`]. It is written by a thread of its own, beside
//! the old one, synced and renamed, with the previous one kept as `.bak`. A stream that continues from it scores as an
//! uninterrupted one does after a flush: its first frames lack the frames before them, so that motion is scored from the
//! third frame on and a cut can be found from the seventh. The message `model-loaded` reports it. A file that is
//! broken, foreign, of a newer version, of other settings or of another aspect ratio is moved to `.refused-1` (or the next
//! free number), the message `model-refused` has the reason, and learning begins anew. A model that cannot be written is
//! a warning, once for each kind of failure until a write succeeds, and is tried again.
//!
//! ## Messages of an anomaly
//!
//! `anomaly-begin`, `anomaly-update` and `anomaly-end` have the field `regions` as the metadata, an array of structures; it is
//! of the frame at which the message is posted, and in `anomaly-end` of the strongest frame of the event, as are `x`, `y`,
//! `width` and `height`. `vaeanomaly-event` has it too.
//!
//! ## Analytics metadata
//!
//! Built with the feature `v1_24`, which the Makefile switches on where GStreamer 1.24 or newer is installed, the element
//! also adds to the buffer's `GstAnalyticsRelationMeta`, or attaches one where no element upstream has. Frames without a
//! label get none of this:
//!
//! * a classification of the frame, of the classes `anomaly`, with `score` as confidence, and `normal`, with the rest to 1;
//! * an object detection of the type `anomaly` for each region, in pixels of the frame, with the region's own score as
//!   confidence; it is part of (`IS_PART_OF`) the classification, which contains it (`CONTAIN`);
//! * a tracking for each region with its id, and the running times at which it was seen first and last; the detection relates
//!   to it (`RELATE_TO`).
//!
//! ## Notes on properties
//!
//! * `model-location`: `%s` is the element's name (with `_` for `/`) and `%%` a `%`; any other escape is an error. With
//!   `learn=false` a loaded model is frozen from the first frame on, and its file is not written.
//! * `mask-location`, `ignore-regions`: what they cover is removed from the small images before anything looks at it. Cells
//!   that show a part of it have no score. After a change while playing the state is `adapting` until every cue has frames to
//!   compare with. An invalid value is an error at start, and later a warning that changes nothing.
//! * `memory`: an upper bound for all horizons, which are shorter by themselves: the background reaches back 10 s, running
//!   scales 33 s, the calibration 5 min, the motion model's replay 300 training steps; the appearance model's replay reaches
//!   back to the first frame. `learning-rate` is how fast the weights follow what the replay holds, `window` the reach of the
//!   threshold modes sigma, evt and quantile. `examples/evaluate/memory.sh` shows how they act together.
//! * `absorb-after`: a thing that was moved, left or taken away is one event, whose end has the `reason` `absorbed` in its
//!   message (`over` otherwise). Strong changes take up to half as long again, weak ones less. What returns after a longer
//!   absence is new.
//! * `stabilise`: while the image moves against the background from frame to frame, by more than a thousandth of its width on
//!   average, the small images are moved back before anything looks at them. Displacements of up to 4 % of the width are
//!   corrected. Regions and maps are where things are in the frame that passes through, maps to the nearest cell; the
//!   reconstruction is that of the corrected image.
//! * `device`: a CUDA device that is requested by name and cannot be used is an error; there is no silent fallback.
//! * Frames in `memory:CUDAMemory` are reduced on their GPU, with any `device`; with `device=cuda:N` a context that elements
//!   share is taken over if it is of that device.
//! * `attach-map`: the scores of this frame alone, on the scale of `score`, which is smoothed over time. The grid has cells of 4
//!   pixels of an image that is 180 pixels wide.
//! * `attach-reconstruction`: `model-width` pixels wide; on a GPU it costs a copy to the host for every frame.
//! * `net-arch`: 1 to 6 stages with 1 to 256 filters, kernel 1, 3, 5 or 7, and pooling 1 to 4. The poolings must divide
//!   `model-width`.
//! * `temporal`: with `conv-lstm` both models see, beside the frame, what the layer remembers of the frames before it: a step
//!   every tenth of a second, or every frame where there are fewer. It is trained on clips of five steps, the current one and
//!   replayed ones; the replay holds as many images as without it. What it remembers is not learnt: it is cleared by a
//!   flush, a gap, a cut and other caps, and is not in the model file. A model of another `temporal` is refused. Figures are
//!   in `examples/evaluate/README.md`.
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

#[cfg(feature = "v1_24")]
mod analytics;
#[cfg(feature = "cuda")]
mod cuda_memory;
#[cfg(not(feature = "cuda"))]
#[path = "cuda_memory_absent.rs"]
mod cuda_memory;
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

pub use enums::{Cues, PostMessages, Stabilise, State, Temporal, ThresholdMode};
pub use message::{ACCEPT_NAME, EVENT_NAME, MESSAGE_NAME};
pub use meta::{FrameResult, META_NAME, SmallImage};

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
        Stabilise::static_type(),
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
