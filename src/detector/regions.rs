//! The locations in an anomalous frame: found in the maps of the cues, brought to where things are now, and followed from
//! frame to frame.

use super::cue::{CalibratedCue, CueSet};
use super::decision::to_unit;
use super::frame::{Frame, GREY_CELL};
use super::map::{Extent, connected};
use super::{CueKind, Region};

/// Regions in a frame.
const MOST: usize = 8;
/// A region that is covered to this share by a stronger one, or covers it to this share, is a part of that one.
const SAME: f64 = 0.3;
/// Seconds after which a region that was not seen again is forgotten.
const REMEMBERED: f64 = 1.0;
/// Share of its size by which a region may be beside where it is expected.
const BESIDE: f64 = 0.25;

/// Pixels of the grey image by which the cells of a map may lie beside the thing that moves, and by which the thing may
/// reach beyond them.
const MARGIN: usize = 2;
const REACH: usize = 16;
/// Share of the largest deviation from the background that belongs to the thing, inside the cells and beyond.
const INSIDE: f32 = 0.2;
const BEYOND: f32 = 0.4;
/// Smallest deviation from the background that shows something.
const VISIBLE: f32 = 0.02;

/// A location in a frame whose score is above the threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnomalousRegion {
    /// Number from 1 that stays the same from frame to frame while the regions overlap where the last motion leads.
    pub id: u64,
    /// Where it is, in pixels of the frame.
    pub region: Region,
    /// Score of its highest cell in this frame alone, on the scale of [`Prediction::score`](super::Prediction::score).
    pub score: f64,
    /// The cue that it was found by.
    pub cue: CueKind,
}

/// Finds regions and follows them.
#[derive(Clone, Debug, Default)]
pub(crate) struct RegionTracker {
    tracks: Vec<Track>,
    last_id: u64,
}

/// A region that was seen in one of the last frames.
#[derive(Clone, Debug)]
struct Track {
    id: u64,
    region: Region,
    /// Change of its centre from frame to frame, in pixels.
    motion: (f64, f64),
    /// Seconds since it was last seen.
    unseen: f64,
}

impl RegionTracker {
    /// The regions of the frame of `frame_size` = (width, height) pixels that `cues` scored last: first the highest cell of
    /// the strongest cue, whatever its score, then the other connected parts of the maps above `threshold`, the strongest
    /// first.
    pub(crate) fn find(
        &mut self,
        cues: &CueSet,
        threshold: f64,
        frame: &Frame<'_>,
        frame_size: (usize, usize),
    ) -> Vec<AnomalousRegion> {
        let strongest = cues.strongest();
        let peak = |cue: &CalibratedCue, cell: usize| {
            cue.calibration().standardise(f64::from(cue.map().values[cell]))
        };
        let mut others: Vec<(f64, &CalibratedCue, usize)> = cues
            .counted()
            .flat_map(|cue| {
                let over = |score: f32| cue.calibration().standardise(f64::from(score)) > threshold;
                let peaks = cue.map().peaks(over).into_iter();
                peaks.map(move |cell| (peak(cue, cell), cue, cell))
            })
            .collect();
        others.sort_by(|a, b| b.0.total_cmp(&a.0));
        let highest = strongest.map().peak().0;
        let first = (peak(strongest, highest), strongest, highest);
        let mut found: Vec<(f64, CueKind, Region)> = Vec::new();
        for (score, cue, cell) in std::iter::once(first).chain(others).take(2 * MOST) {
            let region = locate(cue, cell, frame, frame_size);
            let is_new = !found.iter().any(|(_, _, other)| are_same(&region, other));
            if found.len() < MOST && region.area() > 0 && is_new {
                found.push((score, cue.kind(), region));
            }
        }
        let ids = self.follow(
            &found.iter().map(|found| found.2).collect::<Vec<_>>(),
            frame.step.seconds,
        );
        let regions = found.into_iter().zip(ids);
        regions
            .map(|((score, cue, region), id)| AnomalousRegion {
                id,
                region,
                score: to_unit(score, threshold),
                cue,
            })
            .collect()
    }

    /// Takes a frame without regions that came `seconds` after the previous one.
    pub(crate) fn pass(&mut self, seconds: f64) {
        self.follow(&[], seconds);
    }

    /// Forgets the previous frames. No number is given twice.
    pub(crate) fn restart(&mut self) {
        self.tracks.clear();
    }

    /// The ids of the regions of a frame that came `seconds` after the previous one.
    fn follow(&mut self, regions: &[Region], seconds: f64) -> Vec<u64> {
        for track in &mut self.tracks {
            track.unseen += seconds;
        }
        self.tracks.retain(|track| track.unseen <= REMEMBERED);
        let mut free = std::mem::take(&mut self.tracks);
        for region in regions {
            let overlap = |track: &Track| track.expected().intersection(region);
            let best = (0..free.len()).max_by_key(|&i| overlap(&free[i]));
            let track = match best.filter(|&i| overlap(&free[i]) > 0) {
                Some(i) => free.remove(i).seen(*region),
                None => {
                    self.last_id += 1;
                    Track {
                        id: self.last_id,
                        region: *region,
                        motion: (0.0, 0.0),
                        unseen: 0.0,
                    }
                }
            };
            self.tracks.push(track);
        }
        let ids = self.tracks.iter().map(|track| track.id).collect();
        self.tracks.append(&mut free);
        ids
    }
}

impl Track {
    /// Where it may be in the next frame.
    fn expected(&self) -> Region {
        let Region { x, y, width, height } = self.region;
        let along = |from: u32, length: u32, motion: f64| {
            let beside = BESIDE * f64::from(length);
            let from = f64::from(from) + motion - beside;
            let end = from + f64::from(length) + 2.0 * beside;
            // Casts saturate.
            let start = from.max(0.0) as u32;
            (start, (end as u32).saturating_sub(start))
        };
        let (x, width) = along(x, width, self.motion.0);
        let (y, height) = along(y, height, self.motion.1);
        Region { x, y, width, height }
    }

    fn seen(self, region: Region) -> Self {
        let centre = |from: u32, length: u32| f64::from(from) + 0.5 * f64::from(length);
        let moved = |new: f64, old: f64| new - old;
        let (old, new) = (self.region, region);
        Self {
            motion: (
                moved(centre(new.x, new.width), centre(old.x, old.width)),
                moved(centre(new.y, new.height), centre(old.y, old.height)),
            ),
            region,
            unseen: 0.0,
            id: self.id,
        }
    }
}

/// Whether one region covers so much of the other that they are one.
fn are_same(a: &Region, b: &Region) -> bool {
    a.intersection(b) as f64 > SAME * a.area().min(b.area()) as f64
}

/// The region around a peak in a cue's map.
fn locate(cue: &CalibratedCue, peak: usize, frame: &Frame<'_>, frame_size: (usize, usize)) -> Region {
    let map = cue.map();
    let hill = map.hill(peak);
    if cue.looks_back() {
        let size = (map.width * GREY_CELL, map.height * GREY_CELL);
        if let Some(extent) = now(frame.deviation, size, &hill) {
            return extent.region(size, frame_size);
        }
    }
    let extent = Extent::around(&hill, map.width);
    extent.map_or_else(Region::default, |extent| extent.region(map.size(), frame_size))
}

/// Where the thing is now that the `cells` of a map show, which also show where it was: the pixels in and around the cells
/// whose `deviation` from the background is large. `None` where nothing deviates.
///
/// # Shapes
/// `deviation`: `[height, width]` of `(width, height)`; cells are [`GREY_CELL`] pixels wide and high.
fn now(deviation: &[f32], (width, height): (usize, usize), cells: &[usize]) -> Option<Extent> {
    let columns = width / GREY_CELL;
    let extent = Extent::around(cells, columns)?;
    // What may belong to it, at the resolution of the grey image.
    let left = (extent.left * GREY_CELL).saturating_sub(MARGIN + REACH);
    let upper = (extent.upper * GREY_CELL).saturating_sub(MARGIN + REACH);
    let right = (extent.right * GREY_CELL + MARGIN + REACH).min(width);
    let lower = (extent.lower * GREY_CELL + MARGIN + REACH).min(height);
    let window = (right - left, lower - upper);
    let smooth = smoothed(deviation, width, height, (left, upper), window);

    let mut inside = vec![false; smooth.len()];
    for &cell in cells {
        let (x, y) = (cell % columns * GREY_CELL, cell / columns * GREY_CELL);
        for y in y.saturating_sub(MARGIN)..(y + GREY_CELL + MARGIN).min(height) {
            let row = (y - upper) * window.0;
            let from = x.saturating_sub(MARGIN) - left;
            let to = (x + GREY_CELL + MARGIN).min(width) - left;
            inside[row + from..row + to].fill(true);
        }
    }
    let largest = (0..smooth.len())
        .filter(|&i| inside[i])
        .map(|i| smooth[i])
        .fold(0.0, f32::max);
    if largest < VISIBLE {
        return None;
    }
    // The heaviest connected part inside, then what is connected with it beyond.
    let mut seen = vec![false; smooth.len()];
    let weight = |part: &[usize]| part.iter().map(|&i| smooth[i]).sum::<f32>();
    let part = (0..smooth.len())
        .map(|start| {
            connected(window, start, &mut seen, |i| {
                inside[i] && smooth[i] >= INSIDE * largest
            })
        })
        .filter(|part| !part.is_empty())
        .max_by(|a, b| weight(a).total_cmp(&weight(b)))?;
    let mut belongs = vec![false; smooth.len()];
    part.iter().for_each(|&i| belongs[i] = true);
    let mut seen = vec![false; smooth.len()];
    let all = connected(window, part[0], &mut seen, |i| {
        belongs[i] || smooth[i] >= BEYOND * largest
    });
    let around = Extent::around(&all, window.0)?;
    Some(Extent {
        left: around.left + left,
        upper: around.upper + upper,
        right: around.right + left,
        lower: around.lower + upper,
    })
}

/// Means of the absolute values over 3x3 pixels, of the part of an image that begins at `(left, upper)` and is `window` =
/// (width, height) pixels large. What lies outside the image does not count.
fn smoothed(
    image: &[f32],
    width: usize,
    height: usize,
    (left, upper): (usize, usize),
    window: (usize, usize),
) -> Vec<f32> {
    let (first, last) = (left.saturating_sub(1), (left + window.0 + 1).min(width));
    let mut means = Vec::with_capacity(window.0 * window.1);
    let mut sums = vec![0.0f32; last - first];
    for y in upper..upper + window.1 {
        let rows = y.saturating_sub(1)..(y + 2).min(height);
        sums.fill(0.0);
        for y in rows.clone() {
            let row = &image[y * width + first..y * width + last];
            sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v.abs());
        }
        means.extend((left..left + window.0).map(|x| {
            let columns = &sums[x.saturating_sub(1) - first..(x + 2 - first).min(sums.len())];
            columns.iter().sum::<f32>() / (rows.len() * columns.len()) as f32
        }));
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (usize, usize) = (80, 60);

    fn image(boxes: &[(Extent, f32)]) -> Vec<f32> {
        let mut image = vec![0.001; SIZE.0 * SIZE.1];
        for (extent, value) in boxes {
            for y in extent.upper..extent.lower {
                image[y * SIZE.0 + extent.left..y * SIZE.0 + extent.right].fill(*value);
            }
        }
        image
    }

    fn extent(left: usize, upper: usize, right: usize, lower: usize) -> Extent {
        Extent {
            left,
            upper,
            right,
            lower,
        }
    }

    /// Cells of the grid that touch these pixels.
    fn cells(pixels: Extent) -> Vec<usize> {
        let inside = |i: &usize| {
            let (x, y) = (i % 20 * GREY_CELL, i / 20 * GREY_CELL);
            x < pixels.right
                && x + GREY_CELL > pixels.left
                && y < pixels.lower
                && y + GREY_CELL > pixels.upper
        };
        (0..20 * 15).filter(inside).collect()
    }

    fn distance(a: Extent, b: Extent) -> usize {
        let edges = |e: Extent| [e.left, e.upper, e.right, e.lower];
        let pairs = edges(a).into_iter().zip(edges(b));
        pairs.map(|(a, b)| a.abs_diff(b)).max().unwrap()
    }

    #[test]
    fn a_fast_thing_is_located_where_it_is_and_not_where_it_was() {
        // The cells show the way of the last frames, from 50 to 28; the thing is at 20..40.
        let thing = extent(20, 20, 40, 30);
        let deviation = image(&[(thing, -0.3)]);
        let located = now(&deviation, SIZE, &cells(extent(28, 18, 56, 32))).unwrap();
        assert!(distance(located, thing) <= 1, "{located:?}");
    }

    #[test]
    fn what_is_not_connected_does_not_belong_to_it() {
        let (thing, other) = (extent(20, 20, 30, 30), extent(34, 20, 60, 30));
        let deviation = image(&[(thing, 0.3), (other, 0.3)]);
        let located = now(&deviation, SIZE, &cells(extent(20, 20, 28, 30))).unwrap();
        assert!(distance(located, thing) <= 1, "{located:?}");
        assert_eq!(now(&image(&[]), SIZE, &cells(thing)), None, "nothing is there");
    }

    #[test]
    fn things_at_the_border_are_located_inside() {
        let thing = extent(0, 52, 7, 60);
        let located = now(&image(&[(thing, 0.3)]), SIZE, &cells(thing)).unwrap();
        assert!(
            distance(located, thing) <= 1 && located.right <= 80 && located.lower <= 60,
            "{located:?}"
        );
    }

    fn region(x: u32, y: u32) -> Region {
        Region {
            x,
            y,
            width: 20,
            height: 20,
        }
    }

    #[test]
    fn ids_stay_while_regions_overlap_and_move_on() {
        let mut tracker = RegionTracker::default();
        assert_eq!(tracker.follow(&[region(100, 100), region(300, 100)], 0.1), [1, 2]);
        // The order by strength changes, and one of them is fast: after the second frame its motion is known.
        assert_eq!(tracker.follow(&[region(302, 100), region(115, 100)], 0.1), [2, 1]);
        assert_eq!(tracker.follow(&[region(135, 100), region(304, 100)], 0.1), [1, 2]);
        assert_eq!(tracker.follow(&[region(165, 100)], 0.1), [1]);
        assert_eq!(tracker.follow(&[region(195, 100), region(306, 100)], 0.1), [1, 2]);
        assert_eq!(tracker.follow(&[region(20, 20)], 0.1), [3]);
    }

    #[test]
    fn a_region_that_was_gone_for_long_has_another_id() {
        let mut tracker = RegionTracker::default();
        tracker.follow(&[region(100, 100)], 0.1);
        tracker.pass(0.5);
        assert_eq!(tracker.follow(&[region(100, 100)], 0.1), [1]);
        tracker.pass(1.5);
        assert_eq!(tracker.follow(&[region(100, 100)], 0.1), [2]);
        tracker.restart();
        assert_eq!(tracker.follow(&[region(100, 100)], 0.1), [3]);
    }
}
