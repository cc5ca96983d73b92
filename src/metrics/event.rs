//! Metrics of events instead of frames: what an operator counts.

use std::ops::Range;

use super::{MetricError, median};

/// Maximal runs of `true`, never across a boundary of `clips`.
///
/// `clips` are ranges of frames in ascending order; frames outside of them are in no run.
/// Pass one range over all frames for a stream that is one recording.
#[must_use]
pub fn runs(frames: &[bool], clips: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for clip in clips {
        let mut begin = None;
        for index in clip.clone() {
            match (frames[index], begin) {
                (true, None) => begin = Some(index),
                (false, Some(first)) => {
                    found.push(first..index);
                    begin = None;
                }
                _ => {}
            }
        }
        found.extend(begin.map(|first| first..clip.end));
    }
    found
}

/// Frames that are kept: the flagged ones and the `post_roll` frames after each.
#[must_use]
pub fn flagged_with_post_roll(flagged: &[bool], post_roll: usize) -> Vec<bool> {
    let mut left = 0;
    flagged
        .iter()
        .map(|&hit| {
            let keep = hit || left > 0;
            left = if hit { post_roll } else { left.saturating_sub(1) };
            keep
        })
        .collect()
}

/// One event of the ground truth and when it was detected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventOutcome {
    /// Its frames.
    pub frames: Range<usize>,
    /// The first of its frames that was flagged.
    pub detected_at: Option<usize>,
}

impl EventOutcome {
    /// Frames from its begin to its detection; `None` if it was missed.
    #[must_use]
    pub fn delay_frames(&self) -> Option<usize> {
        self.detected_at.map(|at| at - self.frames.start)
    }
}

/// Events that were found, and false alarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventReport {
    /// The events in order.
    pub events: Vec<EventOutcome>,
    /// Runs of flagged frames that touch no event. Runs closer together than the merge gap are one.
    pub false_alarms: Vec<Range<usize>>,
    /// Number of frames outside events.
    pub normal_frames: usize,
}

impl EventReport {
    /// Compares `flagged` with `labels` (`true` = anomalous) within `clips`, as [`runs`] does.
    ///
    /// An event is a maximal run of anomalous frames within one clip; it counts as found when any of
    /// its frames is flagged. Flagged runs with fewer than `merge_gap` unflagged frames between them
    /// are one alarm; an alarm that touches an event is no false alarm.
    ///
    /// # Errors
    /// [`MetricError::Length`] when the lengths differ.
    ///
    /// # Panics
    /// If a clip extends beyond the frames.
    pub fn new(
        flagged: &[bool],
        labels: &[bool],
        clips: &[Range<usize>],
        merge_gap: usize,
    ) -> Result<Self, MetricError> {
        if flagged.len() != labels.len() {
            return Err(MetricError::Length {
                scores: flagged.len(),
                labels: labels.len(),
            });
        }
        let events = runs(labels, clips)
            .into_iter()
            .map(|frames| EventOutcome {
                detected_at: frames.clone().find(|&i| flagged[i]),
                frames,
            })
            .collect();
        let mut alarms: Vec<Range<usize>> = Vec::new();
        for run in runs(flagged, clips) {
            match alarms.last_mut() {
                Some(last) if run.start - last.end < merge_gap && same_clip(clips, last.start, run.start) => {
                    last.end = run.end;
                }
                _ => alarms.push(run),
            }
        }
        alarms.retain(|alarm| !labels[alarm.clone()].contains(&true));
        let normal_frames = clips
            .iter()
            .flat_map(|c| &labels[c.clone()])
            .filter(|&&l| !l)
            .count();
        Ok(Self {
            events,
            false_alarms: alarms,
            normal_frames,
        })
    }

    /// Number of events found.
    #[must_use]
    pub fn detected(&self) -> usize {
        self.events.iter().filter(|e| e.detected_at.is_some()).count()
    }

    /// Found events over all events; `None` without events.
    #[must_use]
    pub fn event_recall(&self) -> Option<f64> {
        super::share(self.detected() as u64, self.events.len() as u64)
    }

    /// Median delay of the events that were found, in frames; `None` if none was.
    #[must_use]
    pub fn median_delay_frames(&self) -> Option<f64> {
        let delays: Vec<f64> = self
            .events
            .iter()
            .filter_map(|e| Some(e.delay_frames()? as f64))
            .collect();
        median(&delays)
    }

    /// Median delay in seconds at `frame_rate` frames a second.
    #[must_use]
    pub fn median_delay_seconds(&self, frame_rate: f64) -> Option<f64> {
        (frame_rate > 0.0)
            .then(|| self.median_delay_frames())
            .flatten()
            .map(|frames| frames / frame_rate)
    }

    /// False alarms per hour of normal video at `frame_rate` frames a second; `None` without normal
    /// frames or without a frame rate.
    ///
    /// `3600 * alarms * frame_rate / normal frames`
    #[must_use]
    pub fn false_alarms_per_hour(&self, frame_rate: f64) -> Option<f64> {
        (self.normal_frames > 0 && frame_rate > 0.0)
            .then(|| 3600.0 * self.false_alarms.len() as f64 * frame_rate / self.normal_frames as f64)
    }
}

fn same_clip(clips: &[Range<usize>], a: usize, b: usize) -> bool {
    clips.iter().any(|clip| clip.contains(&a) && clip.contains(&b))
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one clip is a slice of one range")]
mod tests {
    use super::*;

    fn frames(text: &str) -> Vec<bool> {
        text.chars().map(|c| c == '#').collect()
    }

    #[test]
    fn runs_end_at_clip_boundaries() {
        let labels = frames("##..##.#");
        assert_eq!(runs(&labels, &[0..8]), vec![0..2, 4..6, 7..8]);
        assert_eq!(runs(&labels, &[0..5, 5..8]), vec![0..2, 4..5, 5..6, 7..8]);
        assert_eq!(
            runs(&labels, &[3..5]),
            vec![4..5],
            "frames outside the clips are ignored"
        );
        assert_eq!(runs(&[], &[]), Vec::<Range<usize>>::new());
    }

    #[test]
    fn post_roll_restarts_with_every_flagged_frame() {
        assert_eq!(
            flagged_with_post_roll(&frames(".#.#......"), 3),
            frames(".######...")
        );
        assert_eq!(flagged_with_post_roll(&frames("#.."), 0), frames("#.."));
    }

    #[test]
    fn an_event_counts_when_any_of_its_frames_is_flagged() {
        let labels = frames("..####....####..");
        let flagged = frames("....#...#......#");
        let report = EventReport::new(&flagged, &labels, &[0..16], 0).unwrap();
        assert_eq!(report.events.len(), 2);
        assert_eq!(report.events[0].delay_frames(), Some(2));
        assert_eq!(report.events[1].detected_at, None);
        assert_eq!(report.detected(), 1);
        assert_eq!(report.event_recall(), Some(0.5));
        assert_eq!(report.median_delay_frames(), Some(2.0));
        assert_eq!(report.median_delay_seconds(10.0), Some(0.2));
        assert_eq!(report.false_alarms, vec![8..9, 15..16]);
        // 2 alarms in 8 normal frames at 4 frames/s = 2 s
        assert_eq!(report.false_alarms_per_hour(4.0), Some(3600.0));
    }

    #[test]
    fn an_alarm_that_outlasts_its_event_is_not_false_and_close_ones_are_merged() {
        let labels = frames("####............");
        let flagged = frames("..####..#....#.#");
        let apart = EventReport::new(&flagged, &labels, &[0..16], 0).unwrap();
        assert_eq!(apart.false_alarms, vec![8..9, 13..14, 15..16]);
        let merged = EventReport::new(&flagged, &labels, &[0..16], 3).unwrap();
        assert_eq!(merged.false_alarms, vec![13..16]);
        let split = EventReport::new(&flagged, &labels, &[0..15, 15..16], 3).unwrap();
        assert_eq!(split.false_alarms, vec![13..14, 15..16], "never across clips");
    }

    #[test]
    fn no_events_is_none() {
        let report = EventReport::new(&[], &[], &[], 0).unwrap();
        assert_eq!(report.event_recall(), None);
        assert_eq!(report.median_delay_frames(), None);
        assert_eq!(report.false_alarms_per_hour(25.0), None);
        let quiet = EventReport::new(&[false; 4], &[false; 4], &[0..4], 0).unwrap();
        assert_eq!(quiet.false_alarms_per_hour(25.0), Some(0.0));
        assert_eq!(quiet.false_alarms_per_hour(0.0), None);
        assert!(EventReport::new(&[true], &[], &[], 0).is_err());
    }
}
