//! How late frames come, where that can be measured: for live sources by the pipeline's clock, otherwise by the QoS events
//! of synchronising sinks.

use std::sync::Mutex;
use std::time::Duration;

use gst::prelude::*;

use super::load::AgeBaseline;
use crate::gstutil::lock;

/// A QoS event counts for frames within this distance of its running time.
const QOS_REACH: gst::ClockTime = gst::ClockTime::from_seconds(2);

/// What upstream answers to the LATENCY query.
#[derive(Clone, Copy, Debug, Default)]
enum Upstream {
    /// Not queried yet.
    #[default]
    Unknown,
    /// Frames come as they are captured, at most this late according to the sources.
    Live { latency: Duration },
    /// Frames come as fast as they are processed.
    NotLive,
}

/// The lateness in a sink's last QoS event.
#[derive(Clone, Copy, Debug)]
struct QosReport {
    running_time: gst::ClockTime,
    lateness: Duration,
}

#[derive(Debug, Default)]
struct Measurement {
    upstream: Upstream,
    /// The latency that the pipeline is configured for: sinks present a frame that much after its running time, and while
    /// they wait they keep the elements before them from processing the next one.
    configured: Duration,
    baseline: AgeBaseline,
    qos: Option<QosReport>,
}

/// Measures how late frames come.
#[derive(Debug, Default)]
pub(super) struct LatenessMeter(Mutex<Measurement>);

impl LatenessMeter {
    /// The stream starts or jumps: earlier measurements are void.
    pub(super) fn reset(&self) {
        let mut measurement = lock(&self.0);
        *measurement = Measurement {
            configured: measurement.configured,
            ..Measurement::default()
        };
    }

    /// The pipeline is configured for a latency: earlier measurements are void.
    pub(super) fn set_latency(&self, latency: gst::ClockTime) {
        *lock(&self.0) = Measurement {
            configured: latency.into(),
            ..Measurement::default()
        };
    }

    /// Stores the report of a QoS event.
    pub(super) fn add_qos(&self, qos: &gst::event::Qos) {
        let (kind, _, lateness, Some(running_time)) = qos.get() else {
            return;
        };
        if kind != gst::QOSType::Throttle {
            lock(&self.0).qos = Some(QosReport {
                running_time,
                lateness: Duration::from_nanos(u64::try_from(lateness).unwrap_or(0)),
            });
        }
    }

    /// How late the frame at this running time comes to `element`; `None` where that cannot be measured.
    pub(super) fn measure(
        &self,
        element: &impl IsA<gst::Element>,
        running_time: gst::ClockTime,
    ) -> Option<Duration> {
        if matches!(lock(&self.0).upstream, Upstream::Unknown) {
            // No lock is held while the elements upstream answer.
            let upstream = query(element);
            lock(&self.0).upstream = upstream;
        }
        let mut measurement = lock(&self.0);
        match measurement.upstream {
            Upstream::Live { latency } => {
                let now = element.current_running_time()?;
                let age = i64::try_from(now.nseconds())
                    .ok()?
                    .checked_sub_unsigned(running_time.nseconds())?;
                let expected = latency.max(measurement.configured);
                Some(measurement.baseline.lateness(age, expected))
            }
            _ => measurement
                .qos
                .filter(|qos| running_time.absdiff(qos.running_time) <= QOS_REACH)
                .map(|qos| qos.lateness),
        }
    }
}

/// Asks upstream whether it is live.
fn query(element: &impl IsA<gst::Element>) -> Upstream {
    let mut query = gst::query::Latency::new();
    let answered = element
        .static_pad("sink")
        .is_some_and(|pad| pad.peer_query(&mut query));
    let (live, latency, _) = query.result();
    if answered && live {
        Upstream::Live {
            latency: latency.into(),
        }
    } else {
        Upstream::NotLive
    }
}
