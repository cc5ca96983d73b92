//! Changes of light: most of the image became brighter, or darker, and kept its structure.

use std::collections::VecDeque;

use super::filter::box_mean;
use super::mask::Ignored;

/// The image is compared with the one this many seconds ago.
const SPAN: f64 = 2.0;
/// Seconds between the images that are kept.
const INTERVAL: f64 = 0.2;
/// Seconds for which a change counts after it was last seen.
const AFTERWARDS: f64 = 1.0;
/// A block changed if its mean did by this, or by this share.
const LEAST_CHANGE: f32 = 0.02;
const LEAST_SHARE: f32 = 0.1;
/// Share of the blocks that must have changed in the same direction.
const BLOCKS: f32 = 0.35;
/// Side of the boxes that are correlated, and what is added to their variances (grey levels are 0..1).
const BOX: usize = 9;
const NOISE: f32 = 4e-4;
/// Mean loss of correlation that means another content of the image, not another light.
const OTHER_CONTENT: f32 = 0.3;
/// Product of the share of changed blocks and the kept structure above which it is a change of light.
const EVIDENCE: f32 = 0.3;

/// Recognises changes of light from the grey image.
#[derive(Debug, Default)]
pub(super) struct LightMeter {
    /// Time, block means and the image at half the size.
    history: VecDeque<(f64, Vec<f32>, Vec<f32>)>,
    now: f64,
    /// Seconds for which the last change still counts.
    remaining: f64,
}

impl LightMeter {
    /// Takes an image of `size` with the means of its blocks, and whether its light is changing.
    pub(super) fn observe(
        &mut self,
        grey: &[f32],
        size: (usize, usize),
        blocks: &[f32],
        ignored: Option<&Ignored>,
        seconds: f64,
    ) -> bool {
        self.now += seconds;
        self.remaining -= seconds;
        while self.history.len() > 1 && self.history[1].0 <= self.now - SPAN {
            self.history.pop_front();
        }
        if let Some((_, then, image)) = self.history.front() {
            let changed = share_changed(then, blocks);
            if changed > BLOCKS {
                let kept = ignored.map_or(1.0, |i| i.grey_kept.len() as f32 / grey.len() as f32);
                let lost = lost_structure(image, &half(grey, size), half_size(size)) / kept.max(0.01);
                if changed * (1.0 - lost / OTHER_CONTENT) > EVIDENCE {
                    self.remaining = AFTERWARDS;
                }
            }
        }
        if self
            .history
            .back()
            .is_none_or(|(time, ..)| self.now - time >= INTERVAL)
        {
            self.history
                .push_back((self.now, blocks.to_vec(), half(grey, size)));
        }
        self.remaining > 0.0
    }

    /// Forgets the previous images.
    pub(super) fn restart(&mut self) {
        self.history.clear();
        self.remaining = 0.0;
    }
}

/// Whether two images of `size` show the same view, of which a share is `seen` and the rest blank: contrast and brightness do
/// not matter.
pub(super) fn same_structure(a: &[f32], b: &[f32], size: (usize, usize), seen: f32) -> bool {
    let lost = lost_structure(&half(a, size), &half(b, size), half_size(size));
    lost / seen.max(0.01) < OTHER_CONTENT
}

/// The share of blocks that became brighter, or that became darker, whichever is larger.
fn share_changed(before: &[f32], now: &[f32]) -> f32 {
    if before.len() != now.len() || now.is_empty() {
        return 0.0;
    }
    let (mut brighter, mut darker) = (0, 0);
    for (before, now) in before.iter().zip(now) {
        let least = LEAST_CHANGE.max(LEAST_SHARE * before);
        brighter += usize::from(now - before > least);
        darker += usize::from(before - now > least);
    }
    brighter.max(darker) as f32 / now.len() as f32
}

/// Mean of 1 - normalised cross-correlation over boxes: 0 = the same structure.
fn lost_structure(a: &[f32], b: &[f32], size: (usize, usize)) -> f32 {
    let mut scratch = Vec::new();
    let mut mean_of = |values: Vec<f32>| {
        let mut out = Vec::new();
        box_mean(&values, size, BOX, &mut scratch, &mut out);
        out
    };
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).collect::<Vec<_>>();
    let (mean_a, mean_b) = (mean_of(a.to_vec()), mean_of(b.to_vec()));
    let (aa, bb, ab) = (
        mean_of(product(a, a)),
        mean_of(product(b, b)),
        mean_of(product(a, b)),
    );
    let mut total = 0.0;
    for i in 0..a.len() {
        let variance_a = (aa[i] - mean_a[i] * mean_a[i]).max(0.0);
        let variance_b = (bb[i] - mean_b[i] * mean_b[i]).max(0.0);
        let covariance = ab[i] - mean_a[i] * mean_b[i];
        total += 1.0 - (covariance + NOISE) / ((variance_a + NOISE) * (variance_b + NOISE)).sqrt();
    }
    total / a.len().max(1) as f32
}

fn half_size((width, height): (usize, usize)) -> (usize, usize) {
    (width / 2, height / 2)
}

/// Means of 2x2 pixels.
fn half(grey: &[f32], size: (usize, usize)) -> Vec<f32> {
    let (width, height) = half_size(size);
    let mut out = Vec::with_capacity(width * height);
    for y in 0..height {
        let upper = &grey[2 * y * size.0..][..size.0];
        let lower = &grey[(2 * y + 1) * size.0..][..size.0];
        out.extend(
            (0..width).map(|x| 0.25 * (upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1])),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::scene::block_means;
    use super::*;

    const SIZE: (usize, usize) = (64, 48);

    fn textured(shift: usize) -> Vec<f32> {
        let value = |x: usize, y: usize| 0.3 + 0.4 * ((((x + shift) / 4 * 7 + y / 4 * 5) % 11) as f32 / 10.0);
        (0..SIZE.1)
            .flat_map(|y| (0..SIZE.0).map(move |x| value(x, y)))
            .collect()
    }

    /// Whether the light counted as changing, for each tenth of a second.
    fn observe(meter: &mut LightMeter, image: impl Fn(usize) -> Vec<f32>, frames: usize) -> Vec<bool> {
        let observe = |i| {
            let grey = image(i);
            meter.observe(&grey, SIZE, &block_means(&grey, SIZE), None, 0.1)
        };
        (0..frames).map(observe).collect()
    }

    #[test]
    fn a_switch_counts_until_the_images_of_before_are_forgotten() {
        let mut meter = LightMeter::default();
        assert!(
            observe(&mut meter, |_| textured(0), 30)
                .iter()
                .all(|changing| !changing)
        );
        let dark = |_| textured(0).iter().map(|v| 0.5 * v).collect();
        let changing = observe(&mut meter, dark, 60);
        let seconds = changing.iter().filter(|&&c| c).count() as f64 / 10.0;
        assert!(changing[0] && (2.0..4.0).contains(&seconds), "{seconds} s");
        assert!(!changing[59]);
    }

    #[test]
    fn a_fade_counts_while_it_lasts() {
        let mut meter = LightMeter::default();
        observe(&mut meter, |_| textured(0), 30);
        let fade = |i: usize| {
            textured(0)
                .iter()
                .map(|v| v * (1.0 - 0.02 * i.min(30) as f32))
                .collect()
        };
        let changing = observe(&mut meter, fade, 100);
        assert!(changing[12..30].iter().all(|&c| c), "{changing:?}");
        assert!(!changing[99]);
    }

    #[test]
    fn another_view_is_no_change_of_light() {
        let mut meter = LightMeter::default();
        observe(&mut meter, |_| textured(0), 30);
        let turned = |_| textured(18).iter().map(|v| 0.8 * v).collect();
        assert!(observe(&mut meter, turned, 30).iter().all(|changing| !changing));
    }

    #[test]
    fn an_object_is_no_change_of_light() {
        let mut meter = LightMeter::default();
        observe(&mut meter, |_| textured(0), 30);
        let object = |_| {
            let mut image = textured(0);
            (0..SIZE.1 / 2).for_each(|y| image[y * SIZE.0..][..SIZE.0 / 2].fill(0.05));
            image
        };
        assert!(observe(&mut meter, object, 30).iter().all(|changing| !changing));
    }
}
