//! What is done to one plane of a frame: which rows are added up, which cells they go to.

use super::cells::{Axis, RowCells};
use super::columns::{Columns, MAX_ROWS, Rows};
use super::layout::{Plane, Tap};
use super::{ImageView, ReducedFrame, ReducedSizes};

/// One plane's part in the small images.
#[derive(Debug)]
pub(super) struct PlanePass {
    index: usize,
    row_bytes: usize,
    /// All samples are an even number of bytes apart, so that each component's bytes are in one part of the
    /// split sums.
    split: bool,
    runs: Vec<Run>,
    jobs: Vec<Job>,
}

/// Rows that are added up before anything else is done with them.
#[derive(Debug)]
struct Run {
    first: usize,
    end: usize,
    grey: CellRows,
    colour: CellRows,
}

/// Rows of cells that a run is part of, with the factors of its sums there.
type CellRows = Vec<(usize, f32)>;

/// One component on one grid.
#[derive(Debug)]
struct Job {
    taps: Vec<Tap>,
    cells: RowCells,
    target: Target,
}

/// Where a component goes.
#[derive(Clone, Copy, Debug)]
enum Target {
    Grey,
    /// Channel of the colour image.
    Colour(usize),
}

/// Buffers that are reused from frame to frame.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Sums of a run's rows.
    columns: Columns,
    /// Means of one row of cells.
    line: Vec<f32>,
}

impl PlanePass {
    /// Grids that are displaced by fractions of width and height. `None` if nothing is made of the plane.
    pub(super) fn new(
        frame: &ImageView<'_>,
        sizes: ReducedSizes,
        [x, y]: [f32; 2],
        (index, plane): (usize, &Plane),
    ) -> Option<Self> {
        let split = plane.components.iter().all(|component| component.step % 2 == 0);
        let mut jobs = Vec::new();
        let (mut grey_rows, mut colour_rows) = (None, None);
        let rows = |cells| Axis::new(frame.height, cells, plane.shared, y);
        for component in &plane.components {
            let mut add = |cells, target| {
                let axis = Axis::new(frame.width, cells, component.shared, x);
                let cells = RowCells::new(axis, if split { component.step / 2 } else { component.step });
                jobs.push(Job {
                    taps: component.taps.clone(),
                    cells,
                    target,
                });
            };
            if let Some((width, height)) = sizes.grey.filter(|_| component.grey) {
                add(width, Target::Grey);
                grey_rows = Some(rows(height));
            }
            if let Some((channel, (width, height))) = component.colour.zip(sizes.colour) {
                add(width, Target::Colour(channel));
                colour_rows = Some(rows(height));
            }
        }
        let row_bytes = frame.format.row_bytes(index, frame.width);
        (!jobs.is_empty()).then(|| Self {
            index,
            row_bytes,
            split,
            runs: runs(grey_rows, colour_rows),
            jobs,
        })
    }

    /// Makes the buffers as large as this plane needs them.
    pub(super) fn grow(&self, scratch: &mut Scratch) {
        for job in &self.jobs {
            scratch.columns.grow(self.row_bytes, job.cells.window());
            scratch.line.resize(job.cells.len().max(scratch.line.len()), 0.0);
        }
    }

    /// Adds what the plane holds to the small images.
    pub(super) fn add(&self, frame: &ImageView<'_>, scratch: &mut Scratch, out: &mut ReducedFrame) {
        let (plane, stride) = (frame.planes[self.index], frame.strides[self.index]);
        for run in &self.runs {
            let rows = Rows {
                plane,
                stride,
                bytes: self.row_bytes,
                first: run.first,
                end: run.end,
            };
            scratch.columns.sum(rows, self.split);
            for job in &self.jobs {
                let line = &mut scratch.line[..job.cells.len()];
                line.fill(0.0);
                for tap in &job.taps {
                    let sums = match self.split {
                        true => &scratch.columns.part(tap.offset % 2)[tap.offset / 2..],
                        false => &scratch.columns.part(0)[tap.offset..],
                    };
                    job.cells.add_means(sums, tap.factor, line);
                }
                match job.target {
                    Target::Grey => share_out::<1>(line, &run.grey, 0, &mut out.grey),
                    Target::Colour(channel) => share_out::<3>(line, &run.colour, channel, &mut out.colour),
                }
            }
        }
    }
}

/// Cuts the rows of a plane at the borders of both grids.
fn runs(grey: Option<Axis>, colour: Option<Axis>) -> Vec<Run> {
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
        for first in (start..stop).step_by(MAX_ROWS) {
            let end = stop.min(first + MAX_ROWS);
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

/// Adds a row of cells to the rows of the small image that it is part of.
fn share_out<const CHANNELS: usize>(line: &[f32], rows: &CellRows, channel: usize, image: &mut [f32]) {
    for &(row, weight) in rows {
        let cells = &mut image[CHANNELS * row * line.len()..][..CHANNELS * line.len()];
        let (cells, _) = cells.as_chunks_mut::<CHANNELS>();
        for (cell, mean) in cells.iter_mut().zip(line) {
            cell[channel] += weight * mean;
        }
    }
}
