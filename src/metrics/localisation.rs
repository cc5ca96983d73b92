//! Whether what was found is where the anomaly is: boxes against boxes, and maps against boxes or masks.

use super::share;
use crate::detector::{Region, connected};

/// Smallest intersection over union at which a region of the ground truth counts as detected, and share of a track's
/// regions that makes the track detected (Ramachandra & Jones, "Street Scene: A new dataset and evaluation protocol for
/// video anomaly detection", WACV 2020, section 4).
const DETECTED_IOU: f64 = 0.1;
const DETECTED_SHARE: f64 = 0.1;

/// Intersection over union of two boxes, 0..1; 0 for two empty ones.
#[must_use]
pub fn iou(a: &Region, b: &Region) -> f64 {
    let intersection = a.intersection(b);
    share(intersection, a.area() + b.area() - intersection).unwrap_or(0.0)
}

/// Ground truth and findings of a frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocatedFrame {
    /// The boxes of the ground truth, each with the number of its track, from 0.
    pub truth: Vec<(usize, Region)>,
    /// The regions that were found, each with its score; the strongest first. Empty in frames that are not flagged.
    pub found: Vec<(Region, f64)>,
}

/// How well anomalies are located.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LocalisationReport {
    /// Flagged frames with a box in the ground truth.
    pub frames: usize,
    /// Share of them whose strongest region overlaps a box.
    pub strongest_overlaps: Option<f64>,
    /// Share of them with a region that overlaps a box.
    pub any_overlaps: Option<f64>,
    /// Mean over them of the best [`iou`] of the strongest region and a box.
    pub mean_iou: Option<f64>,
    /// Tracks of the ground truth, and those with a region that overlaps a box in some frame.
    pub tracks: usize,
    /// Tracks with an overlapping region in some frame.
    pub touched: usize,
    /// The smallest share, over the tracks with flagged frames, of those frames that have an overlapping region.
    pub least_share: Option<f64>,
    /// Region-based detection criterion: mean share of the boxes that are detected, over 0 to 1 false regions per frame.
    pub rbdc: Option<f64>,
    /// Track-based detection criterion: the same of the tracks.
    pub tbdc: Option<f64>,
}

impl LocalisationReport {
    /// The report on the evaluated frames of a stream.
    #[must_use]
    pub fn new(frames: &[LocatedFrame]) -> Self {
        let tracks = frames
            .iter()
            .flat_map(|f| &f.truth)
            .map(|(track, _)| track + 1)
            .max()
            .unwrap_or(0);
        // Flagged frames of each track, and those with an overlapping region.
        let mut per_track = vec![(0u64, 0u64); tracks];
        let (mut strongest, mut any, mut flagged, mut sum) = (0, 0, 0, 0.0);
        for frame in frames {
            let Some((first, _)) = frame.found.first() else {
                continue;
            };
            let overlaps = |region: &Region| {
                frame
                    .truth
                    .iter()
                    .any(|(_, truth)| region.intersection(truth) > 0)
            };
            for (track, truth) in &frame.truth {
                per_track[*track].0 += 1;
                per_track[*track].1 += u64::from(frame.found.iter().any(|(r, _)| r.intersection(truth) > 0));
            }
            if !frame.truth.is_empty() {
                flagged += 1;
                strongest += u64::from(overlaps(first));
                any += u64::from(frame.found.iter().any(|(region, _)| overlaps(region)));
                sum += frame
                    .truth
                    .iter()
                    .map(|(_, truth)| iou(first, truth))
                    .fold(0.0, f64::max);
            }
        }
        let shares = per_track
            .iter()
            .filter_map(|&(frames, overlapping)| share(overlapping, frames));
        let (rbdc, tbdc) = detection_criteria(frames, tracks);
        Self {
            frames: flagged as usize,
            strongest_overlaps: share(strongest, flagged),
            any_overlaps: share(any, flagged),
            mean_iou: (flagged > 0).then(|| sum / flagged as f64),
            tracks,
            touched: per_track
                .iter()
                .filter(|(_, overlapping)| *overlapping > 0)
                .count(),
            least_share: shares.reduce(f64::min),
            rbdc,
            tbdc,
        }
    }
}

/// Region- and track-based detection criteria.
fn detection_criteria(frames: &[LocatedFrame], tracks: usize) -> (Option<f64>, Option<f64>) {
    // The score at which each box is detected, by track, and the scores of false regions.
    let mut detected = vec![Vec::new(); tracks];
    let mut false_scores = Vec::new();
    for frame in frames {
        for (track, truth) in &frame.truth {
            let hits = frame
                .found
                .iter()
                .filter(|(region, _)| iou(region, truth) >= DETECTED_IOU);
            detected[*track].push(hits.map(|(_, score)| *score).fold(f64::NEG_INFINITY, f64::max));
        }
        let is_false = |region: &Region| {
            frame
                .truth
                .iter()
                .all(|(_, truth)| iou(region, truth) < DETECTED_IOU)
        };
        false_scores.extend(
            frame
                .found
                .iter()
                .filter(|(region, _)| is_false(region))
                .map(|(_, score)| *score),
        );
    }
    false_scores.sort_by(|a, b| b.total_cmp(a));
    let track_score = |scores: &Vec<f64>| {
        let mut sorted = scores.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let needed = (DETECTED_SHARE * sorted.len() as f64).ceil() as usize;
        sorted.get(needed.saturating_sub(1)).copied()
    };
    let boxes: Vec<f64> = detected.iter().flatten().copied().collect();
    let whole: Vec<f64> = detected.iter().filter_map(track_score).collect();
    let area = |scores: &[f64]| area_to_one(scores, &false_scores, frames.len());
    (area(&boxes), area(&whole))
}

/// Mean share of `scores` above the threshold, over the thresholds that give 0 to 1 false regions per frame.
fn area_to_one(scores: &[f64], false_scores: &[f64], frames: usize) -> Option<f64> {
    let rate = |threshold: f64| {
        let above = scores.iter().filter(|&&score| score > threshold).count();
        share(above as u64, scores.len() as u64)
    };
    let mut sum = 0.0;
    for allowed in 0..frames {
        match false_scores.get(allowed) {
            Some(&next) => sum += rate(next)?,
            None => {
                let rest = (frames - allowed) as f64;
                sum += rest * rate(f64::NEG_INFINITY)?;
                break;
            }
        }
    }
    (frames > 0 && !scores.is_empty()).then(|| sum / frames as f64)
}

/// Largest share of normal cells above the threshold that [`MapCurve::aupro`] takes in (Bergmann et al., "Uninformed
/// students", CVPR 2020, section 4).
const AUPRO_LIMIT: f64 = 0.3;

/// The pixels of each connected part of a mask of `width` columns, row by row. Pixels that touch at a corner are not
/// connected.
#[must_use]
pub fn mask_parts(mask: &[bool], width: usize) -> Vec<Vec<usize>> {
    let size = (width, mask.len() / width.max(1));
    let mut seen = vec![false; mask.len()];
    let parts = (0..size.0 * size.1).map(|start| connected(size, start, &mut seen, |i| mask[i]));
    parts.filter(|part| !part.is_empty()).collect()
}

/// Curves of 8-bit anomaly maps against ground truth for every cell or every pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct MapCurve {
    /// Number of normal and of anomalous cells or pixels with each value.
    normal: Vec<u64>,
    anomalous: Vec<u64>,
    /// Shares of the regions of the ground truth with each value, summed over the regions.
    overlap: Vec<f64>,
    regions: u64,
}

impl Default for MapCurve {
    fn default() -> Self {
        Self {
            normal: vec![0; 256],
            anomalous: vec![0; 256],
            overlap: vec![0.0; 256],
            regions: 0,
        }
    }
}

impl MapCurve {
    /// Adds a map of `width` columns; `truth` are the boxes in its cells. A cell is anomalous if its centre is in a box.
    /// Boxes without the centre of a cell do not count.
    pub fn add(&mut self, map: &[u8], width: usize, truth: &[[f64; 4]]) {
        let mut is_anomalous = vec![false; map.len()];
        for [x, y, box_width, box_height] in truth {
            let inside = |i: usize| {
                let centre = ((i % width) as f64 + 0.5, (i / width) as f64 + 0.5);
                (*x..x + box_width).contains(&centre.0) && (*y..y + box_height).contains(&centre.1)
            };
            let cells: Vec<usize> = (0..map.len()).filter(|&i| inside(i)).collect();
            self.regions += u64::from(!cells.is_empty());
            for &cell in &cells {
                is_anomalous[cell] = true;
                self.overlap[usize::from(map[cell])] += 1.0 / cells.len() as f64;
            }
        }
        self.count(map.iter().copied().zip(is_anomalous));
    }

    /// Adds a map of `columns` columns that is stretched over a frame of `width` columns. `truth` are the regions, each with
    /// its pixels, as from [`mask_parts`]; the other ones of the `pixels` of the frame are normal. A pixel has the value of
    /// the cell that it is in.
    pub fn add_pixels(
        &mut self,
        map: &[u8],
        columns: usize,
        (width, pixels): (usize, usize),
        truth: &[Vec<usize>],
    ) {
        let (rows, height) = (map.len() / columns.max(1), pixels / width.max(1));
        let value = |i: usize| {
            let (x, y) = (i % width * columns / width, i / width * rows / height);
            map[y * columns + x]
        };
        let mut is_anomalous = vec![false; pixels];
        for region in truth {
            self.regions += 1;
            for &pixel in region {
                is_anomalous[pixel] = true;
                self.overlap[usize::from(value(pixel))] += 1.0 / region.len() as f64;
            }
        }
        self.count(is_anomalous.into_iter().enumerate().map(|(i, is)| (value(i), is)));
    }

    fn count(&mut self, values: impl Iterator<Item = (u8, bool)>) {
        for (value, is_anomalous) in values {
            let counts = if is_anomalous {
                &mut self.anomalous
            } else {
                &mut self.normal
            };
            counts[usize::from(value)] += 1;
        }
    }

    /// Area under the ROC curve of the cells or pixels; equal values count half. `None` without both kinds of them.
    #[must_use]
    pub fn auroc(&self) -> Option<f64> {
        let (normal, anomalous) = (
            self.normal.iter().sum::<u64>(),
            self.anomalous.iter().sum::<u64>(),
        );
        let mut below = 0.0;
        let mut ranked = 0.0;
        for (n, a) in self.normal.iter().zip(&self.anomalous) {
            ranked += *a as f64 * (below + 0.5 * *n as f64);
            below += *n as f64;
        }
        (normal > 0 && anomalous > 0).then(|| ranked / (normal as f64 * anomalous as f64))
    }

    /// Area under the per-region overlap curve up to a share of 0.3 of the normal cells, as a share of that area. `None`
    /// without normal cells or without regions.
    #[must_use]
    pub fn aupro(&self) -> Option<f64> {
        let normal = self.normal.iter().sum::<u64>() as f64;
        if normal == 0.0 || self.regions == 0 {
            return None;
        }
        let (mut area, mut x, mut y) = (0.0, 0.0, 0.0);
        for value in (0..256).rev() {
            let next_x = x + self.normal[value] as f64 / normal;
            let next_y = y + self.overlap[value] / self.regions as f64;
            if next_x >= AUPRO_LIMIT {
                let part = (AUPRO_LIMIT - x) / (next_x - x);
                area += (AUPRO_LIMIT - x) * (y + 0.5 * part * (next_y - y));
                return Some(area / AUPRO_LIMIT);
            }
            area += (next_x - x) * 0.5 * (y + next_y);
            (x, y) = (next_x, next_y);
        }
        Some(area / AUPRO_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(x: u32, y: u32, width: u32, height: u32) -> Region {
        Region { x, y, width, height }
    }

    fn near(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-9)
    }

    #[test]
    fn the_intersection_is_compared_with_the_union() {
        assert_eq!(iou(&region(0, 0, 10, 10), &region(0, 0, 10, 10)), 1.0);
        assert!((iou(&region(0, 0, 10, 10), &region(5, 0, 10, 10)) - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(iou(&region(0, 0, 10, 10), &region(10, 0, 10, 10)), 0.0);
        assert_eq!(iou(&Region::default(), &Region::default()), 0.0);
    }

    /// Two tracks of two frames. The strongest region of the second frame is beside the box, another one on it.
    fn frames() -> Vec<LocatedFrame> {
        let frame = |truth: &[(usize, Region)], found: &[(Region, f64)]| LocatedFrame {
            truth: truth.to_vec(),
            found: found.to_vec(),
        };
        let (here, there) = (region(0, 0, 10, 10), region(50, 50, 10, 10));
        vec![
            frame(&[(0, here)], &[(here, 0.9)]),
            frame(&[(0, here)], &[(there, 0.95), (region(5, 0, 10, 10), 0.6)]),
            frame(&[(1, there)], &[]),
            frame(&[(1, there)], &[(here, 0.7)]),
        ]
    }

    #[test]
    fn flagged_frames_and_tracks_are_compared_with_the_ground_truth() {
        let report = LocalisationReport::new(&frames());
        assert_eq!((report.frames, report.tracks, report.touched), (3, 2, 1));
        assert!(near(report.strongest_overlaps, 1.0 / 3.0), "{report:?}");
        assert!(near(report.any_overlaps, 2.0 / 3.0));
        assert!(near(report.mean_iou, 1.0 / 3.0));
        assert_eq!(
            report.least_share,
            Some(0.0),
            "the second track is flagged elsewhere"
        );
    }

    #[test]
    fn criteria_are_areas_up_to_one_false_region_a_frame() {
        // False regions at 0.95 and 0.7; boxes are detected at 0.9, 0.6, never, never. With 0, 1, 2, 3 false regions in four
        // frames: nothing, a quarter, a half, a half. The first track counts as detected at 0.9, the second never.
        let report = LocalisationReport::new(&frames());
        assert!(near(report.rbdc, (0.0 + 0.25 + 0.5 + 0.5) / 4.0), "{report:?}");
        assert!(near(report.tbdc, (0.0 + 0.5 + 0.5 + 0.5) / 4.0), "{report:?}");
        let nothing = LocalisationReport::new(&[]);
        assert_eq!((nothing.rbdc, nothing.tbdc, nothing.mean_iou), (None, None, None));
    }

    #[test]
    fn maps_are_ranked_by_cell() {
        let mut curve = MapCurve::default();
        // Four columns; the box covers the centres of the first two cells of the first row.
        curve.add(&[200, 100, 50, 50, 10, 10, 10, 100], 4, &[[0.0, 0.0, 2.4, 0.9]]);
        // 200 is above all six normal cells; 100 above five and level with one.
        assert!(near(curve.auroc(), (6.0 + 5.5) / 12.0));
        // Shares of the box at shares of normal cells: 0.5 at 0, 1 at 1/6 and after that.
        let until = (1.0 / 6.0) * 0.75 + (0.3 - 1.0 / 6.0) * 1.0;
        assert!(near(curve.aupro(), until / 0.3), "{:?}", curve.aupro());
        assert_eq!(
            (MapCurve::default().auroc(), MapCurve::default().aupro()),
            (None, None)
        );
    }

    #[test]
    fn maps_are_ranked_by_pixel() {
        let mask: Vec<bool> = "##......"
            .chars()
            .chain("#.....##".chars())
            .map(|c| c == '#')
            .collect();
        let parts = mask_parts(&mask, 8);
        assert_eq!(parts, [vec![0, 1, 8], vec![14, 15]]);
        let mut curve = MapCurve::default();
        // Two columns and one row: four columns and two rows of pixels have the same value.
        curve.add_pixels(&[200, 100], 2, (8, 16), &parts);
        // Five normal pixels at 200 and six at 100; three anomalous ones at 200 and two at 100.
        let ranked = 3.0 * (6.0 + 0.5 * 5.0) + 2.0 * 0.5 * 6.0;
        assert!(near(curve.auroc(), ranked / (5.0 * 11.0)), "{:?}", curve.auroc());
        // One of two regions at a share of 5/11 of the normal pixels, on a straight line up to there.
        assert!(
            near(curve.aupro(), 0.5 * 0.5 * 0.3 / (5.0 / 11.0)),
            "{:?}",
            curve.aupro()
        );
    }
}
