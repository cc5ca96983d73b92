//! Ground truth of the location: a file with the boxes of the anomalies, and videos with their pixels.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use gst_video::prelude::*;
use gstvaeanomaly::detector::Region;
use gstvaeanomaly::metrics::{LocalisationReport, LocatedFrame, MapCurve, mask_parts};

use crate::args::{Args, Clip, matching};
use crate::clips::Frames;
use crate::figures::Counted;
use crate::stream::Verdict;

const HEADER: &str = "clip,frame,x,y,w,h";
/// Grey level from which on a pixel of a mask is anomalous.
const ANOMALOUS: u8 = 128;

/// The boxes of all clips, by clip and frame.
#[derive(Clone, Debug, PartialEq)]
struct Boxes(BTreeMap<String, BTreeMap<usize, Vec<Region>>>);

/// The videos with the masks, by clip.
#[derive(Clone, Debug, PartialEq)]
struct Masks(BTreeMap<String, PathBuf>);

/// Where the anomalies of a frame are.
#[derive(Clone, Debug, Default, PartialEq)]
struct Mask {
    width: usize,
    pixels: usize,
    /// The pixels of each anomaly.
    parts: Vec<Vec<usize>>,
}

/// Where the anomalies are: boxes, masks, or both.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    boxes: Option<Boxes>,
    masks: Option<Masks>,
}

/// Figures of the location.
#[derive(Clone, Copy, Debug, Default)]
pub struct Localisation {
    /// Of the regions.
    pub report: LocalisationReport,
    /// Of the cells of the anomaly maps: area under the ROC curve, and under the per-region overlap curve.
    pub map_auroc: Option<f64>,
    pub map_aupro: Option<f64>,
    /// The same of the pixels of masks.
    pub pixel_auroc: Option<f64>,
    pub pixel_aupro: Option<f64>,
}

impl Truth {
    /// What `--boxes` and `--masks` name; `None` without both.
    ///
    /// # Errors
    /// A row of another form; the error names its line. A pattern without a file.
    pub fn read(args: &Args) -> Result<Option<Self>> {
        let truth = Self {
            boxes: args.boxes.as_deref().map(Boxes::read).transpose()?,
            masks: (!args.masks.is_empty())
                .then(|| Masks::find(&args.masks))
                .transpose()?,
        };
        Ok((truth.boxes.is_some() || truth.masks.is_some()).then_some(truth))
    }

    /// The figures of the evaluated frames.
    ///
    /// # Errors
    /// A mask that cannot be decoded or ends before its clip.
    pub fn evaluate(&self, verdicts: &[Verdict], clips: &[Clip], counted: &Counted) -> Result<Localisation> {
        let mut tracks = Tracks::default();
        let (mut cells, mut pixels) = (MapCurve::default(), MapCurve::default());
        let mut frames = Vec::with_capacity(counted.positions.len());
        let mut masks: (usize, Vec<Mask>) = (usize::MAX, Vec::new());
        for &position in &counted.positions {
            let verdict = &verdicts[position];
            let clip = &clips[verdict.clip].name;
            if let Some(all) = &self.masks
                && masks.0 != verdict.clip
            {
                masks = (verdict.clip, all.decode(clip)?);
            }
            // A clip without masks has no anomalies.
            let mask = masks.1.get(verdict.index);
            ensure!(
                mask.is_some() || masks.1.is_empty(),
                "the masks of clip {clip} end before frame {}",
                verdict.index
            );
            let boxes = match (&self.boxes, mask) {
                (Some(boxes), _) => boxes.of(clip, verdict.index).to_vec(),
                (None, Some(mask)) => mask.boxes(verdict.image_size),
                (None, None) => Vec::new(),
            };
            if let (true, Some(map)) = (verdict.trusted, &verdict.map) {
                let columns = map.width as usize;
                let scale_x = f64::from(map.width) / f64::from(verdict.image_size.0);
                let scale_y = f64::from(map.height) / f64::from(verdict.image_size.1);
                let truth: Vec<[f64; 4]> = boxes
                    .iter()
                    .map(|b| {
                        let [x, y, w, h] = [b.x, b.y, b.width, b.height].map(f64::from);
                        [x * scale_x, y * scale_y, w * scale_x, h * scale_y]
                    })
                    .collect();
                cells.add(&map.pixels, columns, &truth);
                if let Some(mask) = mask {
                    pixels.add_pixels(&map.pixels, columns, (mask.width, mask.pixels), &mask.parts);
                }
            }
            frames.push(LocatedFrame {
                truth: tracks.follow((verdict.clip, verdict.index), &boxes),
                found: verdict.regions.clone(),
            });
        }
        Ok(Localisation {
            report: LocalisationReport::new(&frames),
            map_auroc: cells.auroc(),
            map_aupro: cells.aupro(),
            pixel_auroc: pixels.auroc(),
            pixel_aupro: pixels.aupro(),
        })
    }
}

impl Masks {
    /// The videos that match; each is named as its clip, or as its clip and `_gt`.
    fn find(patterns: &[String]) -> Result<Self> {
        let files = matching("--masks", patterns, false)?;
        let named = |file: Clip| {
            let name = file.name.strip_suffix("_gt").unwrap_or(&file.name);
            (name.to_owned(), file.path)
        };
        Ok(Self(files.into_iter().map(named).collect()))
    }

    /// The masks of a clip's frames; none for a clip without a video.
    fn decode(&self, clip: &str) -> Result<Vec<Mask>> {
        let Some(path) = self.0.get(clip) else {
            return Ok(Vec::new());
        };
        let video = Clip {
            path: path.clone(),
            name: clip.to_owned(),
            counted: false,
        };
        let mask = |frame: Result<crate::clips::Frame>| -> Result<Mask> {
            let frame = frame?;
            let image = frame.map()?;
            let (width, height) = (image.width() as usize, image.height() as usize);
            let stride = usize::try_from(image.plane_stride()[0]).context("a mask that is upside down")?;
            let rows = image.plane_data(0)?.chunks(stride.max(1)).take(height);
            let pixels: Vec<bool> = rows
                .flat_map(|row| row.iter().take(width).map(|&value| value >= ANOMALOUS))
                .collect();
            Ok(Mask {
                width,
                pixels: pixels.len(),
                parts: mask_parts(&pixels, width),
            })
        };
        Frames::new(&[video], &[])
            .map(mask)
            .collect::<Result<_>>()
            .with_context(|| format!("--masks {}", path.display()))
    }
}

impl Mask {
    /// The boxes around the anomalies, in pixels of an image of this size.
    fn boxes(&self, (width, height): (u32, u32)) -> Vec<Region> {
        let rows = (self.pixels / self.width.max(1)).max(1) as u32;
        let across = |x: usize| x as u32 * width / self.width.max(1) as u32;
        let down = |y: usize| y as u32 * height / rows;
        let around = |part: &Vec<usize>| {
            let columns = || part.iter().map(|i| i % self.width);
            let lines = || part.iter().map(|i| i / self.width);
            let (left, right) = (columns().min()?, columns().max()? + 1);
            let (upper, lower) = (lines().min()?, lines().max()? + 1);
            Some(Region {
                x: across(left),
                y: down(upper),
                width: across(right) - across(left),
                height: down(lower) - down(upper),
            })
        };
        self.parts.iter().filter_map(around).collect()
    }
}

impl Boxes {
    /// Reads `clip,frame,x,y,w,h` rows in pixels, in any order; a frame may have several.
    ///
    /// # Errors
    /// A row of another form; the error names its line.
    fn read(path: &Path) -> Result<Self> {
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

    /// The boxes of a frame.
    fn of(&self, clip: &str, frame: usize) -> &[Region] {
        let boxes = self.0.get(clip).and_then(|clip| clip.get(&frame));
        boxes.map_or(&[], Vec::as_slice)
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
        let truth = Truth {
            boxes: Some(Boxes::parse(text).unwrap()),
            masks: None,
        };
        let figures = truth.evaluate(&verdicts, &clips, &counted).unwrap();
        assert_eq!(
            (figures.report.tracks, figures.report.touched),
            (2, 1),
            "frames 1 and 2 are one track"
        );
        assert_eq!(figures.report.strongest_overlaps, Some(2.0 / 3.0));
        assert_eq!(figures.map_auroc, None, "there are no maps");
    }

    #[test]
    fn masks_are_videos_named_as_their_clips() {
        gst::init().unwrap();
        let folder = tempfile::tempdir().unwrap();
        // White on the left, dark on the right.
        let line = "videotestsrc num-buffers=3 pattern=black ! video/x-raw,format=I420,width=64,height=32 \
            ! videobox left=-16 fill=white ! avenc_ffv1 ! matroskamux ! filesink location=";
        let pipeline =
            gst::parse::launch(&format!("{line}{}", folder.path().join("a_gt.mkv").display())).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let bus = pipeline.bus().unwrap();
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        let end = bus.timed_pop_filtered(gst::ClockTime::NONE, &ends).unwrap();
        assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
        drop(end);
        pipeline.set_state(gst::State::Null).unwrap();

        let masks = Masks::find(&[folder.path().join("*").display().to_string()]).unwrap();
        assert!(masks.decode("b").unwrap().is_empty(), "a clip without masks");
        let frames = masks.decode("a").unwrap();
        assert_eq!(frames.len(), 3);
        let white = Region {
            x: 0,
            y: 0,
            width: 16,
            height: 32,
        };
        assert!(
            frames.iter().all(|mask| mask.boxes((80, 32)) == [white]),
            "{frames:?}"
        );

        let mut verdicts: Vec<Verdict> = (0..4).map(|i| verdict(0, i, 2.0)).collect();
        for verdict in &mut verdicts {
            verdict.image_size = (80, 32);
            verdict.regions = vec![(white, 0.9)];
            verdict.map = Some(gstvaeanomaly::SmallImage {
                width: 5,
                height: 1,
                pixels: vec![200, 100, 100, 100, 100],
            });
        }
        let clips = [clip("a")];
        let truth = Truth {
            boxes: None,
            masks: Some(masks),
        };
        let evaluate = |frames: usize| {
            let counted = Counted::new(&verdicts[..frames], &clips, None, 0, 10.0).unwrap();
            truth.evaluate(&verdicts[..frames], &clips, &counted)
        };
        let figures = evaluate(3).unwrap();
        assert_eq!(figures.report.mean_iou, Some(1.0));
        assert_eq!((figures.pixel_auroc, figures.pixel_aupro), (Some(1.0), Some(1.0)));
        let error = evaluate(4).unwrap_err().to_string();
        assert_eq!(error, "the masks of clip a end before frame 3");
    }

    #[test]
    fn the_parts_of_a_mask_have_boxes_in_the_pixels_of_the_image() {
        let mask = Mask {
            width: 4,
            pixels: 12,
            parts: vec![vec![0, 1, 4], vec![11]],
        };
        let boxes = mask.boxes((40, 60));
        let edges = |r: &Region| [r.x, r.y, r.width, r.height];
        assert_eq!(
            boxes.iter().map(edges).collect::<Vec<_>>(),
            [[0, 0, 20, 40], [30, 40, 10, 20]]
        );
        assert!(Mask::default().boxes((40, 60)).is_empty());
    }
}
