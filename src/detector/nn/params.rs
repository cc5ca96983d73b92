//! The weights of one net, in the order in which its layers were made, and their gradients.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{CpuStorage, Device, InplaceOp2, Layout, Result, Shape, Tensor, Var, bail};
use rand::Rng as _;

use super::Rng;
use super::simd::vectorized;
use super::storage::{add, slice, slice_mut, with_slices};
use super::tape::Tape;

/// How a new parameter starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Init {
    /// Uniform in `±1/sqrt(fan_in)`.
    Uniform {
        /// Inputs that one output sums over.
        fan_in: usize,
    },
    /// The same value everywhere.
    Constant(f32),
}

/// All trainable values of one net.
#[derive(Debug)]
pub(crate) struct Parameters {
    device: Device,
    vars: Vec<(String, Var)>,
    gradients: Gradients,
}

/// Gradients of a whole net on the CPU, one after the other in the order of its parameters.
#[derive(Clone, Debug, Default)]
pub(super) struct Gradients(Arc<Mutex<Vec<f32>>>);

impl Gradients {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<f32>> {
        // Numbers cannot be left half-changed in a way that the next step would not clear.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of [`Gradients`] that belongs to one layer. Its backward pass adds to it.
#[derive(Clone, Debug)]
pub(super) struct GradientSlot {
    all: Gradients,
    range: Range<usize>,
}

impl GradientSlot {
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut [f32]) -> R) -> R {
        work(&mut self.all.lock()[self.range.clone()])
    }
}

impl Parameters {
    /// An empty set on `device`.
    pub(crate) fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            vars: Vec::new(),
            gradients: Gradients::default(),
        }
    }

    /// Adds a parameter and returns the tensor that layers compute with.
    pub(crate) fn add(
        &mut self,
        name: &str,
        shape: impl Into<Shape>,
        init: Init,
        rng: &mut Rng,
    ) -> Result<Tensor> {
        let shape = shape.into();
        let count = shape.elem_count();
        let values: Vec<f32> = match init {
            Init::Uniform { fan_in } => {
                let bound = 1.0 / (fan_in as f32).sqrt();
                (0..count).map(|_| rng.random_range(-bound..bound)).collect()
            }
            Init::Constant(value) => vec![value; count],
        };
        self.add_values(name, shape, values)
    }

    /// Adds a parameter that starts with the given values.
    pub(crate) fn add_values(
        &mut self,
        name: &str,
        shape: impl Into<Shape>,
        values: Vec<f32>,
    ) -> Result<Tensor> {
        let var = Var::from_tensor(&Tensor::from_vec(values, shape, &self.device)?)?;
        let tensor = var.as_tensor().clone();
        self.gradients
            .lock()
            .resize(self.count() + tensor.elem_count(), 0.0);
        self.vars.push((name.to_owned(), var));
        Ok(tensor)
    }

    /// All values, in the order of the parameters.
    pub(crate) fn values(&self) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(self.count());
        for (_, var) in self.iter() {
            values.extend(var.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(values)
    }

    /// Goes on from what [`Parameters::values`] gave.
    ///
    /// # Errors
    /// There are more or fewer parameters.
    pub(crate) fn set_values(&self, values: &[f32]) -> Result<()> {
        if values.len() != self.count() {
            bail!(
                "{} values are not those of {} parameters",
                values.len(),
                self.count()
            );
        }
        let mut rest = values;
        for (_, var) in self.iter() {
            let (here, behind) = rest.split_at(var.elem_count());
            rest = behind;
            var.set(&Tensor::from_slice(here, var.shape(), &self.device)?)?;
        }
        Ok(())
    }

    /// Names and variables, in the order of their making.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.vars.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// Number of trainable values.
    pub(crate) fn count(&self) -> usize {
        self.vars.iter().map(|(_, v)| v.elem_count()).sum()
    }

    /// Where the gradients of the next `len` values will be.
    pub(super) fn next_slot(&self, len: usize) -> GradientSlot {
        let start = self.count();
        GradientSlot {
            all: self.gradients.clone(),
            range: start..start + len,
        }
    }

    /// Differentiates `loss`, to which the operations on `tape` led, and gives all gradients, in the order of
    /// the parameters.
    ///
    /// # Errors
    /// An operation between the parameters and the loss is not on the tape.
    pub(crate) fn backward(&self, tape: Tape, loss: &Tensor) -> Result<MutexGuard<'_, Vec<f32>>> {
        self.gradients.lock().fill(0.0);
        let mut rest = tape.backward(loss)?;
        let all = self.collect(|var| rest.remove(&var.id()))?;
        if !rest.is_empty() {
            bail!("{} gradients end before they reach a parameter", rest.len());
        }
        Ok(all)
    }

    /// As [`Parameters::backward`] with Candle's own walk, for operations of any kind.
    #[cfg(test)]
    pub(crate) fn backward_by_candle(&self, loss: &Tensor) -> Result<MutexGuard<'_, Vec<f32>>> {
        self.gradients.lock().fill(0.0);
        let store = loss.backward()?;
        self.collect(|var| store.get(var).cloned())
    }

    /// Layers added their gradients to their slots; others are added to that.
    fn collect(&self, mut other: impl FnMut(&Tensor) -> Option<Tensor>) -> Result<MutexGuard<'_, Vec<f32>>> {
        let mut all = self.gradients.lock();
        let mut start = 0;
        for (_, var) in self.iter() {
            let range = start..start + var.elem_count();
            start = range.end;
            if let Some(gradient) = other(var) {
                with_slices([&gradient], |[gradient]| add(&mut all[range], gradient))?;
            }
        }
        Ok(all)
    }

    /// Moves every value towards the other set's: `p += rate * (other - p)`.
    pub(crate) fn lerp_from(&self, other: &Self, rate: f64) -> Result<()> {
        if self.vars.len() != other.vars.len() {
            bail!(
                "{} parameters cannot follow {}",
                self.vars.len(),
                other.vars.len()
            );
        }
        for ((_, mine), (_, theirs)) in self.vars.iter().zip(&other.vars) {
            mine.inplace_op2(theirs, &Lerp(rate as f32))?;
        }
        Ok(())
    }
}

/// `p += rate * (other - p)`
struct Lerp(f32);

impl InplaceOp2 for Lerp {
    fn name(&self) -> &'static str {
        "lerp"
    }

    fn cpu_fwd(
        &self,
        to: &mut CpuStorage,
        to_layout: &Layout,
        from: &CpuStorage,
        layout: &Layout,
    ) -> Result<()> {
        let (to, from) = (slice_mut(to, to_layout)?, slice(from, layout)?);
        if to.len() != from.len() {
            bail!("{} values cannot follow {}", to.len(), from.len());
        }
        lerp(to, from, self.0);
        Ok(())
    }
}

vectorized! {
    fn lerp<'a>(to: &'a mut [f32], from: &'a [f32], rate: f32) -> () {
        to.iter_mut().zip(from).for_each(|(p, o)| *p += rate * (o - *p));
    }
}
