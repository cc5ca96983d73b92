//! Example frames: hits, false alarms, misses.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use gstvaeanomaly::metrics::runs;

use super::html_escape;
use super::thumbnail::{darken, data_uri, draw_box, heat, thumbnail};
use crate::core_pass;
use crate::evaluation::{Run, Task};
use crate::progress::Progress;

/// Maximum number of cards of one kind.
const MAX_CARDS: usize = 6;

/// Outcome of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Anomalous and flagged.
    Hit,
    /// Normal but flagged.
    FalseAlarm,
    /// Anomalous but not flagged.
    Miss,
    /// Flagged, without ground truth.
    Unlabelled,
}

impl Kind {
    fn class(self) -> &'static str {
        match self {
            Self::Hit | Self::Unlabelled => "hit",
            Self::FalseAlarm => "alarm",
            Self::Miss => "miss",
        }
    }
}

/// For each kind, the highest-scoring frame of each of its strongest runs, as indices of the evaluated frames.
pub fn choose(run: &Run) -> Vec<(Kind, usize)> {
    let verdicts = run.counted.pick(&run.pass.verdicts);
    let flagged: Vec<bool> = verdicts.iter().map(|v| v.flagged).collect();
    let raw: Vec<f64> = verdicts.iter().map(|v| v.raw_score).collect();
    let Some(labels) = &run.counted.labels else {
        return peaks(&flagged, &raw, run)
            .into_iter()
            .map(|i| (Kind::Unlabelled, i))
            .collect();
    };
    let outcome = |flag: bool, label: bool| -> Vec<bool> {
        flagged
            .iter()
            .zip(labels)
            .map(|(&f, &l)| f == flag && l == label)
            .collect()
    };
    let mut chosen = Vec::new();
    for (kind, mask) in [
        (Kind::Hit, outcome(true, true)),
        (Kind::FalseAlarm, outcome(true, false)),
        (Kind::Miss, outcome(false, true)),
    ] {
        // The clearest misses have the lowest scores.
        let sign = if kind == Kind::Miss { -1.0 } else { 1.0 };
        let value: Vec<f64> = raw.iter().map(|r| sign * r).collect();
        chosen.extend(peaks(&mask, &value, run).into_iter().map(|i| (kind, i)));
    }
    chosen
}

/// The highest value of each run of `mask`, at most one per second, in descending order.
fn peaks(mask: &[bool], values: &[f64], run: &Run) -> Vec<usize> {
    let highest = |frames: std::ops::Range<usize>| frames.max_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut found: Vec<usize> = runs(mask, &run.counted.ranges())
        .into_iter()
        .filter_map(highest)
        .collect();
    found.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let distance = run.counted.frames_in(1.0);
    let mut kept: Vec<usize> = Vec::new();
    for frame in found {
        if kept.len() < MAX_CARDS && kept.iter().all(|&k| k.abs_diff(frame) >= distance) {
            kept.push(frame);
        }
    }
    kept
}

/// One card of the gallery.
pub struct Card {
    kind: Kind,
    caption: String,
    images: Vec<(&'static str, String)>,
}

/// Streams everything through the core again and renders a card for each chosen frame. Also returns the largest
/// difference between the raw scores of core and element, which should be 0.
pub fn render_cards(task: &Task, run: &Run, chosen: &[(Kind, usize)]) -> Result<(Vec<Card>, f64)> {
    let chosen_kinds: BTreeMap<usize, Kind> = chosen
        .iter()
        .map(|&(kind, frame)| (run.counted.positions[frame], kind))
        .collect();
    let (config, tuning) = core_pass::mirror(&task.settings(run.seed))?;
    let mut progress = Progress::new("images for the report");
    let mut cards = BTreeMap::new();
    let (mut position, mut deviation) = (0, 0.0f64);
    core_pass::run(
        task.frames(&task.args.perturb),
        (&config, &tuning),
        task.mask.regions(),
        |frame, prediction, detector| {
            progress.step(&task.clips[frame.clip].name);
            let verdict = &run.pass.verdicts[position];
            deviation = deviation.max((verdict.raw_score - prediction.raw_score).abs());
            if let Some(&kind) = chosen_kinds.get(&position) {
                let mut plain = thumbnail(frame)?;
                darken(&mut plain, task.mask.regions());
                let mut boxed = plain.clone();
                let scale = f64::from(plain.width()) / f64::from(frame.info.width());
                draw_box(&mut boxed, verdict.region, scale);
                let mut images = vec![("frame, strongest region", data_uri(&boxed)?)];
                images.push((
                    "anomaly map",
                    data_uri(&heat(&detector.anomaly_map(prediction.threshold), &plain))?,
                ));
                if let Some(expected) = reconstruction(detector) {
                    images.push(("reconstruction", data_uri(&expected)?));
                }
                let name = html_escape(&task.clips[frame.clip].name);
                let caption = format!(
                    "<b>{name}</b>, frame {} · score {:.2} · cue {}",
                    frame.index, verdict.score, verdict.cue
                );
                cards.insert(
                    position,
                    Card {
                        kind,
                        caption,
                        images,
                    },
                );
            }
            position += 1;
            Ok(())
        },
    )?;
    progress.finish();
    let order = chosen.iter().map(|&(_, frame)| run.counted.positions[frame]);
    Ok((order.filter_map(|p| cards.remove(&p)).collect(), deviation))
}

fn reconstruction(detector: &mut gstvaeanomaly::detector::Detector) -> Option<image::RgbImage> {
    let (width, height, pixels) = detector.reconstruction()?;
    let small = image::RgbImage::from_raw(width as u32, height as u32, pixels)?;
    let large = (width as u32 * 4, height as u32 * 4);
    Some(image::imageops::resize(
        &small,
        large.0,
        large.1,
        image::imageops::FilterType::CatmullRom,
    ))
}

/// The cards of one kind under a heading, or a sentence if there are none.
pub fn section(cards: &[Card], kind: Kind, heading: &str, how: &str, none: &str) -> String {
    let mut html = format!("<h3>{heading}</h3><p class=how>{how}</p>");
    let cards: Vec<&Card> = cards.iter().filter(|c| c.kind == kind).collect();
    if cards.is_empty() {
        let _ = write!(html, "<p>{none}</p>");
        return html;
    }
    html.push_str("<div class=cards>");
    for card in cards {
        let _ = write!(
            html,
            "<div class=\"card {}\">{}<div class=triple>",
            kind.class(),
            card.caption
        );
        for (caption, source) in &card.images {
            let _ = write!(
                html,
                "<figure><img src=\"{source}\" alt=\"{caption}\"><figcaption>{caption}</figcaption></figure>"
            );
        }
        html.push_str("</div></div>");
    }
    html.push_str("</div>");
    html
}
