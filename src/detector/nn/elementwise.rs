//! The small operations between the layers, each with its gradient, as one pass.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::loss::{like, multiply, same_shape, scalar};
use super::pass::pass;
use super::storage::{add, slice, with_slices};
use super::tape::{apply1, apply2};

/// Limits values to `low..=high`; those beyond get no gradient.
pub(crate) fn clamp(x: &Tensor, low: f32, high: f32) -> Result<Tensor> {
    apply1(&x.contiguous()?, Clamp { low, high })
}

/// Adds a picture to each of a batch.
///
/// # Shapes
/// `[B, ..]`, `[1, ..]` -> `[B, ..]`
pub(crate) fn add_to_each(x: &Tensor, picture: &Tensor) -> Result<Tensor> {
    if x.dims().get(1..) != picture.dims().get(1..) || picture.dims().first() != Some(&1) {
        bail!("{:?} cannot be added to each of {:?}", picture.shape(), x.shape());
    }
    apply2(&x.contiguous()?, &picture.contiguous()?, AddToEach)
}

/// Multiplies by a mask, which gets no gradient.
///
/// # Shapes
/// Twice the same -> the same
pub(crate) fn apply_mask(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    same_shape(x, mask)?;
    let mask = mask.contiguous()?.detach();
    apply1(&x.contiguous()?, Mask { mask })
}

/// The sum of two losses, each times its weight.
///
/// # Shapes
/// Twice `[]` -> `[]`
pub(crate) fn weighted_sum([(a, first), (b, second)]: [(&Tensor, f64); 2]) -> Result<Tensor> {
    if a.elem_count() != 1 || b.elem_count() != 1 {
        bail!(
            "losses are single values, got {:?} and {:?}",
            a.shape(),
            b.shape()
        );
    }
    let weights = [first as f32, second as f32];
    apply2(a, b, WeightedSum { weights })
}

struct Clamp {
    low: f32,
    high: f32,
}

impl CustomOp1 for Clamp {
    fn name(&self) -> &'static str {
        "clamp"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        // Unlike the minimum of a number and NaN, this is NaN where the value is.
        let out = slice(x, layout)?
            .iter()
            .map(|x| x.clamp(self.low, self.high))
            .collect();
        Ok(like(out, layout))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        pass(x.shape(), [x, gradient], |[x, gradient]| {
            let inside = |x: f32| x >= self.low && x <= self.high;
            let pass = |(&x, &g): (&f32, &f32)| if inside(x) { g } else { 0.0 };
            x.iter().zip(gradient).map(pass).collect()
        })
        .map(Some)
    }
}

struct AddToEach;

impl CustomOp2 for AddToEach {
    fn name(&self) -> &'static str {
        "add to each"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        p: &CpuStorage,
        pl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut out = slice(x, xl)?.to_vec();
        let picture = slice(p, pl)?;
        for out in out.chunks_exact_mut(picture.len().max(1)) {
            add(out, picture);
        }
        Ok(like(out, xl))
    }

    fn bwd(
        &self,
        _: &Tensor,
        p: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dp = pass(p.shape(), [gradient], |[gradient]| {
            let mut out = vec![0.0; p.elem_count()];
            for gradient in gradient.chunks_exact(out.len().max(1)) {
                add(&mut out, gradient);
            }
            out
        })?;
        Ok((Some(gradient.clone()), Some(dp)))
    }
}

struct Mask {
    mask: Tensor,
}

fn times(values: &[f32], mask: &[f32]) -> Vec<f32> {
    let mut out = values.to_vec();
    multiply(&mut out, mask);
    out
}

impl CustomOp1 for Mask {
    fn name(&self) -> &'static str {
        "mask"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = slice(x, layout)?;
        let out = with_slices([&self.mask], |[mask]| times(values, mask))?;
        Ok(like(out, layout))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let inputs = [gradient, &self.mask];
        pass(x.shape(), inputs, |[gradient, mask]| times(gradient, mask)).map(Some)
    }
}

struct WeightedSum {
    weights: [f32; 2],
}

impl CustomOp2 for WeightedSum {
    fn name(&self) -> &'static str {
        "weighted sum"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (slice(a, al)?[0], slice(b, bl)?[0]);
        Ok(scalar(f64::from(self.weights[0] * a + self.weights[1] * b)))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let slope = |like: &Tensor, weight: f32| {
            pass(like.shape(), [gradient], |[gradient]| vec![weight * gradient[0]]).map(Some)
        };
        Ok((slope(a, self.weights[0])?, slope(b, self.weights[1])?))
    }
}
