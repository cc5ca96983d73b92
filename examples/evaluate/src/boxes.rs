//! Ground truth of the location: a file with the boxes of the anomalies.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use gstvaeanomaly::detector::Region;
use gstvaeanomaly::metrics::{LocalisationReport, LocatedFrame, MapCurve};

use crate::args::Clip;
use crate::figures::Counted;
use crate::stream::Verdict;

const HEADER: &str = "clip,frame,x,y,w,h";

/// The boxes of all clips, by clip and frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Boxes(BTreeMap<String, BTreeMap<usize, Vec<Region>>>);

/// Figures of the location.
#[derive(Clone, Copy, Debug, Default)]
pub struct Localisation {
    /// Of the regions.
    pub report: LocalisationReport,
    /// Of the cells of the anomaly maps: area under the ROC curve, and under the per-region overlap curve.
    pub map_auroc: Option<f64>,
    pub map_aupro: Option<f64>,
}

impl Boxes {
    /// Reads `clip,frame,x,y,w,h` rows in pixels, in any order; a frame may have several.
    ///
    /// # Errors
    /// A row of another form; the error names its line.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty());
        let header = lines.next().map_or("", |(_, line)| line.trim());
        ensure!(
            header == HEADER,
            "must begin with the line {HEADER}, got '{header}'"
        );
        let mut boxes: BTreeMap<String, BTreeMap<usize, Vec<Region>>> = BTreeMap::new();
        for (number, line) in lines {
            let (clip, frame, region) = row(line).with_context(|| format!("line {}", number + 1))?;
            boxes
                .entry(clip.to_owned())
                .or_default()
                .entry(frame)
                .or_default()
                .push(region);
        }
        Ok(Self(boxes))
    }

    /// The figures of the evaluated frames.
    pub fn evaluate(&self, verdicts: &[Verdict], clips: &[Clip], counted: &Counted) -> Localisation {
        let mut tracks = Tracks::default();
        let mut curve = MapCurve::default();
        let frames = counted.positions.iter().map(|&position| {
            let verdict = &verdicts[position];
            let boxes = self
                .0
                .get(&clips[verdict.clip].name)
                .and_then(|clip| clip.get(&verdict.index));
            let boxes = boxes.map_or(&[][..], Vec::as_slice);
            if let (true, Some(map)) = (verdict.trusted, &verdict.map) {
                let scale_x = f64::from(map.width) / f64::from(verdict.image_size.0);
                let scale_y = f64::from(map.height) / f64::from(verdict.image_size.1);
                let truth: Vec<[f64; 4]> = boxes
                    .iter()
                    .map(|b| {
                        let [x, y, w, h] = [b.x, b.y, b.width, b.height].map(f64::from);
                        [x * scale_x, y * scale_y, w * scale_x, h * scale_y]
                    })
                    .collect();
                curve.add(&map.pixels, map.width as usize, &truth);
            }
            LocatedFrame {
                truth: tracks.follow((verdict.clip, verdict.index), boxes),
                found: verdict.regions.clone(),
            }
        });
        let frames: Vec<LocatedFrame> = frames.collect();
        Localisation {
            report: LocalisationReport::new(&frames),
            map_auroc: curve.auroc(),
            map_aupro: curve.aupro(),
        }
    }
}

/// Numbers the tracks of boxes: a box that overlaps one of the previous frame is on the same track.
#[derive(Default)]
struct Tracks {
    previous: (usize, usize),
    open: Vec<(usize, Region)>,
    count: usize,
}

impl Tracks {
    fn follow(&mut self, frame: (usize, usize), boxes: &[Region]) -> Vec<(usize, Region)> {
        if frame != (self.previous.0, self.previous.1 + 1) {
            self.open.clear();
        }
        self.previous = frame;
        let mut free = std::mem::take(&mut self.open);
        for region in boxes {
            let best = (0..free.len()).max_by_key(|&i| free[i].1.intersection(region));
            let track = match best.filter(|&i| free[i].1.intersection(region) > 0) {
                Some(i) => free.swap_remove(i).0,
                None => {
                    self.count += 1;
                    self.count - 1
                }
            };
            self.open.push((track, *region));
        }
        self.open.clone()
    }
}

fn row(line: &str) -> Result<(&str, usize, Region)> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [clip, frame, x, y, width, height] = fields[..] else {
        bail!("expected {HEADER}, got '{line}'");
    };
    let number = |text: &str| {
        text.parse::<u32>()
            .with_context(|| format!("'{text}' is not a number from 0"))
    };
    let region = Region {
        x: number(x)?,
        y: number(y)?,
        width: number(width)?,
        height: number(height)?,
    };
    Ok((clip, number(frame)? as usize, region))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::verdict;

    fn clip(name: &str) -> Clip {
        Clip {
            path: name.into(),
            name: name.into(),
            counted: true,
        }
    }

    #[test]
    fn rows_are_read_and_errors_name_the_line() {
        let boxes = Boxes::parse("clip,frame,x,y,w,h\na,3,1,2,3,4\n\nb,0,5,6,7,8\na,3,9,9,9,9\n").unwrap();
        assert_eq!(boxes.0["a"][&3].len(), 2);
        assert_eq!(boxes.0["b"][&0][0].height, 8);
        let error = |text: &str| format!("{:#}", Boxes::parse(text).unwrap_err());
        assert!(error("clip,frame").contains("must begin with the line clip,frame,x,y,w,h"));
        assert!(error("clip,frame,x,y,w,h\na,3,1,2,3").starts_with("line 2: expected"));
        assert!(error("clip,frame,x,y,w,h\na,3,1,2,-3,4").contains("'-3' is not a number"));
    }

    #[test]
    fn regions_are_compared_with_the_boxes_of_their_frame() {
        let text = "clip,frame,x,y,w,h\na,1,0,0,10,10\na,2,5,0,10,10\na,4,50,50,10,10\n";
        let mut verdicts: Vec<Verdict> = (0..5).map(|i| verdict(0, i, 0.0)).collect();
        let region = Region {
            x: 0,
            y: 0,
            width: 10,
            height: 10,
        };
        for i in [1, 2, 4] {
            verdicts[i].regions = vec![(region, 0.9)];
        }
        let clips = [clip("a")];
        let counted = Counted::new(&verdicts, &clips, None, 0, 10.0).unwrap();
        let figures = Boxes::parse(text).unwrap().evaluate(&verdicts, &clips, &counted);
        assert_eq!(
            (figures.report.tracks, figures.report.touched),
            (2, 1),
            "frames 1 and 2 are one track"
        );
        assert_eq!(figures.report.strongest_overlaps, Some(2.0 / 3.0));
        assert_eq!(figures.map_auroc, None, "there are no maps");
    }
}
