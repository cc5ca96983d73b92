//! A convolutional LSTM layer (Shi et al., *Convolutional LSTM Network: A Machine Learning Approach for Precipitation
//! Nowcasting*, NIPS 2015, eq. 3 without the peephole terms).

use candle_core::{Device, Result, Shape, Tensor, bail};
use candle_nn::rnn::RNN;
use candle_nn::var_builder::VarBuilder;
use candle_nn::{Init, Module};

use super::conv::{Activation, Conv, ConvSpec};
use super::elementwise::join;
use super::math::exp;
use super::op::{Op, apply};
use super::simd::vectorized;
use super::tape::stack_steps;
use super::tensor::add;

/// Added to the forget gate, so that a new layer remembers (Jozefowicz et al., *An Empirical Exploration of Recurrent
/// Network Architectures*, ICML 2015).
const FORGET_BIAS: f32 = 1.0;

/// One convolution over input and hidden state makes the four gates: input, forget, candidate, output.
#[derive(Clone, Debug)]
pub(crate) struct ConvLstm {
    gates: Conv,
    /// Height and width.
    size: [usize; 2],
    channels: usize,
}

/// The state of a [`ConvLstm`].
#[derive(Clone, Debug)]
pub(crate) struct ConvLstmState {
    /// The hidden state `[B, H, W, C]`, which is also the layer's output.
    pub(crate) h: Tensor,
    /// The cell state `[B, H, W, C]`.
    pub(crate) c: Tensor,
}

impl ConvLstm {
    /// A layer over images of `size` = `[height, width]` with as many hidden channels as inputs, zero padding and a square
    /// kernel of odd side.
    pub(crate) fn new(
        size: [usize; 2],
        channels: usize,
        kernel: usize,
        (weight, bias): (Init, Init),
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        let spec = ConvSpec {
            inputs: 2 * channels,
            outputs: 4 * channels,
            kernel,
            stride: 1,
            padding: kernel / 2,
            activation: Activation::Identity,
        };
        Ok(Self {
            gates: Conv::new(spec, weight, bias, vb)?,
            size,
            channels,
        })
    }
}

impl RNN for ConvLstm {
    type State = ConvLstmState;

    fn zero_state(&self, batch: usize) -> Result<ConvLstmState> {
        let [height, width] = self.size;
        let values = vec![0.0f32; batch * height * width * self.channels];
        let zeros = Tensor::from_vec(values, (batch, height, width, self.channels), &Device::Cpu)?;
        Ok(ConvLstmState {
            h: zeros.clone(),
            c: zeros,
        })
    }

    /// # Shapes
    /// `[B, H, W, C]` -> states of `[B, H, W, C]`
    fn step(&self, input: &Tensor, state: &ConvLstmState) -> Result<ConvLstmState> {
        if input.dims() != state.h.dims() || input.dims() != state.c.dims() {
            let (h, c) = (state.h.shape(), state.c.shape());
            bail!("an input {:?} does not fit a state {h:?}, {c:?}", input.shape());
        }
        let channels = self.channels;
        let gates = self.gates.forward(&join(input, &state.h)?)?;
        let c = apply(CellState { channels }, [&gates, &state.c])?;
        Ok(ConvLstmState {
            h: apply(HiddenState { channels }, [&gates, &c])?,
            c,
        })
    }

    /// # Shapes
    /// `[B, T, H, W, C]` -> `T` states of `[B, H, W, C]`
    fn seq(&self, input: &Tensor) -> Result<Vec<ConvLstmState>> {
        self.seq_init(input, &self.zero_state(input.dim(0)?)?)
    }

    /// # Shapes
    /// `[B, T, H, W, C]` -> `T` states of `[B, H, W, C]`
    fn seq_init(&self, input: &Tensor, initial: &ConvLstmState) -> Result<Vec<ConvLstmState>> {
        let (_, steps, height, width, channels) = input.dims5()?;
        let len = height * width * channels;
        let mut states: Vec<ConvLstmState> = Vec::with_capacity(steps);
        for step in 0..steps {
            let image = apply(SelectStep { step, steps, len }, [input])?;
            states.push(self.step(&image, states.last().unwrap_or(initial))?);
        }
        Ok(states)
    }

    /// # Shapes
    /// `T` states of `[B, H, W, C]` -> the hidden states `[B, T, H, W, C]`
    fn states_to_tensor(&self, states: &[ConvLstmState]) -> Result<Tensor> {
        let hidden: Vec<&Tensor> = states.iter().map(|state| &state.h).collect();
        stack_steps(&hidden)
    }
}

impl ConvLstmState {
    /// This state for the first of `batch` sequences, zero for the others.
    ///
    /// # Shapes
    /// states of `[1, H, W, C]` -> of `[B, H, W, C]`
    pub(crate) fn padded(&self, batch: usize) -> Result<Self> {
        let pad = |x: &Tensor| x.pad_with_zeros(0, 0, batch.saturating_sub(1));
        Ok(Self {
            h: pad(&self.h)?,
            c: pad(&self.c)?,
        })
    }
}

/// Step `step` of `steps` of each sequence, whose images have `len` values: `[B, T, ..]` -> `[B, ..]`.
struct SelectStep {
    step: usize,
    steps: usize,
    len: usize,
}

impl Op<1> for SelectStep {
    fn name(&self) -> &'static str {
        "select step"
    }

    fn shape(&self, [x]: [&Shape; 1]) -> Shape {
        let dims = x.dims();
        Shape::from([&dims[..1], &dims[2..]].concat())
    }

    fn forward(&self, [x]: [&[f32]; 1], output: &mut [f32]) {
        let first = self.step * self.len;
        let sequences = x.chunks_exact(self.steps * self.len);
        for (to, sequence) in output.chunks_exact_mut(self.len).zip(sequences) {
            to.copy_from_slice(&sequence[first..][..self.len]);
        }
    }

    fn backward(&self, _: [&[f32]; 1], _: &[f32], grad: &[f32], [dx]: [Option<&mut [f32]>; 1]) {
        let Some(dx) = dx else { return };
        let first = self.step * self.len;
        let sequences = dx.chunks_exact_mut(self.steps * self.len);
        for (grad, sequence) in grad.chunks_exact(self.len).zip(sequences) {
            add(&mut sequence[first..][..self.len], grad);
        }
    }
}

/// `c' = sigmoid(f) c + sigmoid(i) tanh(g)`: `[B, H, W, 4 C]` with the gates i, f, g, o one behind the other, and the
/// previous cell state `[B, H, W, C]` -> `[B, H, W, C]`.
struct CellState {
    channels: usize,
}

impl Op<2> for CellState {
    fn name(&self) -> &'static str {
        "LSTM cell state"
    }

    fn shape(&self, [_, c]: [&Shape; 2]) -> Shape {
        c.clone()
    }

    fn forward(&self, [gates, c]: [&[f32]; 2], output: &mut [f32]) {
        cell_state(output, gates, c, self.channels);
    }

    fn backward(
        &self,
        [gates, c]: [&[f32]; 2],
        _: &[f32],
        grad: &[f32],
        [dgates, dc]: [Option<&mut [f32]>; 2],
    ) {
        if let Some(dgates) = dgates {
            cell_state_gates_grad(dgates, gates, c, grad, self.channels);
        }
        if let Some(dc) = dc {
            cell_state_grad(dc, gates, grad, self.channels);
        }
    }
}

/// `h = sigmoid(o) tanh(c)`: `[B, H, W, 4 C]` and the cell state `[B, H, W, C]` -> `[B, H, W, C]`.
struct HiddenState {
    channels: usize,
}

impl Op<2> for HiddenState {
    fn name(&self) -> &'static str {
        "LSTM hidden state"
    }

    fn shape(&self, [_, c]: [&Shape; 2]) -> Shape {
        c.clone()
    }

    fn forward(&self, [gates, c]: [&[f32]; 2], output: &mut [f32]) {
        hidden_state(output, gates, c, self.channels);
    }

    fn backward(
        &self,
        [gates, c]: [&[f32]; 2],
        _: &[f32],
        grad: &[f32],
        [dgates, dc]: [Option<&mut [f32]>; 2],
    ) {
        if let Some(dgates) = dgates {
            hidden_state_gate_grad(dgates, gates, c, grad, self.channels);
        }
        if let Some(dc) = dc {
            hidden_state_grad(dc, gates, c, grad, self.channels);
        }
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}

vectorized! {
    fn cell_state<'a>(to: &'a mut [f32], gates: &'a [f32], c: &'a [f32], channels: usize) -> () {
        let cells = gates.chunks_exact(4 * channels).zip(c.chunks_exact(channels));
        for (to, (gates, c)) in to.chunks_exact_mut(channels).zip(cells) {
            let (i, f, g) = (&gates[..channels], &gates[channels..][..channels], &gates[2 * channels..][..channels]);
            for k in 0..channels {
                to[k] = sigmoid(f[k] + FORGET_BIAS) * c[k] + sigmoid(i[k]) * tanh(g[k]);
            }
        }
    }
}

vectorized! {
    /// Adds the gradient of the input, forget and candidate gates before their activations.
    fn cell_state_gates_grad<'a>(
        to: &'a mut [f32],
        gates: &'a [f32],
        c: &'a [f32],
        grad: &'a [f32],
        channels: usize,
    ) -> () {
        let cells = gates.chunks_exact(4 * channels).zip(c.chunks_exact(channels)).zip(grad.chunks_exact(channels));
        for (to, ((gates, c), grad)) in to.chunks_exact_mut(4 * channels).zip(cells) {
            let (i, f, g) = (&gates[..channels], &gates[channels..][..channels], &gates[2 * channels..][..channels]);
            let (di, rest) = to.split_at_mut(channels);
            let (df, rest) = rest.split_at_mut(channels);
            let dg = &mut rest[..channels];
            for k in 0..channels {
                let (i, f, g) = (sigmoid(i[k]), sigmoid(f[k] + FORGET_BIAS), tanh(g[k]));
                di[k] += grad[k] * g * i * (1.0 - i);
                df[k] += grad[k] * c[k] * f * (1.0 - f);
                dg[k] += grad[k] * i * (1.0 - g * g);
            }
        }
    }
}

vectorized! {
    /// Adds the gradient of the previous cell state.
    fn cell_state_grad<'a>(to: &'a mut [f32], gates: &'a [f32], grad: &'a [f32], channels: usize) -> () {
        let cells = gates.chunks_exact(4 * channels).zip(grad.chunks_exact(channels));
        for (to, (gates, grad)) in to.chunks_exact_mut(channels).zip(cells) {
            let f = &gates[channels..][..channels];
            for k in 0..channels {
                to[k] += grad[k] * sigmoid(f[k] + FORGET_BIAS);
            }
        }
    }
}

vectorized! {
    fn hidden_state<'a>(to: &'a mut [f32], gates: &'a [f32], c: &'a [f32], channels: usize) -> () {
        let cells = gates.chunks_exact(4 * channels).zip(c.chunks_exact(channels));
        for (to, (gates, c)) in to.chunks_exact_mut(channels).zip(cells) {
            let o = &gates[3 * channels..];
            for k in 0..channels {
                to[k] = sigmoid(o[k]) * tanh(c[k]);
            }
        }
    }
}

vectorized! {
    /// Adds the gradient of the output gate before its activation.
    fn hidden_state_gate_grad<'a>(
        to: &'a mut [f32],
        gates: &'a [f32],
        c: &'a [f32],
        grad: &'a [f32],
        channels: usize,
    ) -> () {
        let cells = gates.chunks_exact(4 * channels).zip(c.chunks_exact(channels)).zip(grad.chunks_exact(channels));
        for (to, ((gates, c), grad)) in to.chunks_exact_mut(4 * channels).zip(cells) {
            let (o, to) = (&gates[3 * channels..], &mut to[3 * channels..]);
            for k in 0..channels {
                let o = sigmoid(o[k]);
                to[k] += grad[k] * tanh(c[k]) * o * (1.0 - o);
            }
        }
    }
}

vectorized! {
    /// Adds the gradient of the cell state.
    fn hidden_state_grad<'a>(
        to: &'a mut [f32],
        gates: &'a [f32],
        c: &'a [f32],
        grad: &'a [f32],
        channels: usize,
    ) -> () {
        let cells = gates.chunks_exact(4 * channels).zip(c.chunks_exact(channels)).zip(grad.chunks_exact(channels));
        for (to, ((gates, c), grad)) in to.chunks_exact_mut(channels).zip(cells) {
            let o = &gates[3 * channels..];
            for k in 0..channels {
                let t = tanh(c[k]);
                to[k] += grad[k] * sigmoid(o[k]) * (1.0 - t * t);
            }
        }
    }
}
