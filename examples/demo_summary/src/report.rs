//! The printed summary.

use std::fmt::Write as _;

use crate::summary::{Summary, bytes, clock};

/// Sizes of the files written.
pub struct Sizes {
    /// Frames in the kept video, counted by decoding it.
    pub kept_frames: u64,
    /// Bytes of the kept video.
    pub kept: u64,
    /// Bytes of the full recording.
    pub full: u64,
}

/// The summary of the run as text.
pub fn text(summary: &Summary, sizes: &Sizes) -> String {
    let mut out = String::from("\nSummary\n");
    let frames = summary.frames.len() as u64;
    let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
    let learning = summary.frames.iter().filter(|f| !f.is_labelled()).count();
    let _ = writeln!(
        out,
        "  frames in    {frames:>9}   ({} of video, {learning} while learning)",
        clock(summary.duration())
    );
    let _ = writeln!(
        out,
        "  frames out   {:>9}   ({:.0} %)",
        sizes.kept_frames,
        percent(sizes.kept_frames, frames)
    );
    let _ = writeln!(
        out,
        "  without vaeanomaly  {:>10}   encoded in full",
        bytes(sizes.full)
    );
    let _ = writeln!(
        out,
        "  with vaeanomaly     {:>10}   {:.0} % of that, {:.1} times smaller",
        bytes(sizes.kept),
        percent(sizes.kept, sizes.full),
        sizes.full as f64 / sizes.kept.max(1) as f64
    );
    if summary.planted.is_empty() {
        found(&mut out, summary);
    } else {
        planted(&mut out, summary);
    }
    out
}

fn found(out: &mut String, summary: &Summary) {
    let _ = writeln!(out, "\nAnomalies found: {}", summary.events.len());
    for event in &summary.events {
        let _ = writeln!(
            out,
            "  {} - {}   peak {:.2} at {}",
            clock(event.from),
            clock(event.to),
            event.peak,
            clock(event.peak_time)
        );
    }
}

fn planted(out: &mut String, summary: &Summary) {
    let hits = summary.outcomes.iter().filter(|o| o.delay.is_some()).count();
    let _ = writeln!(
        out,
        "\nAnomalies planted: {}, found: {hits}",
        summary.planted.len()
    );
    for (planted, outcome) in summary.planted.iter().zip(&summary.outcomes) {
        let result = match outcome.delay {
            Some(delay) => format!("found after {delay:.1} s"),
            None => "MISSED".to_owned(),
        };
        let (from, to) = (clock(planted.from), clock(planted.to));
        let _ = writeln!(
            out,
            "  {from:>7} - {to:>7}  {:<14} peak {:.2}  {result}",
            planted.kind, outcome.peak
        );
    }
    for event in summary.events.iter().filter(|event| event.planted.is_none()) {
        let (from, to) = (clock(event.from), clock(event.to));
        let _ = writeln!(
            out,
            "  {from:>7} - {to:>7}  {:<14} peak {:.2}  nothing was planted here",
            "-", event.peak
        );
    }
    if let Some(share) = summary.false_alarm_percent() {
        let (flagged, normal) = summary.false_alarms;
        let _ = writeln!(
            out,
            "  false alarms: {flagged} of {normal} normal frames outside post-roll ({share:.2} %)"
        );
    }
}
