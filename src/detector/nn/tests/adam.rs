use candle_core::{Device, Result, Tensor};

use super::super::{Adam, AdamConfig, AdamState, Conv, Init, Parameters, StepOutcome};
use super::{assert_close, random, rng, values};
use crate::detector::nn::{Activation, ConvSpec};

const CONFIG: AdamConfig = AdamConfig {
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    max_norm: 1.0,
};

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn minimise(adam: &mut Adam, params: &Parameters, loss: &Tensor, rate: f64) -> Result<StepOutcome> {
    adam.minimise(params, loss, &params.backward_by_candle(loss)?, rate)
}

fn all_values(params: &Parameters) -> Vec<f32> {
    params.iter().flat_map(|(_, v)| values(v)).collect()
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
    let mut params = Parameters::new(&Device::Cpu);
    let w = params.add_values("w", 3, vec![0.5, -1.0, 2.0]).unwrap();
    let b = params.add_values("b", 1, vec![0.25]).unwrap();
    let mut adam = Adam::new(&params, CONFIG).unwrap();
    let x = tensor(&[3.0, -0.01, 0.2]);
    let expected: [([f32; 4], f64); 5] = [
        ([0.4, -0.9, 1.9, 0.15], 13.6884),
        ([0.3, -0.800001, 1.8, 0.05], 4.68321),
        ([0.273801, -0.773802, 1.773801, 0.023801], 4.32199),
        ([0.284298, -0.784299, 1.784298, 0.034298], 11.3582),
        ([0.316651, -0.816652, 1.816651, 0.066651], 17.41536),
    ];
    for (step, (want, norm)) in expected.into_iter().enumerate() {
        let sum = ((&w * &x).unwrap().sum_all().unwrap() + b.sum_all().unwrap()).unwrap();
        let loss = (sum - step as f64).unwrap().sqr().unwrap();
        let StepOutcome::Done { grad_norm } = minimise(&mut adam, &params, &loss, 0.1).unwrap() else {
            panic!("step {step} was refused");
        };
        assert!(
            (grad_norm - norm).abs() < 1e-4 * norm,
            "step {step}: norm {grad_norm}, not {norm}"
        );
        assert_close(&all_values(&params), &want, 2e-6, &format!("step {step}"));
    }
}

fn small_net() -> (Parameters, Conv, Tensor) {
    let mut params = Parameters::new(&Device::Cpu);
    let activation = Activation::LeakyRelu(0.1);
    let spec = ConvSpec {
        inputs: 2,
        outputs: 3,
        kernel: 3,
        stride: 1,
        padding: 1,
        activation,
    };
    let conv = Conv::new(&mut params, "conv", spec, &mut rng(1)).unwrap();
    (params, conv, random(&[2, 5, 4, 2], &mut rng(2)))
}

#[test]
fn a_layer_learns_what_another_does() {
    let (mut params, conv, x) = small_net();
    let scale = params.add("scale", 3, Init::Constant(1.0), &mut rng(3)).unwrap();
    let (_teacher, teach, _) = small_net();
    let target = (teach.forward(&x).unwrap() * 3.0).unwrap().detach();
    let mut adam = Adam::new(&params, CONFIG).unwrap();
    let loss = || {
        let y = conv.forward(&x)?.broadcast_mul(&scale)?;
        (y - &target)?.sqr()?.mean_all()
    };
    let before = loss().unwrap().to_scalar::<f32>().unwrap();
    for _ in 0..300 {
        minimise(&mut adam, &params, &loss().unwrap(), 0.02).unwrap();
    }
    let after = loss().unwrap().to_scalar::<f32>().unwrap();
    assert!(after < 1e-3 * before, "{before} -> {after}");
}

#[test]
fn what_is_not_finite_changes_nothing() {
    let (params, conv, x) = small_net();
    let mut adam = Adam::new(&params, CONFIG).unwrap();
    let loss = |x: &Tensor| conv.forward(x).unwrap().sqr().unwrap().sum_all().unwrap();
    minimise(&mut adam, &params, &loss(&x), 0.01).unwrap();
    let state = adam.state().unwrap();
    let before = all_values(&params);

    for bad in [f32::NAN, f32::INFINITY, 1e30] {
        let spoiled = x.affine(0.0, f64::from(bad)).unwrap();
        assert_eq!(
            minimise(&mut adam, &params, &loss(&spoiled), 0.01).unwrap(),
            StepOutcome::Refused
        );
    }
    // A finite gradient of a loss that is not.
    let loss_only = (loss(&x) + f64::INFINITY).unwrap();
    assert_eq!(
        minimise(&mut adam, &params, &loss_only, 0.01).unwrap(),
        StepOutcome::Refused
    );
    assert_eq!(all_values(&params), before);
    assert_eq!(adam.state().unwrap(), state);

    assert!(matches!(
        minimise(&mut adam, &params, &loss(&x), 0.01).unwrap(),
        StepOutcome::Done { .. }
    ));
    assert_ne!(all_values(&params), before);
}

#[test]
fn goes_on_from_its_state() {
    let run = |restart_after: Option<u32>| {
        let (params, conv, x) = small_net();
        let mut adam = Adam::new(&params, CONFIG).unwrap();
        for step in 0..6 {
            if restart_after == Some(step) {
                let mut other = Adam::new(&params, CONFIG).unwrap();
                other.restore(&params, &adam.state().unwrap()).unwrap();
                adam = other;
            }
            let loss = conv.forward(&x).unwrap().sqr().unwrap().sum_all().unwrap();
            minimise(&mut adam, &params, &loss, 0.01).unwrap();
        }
        all_values(&params)
    };
    assert_eq!(run(None), run(Some(3)));
    let (params, ..) = small_net();
    let error = Adam::new(&params, CONFIG)
        .unwrap()
        .restore(&params, &AdamState::default())
        .unwrap_err();
    assert!(error.to_string().contains("57 moments"), "{error}");
}

#[test]
fn moments_without_gradients_fade_to_zero_and_not_to_denormals() {
    let mut params = Parameters::new(&Device::Cpu);
    let w = params.add_values("w", 2, vec![1.0, 1.0]).unwrap();
    let mut adam = Adam::new(&params, CONFIG).unwrap();
    let loss = |x: &Tensor| (&w * x).unwrap().sum_all().unwrap();
    minimise(&mut adam, &params, &loss(&tensor(&[1.0, 1.0])), 1e-3).unwrap();
    for _ in 0..1000 {
        minimise(&mut adam, &params, &loss(&tensor(&[1.0, 0.0])), 1e-3).unwrap();
    }
    let AdamState { first, second, .. } = adam.state().unwrap();
    assert_eq!(first[1], 0.0);
    assert!(first[0] > 0.1 && second.iter().all(|v| v.is_normal()));
}

#[test]
fn a_slow_copy_follows() {
    let (fast, ..) = small_net();
    let mut slow = Parameters::new(&Device::Cpu);
    for (name, var) in fast.iter() {
        slow.add(name, var.shape(), Init::Constant(1.0), &mut rng(1))
            .unwrap();
    }
    slow.lerp_from(&fast, 0.25).unwrap();
    let want: Vec<f32> = all_values(&fast).iter().map(|f| 1.0 + 0.25 * (f - 1.0)).collect();
    assert_close(&all_values(&slow), &want, 1e-6, "a quarter of the way");
    slow.lerp_from(&fast, 1.0).unwrap();
    assert_close(&all_values(&slow), &all_values(&fast), 1e-6, "all the way");
    assert!(slow.lerp_from(&Parameters::new(&Device::Cpu), 0.5).is_err());
}
