//! The command line.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use crate::cameras::CamerasArgs;
use crate::perturb::Perturbation;

/// Evaluates vaeanomaly on clips that are streamed through it as one camera.
///
/// One pass; every frame is scored before it is learnt. Labels are used for the figures only.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "evaluate",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Args {
    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Clips streamed first and not evaluated: normal video for the warm-up
    #[arg(long, value_name = "GLOB")]
    pub warm: Vec<String>,
    /// Clips to evaluate, in alphabetical order within one pattern
    #[arg(long, value_name = "GLOB", required = true)]
    pub clips: Vec<String>,
    /// Ground truth with the columns clip,frame,label: file name without extension, frame number from 0, 1 = anomalous
    #[arg(long, value_name = "CSV")]
    pub labels: Option<PathBuf>,
    /// Where the anomalies are, for figures of the location: columns clip,frame,x,y,w,h in pixels
    #[arg(long, value_name = "CSV")]
    pub boxes: Option<PathBuf>,
    /// The same for every pixel: grey videos with the name of their clip, with or without _gt at its end; white = anomalous
    #[arg(long, value_name = "GLOB")]
    pub masks: Vec<String>,
    /// Property of the element; repeatable
    #[arg(long = "set", value_name = "PROPERTY=VALUE")]
    pub settings: Vec<Setting>,
    /// Grey PNG or PGM image, stretched over the frames: what is black is ignored, also by ablations and baselines
    #[arg(long, value_name = "FILE")]
    pub mask: Option<PathBuf>,
    /// Polygons to ignore, corners in fractions of width and height: "x,y x,y x,y; x,y x,y x,y"
    #[arg(long, value_name = "POLYGONS")]
    pub ignore_regions: Option<String>,
    /// The element's property device
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Write all figures as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write an illustrated report as one HTML file
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Number of frames at the begin of the clips that are not evaluated
    #[arg(long, default_value_t = 0)]
    pub skip: usize,
    /// Also evaluate the detector with parts removed
    #[arg(long)]
    pub ablate: bool,
    /// Also measure accept-event: for each kind in this file (columns clip,kind,first_frame,last_frame), one pass in which
    /// its first event is accepted as normal
    #[arg(long, value_name = "CSV")]
    pub accept: Option<PathBuf>,
    /// Disturb the video: noise:SIGMA, brightness:FACTOR@T, jitter:PIXELS, occlude:SHARE@T, fps:SHARE@T, jpeg:QUALITY;
    /// T = begin, or BEGIN-END, in seconds after the first evaluated frame, without @T the whole stream; repeatable
    #[arg(long, value_name = "KIND:VALUE")]
    pub perturb: Vec<Perturbation>,
    /// Also evaluate under each of a standard set of disturbances
    #[arg(long)]
    pub robustness: bool,
    /// Seeds, one run each; the figures are the means
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub seeds: Vec<u64>,
    /// Skip the baselines
    #[arg(long)]
    pub no_baselines: bool,
    /// Skip the encoding that measures the bytes kept
    #[arg(long)]
    pub no_bytes: bool,
}

/// Other kinds of evaluation.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    Cameras(CamerasArgs),
}

/// One `--set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Name of the property.
    pub name: String,
    /// Its value in the syntax of gst-launch-1.0.
    pub value: String,
}

impl std::str::FromStr for Setting {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = text
            .split_once('=')
            .with_context(|| format!("--set must be PROPERTY=VALUE, got '{text}'"))?;
        match name {
            "device" | "seed" | "ignore-regions" => bail!("--set {name}: use --{name} instead"),
            "mask-location" => bail!("--set {name}: use --mask instead"),
            "drop-normal" => {
                bail!(
                    "--set drop-normal: not allowed, every frame is needed; the bytes kept are measured anyway"
                )
            }
            _ => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
        }
    }
}

/// One file of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clip {
    /// Its path.
    pub path: PathBuf,
    /// File name without extension, as in the labels.
    pub name: String,
    /// Whether it is evaluated; false for `--warm`.
    pub counted: bool,
}

impl Args {
    /// The files in the order they are streamed.
    pub fn resolve_clips(&self) -> Result<Vec<Clip>> {
        let mut clips = matching("--warm", &self.warm, false)?;
        clips.extend(matching("--clips", &self.clips, true)?);
        ensure!(!self.seeds.is_empty(), "--seeds needs at least one number");
        if self.labels.is_some() {
            let mut seen = HashSet::new();
            for clip in clips.iter().filter(|c| c.counted) {
                ensure!(
                    seen.insert(&clip.name),
                    "two of the clips are named {}: labels would not be unique",
                    clip.name
                );
            }
        }
        Ok(clips)
    }
}

/// The files that match, in alphabetical order within one pattern.
pub fn matching(option: &str, patterns: &[String], counted: bool) -> Result<Vec<Clip>> {
    let mut clips = Vec::new();
    for pattern in patterns {
        let paths =
            glob::glob(pattern).with_context(|| format!("{option} '{pattern}' is not a valid pattern"))?;
        let before = clips.len();
        for path in paths {
            let path = path.with_context(|| format!("{option} '{pattern}'"))?;
            clips.push(Clip {
                name: stem(&path),
                path,
                counted,
            });
        }
        ensure!(clips.len() > before, "{option} '{pattern}' matches no file");
    }
    Ok(clips)
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_a_setting_or_refused(text in "(device|seed|drop-normal|cues|é|)=?.{0,20}") {
            if let Ok(setting) = text.parse::<Setting>() {
                prop_assert_eq!(format!("{}={}", setting.name, setting.value), text);
            }
        }
    }

    #[test]
    fn settings_are_split_at_the_first_equals_sign() {
        let setting: Setting = "net-arch=[(8,3,2)]".parse().unwrap();
        assert_eq!(
            (setting.name.as_str(), setting.value.as_str()),
            ("net-arch", "[(8,3,2)]")
        );
        assert!(
            "threshold"
                .parse::<Setting>()
                .unwrap_err()
                .to_string()
                .contains("PROPERTY=VALUE")
        );
        assert!("drop-normal=true".parse::<Setting>().is_err());
    }

    #[test]
    fn clips_come_in_order_and_no_match_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.mp4", "a.mp4", "c.mkv"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let at = |pattern: &str| dir.path().join(pattern).to_string_lossy().into_owned();
        let parse = |list: &[&str]| Args::try_parse_from(["evaluate"].iter().chain(list)).unwrap();
        let args = parse(&["--warm", &at("*.mkv"), "--clips", &at("*.mp4")]);
        let clips = args.resolve_clips().unwrap();
        let names: Vec<_> = clips.iter().map(|c| (c.name.as_str(), c.counted)).collect();
        assert_eq!(names, [("c", false), ("a", true), ("b", true)]);
        let error = parse(&["--clips", &at("*.avi")])
            .resolve_clips()
            .unwrap_err()
            .to_string();
        assert!(error.contains("matches no file"), "{error}");
    }
}
