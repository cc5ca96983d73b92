//! From pixels of any format to what the cues look at: two small images, the background, edges, cuts.

mod clock;
pub(crate) mod filter;
mod image;
mod light;
mod mask;
mod scene;
mod stabiliser;

use std::time::Duration;

pub(crate) use clock::{Learning, ROUNDING, Step, TICK, blend};
#[cfg(all(test, feature = "cuda"))]
pub(crate) use image::OwnedFrame;
pub use image::{ColorModel, ColorRange, ImageView, PixelFormat};
#[cfg(feature = "cuda")]
pub(crate) use image::{CudaImage, Reduction};
pub(crate) use image::{ReducedFrame, ReducedSizes, Reducer};
pub use mask::IgnoredRegions;
pub(crate) use mask::{Ignored, kept};
pub(crate) use scene::{Cut, SceneLearnt, SceneReport};

use self::clock::Clock;
use self::scene::Scene;
use self::stabiliser::fill_unseen;
#[cfg(feature = "cuda")]
use super::engine::cuda::CudaReducer;
use super::{Config, CueKind, Result};

/// Width of the grey image in pixels; its height follows the aspect ratio.
const GREY_WIDTH: usize = 180;
/// Side of the motion grid's cells in pixels of the grey image.
pub(crate) const GREY_CELL: usize = 4;

/// What the cues look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    /// Grey image, 0..1 in the light of the first frames.
    pub(crate) grey: &'a [f32],
    /// Grey image minus the background.
    pub(crate) deviation: &'a [f32],
    /// Edge strength of the deviation.
    pub(crate) edges: &'a [f32],
    /// Y, Cr, Cb image, 0..255 in the light of the first frames, channels-last.
    pub(crate) colour: &'a [f32],
    /// What is ignored; blank in all images.
    pub(crate) ignored: Option<&'a Ignored>,
    /// How far all images were moved back, in fractions of width and height: what they show at `x` is at `x` and this in the
    /// frame itself.
    pub(crate) displacement: [f32; 2],
    /// Seconds since the first frame.
    pub(crate) now: f64,
    /// Time since the previous frame.
    pub(crate) step: Step,
}

/// Makes [`Frame`]s.
#[derive(Debug)]
pub(crate) struct Preprocessor {
    sizes: ReducedSizes,
    reducer: Option<Reducer>,
    reduced: ReducedFrame,
    clock: Clock,
    scene: Scene,
    ignored: Option<Ignored>,
    /// By which fractions of width and height the small images are moved back.
    displacement: [f32; 2],
    /// The colour image before it was moved back.
    unmoved: Vec<f32>,
}

impl Preprocessor {
    pub(crate) fn new(sizes: ReducedSizes) -> Self {
        Self {
            sizes,
            reducer: None,
            reduced: ReducedFrame::default(),
            clock: Clock::default(),
            scene: Scene::new(sizes.grey.unwrap_or_default()),
            ignored: None,
            displacement: [0.0; 2],
            unmoved: Vec::new(),
        }
    }

    /// Fills the small images. Format and size of the frame may differ from the previous one's. With a displacement, of which
    /// [`Preprocessor::shake`] says how large it is, the same frame is reduced once more, moved back by fractions of width
    /// and height: averages of other pixels, so that nothing is lost by interpolation.
    pub(crate) fn reduce(&mut self, frame: &ImageView<'_>, displacement: [f32; 2]) -> Result<()> {
        self.begin(displacement);
        if displacement == [0.0; 2] {
            let reducer = match &mut self.reducer {
                Some(reducer) if reducer.fits(frame) => reducer,
                slot => slot.insert(Reducer::new(frame, self.sizes, displacement)?),
            };
            reducer.reduce(frame, &mut self.reduced)?;
        } else {
            Reducer::new(frame, self.sizes, displacement)?.reduce(frame, &mut self.reduced)?;
        }
        self.finish();
        Ok(())
    }

    /// The same for a frame in device memory.
    ///
    /// # Safety
    /// As [`CudaReducer::reduce`].
    #[cfg(feature = "cuda")]
    #[allow(unsafe_code, reason = "addresses of device memory")]
    pub(crate) unsafe fn reduce_on_device(
        &mut self,
        image: &CudaImage<'_>,
        reducer: &mut CudaReducer,
        displacement: [f32; 2],
    ) -> Result<()> {
        self.begin(displacement);
        // SAFETY: the caller's.
        unsafe { reducer.reduce(image, self.sizes, displacement, &mut self.reduced) }?;
        self.finish();
        Ok(())
    }

    /// Keeps the colour image of the frame if it is reduced once more.
    fn begin(&mut self, displacement: [f32; 2]) {
        self.displacement = displacement;
        if displacement != [0.0; 2] {
            std::mem::swap(&mut self.unmoved, &mut self.reduced.colour);
        }
    }

    /// From what was reduced to what is analysed.
    fn finish(&mut self) {
        self.blank();
        self.expose(self.scene.exposure());
        let [x, y] = self.displacement;
        if self.displacement == [0.0; 2] {
            return;
        }
        // What is not in the frame is as usual, or in the colour image as it was.
        let ReducedFrame { grey, colour } = &mut self.reduced;
        let ignored = self.ignored.as_ref();
        if let Some((width, height)) = self.sizes.grey {
            let displacement = [x * width as f32, y * height as f32];
            let pixels = ignored.into_iter().flat_map(Ignored::grey_pixels);
            let background = &self.scene.learnt().background;
            fill_unseen(grey, (width, height, 1), displacement, pixels, background);
        }
        if let Some((width, height)) = self.sizes.colour {
            let displacement = [x * width as f32, y * height as f32];
            let pixels = ignored
                .into_iter()
                .flat_map(|ignored| ignored.pixels.iter().copied());
            fill_unseen(colour, (width, height, 3), displacement, pixels, &self.unmoved);
        }
    }

    /// Advances the clock to the frame that was reduced last. `time` is its presentation time; `nominal`, the interval
    /// between frames, is used where times are missing.
    pub(crate) fn advance(&mut self, time: Option<Duration>, nominal: Option<Duration>) -> Step {
        self.clock.step(time, nominal)
    }

    /// How far a shaking camera has displaced the frame that was reduced last from the background, in fractions of width
    /// and height; 0 while it stands still.
    pub(crate) fn shake(&mut self, step: Step) -> [f32; 2] {
        let (width, height) = self.sizes.grey.unwrap_or_default();
        let found = self
            .scene
            .displacement(&self.reduced.grey, self.ignored.as_ref(), step);
        let [x, y] = found.unwrap_or_default();
        [x / width as f32, y / height as f32]
    }

    /// Removes what is to be ignored.
    fn blank(&mut self) {
        if let Some(ignored) = &self.ignored {
            ignored.blank(&mut self.reduced.grey, &mut self.reduced.colour);
        }
    }

    /// Ignores these parts of frames of `frame_size` = (width, height) pixels from now on.
    pub(crate) fn ignore(&mut self, regions: &IgnoredRegions, frame_size: (usize, usize)) {
        self.ignored = Ignored::new(regions, self.sizes, frame_size);
        self.scene.restart();
    }

    /// Analyses the frame that was reduced last.
    pub(crate) fn analyse(&mut self, step: Step, learning: Learning) -> (Frame<'_>, SceneReport) {
        let exposure = self.scene.exposure();
        let report = self
            .scene
            .observe(&self.reduced.grey, self.ignored.as_ref(), step, learning);
        self.expose(self.scene.exposure() / exposure);
        let frame = Frame {
            grey: &self.reduced.grey,
            deviation: self.scene.deviation(),
            edges: self.scene.edges(),
            colour: &self.reduced.colour,
            ignored: self.ignored.as_ref(),
            displacement: self.displacement,
            now: self.clock.now(),
            step,
        };
        (frame, report)
    }

    /// Divides both images by an exposure; the light of the first frames is that of the background and of what the nets learnt.
    fn expose(&mut self, exposure: f32) {
        if exposure == 1.0 {
            return;
        }
        self.reduced.grey.iter_mut().for_each(|g| *g /= exposure);
        for pixel in self.reduced.colour.chunks_exact_mut(3) {
            pixel[0] /= exposure;
            pixel[1] = 128.0 + (pixel[1] - 128.0) / exposure;
            pixel[2] = 128.0 + (pixel[2] - 128.0) / exposure;
        }
        self.blank();
    }

    /// The next frame does not follow the previous one.
    pub(crate) fn restart(&mut self) {
        self.clock.restart();
        self.scene.restart();
    }

    /// What was learnt of the scene.
    pub(crate) fn learnt(&self) -> &SceneLearnt {
        self.scene.learnt()
    }

    /// Continues from what another preprocessor of the same sizes had learnt.
    ///
    /// # Errors
    /// The sizes differ.
    pub(crate) fn restore(&mut self, learnt: SceneLearnt) -> Result<()> {
        self.scene.restore(learnt)
    }
}

/// The sizes of the two small images for frames of `(width, height)`.
pub(crate) fn reduced_sizes(config: &Config, (width, height): (usize, usize)) -> ReducedSizes {
    // A height for `target` columns that keeps the aspect ratio, in whole units, and at most four times as high as wide.
    let high = |target: usize, unit: usize| {
        let units = (target * height) as f64 / (unit * width) as f64;
        unit * (units.round() as usize).clamp(1, (4 * target / unit).max(1))
    };
    let model = config.model_width;
    let appearance = config.cues.contains(&CueKind::Appearance);
    ReducedSizes {
        grey: Some((GREY_WIDTH, high(GREY_WIDTH, GREY_CELL).max(3 * GREY_CELL))),
        colour: appearance.then(|| (model, high(model, config.net_arch.reduction()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_images_of_a_shaking_camera_are_moved_back() {
        const SIZE: (usize, usize) = (360, 200);
        let sizes = ReducedSizes {
            grey: Some((180, 100)),
            colour: Some((64, 40)),
        };
        let learning = Learning {
            on: true,
            memory: 1e6,
        };
        let scene = |shift: usize| -> Vec<u8> {
            let pixel = |i: usize| {
                let (x, y) = ((i % SIZE.0 + shift) as f64, (i / SIZE.0) as f64);
                128.0 + 50.0 * (0.11 * x + 0.03 * y).sin() + 40.0 * (0.07 * y - 0.05 * x).cos()
            };
            (0..SIZE.0 * SIZE.1).map(|i| pixel(i) as u8).collect()
        };
        // Mean deviation from the background, and mean change of the colour image, in the last of many frames.
        let last = |stabilise: bool| {
            let mut preprocessor = Preprocessor::new(sizes);
            let (mut deviation, mut change, mut colour) = (0.0, 0.0, Vec::new());
            for i in 0..200 {
                let pixels = scene(8 + [0, 3, 1, 4, 2][i % 5]);
                let view = ImageView {
                    format: PixelFormat::Gray8,
                    width: SIZE.0,
                    height: SIZE.1,
                    planes: &[&pixels],
                    strides: &[SIZE.0],
                    color: ColorModel::BT601,
                };
                preprocessor.reduce(&view, [0.0; 2]).unwrap();
                let step = preprocessor.advance(None, Some(Duration::from_millis(100)));
                if stabilise {
                    let displacement = preprocessor.shake(step);
                    preprocessor.reduce(&view, displacement).unwrap();
                }
                let (frame, _) = preprocessor.analyse(step, learning);
                let mean =
                    |values: &mut dyn Iterator<Item = f32>, count: usize| values.sum::<f32>() / count as f32;
                deviation = mean(
                    &mut frame.deviation.iter().map(|d| d.abs()),
                    frame.deviation.len(),
                );
                let differences = frame
                    .colour
                    .iter()
                    .zip(&colour)
                    .map(|(a, b): (&f32, &f32)| (a - b).abs());
                change = mean(&mut { differences }, frame.colour.len());
                colour = frame.colour.to_vec();
            }
            (deviation, change)
        };
        let ((shaken, colours), (steady, steady_colours)) = (last(false), last(true));
        assert!(
            steady < 0.1 * shaken,
            "deviation {shaken}, {steady} when moved back"
        );
        assert!(
            steady_colours < 0.2 * colours,
            "change of colours {colours}, {steady_colours} when moved back"
        );
    }

    #[test]
    fn small_images_keep_the_aspect_ratio_in_whole_cells() {
        let sizes = |w, h| {
            let s = reduced_sizes(&Config::default(), (w, h));
            (s.grey.unwrap(), s.colour.unwrap())
        };
        assert_eq!(sizes(360, 240), ((180, 120), (64, 40)));
        assert_eq!(sizes(1920, 1080), ((180, 100), (64, 40)));
        assert_eq!(sizes(640, 480), ((180, 136), (64, 48)));
        assert_eq!(sizes(16, 16), ((180, 180), (64, 64)));
        assert_eq!(sizes(16, 4000), ((180, 720), (64, 256)));
        assert_eq!(sizes(4000, 16), ((180, 12), (64, 8)));
    }
}
