//! Element messages and the downstream event, all structures named `vaeanomaly`.

use std::time::Duration;

use super::meta::{FrameResult, label_name, state_name};
use super::session::{Notice, Times};
use crate::detector::{Region, SceneChange};
use crate::gate::{EventInfo, Tally};

/// Name of the messages' structure.
pub const MESSAGE_NAME: &str = "vaeanomaly";
/// Name of the serialised downstream event's structure; its fields are the messages', and the property `min-anomaly`.
pub const EVENT_NAME: &str = "vaeanomaly-event";

/// What the messages of one frame share.
pub(super) struct Context<'a> {
    pub(super) segment: &'a gst::FormattedSegment<gst::ClockTime>,
    pub(super) times: Times,
    pub(super) result: Option<&'a FrameResult>,
    pub(super) tally: Tally,
}

impl Notice {
    /// The field `event`.
    fn name(&self) -> &'static str {
        match self {
            Self::StateChanged { .. } => "state-changed",
            Self::SceneChange(_) => "scene-change",
            Self::ViewBlocked => "view-blocked",
            Self::Begin(_) => "anomaly-begin",
            Self::Update(..) => "anomaly-update",
            Self::End(..) => "anomaly-end",
            Self::EffortChanged { .. } => "effort-changed",
            Self::Frame => "frame",
        }
    }

    /// Whether elements behind an encoder that loses metadata need to know.
    pub(super) fn goes_downstream(&self) -> bool {
        matches!(self, Self::StateChanged { .. } | Self::Begin(_) | Self::End(..))
    }

    /// The message's structure.
    pub(super) fn structure(&self, name: &str, context: &Context<'_>) -> gst::Structure {
        let mut s = gst::Structure::builder(name).field("event", self.name()).build();
        context.describe_frame(&mut s);
        match self {
            Self::StateChanged { from } => s.set("old-state", from.map_or("none", state_name)),
            Self::SceneChange(change) => s.set(
                "change",
                match change {
                    SceneChange::Splice => "splice",
                    SceneChange::NewScene => "new-scene",
                },
            ),
            Self::EffortChanged { from, pace } => {
                s.set("effort", pace.effort.as_str());
                s.set("old-effort", from.as_str());
                s.set("lateness", pace.lateness.unwrap_or_default().as_nanos() as u64);
            }
            Self::ViewBlocked | Self::Frame => {}
            Self::Begin(event) => context.describe_event(&mut s, event, None),
            Self::Update(event, region) => context.describe_event(&mut s, event, Some(*region)),
            Self::End(event, region) => {
                context.describe_event(&mut s, event, Some(*region));
                s.set("frames-in", context.tally.frames_in);
                s.set("frames-out", context.tally.frames_out);
                s.set("bytes-in", context.tally.bytes_in);
                s.set("bytes-out", context.tally.bytes_out);
            }
        }
        s
    }
}

impl Context<'_> {
    fn describe_frame(&self, s: &mut gst::StructureRef) {
        if let Some(result) = self.result {
            s.set("event-id", result.event_id.map_or(0, std::num::NonZeroU64::get));
            s.set("frame", result.frame);
            s.set("scored", result.scored);
            s.set("score", result.score);
            s.set("peak-score", result.score);
            s.set("raw-score", result.raw_score);
            s.set("threshold", result.threshold);
            s.set("label", label_name(result.label));
            s.set("cue", result.cue.as_str());
            s.set("state", state_name(result.state));
            set_region(s, result.region);
        }
        set_times(s, self.segment, self.times.pts, self.times.running_time());
        s.set("duration", self.times.duration);
    }

    /// Times are the event's: its begin, and how long it has lasted.
    fn describe_event(&self, s: &mut gst::StructureRef, event: &EventInfo, region: Option<Region>) {
        s.set("event-id", event.id.get());
        s.set("peak-score", event.peak_score);
        s.set("anomalous-frames", event.frames);
        let begin = clock_time(event.start);
        set_times(
            s,
            self.segment,
            self.segment.position_from_running_time(begin),
            begin,
        );
        s.set("duration", clock_time(event.duration()));
        if let Some(region) = region {
            set_region(s, region);
        }
    }
}

fn set_region(s: &mut gst::StructureRef, region: Region) {
    s.set("x", region.x);
    s.set("y", region.y);
    s.set("width", region.width);
    s.set("height", region.height);
}

/// As the base set's analysers name them.
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

fn clock_time(time: Duration) -> gst::ClockTime {
    gst::ClockTime::try_from(time).unwrap_or(gst::ClockTime::MAX)
}
