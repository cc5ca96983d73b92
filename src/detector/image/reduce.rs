//! One pass over a frame: area averages on two small grids.

use super::ImageView;
use crate::detector::Result;

/// Sizes of the two small pictures, `None` where a cue is off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ReducedSizes {
    /// Width and height of the grey picture.
    pub(crate) grey: Option<(usize, usize)>,
    /// Width and height of the colour picture.
    pub(crate) colour: Option<(usize, usize)>,
}

/// The small pictures of one frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReducedFrame {
    /// Full-range luma, 0..1, `[H, W]`.
    pub(crate) grey: Vec<f32>,
    /// Full-range BT.601 Y, Cr, Cb, 0..255, `[H, W, 3]`; grey video has 128 in Cr and Cb.
    pub(crate) colour: Vec<f32>,
}

/// Reduces frames of one format and size.
#[derive(Debug)]
pub(crate) struct Reducer {
    sizes: ReducedSizes,
}

impl Reducer {
    pub(crate) fn new(_frame: &ImageView<'_>, sizes: ReducedSizes) -> Result<Self> {
        Ok(Self { sizes })
    }

    /// Whether frames of this format and size can be reduced.
    pub(crate) fn fits(&self, _frame: &ImageView<'_>) -> bool {
        true
    }

    /// Fills `out` from `frame`.
    pub(crate) fn reduce(&mut self, _frame: &ImageView<'_>, _out: &mut ReducedFrame) -> Result<()> {
        let _ = self.sizes;
        todo!("area averages")
    }
}
