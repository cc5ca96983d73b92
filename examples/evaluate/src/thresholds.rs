//! What other thresholds would have given, to help choose one.

use std::collections::VecDeque;

use anyhow::Result;
use gstvaeanomaly::metrics::{Confusion, EventReport, Ranking, flagged_with_post_roll};

use crate::figures::{Counted, POST_ROLL_SECONDS};
use crate::stream::Verdict;

/// A setting and its result on the evaluated frames.
#[derive(Clone, Debug)]
pub struct Choice {
    /// How to set it, as `property=value`.
    pub setting: String,
    /// The threshold on the raw score, if it is constant.
    pub threshold: Option<f64>,
    /// Decisions on frames.
    pub decisions: Option<Confusion>,
    /// Incidents and false alarms.
    pub events: Option<EventReport>,
    /// Share of frames that is flagged or in the post-roll.
    pub frames_kept: f64,
    /// The same in bytes, estimated from the frame sizes of the full recording.
    pub bytes_kept: Option<f64>,
}

const THRESHOLDS: [f64; 7] = [1.25, 1.5, 1.6, 1.75, 2.0, 2.5, 3.0];
const FALSE_ALARM_RATES: [f64; 5] = [0.001, 0.01, 0.02, 0.05, 0.1];
const SIGMAS: [f64; 4] = [2.0, 3.0, 4.0, 5.0];
const SIGMA_WINDOW: usize = 300;

/// All rows of the table. `sizes`: encoded bytes of every frame of the stream.
pub fn choices(verdicts: &[Verdict], counted: &Counted, sizes: Option<&[u64]>) -> Result<Vec<Choice>> {
    let raw: Vec<f64> = verdicts.iter().map(|v| v.raw_score).collect();
    let trusted: Vec<bool> = verdicts.iter().map(|v| v.trusted).collect();
    let above = |threshold: f64| -> Vec<bool> {
        raw.iter()
            .zip(&trusted)
            .map(|(&r, &t)| t && r > threshold)
            .collect()
    };
    let mut rows = Vec::new();
    for threshold in THRESHOLDS {
        let setting = format!("threshold={threshold}");
        rows.push(choice(
            setting,
            Some(threshold),
            &above(threshold),
            counted,
            sizes,
        )?);
    }
    if let Some(labels) = &counted.labels {
        let ranking = Ranking::new(&counted.pick(&raw), labels)?;
        for rate in FALSE_ALARM_RATES {
            if let Some(point) = ranking.at_false_positive_rate(rate) {
                // The ranking flags from its threshold on, `above` only above it.
                let flagged = above(point.threshold.next_down());
                let setting = format!("at most {} % false alarms", rate * 100.0);
                rows.push(choice(setting, Some(point.threshold), &flagged, counted, sizes)?);
            }
        }
    }
    for sigma in SIGMAS {
        let flagged: Vec<bool> = sigma_rule(&raw, sigma)
            .into_iter()
            .zip(&trusted)
            .map(|(f, &t)| f && t)
            .collect();
        let setting = format!("threshold-mode=sigma sigma={sigma}");
        rows.push(choice(setting, None, &flagged, counted, sizes)?);
    }
    Ok(rows)
}

fn choice(
    setting: String,
    threshold: Option<f64>,
    flagged: &[bool],
    counted: &Counted,
    sizes: Option<&[u64]>,
) -> Result<Choice> {
    let kept = counted.pick(&flagged_with_post_roll(
        flagged,
        counted.frames_in(POST_ROLL_SECONDS),
    ));
    let flagged = counted.pick(flagged);
    let kept_frames = kept.iter().filter(|&&k| k).count();
    let bytes_kept = sizes.and_then(|sizes| {
        let sizes = counted.pick(sizes);
        let part: u64 = sizes.iter().zip(&kept).filter(|(_, k)| **k).map(|(s, _)| s).sum();
        gstvaeanomaly::metrics::share(part, sizes.iter().sum())
    });
    Ok(Choice {
        setting,
        threshold,
        decisions: counted
            .labels
            .as_ref()
            .map(|l| Confusion::new(&flagged, l))
            .transpose()?,
        events: counted.events(&flagged)?,
        frames_kept: kept_frames as f64 / kept.len().max(1) as f64,
        bytes_kept,
    })
}

/// Flags values more than `sigma` standard deviations above the mean of the preceding window.
fn sigma_rule(values: &[f64], sigma: f64) -> Vec<bool> {
    let mut window: VecDeque<f64> = VecDeque::new();
    values
        .iter()
        .map(|&value| {
            let count = window.len().max(1) as f64;
            let mean = window.iter().sum::<f64>() / count;
            let variance = window.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
            let flagged = window.len() > 1 && value > mean + sigma * variance.sqrt();
            if window.len() == SIGMA_WINDOW {
                window.pop_front();
            }
            window.push_back(value);
            flagged
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sigma_rule_uses_past_values_only() {
        let mut values = [0.0, 1.0].repeat(20);
        values.push(3.1);
        values.push(0.5);
        let flagged = sigma_rule(&values, 5.0);
        assert_eq!(
            flagged.iter().position(|&f| f),
            Some(40),
            "3.1 is 5.2 deviations of 0.5 above 0.5"
        );
        assert!(!flagged[41]);
        assert!(!sigma_rule(&values, 6.0)[40]);
    }
}
