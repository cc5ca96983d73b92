//! Reads what `vaeanomaly` found out: metadata on buffers, events in the stream.

use std::{num::NonZeroU64, time::Duration};

use crate::gate::{Mark, Span, Timeline};
use crate::{EVENT_NAME, META_NAME};

/// What the metadata says about one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Finding {
    protected: bool,
    anomalous: bool,
    event: Option<NonZeroU64>,
}

impl Finding {
    /// Nothing is known of the frame: it must not be dropped.
    pub const UNKNOWN: Finding = Finding {
        protected: true,
        anomalous: false,
        event: None,
    };

    /// Reads the metadata of a buffer that has one.
    pub fn read(buffer: &gst::BufferRef) -> Option<Self> {
        let meta = gst::meta::CustomMeta::from_buffer(buffer, META_NAME).ok()?;
        let fields = meta.structure();
        let label = fields.get::<&str>("label").unwrap_or("unknown");
        Some(Finding {
            protected: !matches!(label, "normal" | "anomaly"),
            anomalous: label == "anomaly",
            event: fields.get::<u64>("event-id").ok().and_then(NonZeroU64::new),
        })
    }

    /// The same for the state machine.
    pub fn mark(self, span: Span) -> Mark {
        Mark {
            span,
            protected: self.protected,
            anomalous: self.anomalous,
            event: self.event,
        }
    }
}

/// A `vaeanomaly-event`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    what: What,
    /// How long an anomaly lasts before an event begins.
    min_anomaly: Option<Duration>,
}

/// What a `vaeanomaly-event` says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// An event began with an anomalous frame at this running time.
    Begin(Duration),
    /// The last anomalous frame of an event ended at this running time.
    End(Duration),
    /// The life cycle reached a state in which frames are judged, or left it.
    State {
        /// Frames are not judged: they must not be dropped.
        protected: bool,
        /// From this running time on, where that is told.
        at: Option<Duration>,
    },
}

impl Told {
    /// Reads a custom event that is one of `vaeanomaly`.
    pub fn read(event: &gst::EventRef) -> Option<Self> {
        let fields = event.structure().filter(|fields| fields.name() == EVENT_NAME)?;
        let time = |name| {
            fields
                .get::<Option<gst::ClockTime>>(name)
                .ok()
                .flatten()
                .map(Duration::from)
        };
        let at = time("running-time");
        let what = match fields.get::<&str>("event").ok()? {
            "anomaly-begin" => What::Begin(at?),
            "anomaly-end" => What::End(at?.saturating_add(time("duration").unwrap_or_default())),
            "state-changed" => {
                let judges = |state: &str| matches!(state, "detecting" | "frozen");
                What::State {
                    protected: !judges(fields.get::<&str>("state").ok()?),
                    at,
                }
            }
            _ => return None,
        };
        Some(Told {
            what,
            min_anomaly: time("min-anomaly"),
        })
    }

    /// Tells it on; `now` is when the stream is.
    pub fn tell(&self, timeline: &mut Timeline, now: Duration) {
        if let Some(min_anomaly) = self.min_anomaly {
            timeline.set_notice(min_anomaly);
        }
        match self.what {
            What::Begin(start) => {
                timeline.protect(start.min(now), false);
                timeline.open_event(start);
            }
            What::End(end) => {
                timeline.protect(end.min(now), false);
                timeline.close_event(end);
            }
            What::State { protected, at } => timeline.protect(at.unwrap_or(now), protected),
        }
    }
}
