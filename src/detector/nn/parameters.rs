//! The trainable values of one net.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{
    CpuStorage, DType, Device, InplaceOp2, Layout, Result, Shape, Tensor, TensorId, Var, bail,
};
use candle_nn::Init;
use candle_nn::var_builder::{SimpleBackend, VarBuilder};
use rand::Rng as _;

use super::simd::vectorized;
use super::tensor::{slice, slice_mut};
use super::{Rng, Tape};

/// Uniform in `±1/sqrt(fan_in)`, where `fan_in` is the number of inputs that one output sums over.
pub(crate) fn fan_in_uniform(fan_in: usize) -> Init {
    let bound = f64::from(1.0 / (fan_in as f32).sqrt());
    Init::Uniform {
        lo: -bound,
        up: bound,
    }
}

/// All trainable values of one net, on the CPU, in the order in which they were created.
///
/// Layers create their parameters through [`Parameters::var_builder`]. A [`VarMap`](candle_nn::VarMap) would serve but for two things: it
/// has no order, and Candle's generator of initial values takes no seed on the CPU.
#[derive(Debug)]
pub(crate) struct Parameters(Arc<Mutex<Store>>);

#[derive(Debug)]
struct Store {
    /// Draws initial values.
    rng: Rng,
    variables: Vec<(String, Var)>,
    /// Where each variable's values and gradients are among those of all.
    ranges: HashMap<TensorId, Range<usize>>,
    count: usize,
}

impl Store {
    fn find(&self, name: &str) -> Option<&Var> {
        self.variables.iter().find(|(n, _)| n == name).map(|(_, var)| var)
    }

    fn add(&mut self, name: &str, shape: Shape, values: Vec<f32>) -> Result<Tensor> {
        if self.find(name).is_some() {
            bail!("there is a parameter {name} already");
        }
        let var = Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)?;
        let tensor = var.as_tensor().clone();
        let end = self.count + tensor.elem_count();
        self.ranges.insert(tensor.id(), self.count..end);
        self.count = end;
        self.variables.push((name.to_owned(), var));
        Ok(tensor)
    }
}

impl Parameters {
    /// No parameters. `rng` draws the initial values of those to come.
    pub(crate) fn new(rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(Store {
            rng,
            variables: Vec::new(),
            ranges: HashMap::new(),
            count: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates parameters for layers.
    pub(crate) fn var_builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(Backend(Self(self.0.clone()))), DType::F32, Device::Cpu)
    }

    /// Adds a parameter with the given values and returns the tensor to compute with.
    ///
    /// # Errors
    /// The name is taken, or the values do not fit the shape.
    pub(crate) fn add(&self, name: &str, shape: impl Into<Shape>, values: Vec<f32>) -> Result<Tensor> {
        self.lock().add(name, shape.into(), values)
    }

    /// Names and variables, in the order of their creation.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (String, Var)> + use<> {
        self.lock().variables.clone().into_iter()
    }

    /// Number of trainable values.
    pub(crate) fn count(&self) -> usize {
        self.lock().count
    }

    /// All values, in the order of the parameters.
    pub(crate) fn values(&self) -> Result<Vec<f32>> {
        let store = self.lock();
        let mut values = Vec::with_capacity(store.count);
        for (_, var) in &store.variables {
            values.extend(var.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(values)
    }

    /// Sets all values, in the order of the parameters.
    ///
    /// # Errors
    /// There are more or fewer values than [`Parameters::count`].
    pub(crate) fn set_values(&self, values: &[f32]) -> Result<()> {
        let store = self.lock();
        if values.len() != store.count {
            bail!("{} values do not fit {} parameters", values.len(), store.count);
        }
        let mut rest = values;
        for (_, var) in &store.variables {
            let (own, others) = rest.split_at(var.elem_count());
            rest = others;
            var.set(&Tensor::from_slice(own, var.shape(), &Device::Cpu)?)?;
        }
        Ok(())
    }

    /// Gradients of `loss`, to which the operations on `tape` led, in the order of the parameters.
    ///
    /// # Errors
    /// An operation between the parameters and the loss is not on the tape.
    pub(crate) fn backward(&self, tape: Tape, loss: &Tensor) -> Result<Vec<f32>> {
        let store = self.lock();
        let mut grads = vec![0.0; store.count];
        tape.backward(loss, &store.ranges, &mut grads)?;
        Ok(grads)
    }

    /// [`Parameters::backward`] by Candle's own walk, for operations of any kind.
    #[cfg(test)]
    pub(crate) fn backward_by_candle(&self, loss: &Tensor) -> Result<Vec<f32>> {
        let by_tensor = loss.backward()?;
        let mut grads = Vec::with_capacity(self.count());
        for (_, var) in self.iter() {
            match by_tensor.get(&var) {
                Some(grad) => grads.extend(grad.flatten_all()?.to_vec1::<f32>()?),
                None => grads.resize(grads.len() + var.elem_count(), 0.0),
            }
        }
        Ok(grads)
    }

    /// Moves every value towards the other set's: `p += rate * (other - p)`.
    ///
    /// # Errors
    /// The sets differ in the number or the sizes of their parameters.
    pub(crate) fn lerp_from(&self, other: &Self, rate: f64) -> Result<()> {
        let (own, others): (Vec<_>, Vec<_>) = (self.iter().collect(), other.iter().collect());
        if own.len() != others.len() {
            bail!("{} parameters cannot follow {}", own.len(), others.len());
        }
        for ((_, own), (_, other)) in own.iter().zip(&others) {
            own.inplace_op2(other, &Lerp(rate as f32))?;
        }
        Ok(())
    }
}

/// Creates the parameters that layers ask for.
struct Backend(Parameters);

impl SimpleBackend for Backend {
    /// The parameter of that name, which is created where there is none.
    fn get(&self, shape: Shape, name: &str, init: Init, _: DType, _: &Device) -> Result<Tensor> {
        let mut store = self.0.lock();
        if let Some(var) = store.find(name) {
            if var.shape() != &shape {
                bail!("parameter {name} has shape {:?}, not {shape:?}", var.shape());
            }
            return Ok(var.as_tensor().clone());
        }
        let count = shape.elem_count();
        let values = match init {
            Init::Const(value) => vec![value as f32; count],
            Init::Uniform { lo, up } => {
                let range = lo as f32..up as f32;
                (0..count)
                    .map(|_| store.rng.random_range(range.clone()))
                    .collect()
            }
            other => bail!("parameter {name} starts constant or uniform, not {other:?}"),
        };
        store.add(name, shape, values)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        match self.0.lock().find(name) {
            Some(var) => Ok(var.as_tensor().clone()),
            None => bail!("there is no parameter {name}"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.lock().find(name).is_some()
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
        from_layout: &Layout,
    ) -> Result<()> {
        let (to, from) = (slice_mut(to, to_layout)?, slice(from, from_layout)?);
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
