//! All passes of an evaluation and their results.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use gstvaeanomaly::detector::{Config, CueKind, Networks, Tuning};
use gstvaeanomaly::metrics::{Confusion, EventReport, share};

use crate::acceptance::{self, Acceptance, Kinds};
use crate::args::{Args, Clip};
use crate::baseline::{self, Grey};
use crate::boxes::Truth;
use crate::clips::Frames;
use crate::core_pass;
use crate::encode::{self, Recording};
use crate::figures::{Counted, Figures};
use crate::labels::Labels;
use crate::mask::Mask;
use crate::motioncells;
use crate::perturb::{Perturbation, standard_set};
use crate::progress::Progress;
use crate::report::roc_curve;
use crate::stream::{self, ElementSettings, Pass};
use crate::thresholds::{Choice, choices};

/// What is evaluated.
pub struct Task {
    /// The command line.
    pub args: Args,
    /// All files in order.
    pub clips: Vec<Clip>,
    /// Ground truth, if any.
    pub labels: Option<Labels>,
    /// Where the anomalies are, if that is known.
    pub locations: Option<Truth>,
    /// What is ignored.
    pub mask: Mask,
    /// Events whose kinds are accepted, if any.
    kinds: Option<Kinds>,
}

/// One pass through the element with one seed.
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// The element's result for every frame.
    pub pass: Pass,
    /// The evaluated ones among them.
    pub counted: Counted,
    /// Their figures.
    pub figures: Figures,
}

/// Another method, or the detector with a part removed, on the same frames.
#[derive(Clone, Debug)]
pub struct Competitor {
    /// Its name in tables and JSON.
    pub name: String,
    /// AUROC of its score; `None` without labels of both classes.
    pub auroc: Option<f64>,
    /// Its own decisions, if it has a decision rule.
    pub decisions: Option<Confusion>,
    /// Events according to its own decisions.
    pub events: Option<EventReport>,
    /// Points (false, true positive rate) of its ROC curve.
    pub roc: Vec<(f64, f64)>,
}

/// What `drop-normal` keeps of the full recording.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// The encoder.
    pub encoder: &'static str,
    /// Share of frames kept.
    pub frames: Option<f64>,
    /// Share of bytes kept.
    pub bytes: Option<f64>,
    /// Bytes of the full recording.
    pub full_bytes: u64,
}

/// All results.
pub struct Evaluation {
    /// One for each seed, at least one.
    pub runs: Vec<Run>,
    /// Baselines; empty if not requested.
    pub baselines: Vec<Competitor>,
    /// Ablations; empty if not requested.
    pub ablations: Vec<Competitor>,
    /// Disturbances with the figures under each.
    pub robustness: Vec<(String, Figures)>,
    /// Kinds of events, each with its first event accepted as normal; empty if not requested.
    pub acceptances: Vec<Acceptance>,
    /// Results of other thresholds.
    pub choices: Vec<Choice>,
    /// Bandwidth, if measured.
    pub kept: Option<Kept>,
}

impl Task {
    /// Reads labels and clip names; reports mistakes before anything is streamed.
    pub fn new(args: Args) -> Result<Self> {
        let clips = args.resolve_clips()?;
        let labels = args.labels.as_deref().map(Labels::read).transpose()?;
        if let Some(labels) = &labels {
            labels.check_clips(&clips)?;
        }
        let kinds = args.accept.as_deref().map(Kinds::read).transpose()?;
        if let Some(kinds) = &kinds {
            kinds.check_clips(&clips)?;
        }
        let locations = Truth::read(&args)?;
        let mask = Mask::new(&args)?;
        Ok(Self {
            locations,
            args,
            clips,
            labels,
            mask,
            kinds,
        })
    }

    /// Runs all requested passes.
    pub fn evaluate(&self) -> Result<Evaluation> {
        let mut baseline_pass = BaselinePass::new(self)?;
        let mut runs = Vec::new();
        for (position, &seed) in self.args.seeds.iter().enumerate() {
            let baseline_pass = (position == 0).then_some(&mut baseline_pass);
            runs.push(self.run(
                seed,
                &self.args.perturb,
                baseline_pass,
                &format!("element, seed {seed}"),
            )?);
        }
        let first = runs.first().context("--seeds needs at least one number")?;
        let baselines = self.competitors(baseline_pass, first)?;
        let ablations = if self.args.ablate {
            self.ablations(first)?
        } else {
            Vec::new()
        };
        let acceptances = match &self.kinds {
            Some(kinds) => acceptance::measure(self, kinds, first)?,
            None => Vec::new(),
        };
        let robustness = self.robustness(first)?;
        let (kept, sizes) = self.bandwidth(first)?;
        let choices = choices(&first.pass.verdicts, &first.counted, sizes.as_deref())?;
        Ok(Evaluation {
            runs,
            baselines,
            ablations,
            robustness,
            acceptances,
            choices,
            kept,
        })
    }

    /// The stream with `perturbations` applied; a clip whose number of frames differs from its labels is an error.
    pub fn frames(&self, perturbations: &[Perturbation]) -> Frames {
        let labels = self.labels.clone();
        Frames::new(&self.clips, perturbations).checking_ends(move |clip, frames| match &labels {
            Some(labels) if clip.counted => labels.check_end(&clip.name, frames),
            _ => Ok(()),
        })
    }

    /// Settings of the element for one seed.
    pub fn settings(&self, seed: u64) -> ElementSettings {
        ElementSettings {
            device: self.args.device.clone(),
            seed,
            others: [&self.args.settings, self.mask.settings()].concat(),
            attach_map: self.locations.is_some(),
        }
    }

    fn run(
        &self,
        seed: u64,
        perturbations: &[Perturbation],
        mut baseline_pass: Option<&mut BaselinePass>,
        title: &str,
    ) -> Result<Run> {
        let mut progress = Progress::new(title);
        let pass = stream::run(
            self.frames(perturbations),
            &self.settings(seed),
            |frame, verdict| {
                if let Some(labels) = &self.labels
                    && self.clips[frame.clip].counted
                {
                    labels.get(&self.clips[frame.clip].name, frame.index)?;
                }
                progress.step(&self.clips[verdict.clip].name);
                baseline_pass
                    .as_mut()
                    .map_or(Ok(()), |w| w.process(Grey::of(frame)?))
            },
        )?;
        progress.finish();
        let counted = Counted::new(
            &pass.verdicts,
            &self.clips,
            self.labels.as_ref(),
            self.args.skip,
            pass.frame_rate,
        )?;
        anyhow::ensure!(
            !counted.positions.is_empty(),
            "--skip {} leaves no frame to evaluate",
            self.args.skip
        );
        let mut figures = Figures::new(&pass.verdicts, &counted)?;
        let locations = self.locations.as_ref();
        figures.localisation = locations
            .map(|truth| truth.evaluate(&pass.verdicts, &self.clips, &counted))
            .transpose()?;
        Ok(Run {
            seed,
            pass,
            counted,
            figures,
        })
    }

    fn competitors(&self, baseline_pass: BaselinePass, first: &Run) -> Result<Vec<Competitor>> {
        let mut competitors = Vec::new();
        if self.args.no_baselines || first.counted.labels.is_none() {
            return Ok(competitors);
        }
        for ((baseline, scores), flags) in baseline_pass
            .baselines
            .iter()
            .zip(&baseline_pass.scores)
            .zip(&baseline_pass.flags)
        {
            competitors.push(competitor(
                baseline.name(),
                scores,
                flags.as_deref(),
                &first.counted,
            )?);
        }
        let count = first.pass.verdicts.len();
        if let Some(scores) = motioncells::scores(self.frames(&self.args.perturb), count, &self.mask)? {
            competitors.push(competitor("motioncells", &scores, None, &first.counted)?);
        }
        Ok(competitors)
    }

    /// The detector with parts removed. Runs the core, because the element has no such settings.
    fn ablations(&self, first: &Run) -> Result<Vec<Competitor>> {
        let base = Config {
            seed: first.seed,
            ..Config::default()
        };
        let tuning = Tuning::default();
        let alone = |kind: CueKind| Config {
            cues: vec![kind],
            ..base.clone()
        };
        let networks = |networks| Config {
            networks,
            ..base.clone()
        };
        let variants = [
            ("full design", base.clone(), tuning),
            ("appearance alone", alone(CueKind::Appearance), tuning),
            ("motion alone", alone(CueKind::Motion), tuning),
            (
                "nets frozen at random",
                networks(Networks::FrozenAtRandom),
                tuning,
            ),
            (
                "without KL",
                base.clone(),
                Tuning {
                    kl_weight: 0.0,
                    ..tuning
                },
            ),
            ("without nets", networks(Networks::Off), tuning),
        ];
        let mut competitors = Vec::new();
        for (name, config, tuning) in variants {
            let mut progress = Progress::new(&format!("ablation: {name}"));
            let (mut scores, mut flags) = (Vec::new(), Vec::new());
            core_pass::run(
                self.frames(&self.args.perturb),
                (&config, &tuning),
                self.mask.regions(),
                |frame, prediction, _| {
                    progress.step(&self.clips[frame.clip].name);
                    scores.push(prediction.raw_score);
                    flags.push(prediction.label == Some(gstvaeanomaly::detector::Label::Anomaly));
                    Ok(())
                },
            )?;
            progress.finish();
            competitors.push(competitor(name, &scores, Some(&flags), &first.counted)?);
        }
        Ok(competitors)
    }

    fn robustness(&self, first: &Run) -> Result<Vec<(String, Figures)>> {
        if !self.args.robustness {
            return Ok(Vec::new());
        }
        let seconds = first.counted.positions.len() as f64 / first.counted.frame_rate;
        let mut rows = vec![("clean".to_owned(), first.figures.clone())];
        for perturbation in standard_set(seconds / 2.0) {
            let name = perturbation.to_string();
            let mut all = self.args.perturb.clone();
            all.push(perturbation);
            rows.push((name.clone(), self.run(first.seed, &all, None, &name)?.figures));
        }
        Ok(rows)
    }

    /// Bytes with and without the normal frames, and the bytes of every frame of the full recording.
    fn bandwidth(&self, first: &Run) -> Result<(Option<Kept>, Option<Vec<u64>>)> {
        if self.args.no_bytes {
            return Ok((None, None));
        }
        let rate = first.counted.frame_rate;
        let record = |dropping: Option<&ElementSettings>| -> Result<Option<Recording>> {
            encode::record(self.frames(&self.args.perturb), dropping, rate)
        };
        eprintln!("encoding the full video, then what drop-normal keeps");
        let Some(full) = record(None)? else {
            return Ok((None, None));
        };
        let kept = record(Some(&self.settings(first.seed)))?.unwrap_or_default();
        let begin = first.counted.positions.first().map_or(0, |&p| p as u64);
        let (all_frames, all_bytes) = full.totals_from(begin);
        let (frames, bytes) = kept.totals_from(begin);
        let summary = Kept {
            encoder: full.encoder,
            frames: share(frames, all_frames),
            bytes: share(bytes, all_bytes),
            full_bytes: all_bytes,
        };
        Ok((Some(summary), Some(full.per_frame(first.pass.verdicts.len()))))
    }
}

fn competitor(name: &str, scores: &[f64], flags: Option<&[bool]>, counted: &Counted) -> Result<Competitor> {
    let flags = flags.map(|f| counted.pick(f));
    let decisions = match (&flags, &counted.labels) {
        (Some(flags), Some(labels)) => Some(Confusion::new(flags, labels)?),
        _ => None,
    };
    let events = flags.map(|f| counted.events(&f)).transpose()?.flatten();
    Ok(Competitor {
        name: name.to_owned(),
        auroc: counted.auroc(scores)?,
        decisions,
        events,
        roc: roc_curve(scores, counted).unwrap_or_default(),
    })
}

/// The baselines, run on the frames of the first pass.
struct BaselinePass {
    baselines: Vec<Box<dyn baseline::Baseline>>,
    scores: Vec<Vec<f64>>,
    flags: Vec<Option<Vec<bool>>>,
    mask: Mask,
}

impl BaselinePass {
    fn new(task: &Task) -> Result<Self> {
        let enabled = !task.args.no_baselines && task.labels.is_some();
        let seed = task.args.seeds.first().copied().unwrap_or(0);
        let baselines = if enabled { baseline::all(seed)? } else { Vec::new() };
        Ok(Self {
            scores: vec![Vec::new(); baselines.len()],
            flags: baselines
                .iter()
                .map(|b| b.flagged().map(|_| Vec::new()))
                .collect(),
            baselines,
            mask: task.mask.clone(),
        })
    }

    fn process(&mut self, grey: Grey) -> Result<()> {
        let grey = &self.mask.blank(grey);
        for ((baseline, scores), flags) in self
            .baselines
            .iter_mut()
            .zip(&mut self.scores)
            .zip(&mut self.flags)
        {
            scores.push(baseline.score(grey)?);
            if let (Some(flags), Some(flagged)) = (flags, baseline.flagged()) {
                flags.push(flagged);
            }
        }
        Ok(())
    }
}

/// Names and AUROCs, for JSON.
pub fn aurocs(competitors: &[Competitor]) -> BTreeMap<String, Option<f64>> {
    competitors.iter().map(|r| (r.name.clone(), r.auroc)).collect()
}
