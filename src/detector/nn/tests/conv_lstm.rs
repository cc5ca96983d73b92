use candle_core::{Result, Tensor, Var};
use candle_nn::ops::sigmoid;
use candle_nn::rnn::RNN;

use super::super::simd::tests::on_every_level;
use super::super::{Activation, ConvLstm, ConvLstmState, ConvSpec, Parameters, Tape, fan_in_uniform};
use super::conv::stock;
use super::{assert_close, assert_gradients, random, random_var, recorded, rng, values, weighted};

const SIZE: [usize; 2] = [4, 5];

fn layer(channels: usize, kernel: usize, params: &Parameters) -> ConvLstm {
    let init = fan_in_uniform(2 * channels * kernel * kernel);
    ConvLstm::new(
        SIZE,
        channels,
        kernel,
        (init, init),
        params.var_builder().pp("gates"),
    )
    .unwrap()
}

fn random_state(batch: usize, channels: usize, seed: u64) -> ConvLstmState {
    let mut rng = rng(seed);
    let mut next = || random(&[batch, SIZE[0], SIZE[1], channels], &mut rng);
    ConvLstmState { h: next(), c: next() }
}

/// The hidden states `[B, T, H, W, C]` and the last cell state, with Candle's own operations.
fn naive(
    (channels, kernel): (usize, usize),
    [weight, bias]: [&Tensor; 2],
    clips: &Tensor,
    state: &ConvLstmState,
) -> Result<[Tensor; 2]> {
    let spec = ConvSpec {
        inputs: 2 * channels,
        outputs: 4 * channels,
        kernel,
        stride: 1,
        padding: kernel / 2,
        activation: Activation::Identity,
    };
    let (mut h, mut c) = (state.h.clone(), state.c.clone());
    let mut hidden = Vec::new();
    for step in 0..clips.dim(1)? {
        let x = clips.narrow(1, step, 1)?.squeeze(1)?.contiguous()?;
        let gates = stock(spec, weight, bias, &Tensor::cat(&[&x, &h], 3)?.contiguous()?)?;
        let gate = |n: usize| gates.narrow(3, n * channels, channels)?.contiguous();
        let forget = sigmoid(&(gate(1)? + 1.0)?)?;
        c = ((forget * &c)? + (sigmoid(&gate(0)?)? * gate(2)?.tanh()?)?)?;
        h = (sigmoid(&gate(3)?)? * c.tanh()?)?;
        hidden.push(h.clone());
    }
    Ok([Tensor::stack(&hidden, 1)?, c])
}

#[test]
fn states_and_gradients_are_those_of_candles_own_operations() {
    for (channels, kernel, batch, steps) in [(3, 3, 2, 4), (8, 3, 1, 3), (17, 1, 2, 2), (5, 5, 3, 1)] {
        let what = format!("{channels} channels, kernel {kernel}, {batch} clips of {steps}");
        let params = Parameters::new(rng(7));
        let layer = layer(channels, kernel, &params);
        let vars: Vec<Var> = params.iter().map(|(_, var)| var).collect();
        let clips = random_var(&[batch, steps, SIZE[0], SIZE[1], channels], &mut rng(8));
        let state = random_state(batch, channels, 9);
        let [want, last] = naive((channels, kernel), [&vars[0], &vars[1]], &clips, &state).unwrap();
        let pull = random(want.dims(), &mut rng(10));
        let wanted = (&want * &pull).unwrap().sum_all().unwrap().backward().unwrap();
        let gradient = |of: &Tensor| values(wanted.get(of).unwrap());

        on_every_level(|| {
            let mut states = Vec::new();
            let got = recorded(|| {
                states = layer.seq_init(&clips, &state)?;
                layer.states_to_tensor(&states)
            });
            assert_close(&values(&got), &values(&want), 1e-5, &what);
            let cell = &states.last().unwrap().c;
            assert_close(
                &values(cell),
                &values(&last),
                1e-5,
                &format!("cell state of {what}"),
            );

            let loss = (&got * &pull).unwrap().sum_all().unwrap();
            let all = params.backward_by_candle(&loss).unwrap();
            let (weight, bias) = all.split_at(vars[0].elem_count());
            assert_close(weight, &gradient(&vars[0]), 1e-4, &format!("weight of {what}"));
            assert_close(bias, &gradient(&vars[1]), 1e-4, &format!("bias of {what}"));
            let dx = values(loss.backward().unwrap().get(&clips).unwrap());
            assert_close(&dx, &gradient(&clips), 1e-4, &format!("input of {what}"));
        });
    }
}

#[test]
fn gradients_through_time_agree_with_finite_differences() {
    const CHANNELS: usize = 4;
    let params = Parameters::new(rng(1));
    let layer = layer(CHANNELS, 3, &params);
    let clips = random(&[2, 5, SIZE[0], SIZE[1], CHANNELS], &mut rng(2));
    // The loss is on the last step alone: all gradients of the others go through the states.
    let zeros = Tensor::zeros(
        &[2, SIZE[0], SIZE[1], CHANNELS],
        candle_core::DType::F32,
        clips.device(),
    )
    .unwrap();
    let last = || -> Result<Tensor> { Ok(layer.seq(&clips)?.pop().unwrap().h) };
    let (loss, tape) = Tape::record(|| super::super::student_t_loss(&last()?, &zeros, 1.0)).unwrap();
    let gradients = params.backward(tape, &loss).unwrap();
    let by_candle = params.backward_by_candle(&loss).unwrap();
    assert_close(&gradients, &by_candle, 1e-5, "the tape's walk");
    let mut start = 0;
    for (name, var) in params.iter() {
        let gradient = &gradients[start..][..var.elem_count()];
        let loss = || {
            Ok(f64::from(
                super::super::student_t_loss(&last()?, &zeros, 1.0)?.to_scalar::<f32>()?,
            ))
        };
        assert_gradients(&var, gradient, loss, &name);
        start += var.elem_count();
    }
}

#[test]
fn a_sequence_in_parts_is_the_same_as_in_one() {
    let params = Parameters::new(rng(3));
    let layer = layer(6, 3, &params);
    let clip = random(&[1, 6, SIZE[0], SIZE[1], 6], &mut rng(4));
    let whole = layer.seq(&clip).unwrap();
    let (first, second) = (clip.narrow(1, 0, 2).unwrap(), clip.narrow(1, 2, 4).unwrap());
    let middle = layer.seq(&first).unwrap().pop().unwrap();
    let rest = layer.seq_init(&second, &middle).unwrap();
    for (got, want) in rest.iter().zip(&whole[2..]) {
        assert_eq!(values(&got.h), values(&want.h));
        assert_eq!(values(&got.c), values(&want.c));
    }
    let padded = middle.padded(3).unwrap();
    assert_eq!(padded.h.dims(), [3, SIZE[0], SIZE[1], 6]);
    assert_eq!(weighted(&padded.c, &padded.c), weighted(&middle.c, &middle.c));
}

#[test]
fn a_new_layer_remembers_most_of_its_cell_state() {
    let params = Parameters::new(rng(5));
    let layer = layer(4, 3, &params);
    for (_, var) in params.iter() {
        var.set(&var.zeros_like().unwrap()).unwrap();
    }
    let state = random_state(1, 4, 6);
    let next = layer.step(&state.h, &state).unwrap();
    for (got, before) in values(&next.c).iter().zip(values(&state.c)) {
        assert!((got - 0.731_058_6 * before).abs() < 1e-6, "{got} of {before}");
    }
    let other = random_state(2, 4, 6);
    assert!(
        layer
            .step(&other.h, &state)
            .unwrap_err()
            .to_string()
            .contains("does not fit")
    );
}
