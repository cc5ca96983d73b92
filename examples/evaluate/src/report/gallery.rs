//! The most telling frames: what was found, what was a false alarm, what was missed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use gstvaeanomaly::metrics::runs;

use super::html_escape;
use super::picture::{data_uri, draw_box, heat, thumbnail};
use crate::core_pass;
use crate::evaluation::{Run, Task};
use crate::progress::Progress;

/// Pictures of one kind.
const MOST: usize = 6;

/// What a frame stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Anomalous and flagged.
    Hit,
    /// Normal but flagged.
    FalseAlarm,
    /// Anomalous but not flagged.
    Miss,
    /// Flagged, nobody knows whether rightly.
    Found,
}

impl Kind {
    fn class(self) -> &'static str {
        match self {
            Self::Hit | Self::Found => "hit",
            Self::FalseAlarm => "alarm",
            Self::Miss => "miss",
        }
    }
}

/// The frame with the highest score of each of the strongest runs of a kind, as positions among the counted frames.
pub fn choose(run: &Run) -> Vec<(Kind, usize)> {
    let verdicts = run.counted.pick(&run.pass.verdicts);
    let flagged: Vec<bool> = verdicts.iter().map(|v| v.flagged).collect();
    let raw: Vec<f64> = verdicts.iter().map(|v| v.raw_score).collect();
    let Some(labels) = &run.counted.labels else {
        return peaks(&flagged, &raw, run)
            .into_iter()
            .map(|i| (Kind::Found, i))
            .collect();
    };
    let where_both = |flag: bool, label: bool| -> Vec<bool> {
        flagged
            .iter()
            .zip(labels)
            .map(|(&f, &l)| f == flag && l == label)
            .collect()
    };
    let mut chosen = Vec::new();
    for (kind, mask) in [
        (Kind::Hit, where_both(true, true)),
        (Kind::FalseAlarm, where_both(true, false)),
        (Kind::Miss, where_both(false, true)),
    ] {
        // Of what was missed the lowest scores tell most.
        let sign = if kind == Kind::Miss { -1.0 } else { 1.0 };
        let value: Vec<f64> = raw.iter().map(|r| sign * r).collect();
        chosen.extend(peaks(&mask, &value, run).into_iter().map(|i| (kind, i)));
    }
    chosen
}

/// The highest value of each run of `mask`, one a second, the highest first.
fn peaks(mask: &[bool], values: &[f64], run: &Run) -> Vec<usize> {
    let highest = |frames: std::ops::Range<usize>| frames.max_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut found: Vec<usize> = runs(mask, &run.counted.ranges())
        .into_iter()
        .filter_map(highest)
        .collect();
    found.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let apart = run.counted.frames_in(1.0);
    let mut kept: Vec<usize> = Vec::new();
    for frame in found {
        if kept.len() < MOST && kept.iter().all(|&k| k.abs_diff(frame) >= apart) {
            kept.push(frame);
        }
    }
    kept
}

/// One card of the gallery.
pub struct Card {
    kind: Kind,
    caption: String,
    pictures: Vec<(&'static str, String)>,
}

/// Streams everything through the core once more and takes pictures of the chosen frames. Also tells the
/// largest difference between the core's and the element's raw scores, which should be 0.
pub fn take_pictures(task: &Task, run: &Run, chosen: &[(Kind, usize)]) -> Result<(Vec<Card>, f64)> {
    let wanted: BTreeMap<usize, Kind> = chosen
        .iter()
        .map(|&(kind, frame)| (run.counted.positions[frame], kind))
        .collect();
    let (config, tuning) = core_pass::mirror(&task.settings(run.seed))?;
    let mut progress = Progress::new("pictures for the report");
    let mut cards = BTreeMap::new();
    let (mut position, mut deviation) = (0, 0.0f64);
    core_pass::run(
        task.frames(&task.args.perturb),
        &config,
        &tuning,
        |frame, prediction, detector| {
            progress.step(&task.clips[frame.clip].name);
            let verdict = &run.pass.verdicts[position];
            deviation = deviation.max((verdict.raw_score - prediction.raw_score).abs());
            if let Some(&kind) = wanted.get(&position) {
                let plain = thumbnail(frame)?;
                let mut boxed = plain.clone();
                let scale = f64::from(plain.width()) / f64::from(frame.info.width());
                draw_box(&mut boxed, verdict.place, scale);
                let mut pictures = vec![("frame, strongest place", data_uri(&boxed)?)];
                pictures.push((
                    "anomaly map",
                    data_uri(&heat(&detector.anomaly_map(prediction.threshold), &plain))?,
                ));
                if let Some(expected) = reconstruction(detector) {
                    pictures.push(("what the net expected", data_uri(&expected)?));
                }
                let name = html_escape(&task.clips[frame.clip].name);
                let caption = format!(
                    "<b>{name}</b>, frame {} · score {:.2} · {} decided",
                    frame.index, verdict.score, verdict.cue
                );
                cards.insert(
                    position,
                    Card {
                        kind,
                        caption,
                        pictures,
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

/// The cards of one kind under a heading, or a sentence where there are none.
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
        for (caption, source) in &card.pictures {
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
