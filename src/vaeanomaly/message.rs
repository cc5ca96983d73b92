//! Element messages `vaeanomaly`, and the downstream event `vaeanomaly-event`.

use std::num::NonZeroU64;
use std::path::Path;

use super::load::LoadLevel;
use super::meta::{FrameResult, regions_array};
use super::model::ModelReport;
use super::state::{Load, Times};
use crate::detector::{AnomalousRegion, Region, SceneChange, State};
use crate::events::{EventInfo, Tally};
use crate::gstutil::{label_name, to_clock_time};

/// Name of the messages' structure.
///
/// Since: 0.1
pub const MESSAGE_NAME: &str = "vaeanomaly";
/// Name of the structure of the serialised downstream event. It has the fields of the messages, and `min-anomaly`.
///
/// Since: 0.1
pub const EVENT_NAME: &str = "vaeanomaly-event";

/// Name of the structure of the custom upstream event that accepts an event as normal: its field `event-id` is a `uint64`.
/// It does what the signal `accept-event` does.
///
/// Since: 0.1
pub const ACCEPT_NAME: &str = "vaeanomaly-accept-event";

/// Something to report to the application and downstream.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Notification {
    StateChanged { from: Option<State> },
    SceneChange(SceneChange),
    ViewBlocked,
    LoadChanged { from: LoadLevel, load: Load },
    Begin(EventInfo),
    Update(EventInfo),
    End(EventInfo, Found),
    Frame,
}

/// What was found in one frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) region: Region,
    pub(super) regions: Vec<AnomalousRegion>,
}

/// What the messages of one frame have in common.
pub(super) struct Context<'a> {
    pub(super) segment: &'a gst::FormattedSegment<gst::ClockTime>,
    pub(super) times: Times,
    pub(super) result: Option<&'a FrameResult>,
    pub(super) tally: Tally,
}

impl Notification {
    /// The field `event`.
    fn name(&self) -> &'static str {
        match self {
            Self::StateChanged { .. } => "state-changed",
            Self::SceneChange(_) => "scene-change",
            Self::ViewBlocked => "view-blocked",
            Self::Begin(_) => "anomaly-begin",
            Self::Update(..) => "anomaly-update",
            Self::End(..) => "anomaly-end",
            Self::LoadChanged { .. } => "effort-changed",
            Self::Frame => "frame",
        }
    }

    /// Whether it is also sent downstream, for elements behind an encoder that loses metadata.
    pub(super) fn goes_downstream(&self) -> bool {
        matches!(self, Self::StateChanged { .. } | Self::Begin(_) | Self::End(..))
    }

    /// The structure of the message or event.
    pub(super) fn structure(&self, name: &str, context: &Context<'_>) -> gst::Structure {
        let mut s = gst::Structure::builder(name).field("event", self.name()).build();
        context.describe_frame(&mut s);
        match self {
            Self::StateChanged { from } => s.set("old-state", from.map_or("none", State::as_str)),
            Self::SceneChange(change) => s.set(
                "change",
                match change {
                    SceneChange::Splice => "splice",
                    SceneChange::NewScene => "new-scene",
                },
            ),
            Self::LoadChanged { from, load } => {
                s.set("effort", load.level.as_str());
                s.set("old-effort", from.as_str());
                s.set("lateness", load.lateness.unwrap_or_default().as_nanos() as u64);
            }
            Self::ViewBlocked | Self::Frame => {}
            Self::Begin(event) | Self::Update(event) => {
                context.describe_event(&mut s, event);
                if let Some(result) = context.result {
                    s.set("regions", regions_array(&result.prediction.regions));
                }
            }
            Self::End(event, peak) => {
                context.describe_event(&mut s, event);
                set_region(&mut s, peak.region);
                s.set("regions", regions_array(&peak.regions));
                s.set("reason", if event.absorbed { "absorbed" } else { "over" });
                s.set("frames-in", context.tally.frames_in);
                s.set("frames-out", context.tally.frames_out);
                s.set("bytes-in", context.tally.bytes_in);
                s.set("bytes-out", context.tally.bytes_out);
            }
        }
        s
    }
}

impl ModelReport {
    /// The structure of the message; a failure is a warning instead.
    pub(super) fn structure(&self) -> Option<gst::Structure> {
        let builder = |event: &str, location: &Path| {
            gst::Structure::builder(MESSAGE_NAME)
                .field("event", event)
                .field("location", location.display().to_string())
        };
        let builder = match self {
            Self::Saved {
                location,
                frames,
                bytes,
                at,
            } => builder("model-saved", location)
                .field("model-frames", *frames)
                .field("model-size", *bytes)
                .field("model-saved-at", *at),
            Self::Loaded {
                location,
                frames,
                bytes,
                began,
                saved,
            } => builder("model-loaded", location)
                .field("model-frames", *frames)
                .field("model-size", *bytes)
                .field("model-began-at", *began)
                .field("model-saved-at", *saved),
            Self::Refused(refusal) => {
                let kept_as = refusal.kept_as.as_ref().map(|path| path.display().to_string());
                builder("model-refused", &refusal.location)
                    .field("reason", refusal.reason.as_str())
                    .field("kept-as", kept_as.unwrap_or_default())
            }
            Self::Failed { .. } => return None,
        };
        Some(builder.build())
    }
}

impl Context<'_> {
    fn describe_frame(&self, s: &mut gst::StructureRef) {
        if let Some(result) = self.result {
            let prediction = &result.prediction;
            s.set("event-id", result.event_id.map_or(0, NonZeroU64::get));
            s.set("frame", prediction.frame);
            s.set("scored", result.scored);
            s.set("score", prediction.score);
            s.set("peak-score", prediction.score);
            s.set("raw-score", prediction.raw_score);
            s.set("threshold", prediction.threshold);
            s.set("label", label_name(prediction.label));
            s.set("cue", prediction.cue.as_str());
            s.set("state", prediction.state.as_str());
            set_region(s, prediction.region);
        }
        set_times(s, self.segment, self.times.pts, self.times.running_time());
        s.set("duration", self.times.duration);
    }

    /// Sets the times of the event: its begin, and its duration so far.
    fn describe_event(&self, s: &mut gst::StructureRef, event: &EventInfo) {
        s.set("event-id", event.id.get());
        s.set("peak-score", event.peak_score);
        s.set("anomalous-frames", event.frames);
        let begin = to_clock_time(event.start);
        set_times(
            s,
            self.segment,
            self.segment.position_from_running_time(begin),
            begin,
        );
        s.set("duration", to_clock_time(event.duration()));
    }
}

fn set_region(s: &mut gst::StructureRef, region: Region) {
    s.set("x", region.x);
    s.set("y", region.y);
    s.set("width", region.width);
    s.set("height", region.height);
}

/// Sets the times under the names that `level` and other analysers use.
fn set_times(
    s: &mut gst::StructureRef,
    segment: &gst::FormattedSegment<gst::ClockTime>,
    pts: Option<gst::ClockTime>,
    running_time: gst::ClockTime,
) {
    s.set("timestamp", pts);
    s.set("stream-time", segment.to_stream_time(pts));
    s.set("running-time", running_time);
}
