//! Sampling from the posterior, and the losses.
//!
//! Each is one pass over its inputs; of Candle's own operations it would be a handful of whole tensors each way.

use candle_core::{Result, Shape, Tensor, bail};

use super::math::{exp, ln};
use super::op::{Op, apply};
use super::simd::vectorized;
use super::tensor::{add, compute, same_shape};

/// Mean over all values of `2 log(1 + r^2 / (3 scale^2))` with `r = prediction - target`: the negative log-likelihood of
/// a Student t distribution with three degrees of freedom, without its constant.
///
/// The target gets no gradient.
///
/// # Shapes
/// Two of the same -> `[]`
pub(crate) fn student_t_loss(prediction: &Tensor, target: &Tensor, scale: f64) -> Result<Tensor> {
    same_shape(prediction, target)?;
    if target.track_op() {
        bail!("the target of a loss gets no gradient: detach it");
    }
    let precision = (1.0 / (3.0 * scale * scale)) as f32;
    apply(StudentT { precision }, [prediction, target])
}

/// `mean + exp(log_var / 2) * noise` (Kingma & Welling 2014, section 2.4). The noise gets no gradient.
///
/// # Shapes
/// Three of the same -> the same
pub(crate) fn reparameterize(mean: &Tensor, log_var: &Tensor, noise: &Tensor) -> Result<Tensor> {
    same_shape(mean, log_var)?;
    same_shape(mean, noise)?;
    apply(Reparameterize, [mean, log_var, &noise.detach()])
}

/// `KL(q || N(0, 1)) = 1/2 sum(mean^2 + exp(log_var) - 1 - log_var)` over the last dimension, in nats
/// (Kingma & Welling 2014, appendix B). It has no gradient.
///
/// # Shapes
/// Two of `[.., K]` -> `[..]`
pub(crate) fn kl(mean: &Tensor, log_var: &Tensor) -> Result<Tensor> {
    same_shape(mean, log_var)?;
    let Some((&last, outer)) = mean.dims().split_last() else {
        bail!("a posterior has at least one dimension");
    };
    compute(outer, [mean, log_var], |[mean, log_var]| {
        let mut terms = vec![0.0; mean.len()];
        kl_terms(&mut terms, mean, log_var);
        terms.chunks_exact(last).map(|terms| terms.iter().sum()).collect()
    })
}

/// Mean of [`kl`] over all distributions.
///
/// # Shapes
/// Two of `[.., K]` -> `[]`
pub(crate) fn kl_loss(mean: &Tensor, log_var: &Tensor) -> Result<Tensor> {
    same_shape(mean, log_var)?;
    let dims = mean.dims();
    let count = dims[..dims.len().saturating_sub(1)].iter().product::<usize>();
    let share = 1.0 / count as f32;
    apply(KlLoss { share }, [mean, log_var])
}

struct StudentT {
    /// `1 / (3 scale^2)`
    precision: f32,
}

impl Op<2> for StudentT {
    fn name(&self) -> &'static str {
        "Student t loss"
    }

    fn shape(&self, _: [&Shape; 2]) -> Shape {
        Shape::from(())
    }

    fn forward(&self, [prediction, target]: [&[f32]; 2], output: &mut [f32]) {
        let sum = student_t_sum(prediction, target, self.precision);
        output[0] = (sum * 2.0 / prediction.len() as f64) as f32;
    }

    fn backward(
        &self,
        [prediction, target]: [&[f32]; 2],
        _: &[f32],
        grad: &[f32],
        [dprediction, _]: [Option<&mut [f32]>; 2],
    ) {
        if let Some(d) = dprediction {
            let factor = 4.0 * self.precision * grad[0] / prediction.len() as f32;
            student_t_grad(d, prediction, target, self.precision, factor);
        }
    }
}

struct Reparameterize;

impl Op<3> for Reparameterize {
    fn name(&self) -> &'static str {
        "reparameterize"
    }

    fn shape(&self, [mean, ..]: [&Shape; 3]) -> Shape {
        mean.clone()
    }

    fn forward(&self, [mean, log_var, noise]: [&[f32]; 3], output: &mut [f32]) {
        output.copy_from_slice(mean);
        add_deviation(output, log_var, noise);
    }

    fn backward(
        &self,
        [_, log_var, noise]: [&[f32]; 3],
        _: &[f32],
        grad: &[f32],
        [dmean, dlog_var, _]: [Option<&mut [f32]>; 3],
    ) {
        if let Some(d) = dmean {
            add(d, grad);
        }
        if let Some(d) = dlog_var {
            deviation_grad(d, log_var, noise, grad);
        }
    }
}

struct KlLoss {
    /// One over the number of distributions.
    share: f32,
}

impl Op<2> for KlLoss {
    fn name(&self) -> &'static str {
        "KL loss"
    }

    fn shape(&self, _: [&Shape; 2]) -> Shape {
        Shape::from(())
    }

    fn forward(&self, [mean, log_var]: [&[f32]; 2], output: &mut [f32]) {
        output[0] = (0.5 * kl_sum(mean, log_var) * f64::from(self.share)) as f32;
    }

    fn backward(
        &self,
        [mean, log_var]: [&[f32]; 2],
        _: &[f32],
        grad: &[f32],
        [dmean, dlog_var]: [Option<&mut [f32]>; 2],
    ) {
        let factor = self.share * grad[0];
        if let Some(d) = dmean {
            d.iter_mut().zip(mean).for_each(|(d, m)| *d += m * factor);
        }
        if let Some(d) = dlog_var {
            kl_log_var_grad(d, log_var, 0.5 * factor);
        }
    }
}

/// Sums of this many values are kept in single precision.
const BLOCK: usize = 1024;
/// Sums that a block is split into, so that the compiler can use vectors.
const LANES: usize = 16;

vectorized! {
    /// Sum of `log(1 + precision (prediction - target)^2)`.
    fn student_t_sum<'a>(prediction: &'a [f32], target: &'a [f32], precision: f32) -> f64 {
        let term = |(p, t): (&f32, &f32)| ln((p - t) * (p - t) * precision + 1.0);
        sum_blocks(prediction, target, term)
    }
}

vectorized! {
    /// Sum of `mean^2 + exp(log_var) - 1 - log_var`.
    fn kl_sum<'a>(mean: &'a [f32], log_var: &'a [f32]) -> f64 {
        sum_blocks(mean, log_var, |(m, v): (&f32, &f32)| m * m + exp(*v) - 1.0 - v)
    }
}

vectorized! {
    /// `out = (mean^2 + exp(log_var) - 1 - log_var) / 2`
    fn kl_terms<'a>(out: &'a mut [f32], mean: &'a [f32], log_var: &'a [f32]) -> () {
        for ((o, m), v) in out.iter_mut().zip(mean).zip(log_var) {
            *o = 0.5 * (m * m + exp(*v) - 1.0 - v);
        }
    }
}

/// Sum of a term of two arrays, in double precision over blocks.
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
    /// `d += factor * r / (1 + precision r^2)` with `r = prediction - target`
    fn student_t_grad<'a>(d: &'a mut [f32], prediction: &'a [f32], target: &'a [f32], precision: f32, factor: f32) -> () {
        for ((d, p), t) in d.iter_mut().zip(prediction).zip(target) {
            let r = p - t;
            *d += factor * r / (r * r * precision + 1.0);
        }
    }
}

vectorized! {
    /// `d += factor * (exp(log_var) - 1)`
    fn kl_log_var_grad<'a>(d: &'a mut [f32], log_var: &'a [f32], factor: f32) -> () {
        for (d, v) in d.iter_mut().zip(log_var) {
            *d += factor * (exp(*v) - 1.0);
        }
    }
}

vectorized! {
    /// `out += exp(log_var / 2) * noise`
    fn add_deviation<'a>(out: &'a mut [f32], log_var: &'a [f32], noise: &'a [f32]) -> () {
        for ((o, v), n) in out.iter_mut().zip(log_var).zip(noise) {
            *o += exp(0.5 * v) * n;
        }
    }
}

vectorized! {
    /// `d += exp(log_var / 2) / 2 * noise * grad`
    fn deviation_grad<'a>(d: &'a mut [f32], log_var: &'a [f32], noise: &'a [f32], grad: &'a [f32]) -> () {
        for (((d, v), n), g) in d.iter_mut().zip(log_var).zip(noise).zip(grad) {
            *d += 0.5 * exp(0.5 * v) * n * g;
        }
    }
}
