//! From labelled frames to events with a begin, updates and an end.

use std::{num::NonZeroU64, time::Duration};

use super::Span;

/// When frames labelled anomalous make an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPolicy {
    /// An event opens when consecutive frames were anomalous for this long; 0 = with the first one.
    pub min_anomaly: Duration,
    /// An event ends when nothing was anomalous for this long; anomalies closer than this are one event.
    pub merge_gap: Duration,
    /// How often an open event is reported again.
    pub update_interval: Duration,
}

/// One scored frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sighting {
    /// When it is on the screen.
    pub span: Span,
    /// Its label is `anomaly`.
    pub anomalous: bool,
    /// Its score, 0..=1.
    pub score: f64,
    /// Its score before scaling.
    pub raw_score: f64,
}

/// What is known of one event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EventInfo {
    /// Counts up from 1.
    pub id: NonZeroU64,
    /// Start of its first anomalous frame, also when `min_anomaly` held the opening back.
    pub start: Duration,
    /// End of its last anomalous frame so far.
    pub end: Duration,
    /// How many of its frames were anomalous so far.
    pub frames: u64,
    /// Highest score so far.
    pub peak_score: f64,
    /// Raw score of the frame with the highest score.
    pub peak_raw_score: f64,
    /// Start of the frame with the highest score.
    pub peak_at: Duration,
}

impl EventInfo {
    /// From the start of the first to the end of the last anomalous frame so far.
    pub fn duration(&self) -> Duration {
        self.end.saturating_sub(self.start)
    }

    fn first(id: NonZeroU64, sighting: &Sighting) -> Self {
        let span = sighting.span;
        EventInfo {
            id,
            start: span.start,
            end: span.end,
            frames: 1,
            peak_score: sighting.score,
            peak_raw_score: sighting.raw_score,
            peak_at: span.start,
        }
    }

    fn add(&mut self, sighting: &Sighting) {
        self.end = self.end.max(sighting.span.end);
        self.frames += 1;
        if sighting.score > self.peak_score || self.peak_score.is_nan() {
            self.peak_score = sighting.score;
            self.peak_raw_score = sighting.raw_score;
            self.peak_at = sighting.span.start;
        }
    }
}

/// Something to tell about an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// It opened with this frame.
    Begin(EventInfo),
    /// It is still open and was last told of an update interval ago.
    Update(EventInfo),
    /// It is over.
    End(EventInfo),
}

/// What one frame means for events.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tracked {
    /// The open event this frame belongs to: anomalous itself, or less than `merge_gap` after a frame that was.
    pub event_id: Option<NonZeroU64>,
    changes: [Option<Change>; 2],
}

impl Tracked {
    /// What to tell, in order: one frame can end an event and begin another.
    pub fn changes(&self) -> impl Iterator<Item = Change> {
        self.changes.into_iter().flatten()
    }
}

/// A run of anomalous frames: pending until it is long enough, then an event.
#[derive(Debug, Clone, Copy)]
struct Run {
    info: EventInfo,
    told: Option<Duration>,
    /// The frame before this one was anomalous too.
    unbroken: bool,
}

/// Turns labelled frames into events. One per stream; ids go on over [`EventTracker::finish`].
#[derive(Debug, Clone)]
pub struct EventTracker {
    next_id: NonZeroU64,
    run: Option<Run>,
}

impl Default for EventTracker {
    fn default() -> Self {
        EventTracker {
            next_id: NonZeroU64::MIN,
            run: None,
        }
    }
}

impl EventTracker {
    /// A tracker whose first event gets the id 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next frame.
    pub fn observe(&mut self, policy: &EventPolicy, sighting: &Sighting) -> Tracked {
        let ended = if self.is_over(policy, sighting) {
            self.finish()
        } else {
            None
        };
        let told = if sighting.anomalous {
            self.extend(policy, sighting)
        } else {
            None
        };
        if !sighting.anomalous
            && let Some(run) = &mut self.run
        {
            run.unbroken = false;
        }
        let told = told.or_else(|| self.update(policy, sighting.span));
        Tracked {
            event_id: self.open_event().map(|event| event.id),
            changes: [ended.map(Change::End), told],
        }
    }

    /// Ends the open event, if there is one: at the end of the stream, at a stop, a flush or another jump in time.
    pub fn finish(&mut self) -> Option<EventInfo> {
        self.run
            .take()
            .filter(|run| run.told.is_some())
            .map(|run| run.info)
    }

    /// The open event, if there is one.
    pub fn open_event(&self) -> Option<EventInfo> {
        self.run.filter(|run| run.told.is_some()).map(|run| run.info)
    }

    /// Whether what ran so far is over before or with this frame.
    fn is_over(&self, policy: &EventPolicy, sighting: &Sighting) -> bool {
        let Some(run) = &self.run else { return false };
        let span = sighting.span;
        let pending = run.told.is_none();
        if span.jump || (pending && !sighting.anomalous) {
            return true;
        }
        let gap = span.start.saturating_sub(run.info.end);
        if !sighting.anomalous {
            return span.end.saturating_sub(run.info.end) >= policy.merge_gap;
        }
        if run.unbroken {
            // Rounded times leave slivers between frames. A frame without a duration lasts until the next.
            let duration = span.duration();
            return !duration.is_zero() && gap >= policy.merge_gap.max(duration);
        }
        gap >= policy.merge_gap
    }

    fn extend(&mut self, policy: &EventPolicy, sighting: &Sighting) -> Option<Change> {
        let next_id = self.next_id;
        let run = match &mut self.run {
            Some(run) => {
                run.info.add(sighting);
                run
            }
            none => none.insert(Run {
                info: EventInfo::first(next_id, sighting),
                told: None,
                unbroken: true,
            }),
        };
        run.unbroken = true;
        if run.told.is_some() || run.info.duration() < policy.min_anomaly {
            return None;
        }
        run.told = Some(sighting.span.start);
        self.next_id = next_id.saturating_add(1);
        Some(Change::Begin(run.info))
    }

    fn update(&mut self, policy: &EventPolicy, span: Span) -> Option<Change> {
        let run = self.run.as_mut()?;
        let told = run.told.as_mut()?;
        if span.start.saturating_sub(*told) < policy.update_interval || policy.update_interval.is_zero() {
            return None;
        }
        *told = span.start;
        Some(Change::Update(run.info))
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
