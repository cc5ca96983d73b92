//! Reverse-mode differentiation.
//!
//! Candle's own walk adds every gradient to a tensor of zeros, and large ones in a pool of threads. The operations here
//! are Candle's custom operations as well, but this walk lets each add its gradients where they belong: a parameter's
//! in the parameter's part of one buffer for the whole net.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use candle_core::shape::ShapeWithOneHole;
use candle_core::{Error, Result, Tensor, TensorId};

use super::tensor::add;

/// What an operation contributes to the gradients of its inputs.
pub(super) trait Backward {
    /// Adds the gradients of the inputs, given the output and its gradient.
    fn backward(&self, output: &Tensor, grad: Vec<f32>, grads: &mut Gradients<'_>) -> Result<()>;
}

struct Step {
    operation: Box<dyn Backward>,
    output: Tensor,
}

thread_local!(static RECORDING: RefCell<Option<Vec<Step>>> = const { RefCell::new(None) });

/// The operations that led from parameters to a result, in their order.
pub(crate) struct Tape(Vec<Step>);

impl Tape {
    /// Runs `forward` and records the operations of this module that lead from parameters to its result. Recordings do
    /// not nest: one inside leaves the outer tape empty.
    pub(crate) fn record<R, E>(
        forward: impl FnOnce() -> std::result::Result<R, E>,
    ) -> std::result::Result<(R, Self), E> {
        /// Ends the recording even if `forward` panics.
        struct Recording;
        impl Drop for Recording {
            fn drop(&mut self) {
                RECORDING.set(None);
            }
        }
        RECORDING.set(Some(Vec::new()));
        let recording = Recording;
        let result = forward();
        let steps = RECORDING.take().unwrap_or_default();
        drop(recording);
        Ok((result?, Self(steps)))
    }

    /// Adds the gradients of `loss` to `flat`, where `parameters` says which range is whose.
    ///
    /// # Errors
    /// An operation between the parameters and the loss is not on the tape.
    pub(super) fn backward(
        self,
        loss: &Tensor,
        parameters: &HashMap<TensorId, Range<usize>>,
        flat: &mut [f32],
    ) -> Result<()> {
        let mut grads = Gradients {
            others: HashMap::new(),
            parameters,
            flat,
        };
        grads.add(loss.id(), vec![1.0; loss.elem_count()]);
        for step in self.0.into_iter().rev() {
            if let Some(grad) = grads.others.remove(&step.output.id()) {
                step.operation.backward(&step.output, grad, &mut grads)?;
            }
        }
        match grads.others.len() {
            0 => Ok(()),
            n => candle_core::bail!("{n} gradients end before they reach a parameter"),
        }
    }
}

/// The gradients that a walk has reached.
pub(super) struct Gradients<'a> {
    /// Of tensors that are not parameters.
    others: HashMap<TensorId, Vec<f32>>,
    /// Where each parameter's gradient is in `flat`.
    parameters: &'a HashMap<TensorId, Range<usize>>,
    flat: &'a mut [f32],
}

impl Gradients<'_> {
    /// Adds a gradient.
    fn add(&mut self, tensor: TensorId, grad: Vec<f32>) {
        if let Some(range) = self.parameters.get(&tensor) {
            return add(&mut self.flat[range.clone()], &grad);
        }
        match self.others.entry(tensor) {
            Entry::Vacant(entry) => {
                entry.insert(grad);
            }
            Entry::Occupied(mut entry) => add(entry.get_mut(), &grad),
        }
    }

    /// Lets `work` add to the gradients of `inputs`. Inputs without a gradient have `None`.
    pub(super) fn add_to<const N: usize>(
        &mut self,
        inputs: [&Tensor; N],
        work: impl FnOnce([Option<&mut [f32]>; N]) -> Result<()>,
    ) -> Result<()> {
        let mut ranges = [const { 0..0 }; N];
        let mut buffers = [const { None }; N];
        for (i, input) in inputs.iter().enumerate() {
            let id = input.id();
            let is_repeated = inputs[..i].iter().any(|before| before.id() == id);
            match self.parameters.get(&id) {
                _ if !input.track_op() => {}
                Some(range) if !is_repeated => ranges[i] = range.clone(),
                _ => {
                    let sum = self.others.remove(&id);
                    buffers[i] = Some(sum.unwrap_or_else(|| vec![0.0; input.elem_count()]));
                }
            }
        }
        let mut grads = self
            .flat
            .get_disjoint_mut(ranges)
            .map_err(Error::wrap)?
            .map(|part| (!part.is_empty()).then_some(part));
        for (grad, buffer) in grads.iter_mut().zip(&mut buffers) {
            if let Some(buffer) = buffer {
                *grad = Some(buffer);
            }
        }
        work(grads)?;
        for (input, buffer) in inputs.iter().zip(buffers) {
            if let Some(buffer) = buffer {
                self.add(input.id(), buffer);
            }
        }
        Ok(())
    }
}

/// Whether operations are recorded in this thread.
pub(super) fn is_recording() -> bool {
    RECORDING.with_borrow(Option::is_some)
}

/// Adds an operation to this thread's tape if its output has a gradient.
pub(super) fn push(output: &Tensor, operation: impl FnOnce() -> Box<dyn Backward>) {
    if !output.track_op() {
        return;
    }
    RECORDING.with_borrow_mut(|recording| {
        if let Some(steps) = recording {
            steps.push(Step {
                operation: operation(),
                output: output.clone(),
            });
        }
    });
}

/// [`Tensor::reshape`], recorded.
pub(crate) fn reshape(x: &Tensor, shape: impl ShapeWithOneHole) -> Result<Tensor> {
    let mut x = x.contiguous()?;
    if !is_recording() {
        x = x.detach();
    }
    let output = x.reshape(shape)?;
    push(&output, || Box::new(Reshape(x)));
    Ok(output)
}

struct Reshape(Tensor);

impl Backward for Reshape {
    fn backward(&self, _: &Tensor, grad: Vec<f32>, grads: &mut Gradients<'_>) -> Result<()> {
        grads.add(self.0.id(), grad);
        Ok(())
    }
}

/// [`Tensor::stack`] along the second dimension, recorded.
///
/// # Shapes
/// `T` times `[B, ..]` -> `[B, T, ..]`
pub(crate) fn stack_steps(steps: &[&Tensor]) -> Result<Tensor> {
    let output = Tensor::stack(steps, 1)?;
    if !is_recording() {
        return Ok(output.detach());
    }
    push(&output, || {
        Box::new(StackSteps(steps.iter().map(|&step| step.clone()).collect()))
    });
    Ok(output)
}

struct StackSteps(Vec<Tensor>);

impl Backward for StackSteps {
    fn backward(&self, output: &Tensor, grad: Vec<f32>, grads: &mut Gradients<'_>) -> Result<()> {
        let (batch, steps) = (output.dim(0)?, self.0.len());
        let len = output.elem_count() / (batch * steps).max(1);
        for (number, step) in self.0.iter().enumerate() {
            grads.add_to([step], |[into]| {
                let Some(into) = into else { return Ok(()) };
                for (into, sequence) in into.chunks_exact_mut(len).zip(grad.chunks_exact(steps * len)) {
                    add(into, &sequence[number * len..][..len]);
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
