//! Reads what a `vaeanomaly` element reports: metadata on buffers, and events in the stream.

use std::{num::NonZeroU64, time::Duration};

use crate::detector::{Label, State};
use crate::events::{FrameVerdict, Span, Timeline};
use crate::gstutil::{parse_label, time_field};
use crate::{EVENT_NAME, META_NAME};

/// Reads the verdict in a buffer's metadata; `None` for a buffer without metadata. A label that cannot be read counts as
/// unknown, so that the frame is not dropped.
pub(super) fn read_verdict(buffer: &gst::BufferRef, span: Span) -> Option<FrameVerdict> {
    let meta = gst::meta::CustomMeta::from_buffer(buffer, META_NAME).ok()?;
    let fields = meta.structure();
    let label = fields.get::<&str>("label").ok().and_then(parse_label).flatten();
    Some(FrameVerdict {
        span,
        protected: label.is_none(),
        anomalous: label == Some(Label::Anomaly),
        event: fields.get::<u64>("event-id").ok().and_then(NonZeroU64::new),
    })
}

/// A `vaeanomaly-event`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteEvent {
    change: RemoteChange,
    /// How long an anomaly lasts before its event begins.
    min_anomaly: Option<Duration>,
}

/// What a `vaeanomaly-event` reports.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RemoteChange {
    /// An event began with an anomalous frame at this running time.
    Begin(Duration),
    /// The last anomalous frame of an event ended at this running time.
    End(Duration),
    /// The life-cycle state changed.
    State {
        /// Frames have no labels in the new state: they must not be dropped.
        protected: bool,
        /// Running time of the change, where the event has it.
        at: Option<Duration>,
    },
}

impl RemoteEvent {
    /// Reads a custom event; `None` if it is not a `vaeanomaly-event` that matters here.
    pub(super) fn read(event: &gst::EventRef) -> Option<Self> {
        let fields = event.structure().filter(|fields| fields.name() == EVENT_NAME)?;
        let at = time_field(fields, "running-time");
        let change = match fields.get::<&str>("event").ok()? {
            "anomaly-begin" => RemoteChange::Begin(at?),
            "anomaly-end" => {
                let duration = time_field(fields, "duration").unwrap_or_default();
                RemoteChange::End(at?.saturating_add(duration))
            }
            "state-changed" => {
                // A state that cannot be read protects too.
                let state = fields.get::<&str>("state").ok()?.parse::<State>();
                RemoteChange::State {
                    protected: !state.is_ok_and(State::is_labelling),
                    at,
                }
            }
            _ => return None,
        };
        Some(RemoteEvent {
            change,
            min_anomaly: time_field(fields, "min-anomaly"),
        })
    }

    /// Applies the event to the timeline; `now` is the running time of the stream.
    pub(super) fn apply(&self, timeline: &mut Timeline, now: Duration) {
        if let Some(min_anomaly) = self.min_anomaly {
            timeline.set_report_delay(min_anomaly);
        }
        match self.change {
            RemoteChange::Begin(start) => {
                timeline.set_protected(start.min(now), false);
                timeline.begin_event(start);
            }
            RemoteChange::End(end) => {
                timeline.set_protected(end.min(now), false);
                timeline.end_event(end);
            }
            RemoteChange::State { protected, at } => timeline.set_protected(at.unwrap_or(now), protected),
        }
    }
}
