use candle_core::{Device, Result, Tensor};
use candle_nn::{Init, Module};

use super::super::{Activation, Adam, AdamConfig, AdamState, Conv, ConvSpec, Parameters, StepOutcome, Tape};
use super::{assert_close, random, rng, values};

const CONFIG: AdamConfig = AdamConfig {
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    max_norm: 1.0,
};

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

/// A step with the gradients of Candle's own walk, for operations of any kind.
fn minimise(
    adam: &mut Adam,
    params: &Parameters,
    loss: impl FnOnce() -> Result<Tensor>,
    rate: f64,
) -> StepOutcome {
    let (loss, _) = Tape::record(loss).unwrap();
    let grads = params.backward_by_candle(&loss).unwrap();
    adam.minimise(params, &loss, &grads, rate).unwrap()
}

fn all_values(params: &Parameters) -> Vec<f32> {
    params.iter().flat_map(|(_, v)| values(&v)).collect()
}

/* Values from:
import torch
from torch import nn
w = nn.Parameter(torch.tensor([0.5, -1.0, 2.0]))
b = nn.Parameter(torch.tensor([0.25]))
adam = torch.optim.Adam([w, b], lr=0.1, betas=(0.9, 0.99), eps=1e-8)
x = torch.tensor([3.0, -0.01, 0.2])
for step in range(5):
    adam.zero_grad()
    loss = ((w * x).sum() + b.sum() - step).square()
    loss.backward()
    norm = nn.utils.clip_grad_norm_([w, b], 1.0)
    adam.step()
    print([round(v, 6) for v in w.tolist() + b.tolist()], round(float(norm), 5))
*/
#[test]
fn steps_are_pytorchs() {
    let params = Parameters::new(rng(1));
    let w = params.add("w", 3, vec![0.5, -1.0, 2.0]).unwrap();
    let b = params.add("b", 1, vec![0.25]).unwrap();
    let mut adam = Adam::new(&params, CONFIG);
    let x = tensor(&[3.0, -0.01, 0.2]);
    let expected: [([f32; 4], f64); 5] = [
        ([0.4, -0.9, 1.9, 0.15], 13.6884),
        ([0.3, -0.800001, 1.8, 0.05], 4.68321),
        ([0.273801, -0.773802, 1.773801, 0.023801], 4.32199),
        ([0.284298, -0.784299, 1.784298, 0.034298], 11.3582),
        ([0.316651, -0.816652, 1.816651, 0.066651], 17.41536),
    ];
    for (step, (want, norm)) in expected.into_iter().enumerate() {
        let loss = || {
            let sum = ((&w * &x)?.sum_all()? + b.sum_all()?)?;
            (sum - step as f64)?.sqr()
        };
        let StepOutcome::Done { grad_norm } = minimise(&mut adam, &params, loss, 0.1) else {
            panic!("step {step} was rejected");
        };
        assert!(
            (grad_norm - norm).abs() < 1e-4 * norm,
            "step {step}: norm {grad_norm}, not {norm}"
        );
        assert_close(&all_values(&params), &want, 2e-6, &format!("step {step}"));
    }
}

fn small_net() -> (Parameters, Conv, Tensor) {
    let params = Parameters::new(rng(1));
    let activation = Activation::LeakyRelu(0.1);
    let spec = ConvSpec {
        inputs: 2,
        outputs: 3,
        kernel: 3,
        stride: 1,
        padding: 1,
        activation,
    };
    let conv = super::conv(spec, &params);
    (params, conv, random(&[2, 5, 4, 2], &mut rng(2)))
}

#[test]
fn a_layer_learns_what_another_does() {
    let (params, conv, x) = small_net();
    let scale = params
        .var_builder()
        .get_with_hints(3, "scale", Init::Const(1.0))
        .unwrap();
    let (_teacher, teach, _) = small_net();
    let target = (teach.forward(&x).unwrap() * 3.0).unwrap();
    let mut adam = Adam::new(&params, CONFIG);
    let loss = || {
        let y = conv.forward(&x)?.broadcast_mul(&scale)?;
        (y - &target)?.sqr()?.mean_all()
    };
    let before = loss().unwrap().to_scalar::<f32>().unwrap();
    for _ in 0..300 {
        minimise(&mut adam, &params, loss, 0.02);
    }
    let after = loss().unwrap().to_scalar::<f32>().unwrap();
    assert!(after < 1e-3 * before, "{before} -> {after}");
}

#[test]
fn rejects_a_step_that_is_not_finite() {
    let (params, conv, x) = small_net();
    let mut adam = Adam::new(&params, CONFIG);
    let loss = |x: &Tensor| conv.forward(x)?.sqr()?.sum_all();
    minimise(&mut adam, &params, || loss(&x), 0.01);
    let state = adam.state().clone();
    let before = all_values(&params);

    for bad in [f32::NAN, f32::INFINITY, 1e30] {
        let spoiled = x.affine(0.0, f64::from(bad)).unwrap();
        assert_eq!(
            minimise(&mut adam, &params, || loss(&spoiled), 0.01),
            StepOutcome::Rejected
        );
    }
    // A finite gradient of a loss that is not.
    assert_eq!(
        minimise(&mut adam, &params, || loss(&x)? + f64::INFINITY, 0.01),
        StepOutcome::Rejected
    );
    assert_eq!(all_values(&params), before);
    assert_eq!(adam.state(), &state);

    assert!(matches!(
        minimise(&mut adam, &params, || loss(&x), 0.01),
        StepOutcome::Done { .. }
    ));
    assert_ne!(all_values(&params), before);
}

#[test]
fn continues_from_a_saved_state() {
    let run = |restart_after: Option<u32>| {
        let (params, conv, x) = small_net();
        let mut adam = Adam::new(&params, CONFIG);
        for step in 0..6 {
            if restart_after == Some(step) {
                let mut other = Adam::new(&params, CONFIG);
                other.restore(adam.state()).unwrap();
                adam = other;
            }
            let loss = || conv.forward(&x)?.sqr()?.sum_all();
            minimise(&mut adam, &params, loss, 0.01);
        }
        all_values(&params)
    };
    assert_eq!(run(None), run(Some(3)));
    let (params, ..) = small_net();
    let error = Adam::new(&params, CONFIG)
        .restore(&AdamState::default())
        .unwrap_err();
    assert!(error.to_string().contains("57 moments"), "{error}");
}

#[test]
fn moments_without_gradients_decay_to_zero_and_not_to_denormals() {
    let params = Parameters::new(rng(1));
    let w = params.add("w", 2, vec![1.0, 1.0]).unwrap();
    let mut adam = Adam::new(&params, CONFIG);
    let loss = |x: [f32; 2]| (&w * tensor(&x))?.sum_all();
    minimise(&mut adam, &params, || loss([1.0, 1.0]), 1e-3);
    for _ in 0..1000 {
        minimise(&mut adam, &params, || loss([1.0, 0.0]), 1e-3);
    }
    let AdamState { first, second, .. } = adam.state();
    assert_eq!(first[1], 0.0);
    assert!(first[0] > 0.1 && second.iter().all(|v| v.is_normal()));
}

#[test]
fn a_moving_average_follows() {
    let (fast, ..) = small_net();
    let slow = Parameters::new(rng(1));
    for (name, var) in fast.iter() {
        let values = vec![1.0; var.elem_count()];
        slow.add(&name, var.shape(), values).unwrap();
    }
    slow.lerp_from(&fast, 0.25).unwrap();
    let want: Vec<f32> = all_values(&fast).iter().map(|f| 1.0 + 0.25 * (f - 1.0)).collect();
    assert_close(&all_values(&slow), &want, 1e-6, "a quarter of the way");
    slow.lerp_from(&fast, 1.0).unwrap();
    assert_close(&all_values(&slow), &all_values(&fast), 1e-6, "all the way");
    assert!(slow.lerp_from(&Parameters::new(rng(1)), 0.5).is_err());
}

#[test]
fn its_state_survives_serialisation() {
    let (params, conv, x) = small_net();
    let mut adam = Adam::new(&params, CONFIG);
    minimise(&mut adam, &params, || conv.forward(&x)?.sqr()?.sum_all(), 0.01);
    let text = serde_json::to_string(adam.state()).unwrap();
    assert_eq!(&serde_json::from_str::<AdamState>(&text).unwrap(), adam.state());
}
