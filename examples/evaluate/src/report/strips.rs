//! One row per clip: score, ground truth and decisions over time.

use std::fmt::Write as _;
use std::ops::Range;

use super::html_escape;
use crate::evaluation::{Run, Task};
use crate::stream::Verdict;

const WIDTH: f64 = 1060.0;
const LEFT: f64 = 150.0;
const ROW: f64 = 58.0;
const PLOT: f64 = 38.0;
/// Long clips are split into rows of about this many frames.
const FRAMES_PER_ROW: usize = 900;
const MAX_ROWS: usize = 60;

/// A drawing with one row per clip or part of one, and the number of rows left out.
pub fn draw(task: &Task, run: &Run) -> (String, usize) {
    let verdicts = run.counted.pick(&run.pass.verdicts);
    let rows = rows(run);
    let longest = rows.iter().map(|(_, r)| r.len()).max().unwrap_or(1);
    let drawn = &rows[..rows.len().min(MAX_ROWS)];
    let height = ROW * drawn.len() as f64 + 6.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-size=\"12\" \
         font-family=\"DejaVu Sans, Verdana, sans-serif\">"
    );
    for (i, (clip, frames)) in drawn.iter().enumerate() {
        let top = ROW * i as f64 + 4.0;
        let name = html_escape(&task.clips[*clip].name);
        let first = verdicts[frames.start].index;
        let _ = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"#1d2733\">{name}</text>\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"#5b6878\" font-size=\"10.5\">from frame {first}</text>",
            LEFT - 10.0,
            top + 18.0,
            LEFT - 10.0,
            top + 33.0
        );
        let labels = run.counted.labels.as_ref().map(|l| &l[frames.clone()]);
        row(
            &mut svg,
            &verdicts[frames.clone()],
            labels,
            top,
            (WIDTH - LEFT - 8.0) / longest as f64,
        );
    }
    svg.push_str("</svg>");
    (svg, rows.len() - drawn.len())
}

/// Splits clips into parts of equal length near the limit.
fn rows(run: &Run) -> Vec<(usize, Range<usize>)> {
    let mut rows = Vec::new();
    for (clip, range) in &run.counted.clips {
        let parts = range.len().div_ceil(FRAMES_PER_ROW).max(1);
        let step = range.len().div_ceil(parts);
        rows.extend(
            range
                .clone()
                .step_by(step)
                .map(|a| (*clip, a..(a + step).min(range.end))),
        );
    }
    rows
}

fn row(svg: &mut String, verdicts: &[Verdict], labels: Option<&[bool]>, top: f64, scale: f64) {
    let width = scale * verdicts.len() as f64;
    let bottom = top + PLOT;
    let _ = write!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{width:.1}\" height=\"{PLOT}\" fill=\"#f4f6f8\"/>"
    );
    let strip = |svg: &mut String, from: usize, to: usize, y: f64, height: f64, colour: &str| {
        let (x, w) = (LEFT + scale * from as f64, scale * (to - from) as f64);
        let _ = write!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{height}\" fill=\"{colour}\"/>"
        );
    };
    if let Some(labels) = labels {
        for (from, to, truth) in spans(labels) {
            if truth {
                strip(svg, from, to, top, PLOT, "#f6c7c3");
            }
        }
    }
    let middle = top + 0.5 * PLOT;
    let _ = write!(
        svg,
        "<path d=\"M{LEFT} {middle:.1}h{width:.1}\" stroke=\"#c0392b\" stroke-dasharray=\"4 3\" stroke-opacity=\"0.7\"/>\
         <polyline fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"1.4\" points=\""
    );
    for (i, v) in verdicts.iter().enumerate() {
        let _ = write!(
            svg,
            "{:.1},{:.1} ",
            LEFT + scale * (i as f64 + 0.5),
            bottom - PLOT * v.score.clamp(0.0, 1.0)
        );
    }
    svg.push_str("\"/>");
    let outcome: Vec<u8> = verdicts
        .iter()
        .enumerate()
        .map(|(i, v)| match (v.flagged, labels.map(|l| l[i])) {
            (true, Some(true) | None) => 1,
            (true, Some(false)) => 2,
            (false, Some(true)) => 3,
            (false, _) => 0,
        })
        .collect();
    for (from, to, kind) in spans(&outcome) {
        let colour = ["", "#2e8b57", "#e08a00", "#c0392b"][usize::from(kind)];
        if kind > 0 {
            strip(svg, from, to, bottom + 2.0, 6.0, colour);
        }
    }
}

/// Maximal runs of equal values.
fn spans<T: PartialEq + Copy>(values: &[T]) -> Vec<(usize, usize, T)> {
    let mut begin = 0;
    values
        .chunk_by(|a, b| a == b)
        .map(|run| {
            let from = begin;
            begin += run.len();
            (from, begin, run[0])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_everything_once() {
        assert_eq!(spans(&[1, 1, 0, 2]), [(0, 2, 1), (2, 3, 0), (3, 4, 2)]);
        assert_eq!(spans::<bool>(&[]), []);
    }
}
