//! How late frames come, where that can be measured: live sources by the pipeline's clock, others by what a sink that
//! keeps time reports.

use std::sync::Mutex;
use std::time::Duration;

use gst::prelude::*;

use super::lock;
use crate::detector::Delay;

/// A sink's report counts for frames this close to it.
const REPORT_REACH: gst::ClockTime = gst::ClockTime::from_seconds(2);

/// Where the frames come from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// Not asked yet.
    Unknown,
    /// Frames come when they are made, this old at most by the sources' own account.
    Live { latency: Duration },
    /// Frames come as fast as they are taken.
    Other,
}

/// What a sink said in its last QoS event.
#[derive(Clone, Copy, Debug)]
struct Report {
    running_time: gst::ClockTime,
    late: Duration,
}

#[derive(Debug)]
struct State {
    source: Source,
    delay: Delay,
    report: Option<Report>,
}

/// Measures how late frames come.
#[derive(Debug)]
pub(super) struct Lateness(Mutex<State>);

impl Default for Lateness {
    fn default() -> Self {
        Self(Mutex::new(State {
            source: Source::Unknown,
            delay: Delay::default(),
            report: None,
        }))
    }
}

impl Lateness {
    /// The stream starts or jumps, or its latency changes: what was measured before is void.
    pub(super) fn reset(&self) {
        *lock(&self.0) = State {
            source: Source::Unknown,
            delay: Delay::default(),
            report: None,
        };
    }

    /// Takes a sink's report.
    pub(super) fn report(&self, qos: &gst::event::Qos) {
        let (kind, _, late, Some(running_time)) = qos.get() else {
            return;
        };
        if kind != gst::QOSType::Throttle {
            lock(&self.0).report = Some(Report {
                running_time,
                late: Duration::from_nanos(u64::try_from(late).unwrap_or(0)),
            });
        }
    }

    /// How late a frame of this running time comes to `element`; `None` where that cannot be told.
    pub(super) fn measure(
        &self,
        element: &impl IsA<gst::Element>,
        running_time: gst::ClockTime,
    ) -> Option<Duration> {
        if matches!(lock(&self.0).source, Source::Unknown) {
            // No lock is held while the elements upstream answer.
            let source = ask(element);
            lock(&self.0).source = source;
        }
        let mut state = lock(&self.0);
        match state.source {
            Source::Live { latency } => {
                let now = element.current_running_time()?;
                let age = i64::try_from(now.nseconds())
                    .ok()?
                    .checked_sub_unsigned(running_time.nseconds())?;
                Some(state.delay.lateness(age, latency))
            }
            _ => state
                .report
                .filter(|report| running_time.absdiff(report.running_time) <= REPORT_REACH)
                .map(|report| report.late),
        }
    }
}

/// Asks upstream whether it is live.
fn ask(element: &impl IsA<gst::Element>) -> Source {
    let mut query = gst::query::Latency::new();
    let answered = element
        .static_pad("sink")
        .is_some_and(|pad| pad.peer_query(&mut query));
    let (live, latency, _) = query.result();
    match answered && live {
        true => Source::Live {
            latency: latency.into(),
        },
        false => Source::Other,
    }
}
