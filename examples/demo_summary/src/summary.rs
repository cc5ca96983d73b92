//! Compares the events found with the anomalies planted.

use crate::ground_truth::Planted;
use crate::messages::Frame;

/// An event the element reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub id: u64,
    pub from: f64,
    pub to: f64,
    /// Highest score, and its time in seconds.
    pub peak: f64,
    pub peak_time: f64,
    /// Time of the frame to show: the strongest one with its region fully inside the frame, or else the peak.
    pub image_time: f64,
    /// Index of the planted anomaly with the largest overlap; `None` if nothing was planted there.
    pub planted: Option<usize>,
}

/// Result for one planted anomaly.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Seconds from its first visible frame to the first flagged one; `None` if missed.
    pub delay: Option<f64>,
    /// Highest score while it was visible.
    pub peak: f64,
}

/// All that the printed summary and the images need.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub frames: Vec<Frame>,
    pub events: Vec<Event>,
    pub planted: Vec<Planted>,
    pub outcomes: Vec<Outcome>,
    /// Flagged normal frames and all normal frames; counts labelled frames outside the post-roll.
    pub false_alarms: (usize, usize),
}

/// Seconds after a planted anomaly in which flagged frames do not count as false alarms.
pub const POST_ROLL: f64 = 2.0;

impl Summary {
    /// `spans` are the reported events: id, begin and end in seconds.
    pub fn new(frames: Vec<Frame>, spans: &[(u64, f64, f64)], planted: Vec<Planted>) -> Self {
        let edge = frames
            .iter()
            .map(|f| f.region[0] + f.region[2])
            .fold(0.0, f64::max);
        let events = spans
            .iter()
            .map(|&span| event(&frames, &planted, span, edge))
            .collect();
        let outcomes = planted.iter().map(|p| outcome(&frames, p)).collect();
        let normal: Vec<&Frame> = frames
            .iter()
            .filter(|f| {
                f.is_labelled()
                    && !planted
                        .iter()
                        .any(|p| f.time >= p.from && f.time < p.to + POST_ROLL)
            })
            .collect();
        let false_alarms = (normal.iter().filter(|f| f.is_flagged()).count(), normal.len());
        Self {
            frames,
            events,
            planted,
            outcomes,
            false_alarms,
        }
    }

    /// The share of normal frames that were flagged, in percent; `None` without normal frames.
    pub fn false_alarm_percent(&self) -> Option<f64> {
        let (flagged, normal) = self.false_alarms;
        (normal > 0).then(|| 100.0 * flagged as f64 / normal as f64)
    }

    /// Length of the stream in seconds.
    pub fn duration(&self) -> f64 {
        self.frames.last().map_or(0.0, |frame| frame.time)
    }
}

/// Summarises one event; `edge` is the right end of the rightmost region of all frames.
fn event(frames: &[Frame], planted: &[Planted], (id, from, to): (u64, f64, f64), edge: f64) -> Event {
    let strongest = |whole: bool| {
        frames
            .iter()
            .filter(|f| f.time >= from - 1e-6 && f.time <= to + 1e-6)
            .filter(|f| !whole || f.is_flagged() && f.region[0] > 0.0 && f.region[0] + f.region[2] < edge)
            .max_by(|a, b| a.score.total_cmp(&b.score))
    };
    let peak = strongest(false);
    let image = strongest(true).or(peak);
    let overlap = |p: &Planted| (to.min(p.to) - from.max(p.from)).max(-1.0);
    let best = (0..planted.len()).max_by(|a, b| overlap(&planted[*a]).total_cmp(&overlap(&planted[*b])));
    Event {
        id,
        from,
        to,
        peak: peak.map_or(0.0, |f| f.score),
        peak_time: peak.map_or(from, |f| f.time),
        image_time: image.map_or(from, |f| f.time),
        planted: best.filter(|i| overlap(&planted[*i]) > 0.0),
    }
}

fn outcome(frames: &[Frame], planted: &Planted) -> Outcome {
    // Half a millisecond of tolerance for rounded times.
    let visible = || {
        frames
            .iter()
            .filter(|f| f.time > planted.from - 5e-4 && f.time < planted.to - 5e-4)
    };
    Outcome {
        delay: visible()
            .find(|f| f.is_flagged())
            .map(|f| (f.time - planted.from).max(0.0)),
        peak: visible().map(|f| f.score).fold(0.0, f64::max),
    }
}

/// Seconds as `m:ss.t`.
pub fn clock(seconds: f64) -> String {
    let tenths = (seconds.max(0.0) * 10.0).round() as u64;
    format!("{}:{:02}.{}", tenths / 600, tenths / 10 % 60, tenths % 10)
}

/// Bytes with a unit.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.2} MB", count as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(i: usize, score: f64) -> Frame {
        let state = "detecting".into();
        let label = if score > 0.5 { "anomaly" } else { "normal" }.into();
        Frame {
            time: i as f64 / 10.0,
            score,
            label,
            state,
            event_id: 0,
            region: [1.0, 2.0, 3.0, 4.0],
        }
    }

    #[test]
    fn counts_delay_and_false_alarms() {
        let score = |i: usize| {
            if (23..30).contains(&i) || i == 70 {
                0.9
            } else {
                0.1
            }
        };
        let frames: Vec<_> = (0..100).map(|i| frame(i, score(i))).collect();
        let planted = vec![Planted {
            kind: "cyclist".into(),
            from: 2.0,
            to: 4.0,
        }];
        let summary = Summary::new(frames, &[(1, 2.3, 2.9), (2, 7.0, 7.0)], planted);
        let delay = summary.outcomes[0].delay.expect("found");
        assert!((delay - 0.3).abs() < 1e-9, "{delay}");
        assert_eq!(summary.false_alarms, (1, 60));
        assert_eq!(
            (summary.events[0].planted, summary.events[1].planted),
            (Some(0), None)
        );
        assert_eq!(summary.events[0].peak, 0.9);
    }

    #[test]
    fn the_image_shows_the_strongest_frame_with_its_region_fully_inside() {
        let mut frames: Vec<_> = (0..50).map(|i| frame(i, 0.7)).collect();
        for (i, (score, left)) in [(0.6, 40.0), (0.8, 50.0), (0.9, 0.0), (0.95, 90.0)]
            .into_iter()
            .enumerate()
        {
            frames[20 + i].score = score;
            frames[20 + i].region = [left, 5.0, 10.0, 10.0];
        }
        let found = &Summary::new(frames, &[(1, 2.0, 2.3)], Vec::new()).events[0];
        assert_eq!((found.peak, found.peak_time), (0.95, 2.3));
        assert_eq!(found.image_time, 2.1);
    }

    #[test]
    fn a_missed_anomaly_has_no_delay() {
        let frames: Vec<_> = (0..50).map(|i| frame(i, 0.2)).collect();
        let planted = vec![Planted {
            kind: "runner".into(),
            from: 2.0,
            to: 4.0,
        }];
        let summary = Summary::new(frames, &[], planted);
        assert_eq!(
            summary.outcomes,
            [Outcome {
                delay: None,
                peak: 0.2
            }]
        );
    }

    #[test]
    fn formats_times_and_sizes() {
        assert_eq!(clock(75.26), "1:15.3");
        assert_eq!(
            (bytes(12), bytes(2_500), bytes(24_161_188)),
            ("12 bytes".into(), "2.5 kB".into(), "24.16 MB".into())
        );
    }
}
