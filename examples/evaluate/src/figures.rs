//! Figures from verdicts and ground truth.

use std::ops::Range;

use anyhow::{Context, Result};
use gstvaeanomaly::metrics::{
    Confusion, EventReport, OperatingPoint, Ranking, flagged_with_post_roll, share,
};

use crate::args::Clip;
use crate::boxes::Localisation;
use crate::labels::Labels;
use crate::stream::Verdict;

/// The evaluated frames, in stream order.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Positions of the frames in the whole stream.
    pub positions: Vec<usize>,
    /// The frames of each clip as ranges of the evaluated frames, with the position of the clip in the list.
    pub clips: Vec<(usize, Range<usize>)>,
    /// `None` for unlabelled video.
    pub labels: Option<Vec<bool>>,
    /// Frames per second.
    pub frame_rate: f64,
}

impl Counted {
    /// All frames except the warm-up clips and the first `skip` frames after them.
    pub fn new(
        verdicts: &[Verdict],
        clips: &[Clip],
        labels: Option<&Labels>,
        skip: usize,
        frame_rate: f64,
    ) -> Result<Self> {
        let all = verdicts.iter().enumerate().filter(|(_, v)| clips[v.clip].counted);
        let positions: Vec<usize> = all.map(|(i, _)| i).skip(skip).collect();
        let mut ranges: Vec<(usize, Range<usize>)> = Vec::new();
        for (i, &position) in positions.iter().enumerate() {
            let clip = verdicts[position].clip;
            match ranges.last_mut() {
                Some((last, range)) if *last == clip => range.end = i + 1,
                _ => ranges.push((clip, i..i + 1)),
            }
        }
        let label = |&p: &usize| labels.map(|l| l.get(&clips[verdicts[p].clip].name, verdicts[p].index));
        let labels = positions
            .iter()
            .filter_map(label)
            .collect::<Result<Vec<bool>>>()?;
        let labelled = labels.len() == positions.len() && !positions.is_empty();
        Ok(Self {
            labels: labelled.then_some(labels),
            positions,
            clips: ranges,
            frame_rate,
        })
    }

    /// The values of the evaluated frames, given one value per frame of the stream.
    pub fn pick<T: Clone>(&self, all: &[T]) -> Vec<T> {
        self.positions.iter().map(|&p| all[p].clone()).collect()
    }

    /// The ranges of the clips.
    pub fn ranges(&self) -> Vec<Range<usize>> {
        self.clips.iter().map(|(_, range)| range.clone()).collect()
    }

    /// AUROC of a score, given one value per frame of the stream; `None` without both classes.
    pub fn auroc(&self, all: &[f64]) -> Result<Option<f64>> {
        let Some(labels) = &self.labels else {
            return Ok(None);
        };
        Ok(Ranking::new(&self.pick(all), labels)?.auroc())
    }

    /// Frames in `seconds`.
    pub fn frames_in(&self, seconds: f64) -> usize {
        (self.frame_rate * seconds).round() as usize
    }

    /// Events found and false alarms; alarms less than a second apart are one.
    pub fn events(&self, flagged: &[bool]) -> Result<Option<EventReport>> {
        let Some(labels) = &self.labels else {
            return Ok(None);
        };
        Ok(Some(EventReport::new(
            flagged,
            labels,
            &self.ranges(),
            self.frames_in(1.0),
        )?))
    }
}

/// The figures of a run. Those that need labels are `None` without them.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Evaluated frames.
    pub frames: usize,
    /// Evaluated frames labelled anomalous.
    pub anomalous_frames: Option<usize>,
    /// AUROC of the raw score.
    pub auroc: Option<f64>,
    /// AUROC of the raw score after scaling every clip to 0..1, as some papers report.
    pub auroc_clip_normalised: Option<f64>,
    /// Average precision of the raw score.
    pub average_precision: Option<f64>,
    /// Equal error rate of the raw score.
    pub eer: Option<f64>,
    /// The element's decisions.
    pub decisions: Option<Confusion>,
    /// The best possible result of a constant threshold on the raw score.
    pub best: Option<OperatingPoint>,
    /// Events and false alarms according to the element's decisions.
    pub events: Option<EventReport>,
    /// Share of the evaluated frames that are flagged or in the post-roll.
    pub flagged_share: Option<f64>,
    /// Evaluated frames in states without labels.
    pub untrusted_frames: usize,
    /// Where the anomalies were found; `None` without boxes and masks.
    pub localisation: Option<Localisation>,
}

/// Seconds that `drop-normal` keeps after an anomaly.
pub const POST_ROLL_SECONDS: f64 = 2.0;

impl Figures {
    /// Computes the figures of a run.
    pub fn new(verdicts: &[Verdict], counted: &Counted) -> Result<Self> {
        let chosen = counted.pick(verdicts);
        let flagged: Vec<bool> = chosen.iter().map(|v| v.flagged).collect();
        let kept = flagged_with_post_roll(&flagged, counted.frames_in(POST_ROLL_SECONDS));
        let mut figures = Self {
            frames: chosen.len(),
            flagged_share: share(kept.iter().filter(|&&k| k).count() as u64, kept.len() as u64),
            untrusted_frames: chosen.iter().filter(|v| !v.trusted).count(),
            ..Self::default()
        };
        let Some(labels) = &counted.labels else {
            return Ok(figures);
        };
        let scores: Vec<f64> = chosen.iter().map(|v| v.raw_score).collect();
        let ranking = Ranking::new(&scores, labels).context("raw scores")?;
        figures.anomalous_frames = Some(labels.iter().filter(|&&l| l).count());
        figures.auroc = ranking.auroc();
        figures.average_precision = ranking.average_precision();
        figures.eer = ranking.equal_error_rate();
        figures.best = ranking.best_f1();
        figures.auroc_clip_normalised =
            Ranking::new(&normalised(&scores, &counted.ranges()), labels)?.auroc();
        figures.decisions = Some(Confusion::new(&flagged, labels)?);
        figures.events = counted.events(&flagged)?;
        Ok(figures)
    }
}

/// The scores with every clip scaled to 0..1.
fn normalised(scores: &[f64], clips: &[Range<usize>]) -> Vec<f64> {
    let mut result = scores.to_vec();
    for clip in clips {
        let part = &mut result[clip.clone()];
        let low = part.iter().copied().fold(f64::INFINITY, f64::min);
        let high = part.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let span = if high > low { high - low } else { 1.0 };
        part.iter_mut().for_each(|s| *s = (*s - low) / span);
    }
    result
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::path::Path;

    /// A frame that scores `raw`, flagged above 1.
    pub fn verdict(clip: usize, index: usize, raw: f64) -> Verdict {
        Verdict {
            clip,
            index,
            time: 0.1 * index as f64,
            score: 1.0 / (1.0 + (1.0 - raw).exp()),
            raw_score: raw,
            threshold: 1.0,
            flagged: raw > 1.0,
            trusted: true,
            cue: "motion".into(),
            region: [0; 4],
            regions: Vec::new(),
            map: None,
            image_size: (640, 360),
            event: 0,
        }
    }

    fn clip(name: &str, counted: bool) -> Clip {
        Clip {
            path: name.into(),
            name: name.into(),
            counted,
        }
    }

    #[test]
    fn warm_up_and_skipped_frames_are_not_evaluated() {
        let clips = [clip("w", false), clip("a", true), clip("b", true)];
        let verdicts: Vec<Verdict> = [
            (0, 0, 9.0),
            (0, 1, 9.0),
            (1, 0, 9.0),
            (1, 1, 0.0),
            (1, 2, 2.0),
            (2, 0, 0.5),
            (2, 1, 3.0),
        ]
        .map(|(c, i, raw)| verdict(c, i, raw))
        .to_vec();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels.csv");
        std::fs::write(&path, "clip,frame,label\na,0,1\na,1,0\na,2,1\nb,0,0\nb,1,1\n").unwrap();
        let labels = Labels::read(Path::new(&path)).unwrap();
        let counted = Counted::new(&verdicts, &clips, Some(&labels), 1, 10.0).unwrap();
        assert_eq!(counted.positions, [3, 4, 5, 6]);
        assert_eq!(counted.clips, [(1, 0..2), (2, 2..4)]);
        let figures = Figures::new(&verdicts, &counted).unwrap();
        assert_eq!((figures.frames, figures.auroc), (4, Some(1.0)));
        assert_eq!(figures.decisions.and_then(|d| d.f1()), Some(1.0));
        assert_eq!(
            figures.events.map(|e| (e.events.len(), e.detected())),
            Some((2, 2))
        );

        let unlabelled = Counted::new(&verdicts, &clips, None, 0, 10.0).unwrap();
        let figures = Figures::new(&verdicts, &unlabelled).unwrap();
        assert_eq!(
            (figures.frames, figures.auroc, figures.decisions),
            (5, None, None)
        );
    }

    #[test]
    fn clips_are_normalised_one_by_one() {
        assert_eq!(
            normalised(&[1.0, 3.0, 10.0, 10.0], &[0..2, 2..4]),
            [0.0, 1.0, 0.0, 0.0]
        );
    }
}
