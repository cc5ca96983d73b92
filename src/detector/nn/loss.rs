//! Sampling and the losses, each with its gradient, as one pass.
//!
//! With Candle's own operations every one of them is a handful of whole tensors each way.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::math::{exp, ln};
use super::pass::pass;
use super::simd::vectorized;
use super::storage::{slice, with_slices};
use super::tape::apply2;

/// Mean over all values of `2 log(1 + r^2 / (3 scale^2))` with `r = prediction - target`: the negative
/// log-likelihood of a Student t distribution with three degrees of freedom, without its constant.
///
/// The target gets no gradient.
///
/// # Shapes
/// Twice the same -> `[]`
pub(crate) fn student_t_loss(prediction: &Tensor, target: &Tensor, scale: f64) -> Result<Tensor> {
    same_shape(prediction, target)?;
    if target.track_op() {
        bail!("the target of a loss gets no gradient: detach it");
    }
    let spread = (1.0 / (3.0 * scale * scale)) as f32;
    apply2(
        &prediction.contiguous()?,
        &target.contiguous()?,
        StudentT { spread },
    )
}

/// `mean + exp(log_var / 2) * noise` (Kingma & Welling 2014, section 2.4); the noise gets no gradient.
///
/// # Shapes
/// Three times the same -> the same
pub(crate) fn reparameterize(mean: &Tensor, log_var: &Tensor, noise: &Tensor) -> Result<Tensor> {
    same_shape(mean, log_var)?;
    same_shape(mean, noise)?;
    let noise = noise.contiguous()?.detach();
    apply2(
        &mean.contiguous()?,
        &log_var.contiguous()?,
        Reparameterize { noise },
    )
}

/// `KL(q || N(0, 1)) = 1/2 sum(mean^2 + exp(log_var) - 1 - log_var)` over the last dimension, in nats
/// (Kingma & Welling 2014, appendix B); no gradients.
///
/// # Shapes
/// Twice `[.., K]` -> `[..]`
pub(crate) fn kl(mean: &Tensor, log_var: &Tensor) -> Result<Tensor> {
    same_shape(mean, log_var)?;
    mean.contiguous()?
        .apply_op2_no_bwd(&log_var.contiguous()?, &KlEach)
}

/// Mean of [`kl`] over all distributions.
///
/// # Shapes
/// Twice `[.., K]` -> `[]`
pub(crate) fn kl_loss(mean: &Tensor, log_var: &Tensor) -> Result<Tensor> {
    same_shape(mean, log_var)?;
    let dims = mean.dims();
    let count = dims[..dims.len().saturating_sub(1)].iter().product::<usize>();
    let share = 1.0 / count as f32;
    apply2(&mean.contiguous()?, &log_var.contiguous()?, Kl { share })
}

pub(super) fn same_shape(a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dims() != b.dims() {
        bail!("shapes differ: {:?} and {:?}", a.shape(), b.shape());
    }
    Ok(())
}

/// A result like its first argument.
pub(super) fn like(values: Vec<f32>, layout: &Layout) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), layout.shape().clone())
}

pub(super) fn scalar(value: f64) -> (CpuStorage, Shape) {
    (CpuStorage::F32(vec![value as f32]), Shape::from(()))
}

struct StudentT {
    spread: f32,
}

impl CustomOp2 for StudentT {
    fn name(&self) -> &'static str {
        "student t loss"
    }

    fn cpu_fwd(
        &self,
        p: &CpuStorage,
        pl: &Layout,
        t: &CpuStorage,
        tl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (prediction, target) = (slice(p, pl)?, slice(t, tl)?);
        Ok(scalar(
            student_t_sum(prediction, target, self.spread) * 2.0 / prediction.len() as f64,
        ))
    }

    fn bwd(
        &self,
        p: &Tensor,
        t: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dp = pass(p.shape(), [p, t, gradient], |[prediction, target, gradient]| {
            let mut out = vec![0.0; prediction.len()];
            let factor = 4.0 * self.spread * gradient[0] / prediction.len() as f32;
            student_t_slope(&mut out, prediction, target, self.spread, factor);
            out
        })?;
        Ok((Some(dp), None))
    }
}

struct Reparameterize {
    noise: Tensor,
}

impl CustomOp2 for Reparameterize {
    fn name(&self) -> &'static str {
        "reparameterize"
    }

    fn cpu_fwd(
        &self,
        m: &CpuStorage,
        ml: &Layout,
        v: &CpuStorage,
        vl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (mean, log_var) = (slice(m, ml)?, slice(v, vl)?);
        let out = with_slices([&self.noise], |[noise]| {
            let mut out = mean.to_vec();
            add_deviation(&mut out, log_var, noise, 1.0);
            out
        })?;
        Ok(like(out, ml))
    }

    fn bwd(
        &self,
        _: &Tensor,
        v: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let inputs = [v, &self.noise, gradient];
        let dv = pass(v.shape(), inputs, |[log_var, noise, gradient]| {
            let mut out = vec![0.0; log_var.len()];
            add_deviation(&mut out, log_var, noise, 0.5);
            multiply(&mut out, gradient);
            out
        })?;
        Ok((Some(gradient.clone()), Some(dv)))
    }
}

struct Kl {
    /// One over the number of distributions.
    share: f32,
}

impl CustomOp2 for Kl {
    fn name(&self) -> &'static str {
        "KL loss"
    }

    fn cpu_fwd(
        &self,
        m: &CpuStorage,
        ml: &Layout,
        v: &CpuStorage,
        vl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(scalar(
            0.5 * kl_sum(slice(m, ml)?, slice(v, vl)?) * f64::from(self.share),
        ))
    }

    fn bwd(
        &self,
        m: &Tensor,
        v: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dm = pass(m.shape(), [m, gradient], |[mean, gradient]| {
            let factor = self.share * gradient[0];
            mean.iter().map(|m| m * factor).collect()
        })?;
        let dv = pass(v.shape(), [v, gradient], |[log_var, gradient]| {
            let mut dv = vec![0.0; log_var.len()];
            kl_slope(&mut dv, log_var, 0.5 * (self.share * gradient[0]));
            dv
        })?;
        Ok((Some(dm), Some(dv)))
    }
}

struct KlEach;

impl CustomOp2 for KlEach {
    fn name(&self) -> &'static str {
        "KL"
    }

    fn cpu_fwd(
        &self,
        m: &CpuStorage,
        ml: &Layout,
        v: &CpuStorage,
        vl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (mean, log_var) = (slice(m, ml)?, slice(v, vl)?);
        let (outer, last) = ml.dims().split_at(ml.dims().len() - 1);
        let mut terms = vec![0.0; mean.len()];
        kl_terms(&mut terms, mean, log_var);
        let out = terms
            .chunks_exact(last[0])
            .map(|terms| terms.iter().sum())
            .collect();
        Ok((CpuStorage::F32(out), Shape::from(outer)))
    }
}

/// Sums of this many values are kept in single precision.
const BLOCK: usize = 1024;
const LANES: usize = 16;

vectorized! {
    fn student_t_sum<'a>(prediction: &'a [f32], target: &'a [f32], spread: f32) -> f64 {
        let term = |(p, t): (&f32, &f32)| ln((p - t) * (p - t) * spread + 1.0);
        sum_blocks(prediction, target, term)
    }
}

vectorized! {
    fn kl_sum<'a>(mean: &'a [f32], log_var: &'a [f32]) -> f64 {
        sum_blocks(mean, log_var, |(m, v): (&f32, &f32)| m * m + exp(*v) - 1.0 - v)
    }
}

vectorized! {
    fn kl_terms<'a>(out: &'a mut [f32], mean: &'a [f32], log_var: &'a [f32]) -> () {
        for ((o, m), v) in out.iter_mut().zip(mean).zip(log_var) {
            *o = 0.5 * (m * m + exp(*v) - 1.0 - v);
        }
    }
}

#[inline(always)]
fn sum_blocks(a: &[f32], b: &[f32], term: impl Fn((&f32, &f32)) -> f32) -> f64 {
    let mut total = 0.0;
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        let mut sums = [0.0f32; LANES];
        let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
        let rest: f32 = a.remainder().iter().zip(b.remainder()).map(&term).sum();
        for (a, b) in a.zip(b) {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum += term((&a[i], &b[i]));
            }
        }
        total += f64::from(sums.iter().sum::<f32>() + rest);
    }
    total
}

vectorized! {
    fn student_t_slope<'a>(out: &'a mut [f32], prediction: &'a [f32], target: &'a [f32], spread: f32, factor: f32) -> () {
        for ((o, p), t) in out.iter_mut().zip(prediction).zip(target) {
            let r = p - t;
            *o = factor * r / (r * r * spread + 1.0);
        }
    }
}

vectorized! {
    fn kl_slope<'a>(out: &'a mut [f32], log_var: &'a [f32], factor: f32) -> () {
        for (o, v) in out.iter_mut().zip(log_var) {
            *o = factor * (exp(*v) - 1.0);
        }
    }
}

vectorized! {
    /// `out += factor * exp(log_var / 2) * noise`
    fn add_deviation<'a>(out: &'a mut [f32], log_var: &'a [f32], noise: &'a [f32], factor: f32) -> () {
        for ((o, v), n) in out.iter_mut().zip(log_var).zip(noise) {
            *o += factor * exp(0.5 * v) * n;
        }
    }
}

vectorized! {
    pub(super) fn multiply<'a>(out: &'a mut [f32], by: &'a [f32]) -> () {
        out.iter_mut().zip(by).for_each(|(o, b)| *o *= b);
    }
}
