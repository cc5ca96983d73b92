//! The curves and histograms of the report.

use gstvaeanomaly::metrics::Ranking;

use crate::evaluation::{Evaluation, Run};
use crate::figures::Counted;
use chart::Chart;

const OURS: &str = "#1f5fa8";
const NORMAL: &str = "#7f8fa3";
const ANOMALOUS: &str = "#d9534f";
const POINT: &str = "#c0392b";
const COMPETITORS: [&str; 4] = ["#b08d57", "#7a9e7e", "#9d7bb0", "#6f8fa8"];
const BINS: usize = 40;

/// Maximum number of points of a curve.
const MAX_POINTS: usize = 600;

/// The ROC curve of a score, given one value per frame of the stream; thinned out.
pub fn roc_curve(all: &[f64], counted: &Counted) -> Option<Vec<(f64, f64)>> {
    let labels = counted.labels.as_ref()?;
    let ranking = Ranking::new(&counted.pick(all), labels).ok()?;
    let points: Option<Vec<_>> = ranking
        .points()
        .iter()
        .map(|p| Some((p.false_positive_rate()?, p.true_positive_rate()?)))
        .collect();
    Some(thinned(points?))
}

fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(MAX_POINTS).max(1);
    let last = points.last().copied();
    let mut kept: Vec<_> = points.into_iter().step_by(step).collect();
    kept.extend(last);
    kept
}

/// ROC curves of the element and all baselines, with names and colours for a key.
pub fn roc(evaluation: &Evaluation, run: &Run) -> Option<(String, Vec<(String, &'static str)>)> {
    let raw: Vec<f64> = run.pass.verdicts.iter().map(|v| v.raw_score).collect();
    let curve = roc_curve(&raw, &run.counted)?;
    let mut chart = Chart::new("ROC", 520, 430)
        .x_axis("normal frames flagged", 0.0, 1.0)
        .y_axis("anomalous frames flagged", 0.0, 1.0)
        .line("", [(0.0, 0.0), (1.0, 1.0)], "#c9d0d8");
    let mut key = vec![("vaeanomaly".to_owned(), OURS)];
    for (competitor, colour) in evaluation.baselines.iter().zip(COMPETITORS) {
        chart = chart.line("", competitor.roc.iter().copied(), colour);
        key.push((competitor.name.clone(), colour));
    }
    key.push(("chance".to_owned(), "#c9d0d8"));
    chart = chart.line("", curve, OURS);
    let decisions = run.figures.decisions?;
    if let (Some(x), Some(y)) = (decisions.false_alarm_share(), decisions.recall()) {
        chart = chart.point("as configured", x, y, POINT);
    }
    Some((chart.svg(), key))
}

/// Precision against recall.
pub fn precision_recall(run: &Run) -> Option<String> {
    let labels = run.counted.labels.as_ref()?;
    let raw: Vec<f64> = run
        .counted
        .pick(&run.pass.verdicts)
        .iter()
        .map(|v| v.raw_score)
        .collect();
    let ranking = Ranking::new(&raw, labels).ok()?;
    let points: Vec<_> = ranking
        .points()
        .iter()
        .filter_map(|p| Some((p.true_positive_rate()?, p.precision()?)))
        .collect();
    let share = labels.iter().filter(|&&l| l).count() as f64 / labels.len().max(1) as f64;
    let mut chart = Chart::new("Precision and recall", 520, 430)
        .x_axis("recall: anomalous frames flagged", 0.0, 1.0)
        .y_axis("precision: flagged frames that are anomalous", 0.0, 1.0)
        .line("at random", [(0.0, share), (1.0, share)], "#c9d0d8")
        .line("vaeanomaly", thinned(points), OURS);
    let decisions = run.figures.decisions?;
    if let (Some(x), Some(y)) = (decisions.recall(), decisions.precision()) {
        chart = chart.point("as configured", x, y, POINT);
    }
    Some(chart.svg())
}

/// Distribution of the raw scores of normal and anomalous frames.
pub fn histogram(run: &Run) -> String {
    let verdicts = run.counted.pick(&run.pass.verdicts);
    let raw: Vec<f64> = verdicts.iter().map(|v| v.raw_score).collect();
    let mut sorted = raw.clone();
    sorted.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        sorted
            .get(((sorted.len() - 1) as f64 * q) as usize)
            .copied()
            .unwrap_or(0.0)
    };
    let threshold = verdicts.last().map_or(0.0, |v| v.threshold);
    let (low, high) = (
        quantile(0.002).min(threshold - 0.5),
        quantile(0.998).max(threshold + 0.5),
    );
    let width = (high - low) / BINS as f64;
    let bars = |class: Option<bool>| {
        let mut counts = [0usize; BINS];
        let mut total = 0usize;
        for (i, value) in raw.iter().enumerate() {
            let label = run.counted.labels.as_ref().map(|l| l[i]);
            if label == class {
                counts[(((value - low) / width).max(0.0) as usize).min(BINS - 1)] += 1;
                total += 1;
            }
        }
        let bar = |(i, &count): (usize, &usize)| {
            let from = low + width * i as f64;
            (from, from + width, 100.0 * count as f64 / total.max(1) as f64)
        };
        counts.iter().enumerate().map(bar).collect::<Vec<_>>()
    };
    let series = if run.counted.labels.is_some() {
        vec![
            ("normal frames", bars(Some(false)), NORMAL),
            ("anomalous frames", bars(Some(true)), ANOMALOUS),
        ]
    } else {
        vec![("frames", bars(None), NORMAL)]
    };
    let highest = series
        .iter()
        .flat_map(|(_, b, _)| b)
        .fold(1.0f64, |m, bar| m.max(bar.2));
    let mut chart = Chart::new("Scores of normal and anomalous frames", 1060, 330)
        .x_axis("raw score: deviations from the camera's own history", low, high)
        .y_axis("% of normal or anomalous frames", 0.0, 1.1 * highest);
    for (label, bars, colour) in series {
        chart = chart.bars(label, bars, colour);
    }
    let line = (high - low) / 700.0;
    chart
        .band("threshold", threshold - line, threshold + line, POINT)
        .svg()
}

/// The score over all evaluated frames.
pub fn overview(run: &Run) -> String {
    let verdicts = run.counted.pick(&run.pass.verdicts);
    let begin = verdicts.first().map_or(0.0, |v| v.time);
    let end = verdicts.last().map_or(1.0, |v| v.time);
    let mut chart = Chart::new("Score over time", 1060, 300)
        .time_axis("time in the stream", begin, end)
        .y_axis("score", 0.0, 1.0);
    if let Some(labels) = &run.counted.labels {
        let all = std::iter::once(0..labels.len()).collect::<Vec<_>>();
        for event in gstvaeanomaly::metrics::runs(labels, &all) {
            chart = chart.band(
                "anomalous (ground truth)",
                verdicts[event.start].time,
                verdicts[event.end - 1].time,
                "#f6c7c3",
            );
        }
    }
    chart
        .line("score", verdicts.iter().map(|v| (v.time, v.score)), OURS)
        .threshold("threshold", 0.5, POINT)
        .svg()
}
