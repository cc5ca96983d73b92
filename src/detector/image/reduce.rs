//! One pass over a frame: area averages on two small grids.
//!
//! Rows are cut into runs at the borders of both grids. The rows of a run are added up byte by byte, whatever
//! the bytes mean; then each component's running sum along the row gives the sums of all cells, which are
//! shared out to the cell rows that the run is part of. Sums are exact integers until then.

use super::cells::{Axis, RowCells};
use super::colour::Expansion;
use super::layout::{Component, Family, LUMA_WEIGHTS, Layout, Plane, Sample};
use super::{ImageView, PixelFormat};
use crate::detector::{Error, Result};

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
    format: PixelFormat,
    width: usize,
    height: usize,
    sizes: ReducedSizes,
    family: Family,
    planes: Vec<PlanePass>,
    scratch: Scratch,
}

/// What is done to one plane.
#[derive(Debug)]
struct PlanePass {
    index: usize,
    row_bytes: usize,
    components: Vec<ComponentPass>,
    runs: Vec<Run>,
}

/// Rows that are added up before anything else is done with them.
#[derive(Debug)]
struct Run {
    first: usize,
    end: usize,
    /// Cell rows of the grey picture and the weights of this run's sums there.
    grey: Vec<(usize, f32)>,
    /// The same of the colour picture.
    colour: Vec<(usize, f32)>,
}

/// What is done to one component of a plane.
#[derive(Debug)]
struct ComponentPass {
    component: Component,
    grey: Option<RowCells>,
    /// With the place among the three components.
    colour: Option<(usize, RowCells)>,
}

/// Buffers that live from frame to frame.
#[derive(Debug, Default)]
struct Scratch {
    /// Sums of a run's rows.
    columns: Vec<u16>,
    /// Running sum of a component along the row.
    running: Vec<u32>,
    /// Means of one row of cells.
    line: Vec<f32>,
}

impl Reducer {
    /// A reducer for frames of the format and size of `frame`, whatever their strides and colours.
    pub(crate) fn new(frame: &ImageView<'_>, sizes: ReducedSizes) -> Result<Self> {
        frame.validate()?;
        for (width, height) in [sizes.grey, sizes.colour].into_iter().flatten() {
            if width == 0 || height == 0 {
                return Err(Error::Image(format!(
                    "reduced size must be at least 1x1, got {width}x{height}"
                )));
            }
        }
        let Layout { family, planes } = Layout::of(frame.format);
        let planes: Vec<PlanePass> = planes
            .iter()
            .enumerate()
            .map(|(index, plane)| PlanePass::new(frame, sizes, index, plane))
            .filter(|pass| !pass.components.is_empty())
            .collect();
        let widest = planes.iter().map(|pass| pass.row_bytes).max().unwrap_or(0);
        let cells = [sizes.grey, sizes.colour]
            .into_iter()
            .flatten()
            .map(|(width, _)| width);
        let scratch = Scratch {
            columns: vec![0; widest],
            running: vec![0; widest + 2],
            line: vec![0.0; cells.max().unwrap_or(0)],
        };
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
            family,
            planes,
            scratch,
        })
    }

    /// Whether frames of this format and size can be reduced.
    pub(crate) fn fits(&self, frame: &ImageView<'_>) -> bool {
        (frame.format, frame.width, frame.height) == (self.format, self.width, self.height)
    }

    /// Fills `out` from `frame`. A picture that is not wanted is left empty.
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
        Ok(())
    }
}

fn clear(picture: &mut Vec<f32>, len: usize) {
    picture.clear();
    picture.resize(len, 0.0);
}

impl PlanePass {
    fn new(frame: &ImageView<'_>, sizes: ReducedSizes, index: usize, plane: &Plane) -> Self {
        let axes = |(width, height): (usize, usize), shared: usize| {
            let horizontal = Axis {
                extent: frame.width,
                cells: width,
                shared,
            };
            let vertical = Axis {
                extent: frame.height,
                cells: height,
                shared: plane.shared,
            };
            (horizontal, vertical)
        };
        let mut components = Vec::new();
        let (mut grey, mut colour) = (None, None);
        let mut max_rows = usize::from(u16::MAX / u16::from(u8::MAX));
        for &component in &plane.components {
            let wanted_grey = sizes
                .grey
                .filter(|_| component.grey)
                .map(|size| axes(size, component.shared));
            let place = component.colour.zip(sizes.colour);
            let wanted_colour = place.map(|(place, size)| (place, axes(size, component.shared)));
            let wanted = [wanted_grey, wanted_colour.map(|(_, axes)| axes)];
            for (horizontal, _) in wanted.into_iter().flatten() {
                // A cell's sum must stay below 2^32.
                let largest = 255 * u64::from(component.sample.gain()) * horizontal.max_touched() as u64;
                max_rows = max_rows.min((u64::from(u32::MAX) / largest) as usize);
            }
            grey = wanted[0].map(|(_, vertical)| vertical).or(grey);
            colour = wanted[1].map(|(_, vertical)| vertical).or(colour);
            if wanted.iter().any(Option::is_some) {
                components.push(ComponentPass {
                    component,
                    grey: wanted_grey.map(|(horizontal, _)| RowCells::new(horizontal)),
                    colour: wanted_colour.map(|(place, (horizontal, _))| (place, RowCells::new(horizontal))),
                });
            }
        }
        Self {
            index,
            row_bytes: frame.format.row_bytes(index, frame.width),
            components,
            runs: runs(grey, colour, max_rows),
        }
    }

    /// Adds what the plane holds to the small pictures.
    fn add(&self, frame: &ImageView<'_>, scratch: &mut Scratch, out: &mut ReducedFrame) {
        let (plane, stride) = (frame.planes[self.index], frame.strides[self.index]);
        let columns = &mut scratch.columns[..self.row_bytes];
        for run in &self.runs {
            columns.fill(0);
            for row in run.first..run.end {
                add_row(columns, &plane[row * stride..][..self.row_bytes]);
            }
            for pass in &self.components {
                let samples = running_sum(&pass.component, columns, &mut scratch.running);
                let running = &scratch.running[..samples + 2];
                if let Some(cells) = &pass.grey {
                    let line = &mut scratch.line[..cells.len()];
                    cells.means(running, line);
                    share_out::<1>(line, &run.grey, 0, &mut out.grey);
                }
                if let Some((place, cells)) = &pass.colour {
                    let line = &mut scratch.line[..cells.len()];
                    cells.means(running, line);
                    share_out::<3>(line, &run.colour, *place, &mut out.colour);
                }
            }
        }
    }
}

/// Cuts the rows of a plane at the borders of both grids.
fn runs(grey: Option<Axis>, colour: Option<Axis>, max_rows: usize) -> Vec<Run> {
    let mut stops: Vec<usize> = [grey, colour]
        .into_iter()
        .flatten()
        .flat_map(Axis::stops)
        .collect();
    stops.sort_unstable();
    stops.dedup();
    let shares = |axis: Option<Axis>, first, end| {
        axis.map(|axis| axis.shares(first, end).collect())
            .unwrap_or_default()
    };
    let mut runs = Vec::new();
    for (&start, &stop) in stops.iter().zip(stops.iter().skip(1)) {
        for first in (start..stop).step_by(max_rows) {
            let end = stop.min(first + max_rows);
            runs.push(Run {
                first,
                end,
                grey: shares(grey, first, end),
                colour: shares(colour, first, end),
            });
        }
    }
    runs
}

fn add_row(columns: &mut [u16], row: &[u8]) {
    for (sum, byte) in columns.iter_mut().zip(row) {
        *sum += u16::from(*byte);
    }
}

/// Writes the running sum of the component's samples, from 0 to the sum of all, and the latter twice.
/// Returns the number of samples.
fn running_sum(component: &Component, columns: &[u16], running: &mut [u32]) -> usize {
    let columns = &columns[component.offset..];
    let step = component.step;
    let at = |pixel: &[u16], place: usize| u32::from(pixel[place]);
    match component.sample {
        Sample::Byte => accumulate(columns, step, running, |pixel| at(pixel, 0)),
        Sample::Word => accumulate(columns, step, running, |pixel| at(pixel, 0) + (at(pixel, 1) << 8)),
        Sample::Luma([red, green, blue]) => accumulate(columns, step, running, |pixel| {
            LUMA_WEIGHTS[0] * at(pixel, red)
                + LUMA_WEIGHTS[1] * at(pixel, green)
                + LUMA_WEIGHTS[2] * at(pixel, blue)
        }),
    }
}

fn accumulate(columns: &[u16], step: usize, running: &mut [u32], value: impl Fn(&[u16]) -> u32) -> usize {
    let mut sum = 0_u32;
    let mut samples = 0;
    running[0] = 0;
    for (pixel, place) in columns.chunks(step).zip(&mut running[1..]) {
        sum = sum.wrapping_add(value(pixel));
        *place = sum;
        samples += 1;
    }
    running[samples + 1] = sum;
    samples
}

/// Adds a row of cells to the rows of the small picture that it is part of.
fn share_out<const CHANNELS: usize>(line: &[f32], rows: &[(usize, f32)], place: usize, picture: &mut [f32]) {
    for &(row, weight) in rows {
        let cells = &mut picture[CHANNELS * row * line.len()..][..CHANNELS * line.len()];
        for (cell, mean) in cells.iter_mut().skip(place).step_by(CHANNELS).zip(line) {
            *cell += weight * mean;
        }
    }
}
