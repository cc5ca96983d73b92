//! From a frame of any format to what the cues look at.

use std::time::Duration;

use super::clock::Clock;
use super::cue::Frame;
use super::image::{ReducedFrame, ReducedSizes, Reducer};
use super::scene::{Scene, SceneReport};
use super::{Config, ImageView, Result};

/// Width of the grey picture; its height follows the aspect.
const GREY_WIDTH: usize = 180;
/// The motion grid's cells are of this side.
const GREY_CELL: usize = 4;

/// Makes [`Frame`]s.
#[derive(Debug)]
pub(crate) struct Observer {
    sizes: ReducedSizes,
    reducer: Option<Reducer>,
    small: ReducedFrame,
    clock: Clock,
    scene: Scene,
}

impl Observer {
    /// `grey` and `colour` are (width, height) of the small pictures.
    pub(crate) fn new(sizes: ReducedSizes) -> Self {
        Self {
            sizes,
            reducer: None,
            small: ReducedFrame::default(),
            clock: Clock::default(),
            scene: Scene::new(sizes.grey.unwrap_or_default()),
        }
    }

    /// Fills the small pictures. The frame's format and size may differ from the last one's.
    pub(crate) fn reduce(&mut self, frame: &ImageView<'_>) -> Result<()> {
        let reducer = match &mut self.reducer {
            Some(reducer) if reducer.fits(frame) => reducer,
            slot => slot.insert(Reducer::new(frame, self.sizes)?),
        };
        reducer.reduce(frame, &mut self.small)
    }

    /// Looks at the picture that was reduced last.
    pub(crate) fn observe(
        &mut self,
        time: Option<Duration>,
        nominal: Option<Duration>,
        learn: bool,
    ) -> (Frame<'_>, SceneReport) {
        let step = self.clock.step(time, nominal);
        let report = self.scene.observe(&self.small.grey, step, learn);
        let frame = Frame {
            grey: &self.small.grey,
            deviation: self.scene.deviation(),
            edges: self.scene.edges(),
            colour: &self.small.colour,
            now: self.clock.now(),
            step,
        };
        (frame, report)
    }

    /// The next frame does not follow the last one.
    pub(crate) fn restart(&mut self) {
        self.clock.restart();
        self.scene.restart();
    }
}

/// The sizes of the two small pictures for a picture of `(width, height)`.
pub(crate) fn reduced_sizes(config: &Config, (width, height): (usize, usize)) -> ReducedSizes {
    // A height for `target` columns that keeps the aspect, in whole units, and at most four times as high as wide.
    let high = |target: usize, unit: usize| {
        let units = (target * height) as f64 / (unit * width) as f64;
        unit * (units.round() as usize).clamp(1, (4 * target / unit).max(1))
    };
    let model = config.model_width;
    let appearance = config.cues.appearance;
    ReducedSizes {
        grey: Some((GREY_WIDTH, high(GREY_WIDTH, GREY_CELL).max(3 * GREY_CELL))),
        colour: appearance.then(|| (model, high(model, config.net_arch.reduction()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_keep_the_aspect_in_whole_cells() {
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
