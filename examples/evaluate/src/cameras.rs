//! `evaluate cameras`: a folder of cameras, each with normal video to learn from and labelled video to evaluate, in one table.
//!
//! ```text
//! DATA/NAME/warm/*.mp4   streamed first, not evaluated (or train/)
//! DATA/NAME/eval/*.mp4   evaluated (or test/)
//! DATA/NAME/labels.csv   clip,frame,label; frames without a row are not evaluated
//! ```
//!
//! All clips of a folder are one camera, unless every evaluated clip has a warm-up clip of the same name: then each pair
//! is a camera of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gst::prelude::*;
use gstvaeanomaly::detector::{Config, IgnoredRegions, Label, Networks};
use gstvaeanomaly::events::{EventPolicy, EventTracker, Observation, Span};
use gstvaeanomaly::metrics::{Confusion, Ranking, median, runs};

use crate::args::{Clip, Setting, matching};
use crate::clips::Frames;
use crate::core_pass;
use crate::labels::{Labels, PartialLabels};
use crate::perturb::Perturbation;
use crate::stream::{ElementSettings, make_element};

/// Evaluates a folder of cameras with the detector of the element and prints one table.
#[derive(Clone, Debug, Parser)]
pub struct CamerasArgs {
    /// Folders: one camera each (warm/, eval/, labels.csv), or folders of such folders
    #[arg(required = true)]
    pub data: Vec<PathBuf>,
    /// Only cameras whose name contains one of these
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Property of the element; repeatable
    #[arg(long = "set", value_name = "PROPERTY=VALUE")]
    pub settings: Vec<Setting>,
    /// Seeds, one run each; the figures are the means
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub seeds: Vec<u64>,
    /// Do not stream the warm-up clips; the first frames are not evaluated instead
    #[arg(long, value_name = "FRAMES")]
    pub cold: Option<usize>,
    /// Disturb the video, as `--perturb` of the other evaluation; repeatable
    #[arg(long, value_name = "KIND:VALUE[@BEGIN[-END]]")]
    pub perturb: Vec<Perturbation>,
    /// Also evaluate with the nets frozen at their random initial weights, and without nets
    #[arg(long)]
    pub ablate: bool,
    /// Write the scores of all frames of the first seed as CSV into this folder
    #[arg(long, value_name = "FOLDER")]
    pub scores: Option<PathBuf>,
}

/// One camera: clips in order, and the labels of its folder.
#[derive(Clone, Debug)]
struct Camera {
    name: String,
    clips: Vec<Clip>,
    labels: PartialLabels,
}

/// One evaluated frame.
struct Row {
    raw_score: f64,
    anomalous: bool,
    labelled: bool,
    flagged: bool,
    event: Option<u64>,
    clip: usize,
}

/// Figures of one pass over one camera, or means over seeds.
#[derive(Clone, Debug, Default)]
struct Outcome {
    frames: f64,
    anomalous: f64,
    auroc: Option<f64>,
    labelled: f64,
    f1: Option<f64>,
    best_f1: Option<f64>,
    events: f64,
    found: f64,
    delay: Option<f64>,
    normal_flagged: Option<f64>,
    false_events_per_hour: f64,
}

/// Runs the evaluation and returns the table as text.
pub fn run(args: &CamerasArgs) -> Result<String> {
    let cameras = find(args)?;
    ensure!(!args.seeds.is_empty(), "--seeds needs at least one number");
    if let Some(folder) = &args.scores {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let variants: &[(&str, Networks)] = match args.ablate {
        true => &[
            ("", Networks::Trained),
            ("nets frozen at random", Networks::FrozenAtRandom),
            ("without nets", Networks::Off),
        ],
        false => &[("", Networks::Trained)],
    };
    let jobs: Vec<(&Camera, usize, u64)> = cameras
        .iter()
        .flat_map(|camera| (0..variants.len()).map(move |variant| (camera, variant)))
        .flat_map(|(camera, variant)| args.seeds.iter().map(move |&seed| (camera, variant, seed)))
        .collect();
    let outcomes = in_parallel(&jobs, |(camera, variant, seed)| {
        pass(camera, args, variants[*variant].1, *seed).with_context(|| format!("camera {}", camera.name))
    })?;

    let mut text = String::new();
    for (variant, (title, _)) in variants.iter().enumerate() {
        if !title.is_empty() {
            let _ = writeln!(text, "\n{title}");
        }
        let _ = writeln!(text, "{}", header());
        let mut all = Vec::new();
        for camera in &cameras {
            let of_camera: Vec<&Outcome> = jobs
                .iter()
                .zip(&outcomes)
                .filter(|((c, v, _), _)| std::ptr::eq(*c, camera) && *v == variant)
                .map(|(_, outcome)| outcome)
                .collect();
            let mean = Outcome::mean(&of_camera);
            let _ = writeln!(text, "{}", mean.line(&camera.name));
            all.push(mean);
        }
        let _ = writeln!(
            text,
            "{}",
            Outcome::mean(&all.iter().collect::<Vec<_>>()).line("mean")
        );
    }
    Ok(text)
}

/// Calls `work` for every job, on as many threads as there are cores.
fn in_parallel<J: Sync, R: Send>(jobs: &[J], work: impl Fn(&J) -> Result<R> + Sync) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, Result<R>>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            scope.spawn(|| {
                while let Some((index, job)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    jobs.get(index).map(|job| (index, job))
                } {
                    let result = work(job);
                    done.lock().expect("no thread panics").insert(index, result);
                }
            });
        }
    });
    done.into_inner()
        .expect("no thread panics")
        .into_values()
        .collect()
}

fn find(args: &CamerasArgs) -> Result<Vec<Camera>> {
    let mut cameras = Vec::new();
    for folder in &args.data {
        let before = cameras.len();
        if folder.join("labels.csv").exists() {
            cameras.extend(of_folder(folder, args)?);
        } else {
            let entries =
                std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
            let mut folders = entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
            folders.sort();
            for inner in folders.iter().filter(|inner| inner.join("labels.csv").exists()) {
                cameras.extend(of_folder(inner, args)?);
            }
        }
        ensure!(
            cameras.len() > before,
            "{} has no labels.csv, in it or one folder below",
            folder.display()
        );
    }
    if !args.only.is_empty() {
        cameras.retain(|camera| args.only.iter().any(|part| camera.name.contains(part.as_str())));
        ensure!(
            !cameras.is_empty(),
            "--only {}: no camera has such a name",
            args.only.join(",")
        );
    }
    Ok(cameras)
}

fn of_folder(folder: &Path, args: &CamerasArgs) -> Result<Vec<Camera>> {
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let labels = Labels::read_partial(&folder.join("labels.csv"))?;
    let clips = |names: [&str; 2], counted| -> Result<Vec<Clip>> {
        match names
            .iter()
            .map(|name| folder.join(name))
            .find(|path| path.is_dir())
        {
            Some(path) => matching(
                "clips",
                &[path.join("*.*").to_string_lossy().into_owned()],
                counted,
            ),
            None => Ok(Vec::new()),
        }
    };
    let warm = match args.cold {
        Some(_) => Vec::new(),
        None => clips(["warm", "train"], false)?,
    };
    let evaluated = clips(["eval", "test"], true)?;
    ensure!(
        !evaluated.is_empty(),
        "{} has no folder eval or test with clips",
        folder.display()
    );
    let partner = |clip: &Clip| warm.iter().find(|w| w.name == clip.name);
    if evaluated.len() > 1 && evaluated.iter().all(|clip| partner(clip).is_some()) {
        let pairs = evaluated.iter().filter_map(|clip| Some((clip, partner(clip)?)));
        return Ok(pairs
            .map(|(clip, warm)| Camera {
                name: format!("{name}/{}", clip.name),
                clips: vec![warm.clone(), clip.clone()],
                labels: labels.clone(),
            })
            .collect());
    }
    Ok(vec![Camera {
        name,
        clips: [warm, evaluated].concat(),
        labels,
    }])
}

/// One pass with one seed.
fn pass(camera: &Camera, args: &CamerasArgs, networks: Networks, seed: u64) -> Result<Outcome> {
    let settings = ElementSettings {
        attach_map: false,
        device: "cpu".to_owned(),
        seed,
        others: args.settings.clone(),
    };
    let (config, tuning) = core_pass::mirror(&settings)?;
    let config = Config { networks, ..config };
    let element = make_element(&settings)?;
    let nanoseconds = |name: &str| Duration::from_nanos(element.property(name));
    let policy = EventPolicy {
        min_anomaly: nanoseconds("min-anomaly"),
        merge_gap: nanoseconds("merge-gap"),
        update_interval: Duration::from_secs(1),
    };
    let mut tracker = EventTracker::new();
    let (mut rows, mut number, mut frame_rate) = (Vec::new(), 0, 25.0);
    let mut csv = String::from("frame,raw,label,state,cue,truth\n");
    let frames = Frames::new(&camera.clips, &args.perturb);
    core_pass::run(
        frames,
        (&config, &tuning),
        &IgnoredRegions::none(),
        |frame, prediction, _| {
            frame_rate = frame.frame_rate();
            let flagged = prediction.label == Some(Label::Anomaly);
            let at = frame.time().unwrap_or_default();
            let tracked = tracker.observe(
                &policy,
                &Observation {
                    span: Span {
                        start: at,
                        end: at + Duration::from_secs_f64(1.0 / frame_rate),
                        jump: false,
                    },
                    anomalous: flagged,
                    score: prediction.score,
                    raw_score: prediction.raw_score,
                    absorbed: false,
                },
            );
            let clip = &camera.clips[frame.clip];
            let truth = match clip.counted && (args.cold.is_none_or(|skipped| number >= skipped)) {
                true => camera.labels.find(&clip.name, frame.index),
                false => None,
            };
            number += 1;
            if args.scores.is_some() {
                let truth = truth.map_or("", |t| if t { "1" } else { "0" });
                let _ = writeln!(
                    csv,
                    "{},{:.4},{},{},{},{truth}",
                    prediction.frame,
                    prediction.raw_score,
                    prediction.label.map_or("", |label| label.as_str()),
                    prediction.state,
                    prediction.cue,
                );
            }
            if let Some(anomalous) = truth {
                rows.push(Row {
                    raw_score: prediction.raw_score,
                    anomalous,
                    labelled: prediction.label.is_some(),
                    flagged,
                    event: tracked.event_id.map(|id| id.get()),
                    clip: frame.clip,
                });
            }
            Ok(())
        },
    )?;
    if let Some(folder) = args
        .scores
        .as_ref()
        .filter(|_| Some(&seed) == args.seeds.first() && networks == Networks::Trained)
    {
        let path = folder.join(camera.name.replace('/', "-") + ".csv");
        std::fs::write(&path, csv).with_context(|| format!("cannot write {}", path.display()))?;
    }
    ensure!(!rows.is_empty(), "no frame has a label");
    Outcome::new(&rows, frame_rate)
}

impl Outcome {
    fn new(rows: &[Row], frame_rate: f64) -> Result<Self> {
        let truth: Vec<bool> = rows.iter().map(|row| row.anomalous).collect();
        let flagged: Vec<bool> = rows.iter().map(|row| row.flagged).collect();
        let scores: Vec<f64> = rows.iter().map(|row| row.raw_score).collect();
        let anomalous = truth.iter().filter(|&&t| t).count();
        let confusion = Confusion::new(&flagged, &truth)?;
        let ranking = Ranking::new(&scores, &truth)?;
        // Clips in a row of one camera, as ranges of rows.
        let mut clips: Vec<std::ops::Range<usize>> = Vec::new();
        for (i, row) in rows.iter().enumerate() {
            match clips.last_mut() {
                Some(range) if rows[range.start].clip == row.clip => range.end = i + 1,
                _ => clips.push(i..i + 1),
            }
        }
        let events = runs(&truth, &clips);
        let first_flag = |event: &std::ops::Range<usize>| event.clone().find(|&i| flagged[i]);
        let delays: Vec<f64> = events
            .iter()
            .filter_map(|event| Some((first_flag(event)? - event.start) as f64 / frame_rate))
            .collect();
        let mut reported: BTreeMap<u64, bool> = BTreeMap::new();
        for row in rows {
            if let Some(id) = row.event {
                *reported.entry(id).or_default() |= row.anomalous;
            }
        }
        let hours = rows.len() as f64 / frame_rate / 3600.0;
        Ok(Self {
            frames: rows.len() as f64,
            anomalous: anomalous as f64,
            auroc: ranking.auroc(),
            labelled: rows.iter().filter(|row| row.labelled).count() as f64 / rows.len() as f64,
            f1: (anomalous > 0).then(|| confusion.f1().unwrap_or(0.0)),
            best_f1: ranking
                .best_f1()
                .and_then(|point| point.f1())
                .filter(|_| anomalous > 0),
            events: events.len() as f64,
            found: delays.len() as f64,
            delay: median(&delays),
            normal_flagged: confusion.false_alarm_share(),
            false_events_per_hour: reported.values().filter(|touches| !**touches).count() as f64 / hours,
        })
    }

    fn mean(all: &[&Self]) -> Self {
        let mean = |value: &dyn Fn(&Self) -> Option<f64>| {
            let values: Vec<f64> = all.iter().filter_map(|outcome| value(outcome)).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let whole = |value: &dyn Fn(&Self) -> f64| mean(&|outcome| Some(value(outcome))).unwrap_or(0.0);
        Self {
            frames: whole(&|o| o.frames),
            anomalous: whole(&|o| o.anomalous),
            auroc: mean(&|o| o.auroc),
            labelled: whole(&|o| o.labelled),
            f1: mean(&|o| o.f1),
            best_f1: mean(&|o| o.best_f1),
            events: whole(&|o| o.events),
            found: whole(&|o| o.found),
            delay: mean(&|o| o.delay),
            normal_flagged: mean(&|o| o.normal_flagged),
            false_events_per_hour: whole(&|o| o.false_events_per_hour),
        }
    }

    fn line(&self, name: &str) -> String {
        let number =
            |value: Option<f64>, decimals: usize| value.map_or("-".to_owned(), |v| format!("{v:.decimals$}"));
        format!(
            "{name:24} {:6.0} {:6.0} {:>6} {:>8} {:>6} {:>7} {:>6}/{:<5} {:>6} {:>8} {:>8}",
            self.frames,
            self.anomalous,
            number(self.auroc, 3),
            number(Some(self.labelled), 2),
            number(self.f1, 3),
            number(self.best_f1, 3),
            number(Some(self.found), 1),
            number(Some(self.events), 1),
            number(self.delay, 1),
            number(self.normal_flagged, 3),
            number(Some(self.false_events_per_hour), 1),
        )
    }
}

fn header() -> String {
    format!(
        "{:24} {:>6} {:>6} {:>6} {:>8} {:>6} {:>7} {:>6}/{:<5} {:>6} {:>8} {:>8}",
        "camera",
        "frames",
        "anom.",
        "AUROC",
        "labelled",
        "F1",
        "best F1",
        "found",
        "event",
        "delay",
        "flagged",
        "false/h"
    )
}
