//! Single stages of the detector for the benches; no part of the API.

use super::image::{ReducedFrame, ReducedSizes, Reducer};
use super::{ImageView, Result};

/// The first stage: from a frame to its two small pictures.
#[derive(Debug)]
pub struct Preprocessor {
    reducer: Reducer,
    reduced: ReducedFrame,
}

impl Preprocessor {
    /// For frames of the format and size of `frame` and small pictures of the given widths and heights.
    pub fn new(
        frame: &ImageView<'_>,
        grey: Option<(usize, usize)>,
        colour: Option<(usize, usize)>,
    ) -> Result<Self> {
        let reducer = Reducer::new(frame, ReducedSizes { grey, colour })?;
        Ok(Self {
            reducer,
            reduced: ReducedFrame::default(),
        })
    }

    /// Reduces one frame.
    pub fn run(&mut self, frame: &ImageView<'_>) -> Result<()> {
        self.reducer.reduce(frame, &mut self.reduced)
    }
}
