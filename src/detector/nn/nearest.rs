//! Nearest-neighbour enlargement by whole factors.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::pass::pass;
use super::storage::{add, slice};
use super::tape::apply1;

/// Repeats every row and column `factor` times.
///
/// # Shapes
/// `[B, H, W, C]` -> `[B, factor H, factor W, C]`
pub(crate) fn enlarge(x: &Tensor, factor: usize) -> Result<Tensor> {
    if factor == 1 {
        return Ok(x.clone());
    }
    apply1(&x.contiguous()?, Nearest { factor })
}

struct Nearest {
    factor: usize,
}

impl CustomOp1 for Nearest {
    fn name(&self) -> &'static str {
        "enlargement"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, height, width, channels) = layout.shape().dims4()?;
        let out = repeat(slice(x, layout)?, width * channels, channels, self.factor);
        let shape = (batch, self.factor * height, self.factor * width, channels);
        Ok((CpuStorage::F32(out), shape.into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, width, channels) = x.dims4()?;
        pass(x.shape(), [gradient], |[gradient]| {
            gather(gradient, width * channels, channels, self.factor)
        })
        .map(Some)
    }
}

/// `row` and `cell` are lengths of the small picture.
fn repeat(values: &[f32], row: usize, cell: usize, factor: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len() * factor.pow(2));
    for row in values.chunks_exact(row) {
        let start = out.len();
        for cell in row.chunks_exact(cell) {
            (0..factor).for_each(|_| out.extend_from_slice(cell));
        }
        let end = out.len();
        (1..factor).for_each(|_| out.extend_from_within(start..end));
    }
    out
}

/// The sums of what [`repeat`] makes of each value.
fn gather(values: &[f32], row: usize, cell: usize, factor: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len() / factor.pow(2)];
    let blocks = values.chunks_exact(factor.pow(2) * row);
    for (sums, block) in out.chunks_exact_mut(row).zip(blocks) {
        for line in block.chunks_exact(factor * row) {
            let copies = line.chunks_exact(factor * cell);
            for (sum, copies) in sums.chunks_exact_mut(cell).zip(copies) {
                copies.chunks_exact(cell).for_each(|copy| add(sum, copy));
            }
        }
    }
    out
}
