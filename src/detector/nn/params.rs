//! The weights of one net, in the order in which its layers were made.

use candle_core::{Device, Result, Shape, Tensor, Var};
use rand::Rng as _;

use super::Rng;

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
}

impl Parameters {
    /// An empty set on `device`.
    pub(crate) fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            vars: Vec::new(),
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
        self.vars.push((name.to_owned(), var));
        Ok(tensor)
    }

    /// Names and variables, in the order of their making.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.vars.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// Number of trainable values.
    pub(crate) fn count(&self) -> usize {
        self.vars.iter().map(|(_, v)| v.elem_count()).sum()
    }

    /// Moves every value towards the other set's: `p += rate * (other - p)`.
    pub(crate) fn lerp_from(&self, other: &Self, rate: f64) -> Result<()> {
        for ((_, mine), (_, theirs)) in self.vars.iter().zip(&other.vars) {
            let step = ((theirs.as_tensor() - mine.as_tensor())? * rate)?;
            mine.set(&(mine.as_tensor() + step)?.detach())?;
        }
        Ok(())
    }
}
