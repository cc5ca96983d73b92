//! Ground truth from `labels.csv`, checked before and during streaming.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::args::Clip;

/// Labels of all clips, each without gaps from frame 0.
#[derive(Clone, Debug)]
pub struct Labels {
    path: PathBuf,
    clips: BTreeMap<String, Vec<bool>>,
}

impl Labels {
    /// Reads `clip,frame,label` rows (1 = anomalous) in any order.
    ///
    /// # Errors
    /// Every error names the clip and the frame.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(path, &text)
    }

    /// The same, but frames may be without a label.
    pub fn read_partial(path: &Path) -> Result<PartialLabels> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(PartialLabels(rows(path, &text)?))
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut clips = BTreeMap::new();
        for (clip, labels) in rows(path, text)? {
            if let Some(gap) = (0..labels.len()).find(|frame| !labels.contains_key(frame)) {
                bail!("{} has no label for clip {clip} frame {gap}", path.display());
            }
            clips.insert(clip, labels.into_values().collect());
        }
        Ok(Self {
            path: path.to_owned(),
            clips,
        })
    }

    /// Fails if an evaluated clip has no labels at all.
    pub fn check_clips(&self, clips: &[Clip]) -> Result<()> {
        match clips
            .iter()
            .find(|c| c.counted && !self.clips.contains_key(&c.name))
        {
            Some(clip) => bail!(
                "{} has no label for clip {} frame 0",
                self.path.display(),
                clip.name
            ),
            None => Ok(()),
        }
    }

    /// The label of one frame.
    pub fn get(&self, clip: &str, frame: usize) -> Result<bool> {
        self.clips
            .get(clip)
            .and_then(|labels| labels.get(frame).copied())
            .with_context(|| {
                format!(
                    "{} has no label for clip {clip} frame {frame}",
                    self.path.display()
                )
            })
    }

    /// Fails if a clip has more or fewer labels than frames.
    pub fn check_end(&self, clip: &str, frames: usize) -> Result<()> {
        let labelled = self.clips.get(clip).map_or(0, Vec::len);
        ensure!(
            frames <= labelled,
            "{} has no label for clip {clip} frame {labelled}",
            self.path.display()
        );
        ensure!(
            frames == labelled,
            "clip {clip} ends after {frames} frames, but {} has a label for its frame {}",
            self.path.display(),
            labelled - 1
        );
        Ok(())
    }
}

/// Labels of some frames.
#[derive(Clone, Debug)]
pub struct PartialLabels(Rows);

impl PartialLabels {
    /// The label of one frame, if it has one.
    pub fn find(&self, clip: &str, frame: usize) -> Option<bool> {
        self.0.get(clip)?.get(&frame).copied()
    }
}

type Rows = BTreeMap<String, BTreeMap<usize, bool>>;

fn rows(path: &Path, text: &str) -> Result<Rows> {
    let file = path.display();
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let header = lines.next().map_or("", |(_, line)| line.trim());
    ensure!(
        header == "clip,frame,label",
        "{file} must begin with the line clip,frame,label, got '{header}'"
    );

    let mut rows: BTreeMap<String, BTreeMap<usize, bool>> = BTreeMap::new();
    for (number, line) in lines {
        let (clip, frame, label) = row(line).with_context(|| format!("{file} line {}", number + 1))?;
        let known = rows.entry(clip.to_owned()).or_default().insert(frame, label);
        ensure!(
            known.is_none(),
            "{file} line {}: clip {clip} frame {frame} is labelled twice",
            number + 1
        );
    }
    Ok(rows)
}

fn row(line: &str) -> Result<(&str, usize, bool)> {
    let mut fields = line.split(',').map(str::trim);
    let (Some(clip), Some(frame), Some(label), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        bail!("expected clip,frame,label, got '{line}'");
    };
    let number = frame
        .parse()
        .with_context(|| format!("clip {clip}: frame must be a number from 0, got '{frame}'"))?;
    let label = match label {
        "0" => false,
        "1" => true,
        _ => bail!("clip {clip} frame {frame}: label must be 0 or 1, got '{label}'"),
    };
    Ok((clip, number, label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(rows: &str) -> Result<Labels> {
        Labels::parse(Path::new("labels.csv"), &format!("clip,frame,label\n{rows}"))
    }

    fn error(rows: &str) -> String {
        format!("{:#}", parse(rows).unwrap_err())
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(
            text in r"(clip,frame,label\n)?(([ab],[0-9]{1,2},[01]\n)|([ab]?,?[0-9-]{0,30}[,é\r\n ]?[012]?\n?)){0,30}"
        ) {
            if let Ok(labels) = Labels::parse(Path::new("labels.csv"), &text) {
                for (clip, frames) in [("a", 0), ("a", usize::MAX), ("b", 1), ("", 0)] {
                    let _ = (labels.get(clip, frames), labels.check_end(clip, frames));
                }
            }
        }
    }

    #[test]
    fn rows_may_come_in_any_order() {
        let labels = parse("b,1,1\na,0,0\r\nb,0,0\n\n").unwrap();
        assert!(labels.get("b", 1).unwrap());
        assert!(!labels.get("a", 0).unwrap());
        let missing = labels.get("b", 2).unwrap_err().to_string();
        assert_eq!(missing, "labels.csv has no label for clip b frame 2");
    }

    #[test]
    fn errors_name_clip_and_frame() {
        assert_eq!(
            error("a,0,0\na,2,1"),
            "labels.csv has no label for clip a frame 1"
        );
        assert_eq!(
            error("a,0,2"),
            "labels.csv line 2: clip a frame 0: label must be 0 or 1, got '2'"
        );
        assert_eq!(
            error("a,0,0\na,0,1"),
            "labels.csv line 3: clip a frame 0 is labelled twice"
        );
        assert!(
            error("a,x,0").starts_with("labels.csv line 2: clip a: frame must be a number from 0, got 'x'")
        );
        assert!(error("a,0").contains("expected clip,frame,label"));
        assert!(Labels::parse(Path::new("l"), "frame,label").is_err());
    }

    #[test]
    fn clips_must_be_labelled_to_their_end() {
        let labels = parse("a,0,0\na,1,1").unwrap();
        assert!(labels.check_end("a", 2).is_ok());
        let short = labels.check_end("a", 1).unwrap_err().to_string();
        assert_eq!(
            short,
            "clip a ends after 1 frames, but labels.csv has a label for its frame 1"
        );
        let clip = |name: &str| Clip {
            path: "x".into(),
            name: name.into(),
            counted: true,
        };
        assert!(labels.check_clips(&[clip("a")]).is_ok());
        assert!(
            labels
                .check_clips(&[clip("b")])
                .unwrap_err()
                .to_string()
                .contains("clip b frame 0")
        );
    }
}
