//! One pass over a frame: area averages on two small grids.
//!
//! Rows are cut into runs at the borders of both grids. The rows of a run are added up byte by byte, whatever
//! the bytes mean ([`super::columns`]); then whole-numbered weights along the row give the sums of all cells
//! ([`super::cells`]), which are shared out to the cell rows that the run is part of ([`super::pass`]). Only
//! the small images are turned into the colours wanted ([`super::colour`]).

use super::cells::Axis;
use super::colour::Expansion;
use super::layout::{Family, Layout};
use super::pass::{PlanePass, Scratch};
use super::{ImageView, PixelFormat};
use crate::detector::{Error, Result};

/// Sizes of the two small images, `None` where a cue is off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ReducedSizes {
    /// Width and height of the grey image.
    pub(crate) grey: Option<(usize, usize)>,
    /// Width and height of the colour image.
    pub(crate) colour: Option<(usize, usize)>,
}

/// The small images of one frame. With a displacement, cells that are not entirely in the frame are NaN.
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
    format: PixelFormat,
    width: usize,
    height: usize,
    sizes: ReducedSizes,
    displacement: [f32; 2],
    family: Family,
    planes: Vec<PlanePass>,
    scratch: Scratch,
}

/// Largest width and height of a small image: weights must fit sixteen bits.
const MAX_REDUCED_SIDE: usize = 4096;

/// Checks that the small images are not too large.
pub(super) fn check_sizes(sizes: ReducedSizes) -> Result<()> {
    for (width, height) in [sizes.grey, sizes.colour].into_iter().flatten() {
        let allowed = 1..=MAX_REDUCED_SIDE;
        if !allowed.contains(&width) || !allowed.contains(&height) {
            return Err(Error::Image(format!(
                "sides of the reduced image must be 1..={MAX_REDUCED_SIDE}, got {width}x{height}"
            )));
        }
    }
    Ok(())
}

impl Reducer {
    /// A reducer for frames of the format and size of `frame`, whatever their strides and colours. `displacement`, in
    /// fractions of width and height, is where in the frame the upper left corner of the small images is.
    pub(crate) fn new(frame: &ImageView<'_>, sizes: ReducedSizes, displacement: [f32; 2]) -> Result<Self> {
        frame.validate()?;
        check_sizes(sizes)?;
        let Layout { family, planes } = Layout::of(frame.format);
        let planes: Vec<PlanePass> = planes
            .iter()
            .enumerate()
            .filter_map(|plane| PlanePass::new(frame, sizes, displacement, plane))
            .collect();
        let mut scratch = Scratch::default();
        for pass in &planes {
            pass.grow(&mut scratch);
        }
        let ImageView {
            format,
            width,
            height,
            ..
        } = *frame;
        Ok(Self {
            format,
            width,
            height,
            sizes,
            displacement,
            family,
            planes,
            scratch,
        })
    }

    /// Whether frames of this format and size can be reduced.
    pub(crate) fn fits(&self, frame: &ImageView<'_>) -> bool {
        (frame.format, frame.width, frame.height) == (self.format, self.width, self.height)
    }

    /// Fills `out` from `frame`. Images that are not wanted stay empty.
    pub(crate) fn reduce(&mut self, frame: &ImageView<'_>, out: &mut ReducedFrame) -> Result<()> {
        if !self.fits(frame) {
            return Err(Error::Image(format!(
                "frames must be {} {}x{} as the first one, got {} {}x{}",
                self.format, self.width, self.height, frame.format, frame.width, frame.height
            )));
        }
        frame.validate()?;
        let area = |size: Option<(usize, usize)>| size.map_or(0, |(width, height)| width * height);
        clear(&mut out.grey, area(self.sizes.grey));
        clear(&mut out.colour, 3 * area(self.sizes.colour));
        for pass in &self.planes {
            pass.add(frame, &mut self.scratch, out);
        }
        let expansion = Expansion::new(self.format, self.family, frame.color);
        expansion.grey(&mut out.grey);
        expansion.colour(&mut out.colour);
        mark_outside((self.width, self.height), self.sizes, self.displacement, out);
        Ok(())
    }
}

/// Makes cells of displaced images NaN that are not entirely in the frame.
pub(super) fn mark_outside(
    frame: (usize, usize),
    sizes: ReducedSizes,
    displacement: [f32; 2],
    out: &mut ReducedFrame,
) {
    if displacement == [0.0; 2] {
        return;
    }
    let mark = |image: &mut [f32], size: Option<(usize, usize)>, channels: usize| {
        let Some((width, height)) = size else { return };
        let columns = Axis::new(frame.0, width, 1, displacement[0]).inside();
        let rows = Axis::new(frame.1, height, 1, displacement[1]).inside();
        for (y, row) in image.chunks_exact_mut(width * channels).enumerate() {
            let seen = if rows.contains(&y) { columns.clone() } else { 0..0 };
            row[..channels * seen.start].fill(f32::NAN);
            row[channels * seen.end..].fill(f32::NAN);
        }
    };
    mark(&mut out.grey, sizes.grey, 1);
    mark(&mut out.colour, sizes.colour, 3);
}

fn clear(image: &mut Vec<f32>, len: usize) {
    image.clear();
    image.resize(len, 0.0);
}
