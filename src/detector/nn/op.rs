//! A differentiable operation on plain slices, and what makes it one of Candle's custom operations.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::tape;
use super::tensor::{slice, with_slices};

/// An operation on `N` contiguous `f32` arrays, described once: its shape, its value and its gradient.
pub(super) trait Op<const N: usize>: Send + Sync + 'static {
    /// Name in error messages.
    fn name(&self) -> &'static str;

    /// Shape of the output.
    fn shape(&self, inputs: [&Shape; N]) -> Shape;

    /// Writes all of `output`, which holds zeros.
    fn forward(&self, inputs: [&[f32]; N], output: &mut [f32]);

    /// Adds to each of `grads`, which are as long as the inputs, the gradient of that input. `grad` is the output's;
    /// inputs whose gradient is not needed have `None`.
    fn backward(&self, inputs: [&[f32]; N], output: &[f32], grad: &[f32], grads: [Option<&mut [f32]>; N]);
}

/// Applies an operation. While a [`Tape`](super::Tape) records, the operation is added to the tape and to Candle's
/// graph if an input has a gradient; otherwise the output has none.
pub(super) fn apply<const N: usize, O: Op<N>>(op: O, inputs: [&Tensor; N]) -> Result<Tensor>
where
    Custom<O>: CandleOp<N>,
{
    let mut contiguous = inputs.map(Tensor::clone);
    for input in &mut contiguous {
        *input = input.contiguous()?;
    }
    let op = Arc::new(op);
    if !tape::is_recording() {
        return Custom(op).apply_untracked(contiguous.each_ref());
    }
    let output = Custom(op.clone()).apply(contiguous.each_ref())?;
    tape::push(&output, || {
        Box::new(Applied {
            op,
            inputs: contiguous,
        })
    });
    Ok(output)
}

/// An operation and the inputs that it was applied to.
pub(super) struct Applied<O, const N: usize> {
    op: Arc<O>,
    inputs: [Tensor; N],
}

impl<O: Op<N>, const N: usize> tape::Backward for Applied<O, N> {
    fn backward(&self, output: &Tensor, grad: Vec<f32>, grads: &mut tape::Gradients<'_>) -> Result<()> {
        grads.add_to(self.inputs.each_ref(), |into| {
            let inputs = self.inputs.each_ref();
            with_slices([output], |[output]| {
                with_slices(inputs, |inputs| self.op.backward(inputs, output, &grad, into))
            })?
        })
    }
}

/// Makes an [`Op`] one of Candle's custom operations. The forward pass is the CPU's alone.
pub(super) struct Custom<O>(Arc<O>);

/// [`Tensor::apply_op1`] and its like for any number of inputs.
pub(super) trait CandleOp<const N: usize> {
    /// Adds the operation to Candle's graph.
    fn apply(self, inputs: [&Tensor; N]) -> Result<Tensor>;
    /// The output has no gradient.
    fn apply_untracked(self, inputs: [&Tensor; N]) -> Result<Tensor>;
}

fn cpu_forward<O: Op<N>, const N: usize>(
    op: &O,
    inputs: [(&CpuStorage, &Layout); N],
) -> Result<(CpuStorage, Shape)> {
    let shape = op.shape(inputs.map(|(_, layout)| layout.shape()));
    let mut slices = [[].as_slice(); N];
    for (to, (storage, layout)) in slices.iter_mut().zip(inputs) {
        *to = slice(storage, layout)?;
    }
    let mut output = vec![0.0; shape.elem_count()];
    op.forward(slices, &mut output);
    Ok((CpuStorage::F32(output), shape))
}

/// The gradients for Candle's own walk.
fn candle_backward<O: Op<N>, const N: usize>(
    op: &O,
    inputs: [&Tensor; N],
    output: &Tensor,
    grad: &Tensor,
) -> Result<[Option<Tensor>; N]> {
    let mut buffers = inputs.map(|input| input.track_op().then(|| vec![0.0; input.elem_count()]));
    let grads = buffers.each_mut().map(Option::as_deref_mut);
    with_slices([output, grad], |[output, grad]| {
        with_slices(inputs, |inputs| op.backward(inputs, output, grad, grads))
    })??;
    let mut tensors = [const { None }; N];
    for ((to, buffer), input) in tensors.iter_mut().zip(buffers).zip(inputs) {
        *to = buffer
            .map(|values| Tensor::from_vec(values, input.shape(), input.device()))
            .transpose()?;
    }
    Ok(tensors)
}

impl<O: Op<1>> CustomOp1 for Custom<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        cpu_forward(&*self.0, [(x, layout)])
    }

    fn bwd(&self, x: &Tensor, output: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [dx] = candle_backward(&*self.0, [x], output, grad)?;
        Ok(dx)
    }
}

impl<O: Op<2>> CustomOp2 for Custom<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        cpu_forward(&*self.0, [(a, a_layout), (b, b_layout)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        candle_backward(&*self.0, [a, b], output, grad).map(<_>::into)
    }
}

impl<O: Op<3>> CustomOp3 for Custom<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
        c: &CpuStorage,
        c_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        cpu_forward(&*self.0, [(a, a_layout), (b, b_layout), (c, c_layout)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        candle_backward(&*self.0, [a, b, c], output, grad).map(<_>::into)
    }
}

impl<O: Op<1>> CandleOp<1> for Custom<O> {
    fn apply(self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        x.apply_op1(self)
    }

    fn apply_untracked(self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        x.apply_op1_no_bwd(&self)
    }
}

impl<O: Op<2>> CandleOp<2> for Custom<O> {
    fn apply(self, [a, b]: [&Tensor; 2]) -> Result<Tensor> {
        a.apply_op2(b, self)
    }

    fn apply_untracked(self, [a, b]: [&Tensor; 2]) -> Result<Tensor> {
        a.apply_op2_no_bwd(b, &self)
    }
}

impl<O: Op<3>> CandleOp<3> for Custom<O> {
    fn apply(self, [a, b, c]: [&Tensor; 3]) -> Result<Tensor> {
        a.apply_op3(b, c, self)
    }

    fn apply_untracked(self, [a, b, c]: [&Tensor; 3]) -> Result<Tensor> {
        a.apply_op3_no_bwd(b, c, &self)
    }
}
