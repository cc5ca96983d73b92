//! The whole image: its background, cuts, and a blocked view.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::clock::{Learning, ROUNDING, Step, blend};
use super::filter::{edges, mean, percentile};
use super::light::{LightMeter, same_structure};
use super::mask::{BLOCK, Ignored, kept};
use super::stabiliser::{Shake, Stabiliser};
use crate::detector::store::{Array, Visitor, check_len};
use crate::detector::{Error, Result};

/// Frame differences that a cut must stand out from.
const HISTORY: usize = 5;
/// A change of the image's median by this share is a change of light.
const GAIN_TOLERANCE: f32 = 0.1;
/// A change of the light by more than one stop and a little, up or down, is another scene.
const LARGEST_GAIN: f32 = 2.2;
/// Share of the edges that another exposure leaves at least, after its gain.
const EDGES_KEPT: f32 = 0.5;
/// Smallest and largest exposure.
const EXPOSURE: (f32, f32) = (0.1, 10.0);
/// Median deviation from the background, of 1, that means another view or another light.
const MOVED: f32 = 0.06;
/// A view is blocked when its edge strength falls below this share of the usual one.
const BLOCKED_SHARE: f32 = 0.25;
/// Mean edge strength below which a scene has too little texture for a blocked view to be recognised.
const PLAIN: f32 = 0.004;
/// Seconds without edges after which a view counts as blocked.
const BLOCKED_AFTER: f64 = 1.0;

/// A jump in time, light or view between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cut {
    /// The same scene at another time: a splice, a lost stretch of the stream.
    SameScene,
    /// Another light or another view: the past says little about what is normal now.
    NewScene,
}

/// Scene changes in one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SceneReport {
    pub(crate) cut: Option<Cut>,
    /// The image has had next to no edges for a second.
    pub(crate) view_blocked: bool,
    /// Its light is changing.
    pub(crate) light_changing: bool,
    /// Other parts of it are ignored than in the previous frame.
    pub(crate) other_ignored: bool,
}

/// What was learnt of the scene.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SceneLearnt {
    /// Running mean of the grey image; empty before the first frame.
    #[serde(skip)]
    pub(super) background: Vec<f32>,
    /// Running mean of the image's mean edge strength.
    usual_edges: f32,
    /// Ticks so far.
    ticks: f64,
    #[serde(default)]
    shake: Shake,
    /// The light of the images as a multiple of that of the first ones.
    #[serde(default = "first_exposure")]
    exposure: f32,
    /// What was ignored of the grey image, 1 = ignored; empty where nothing was.
    #[serde(skip)]
    ignored: Vec<Arc<[u8]>>,
}

impl Default for SceneLearnt {
    fn default() -> Self {
        Self {
            background: Vec::new(),
            usual_edges: 0.0,
            ticks: 0.0,
            shake: Shake::default(),
            exposure: first_exposure(),
            ignored: Vec::new(),
        }
    }
}

fn first_exposure() -> f32 {
    1.0
}

impl SceneLearnt {
    /// All arrays with their names.
    pub(crate) fn arrays(&mut self, visit: &mut Visitor<'_>) -> Result<()> {
        visit("background", Array::F32(&mut self.background))?;
        visit("ignored", Array::Bytes(&mut self.ignored))
    }
}

/// Follows the grey image.
#[derive(Debug)]
pub(crate) struct Scene {
    size: (usize, usize),
    learnt: SceneLearnt,
    deviation: Vec<f32>,
    blocks: Vec<f32>,
    light: LightMeter,
    stabiliser: Stabiliser,
    differences: VecDeque<f32>,
    image_edges: Vec<f32>,
    edges: Vec<f32>,
    seconds_without_edges: f64,
    scratch: Vec<f32>,
}

impl Scene {
    /// For grey images of `size` = (width, height).
    pub(crate) fn new(size: (usize, usize)) -> Self {
        Self {
            size,
            learnt: SceneLearnt::default(),
            deviation: Vec::new(),
            blocks: Vec::new(),
            light: LightMeter::default(),
            stabiliser: Stabiliser::default(),
            differences: VecDeque::with_capacity(HISTORY),
            image_edges: Vec::new(),
            edges: Vec::new(),
            seconds_without_edges: 0.0,
            scratch: Vec::new(),
        }
    }

    /// How far a frame, as for [`Scene::observe`], is displaced from the background by a shake of the camera, in pixels.
    /// `None` while it does not shake.
    pub(crate) fn displacement(
        &mut self,
        grey: &[f32],
        ignored: Option<&Ignored>,
        step: Step,
    ) -> Option<[f32; 2]> {
        let background = &self.learnt.background;
        if background.is_empty() {
            return None;
        }
        let ignored = ignored.map(|ignored| &*ignored.grey);
        let images = (grey, &**background);
        self.stabiliser
            .observe(&mut self.learnt.shake, images, self.size, ignored, step)
    }

    /// What the images are to be divided by: the light of the last frame as a multiple of that of the first ones, where it
    /// changed at once.
    pub(super) fn exposure(&self) -> f32 {
        self.learnt.exposure
    }

    /// Takes a frame, divided by [`Scene::exposure`], that is blank where it is ignored. Without learning the background stays
    /// as it is. Where the light changes with this frame, the exposure does, and all that is reported is of the frame divided
    /// by the new one.
    pub(crate) fn observe(
        &mut self,
        grey: &[f32],
        ignored: Option<&Ignored>,
        step: Step,
        learning: Learning,
    ) -> SceneReport {
        edges(grey, self.size, &mut self.image_edges);
        let first = self.learnt.background.is_empty();
        if first {
            self.learnt.background.extend_from_slice(grey);
            self.learnt.usual_edges = self.mean_edges(ignored);
        }
        let other_ignored = self.follow_ignored(grey, ignored) && !first;
        let jumped = self.jumped(grey, ignored);
        let gain = jumped.then(|| self.gain(grey, ignored)).flatten();
        let exposed: Vec<f32>;
        let grey = match gain {
            Some(gain) => {
                self.learnt.exposure *= gain;
                self.blocks.iter_mut().for_each(|mean| *mean /= gain);
                exposed = grey.iter().map(|g| g / gain).collect();
                &exposed
            }
            None => grey,
        };
        let light_changing = self
            .light
            .observe(grey, self.size, &self.blocks, ignored, step.seconds);
        self.deviation.clear();
        self.deviation
            .extend(grey.iter().zip(&self.learnt.background).map(|(g, b)| g - b));
        edges(&self.deviation, self.size, &mut self.edges);
        let cut = jumped.then(|| {
            if gain.is_some() || self.is_elsewhere(ignored) {
                Cut::NewScene
            } else {
                Cut::SameScene
            }
        });
        let least = learning.least_rate();
        if learning.on {
            self.learnt.ticks += step.ticks;
            let rate = blend((1.0 / (self.learnt.ticks + 1.0)).max(0.01).max(least), step.ticks) as f32;
            for (b, f) in self.learnt.background.iter_mut().zip(&self.deviation) {
                *b += rate * f;
            }
        }
        SceneReport {
            cut,
            view_blocked: self.is_blocked(ignored, step, least),
            light_changing,
            other_ignored,
        }
    }

    /// What was learnt so far.
    pub(crate) fn learnt(&self) -> &SceneLearnt {
        &self.learnt
    }

    /// Continues from what another scene of the same size had learnt.
    ///
    /// # Errors
    /// The sizes differ, or a number that cannot be.
    pub(crate) fn restore(&mut self, learnt: SceneLearnt) -> Result<()> {
        if !learnt.background.is_empty() {
            check_len("background", learnt.background.len(), self.size.0 * self.size.1)?;
        }
        if let Some(ignored) = learnt.ignored.first() {
            check_len("ignored", ignored.len(), self.size.0 * self.size.1)?;
        }
        if !(EXPOSURE.0..=EXPOSURE.1).contains(&learnt.exposure) {
            return Err(Error::Learnt(format!(
                "exposure: expected {}..={}, got {}",
                EXPOSURE.0, EXPOSURE.1, learnt.exposure
            )));
        }
        self.learnt = learnt;
        Ok(())
    }

    /// The last frame minus the background as it was before it learnt from that frame.
    pub(crate) fn deviation(&self) -> &[f32] {
        &self.deviation
    }

    /// Edge strength of the deviation: edges of what is not background.
    pub(crate) fn edges(&self) -> &[f32] {
        &self.edges
    }

    /// Forgets the previous frames: the next one is no cut.
    pub(crate) fn restart(&mut self) {
        self.blocks.clear();
        self.light.restart();
        self.differences.clear();
    }

    /// Where other parts are ignored than before, the background is that of this frame. Returns whether there are any.
    fn follow_ignored(&mut self, grey: &[f32], ignored: Option<&Ignored>) -> bool {
        let now = ignored.map(|ignored| &ignored.grey);
        let before = self.learnt.ignored.first();
        let same = match (before, now) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now) || before == now,
            (before, now) => before.is_none() && now.is_none(),
        };
        if same {
            return false;
        }
        let at = |ignored: Option<&Arc<[u8]>>, i: usize| ignored.is_some_and(|ignored| ignored[i] == 1);
        for (i, b) in self.learnt.background.iter_mut().enumerate() {
            if at(before, i) != at(now, i) {
                *b = grey[i];
            }
        }
        self.learnt.ignored = now.cloned().into_iter().collect();
        self.learnt.usual_edges = self.mean_edges(ignored);
        true
    }

    fn mean_edges(&mut self, ignored: Option<&Ignored>) -> f32 {
        let inner = ignored.map(|ignored| &*ignored.grey_inner);
        mean(kept(&self.image_edges, inner, &mut self.scratch))
    }

    /// Whether block means changed by more than twice the largest of the last changes. Means of blocks,
    /// because sensor noise hides a cut from single pixels.
    fn jumped(&mut self, grey: &[f32], ignored: Option<&Ignored>) -> bool {
        let mut blocks = block_means(grey, self.size);
        if let Some(ignored) = ignored.filter(|ignored| !ignored.blocks_kept.is_empty()) {
            blocks = ignored.blocks_kept.iter().map(|&i| blocks[i]).collect();
        }
        let before = std::mem::replace(&mut self.blocks, blocks);
        if before.is_empty() {
            return false;
        }
        let total: f32 = before.iter().zip(&self.blocks).map(|(a, b)| (a - b).abs()).sum();
        let difference = total / before.len() as f32;
        let largest = self.differences.iter().copied().fold(0.0, f32::max);
        let jumped = self.differences.len() == HISTORY && difference > 2.0 * largest && difference > 0.01;
        if self.differences.len() == HISTORY {
            self.differences.pop_front();
        }
        self.differences.push_back(difference);
        jumped
    }

    /// The light of a frame as a multiple of that of the background: the ratio of the medians, where that is off by more than
    /// a tenth and the view is the same.
    fn gain(&mut self, grey: &[f32], ignored: Option<&Ignored>) -> Option<f32> {
        let indices = ignored.map(|ignored| &*ignored.grey_kept);
        let mut part = Vec::new();
        let now = percentile(kept(grey, indices, &mut part), 0.5, &mut self.scratch);
        let background = kept(&self.learnt.background, indices, &mut part);
        let usual = percentile(background, 0.5, &mut self.scratch);
        let exposure = self.learnt.exposure;
        let gain = (exposure * now / usual.max(1e-3)).clamp(EXPOSURE.0, EXPOSURE.1) / exposure;
        if !(LARGEST_GAIN.recip()..=LARGEST_GAIN).contains(&gain) || (gain - 1.0).abs() <= GAIN_TOLERANCE {
            return None;
        }
        // A covered lens has no edges, another view has others.
        let edges = self.mean_edges(ignored);
        let seen = ignored.map_or(1.0, |ignored| ignored.grey_kept.len() as f32 / grey.len() as f32);
        let kept = edges > EDGES_KEPT * gain * self.learnt.usual_edges
            && same_structure(&self.learnt.background, grey, self.size, seen);
        kept.then_some(gain)
    }

    fn is_elsewhere(&mut self, ignored: Option<&Ignored>) -> bool {
        let magnitude: Vec<f32> = self.deviation.iter().map(|d| d.abs()).collect();
        let mut part = Vec::new();
        let magnitude = kept(&magnitude, ignored.map(|ignored| &*ignored.grey_kept), &mut part);
        percentile(magnitude, 0.5, &mut self.scratch) > MOVED
    }

    fn is_blocked(&mut self, ignored: Option<&Ignored>, step: Step, least: f64) -> bool {
        let now = self.mean_edges(ignored);
        let blocked = self.learnt.usual_edges > PLAIN && now < BLOCKED_SHARE * self.learnt.usual_edges;
        if blocked {
            self.seconds_without_edges += step.seconds;
        } else {
            self.seconds_without_edges = 0.0;
            let rate = blend(
                (1.0 / (self.learnt.ticks + 1.0)).max(0.003).max(least),
                step.ticks,
            ) as f32;
            self.learnt.usual_edges += rate * (now - self.learnt.usual_edges);
        }
        self.seconds_without_edges >= BLOCKED_AFTER - ROUNDING
    }
}

/// Means of the whole 8x8 blocks, row by row; of the whole image where it is smaller.
pub(super) fn block_means(grey: &[f32], (width, height): (usize, usize)) -> Vec<f32> {
    let (columns, rows) = (width / BLOCK, height / BLOCK);
    if columns == 0 || rows == 0 {
        return vec![mean(grey)];
    }
    let mut means = vec![0.0; columns * rows];
    for (y, row) in grey.chunks_exact(width).take(rows * BLOCK).enumerate() {
        let sums = &mut means[y / BLOCK * columns..][..columns];
        for (sum, block) in sums.iter_mut().zip(row.chunks_exact(BLOCK)) {
            *sum += block.iter().sum::<f32>() / (BLOCK * BLOCK) as f32;
        }
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (usize, usize) = (64, 48);
    const LEARNING: Learning = Learning {
        on: true,
        memory: 1e6,
    };

    fn textured(shift: usize) -> Vec<f32> {
        (0..SIZE.1)
            .flat_map(|y| {
                (0..SIZE.0).map(move |x| {
                    let (cx, cy) = ((x + shift) / 8, y / 8);
                    0.3 + 0.4 * (((cx * 7 + cy * 5) % 11) as f32 / 10.0)
                })
            })
            .collect()
    }

    fn tenth() -> Step {
        Step {
            seconds: 0.1,
            ticks: 1.0,
        }
    }

    fn settled() -> Scene {
        let mut scene = Scene::new(SIZE);
        for i in 0..30 {
            let mut frame = textured(0);
            frame[100 + i] += 0.05;
            assert_eq!(
                scene.observe(&frame, None, tenth(), LEARNING),
                SceneReport::default(),
                "frame {i}"
            );
        }
        scene
    }

    #[test]
    fn a_light_switch_is_another_exposure_of_the_same_background() {
        let mut scene = settled();
        let dark: Vec<f32> = textured(0).iter().map(|v| v * 0.5).collect();
        let report = scene.observe(&dark, None, tenth(), LEARNING);
        assert_eq!(report.cut, Some(Cut::NewScene));
        assert!(!report.light_changing, "the exposure explains all of it");
        assert!((scene.exposure() - 0.5).abs() < 0.01, "{}", scene.exposure());
        let worst = scene.deviation().iter().fold(0.0f32, |m, d| m.max(d.abs()));
        assert!(
            worst < 0.05,
            "the exposed frame is the background, off by {worst}"
        );
        let exposed: Vec<f32> = dark.iter().map(|v| v / scene.exposure()).collect();
        for _ in 0..30 {
            assert_eq!(
                scene.observe(&exposed, None, tenth(), LEARNING),
                SceneReport::default()
            );
        }
        // Back again: twice as bright as the present exposure.
        let bright: Vec<f32> = textured(0).iter().map(|v| v / scene.exposure()).collect();
        scene.observe(&bright, None, tenth(), LEARNING);
        assert!((scene.exposure() - 1.0).abs() < 0.02, "{}", scene.exposure());
    }

    #[test]
    fn the_exposure_has_bounds() {
        let mut scene = settled();
        for light in [0.5, 0.25, 0.125, 0.0625] {
            for _ in 0..10 {
                let exposure = scene.exposure();
                let frame: Vec<f32> = textured(0).iter().map(|v| v * light / exposure).collect();
                scene.observe(&frame, None, tenth(), LEARNING);
            }
        }
        assert!(
            (scene.exposure() - EXPOSURE.0).abs() < 1e-6,
            "{}",
            scene.exposure()
        );
        let mut broken = scene.learnt().clone();
        broken.exposure = 0.0;
        let error = scene.restore(broken).unwrap_err().to_string();
        assert!(error.contains("exposure") && error.contains("got 0"), "{error}");
    }

    #[test]
    fn edges_are_those_of_what_is_not_background() {
        let mut scene = settled();
        let mut frame = textured(0);
        scene.observe(&frame, None, tenth(), LEARNING);
        let still = mean(scene.edges());
        for y in 20..28 {
            frame[y * SIZE.0 + 20..y * SIZE.0 + 28].fill(1.0);
        }
        scene.observe(&frame, None, tenth(), LEARNING);
        let around = scene.edges()[24 * SIZE.0 + 20];
        assert!(
            around > 20.0 * still,
            "{around} at the object, {still} in the empty scene"
        );
    }

    #[test]
    fn a_turned_camera_is_a_new_scene() {
        let mut scene = settled();
        assert_eq!(
            scene.observe(&textured(16), None, tenth(), LEARNING).cut,
            Some(Cut::NewScene)
        );
    }

    #[test]
    fn a_splice_of_the_same_view_is_the_same_scene() {
        let mut scene = settled();
        let mut frame = textured(0);
        for y in 8..32 {
            frame[y * SIZE.0 + 16..y * SIZE.0 + 32].fill(0.0);
        }
        assert_eq!(
            scene.observe(&frame, None, tenth(), LEARNING).cut,
            Some(Cut::SameScene)
        );
    }

    #[test]
    fn after_a_restart_nothing_is_a_cut() {
        let mut scene = settled();
        scene.restart();
        assert_eq!(scene.observe(&textured(16), None, tenth(), LEARNING).cut, None);
    }

    #[test]
    fn a_covered_lens_is_reported_after_a_second() {
        let mut scene = settled();
        let covered = vec![0.1; SIZE.0 * SIZE.1];
        let reports: Vec<bool> = (0..12)
            .map(|_| scene.observe(&covered, None, tenth(), LEARNING).view_blocked)
            .collect();
        assert_eq!(reports.iter().position(|&b| b), Some(9), "{reports:?}");
        assert!(!scene.observe(&textured(0), None, tenth(), LEARNING).view_blocked);
    }
}
