//! The CUDA side against the CPU. Without a usable GPU the tests say so and do nothing.

use std::io::Write;

use candle_core::{Device, Result, Tensor};

use super::super::{
    Activation, Adam, AdamConfig, Conv, ConvSpec, Init, Linear, Losses, Parameters, Staging, StepOutcome,
    Tape, add_to_each, append, apply_mask, box_mean, clamp, enlarge, join, kl, kl_loss, motion_score,
    open_cuda, read, reparameterize, reshape, squared_error, student_t_loss, weighted_sum,
};
use super::{assert_close, random, rng, values};

const ACT: Activation = Activation::LeakyRelu(0.1);

/// A GPU; where there is none, why, past the test harness's capture.
fn gpu() -> Option<Device> {
    match open_cuda(None) {
        Ok((_, device)) => Some(device),
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "skipped, no CUDA device: {reason}");
            None
        }
    }
}

fn random_on(device: &Device, shape: &[usize], seed: u64) -> Tensor {
    random(shape, &mut rng(seed)).to_device(device).unwrap()
}

/// A net's loss and the gradients of all its parameters.
fn differentiate(params: &Parameters, forward: impl FnOnce() -> Result<Tensor>) -> Result<[Vec<f32>; 2]> {
    let (loss, tape) = Tape::record(forward)?;
    let gradients = match params.device().is_cuda() {
        true => {
            params.backward_on_gpu(tape, &loss)?;
            params.store().read()?
        }
        false => params.backward(tape, &loss)?.clone(),
    };
    Ok([vec![loss.to_scalar()?], gradients])
}

/// Runs the same on both devices and compares all that comes out.
fn assert_agree<const N: usize>(what: &str, run: impl Fn(&Device) -> Result<[Vec<f32>; N]>) {
    assert_near(what, 2e-5, run);
}

/// As [`assert_agree`]; `tolerance` is a share of the largest value.
fn assert_near<const N: usize>(what: &str, tolerance: f32, run: impl Fn(&Device) -> Result<[Vec<f32>; N]>) {
    let Some(gpu) = gpu() else { return };
    let (want, got) = (run(&Device::Cpu).unwrap(), run(&gpu).unwrap());
    for (i, (want, got)) in want.iter().zip(&got).enumerate() {
        assert_close(got, want, tolerance, &format!("{what}, result {i}"));
    }
    let again = run(&gpu).unwrap();
    assert_eq!(again, got, "{what}: the same twice");
}

#[test]
fn convolutions_agree() {
    for (inputs, outputs, kernel, stride, padding, size) in [
        (3, 12, 3, 2, 1, [9, 14]),
        (5, 4, 1, 1, 0, [4, 7]),
        (4, 7, 3, 1, 1, [6, 5]),
        (2, 3, 5, 3, 2, [11, 8]),
        (2, 33, 4, 4, 0, [8, 12]),
        (3, 2, 7, 2, 3, [5, 16]),
    ] {
        let spec = ConvSpec {
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            activation: ACT,
        };
        assert_agree(&format!("{spec:?} on {size:?}"), |device| {
            let mut params = Parameters::new(device);
            let [height, width] = size;
            let x = params.add(
                "x",
                (2, height, width, inputs),
                Init::Uniform { fan_in: 1 },
                &mut rng(1),
            )?;
            let conv = Conv::new(&mut params, "conv", spec, &mut rng(2))?;
            let [loss, gradients] = differentiate(&params, || {
                let y = conv.forward(&x)?;
                student_t_loss(&y, &y.zeros_like_on(device)?, 0.7)
            })?;
            Ok([values(&conv.detached().forward(&x)?), loss, gradients])
        });
    }
}

#[test]
fn enlarged_convolutions_agree() {
    for (size, extra, kernel, padding) in [
        ([8, 6], 0, 3, 1),
        ([7, 5], 2, 3, 1),
        ([7, 6], 0, 5, 2),
        ([4, 9], 1, 1, 0),
        ([6, 3], 3, 4, 2),
    ] {
        let spec = ConvSpec {
            inputs: 4 + extra,
            outputs: 5,
            kernel,
            stride: 1,
            padding,
            activation: ACT,
        };
        assert_agree(&format!("{spec:?} enlarged to {size:?}"), |device| {
            let mut params = Parameters::new(device);
            let [height, width] = size.map(|n: usize| n.div_ceil(2));
            let x = params.add(
                "x",
                (2, height, width, 4),
                Init::Uniform { fan_in: 1 },
                &mut rng(1),
            )?;
            let behind = random_on(device, &[2, size[0], size[1], extra.max(1)], 3);
            let behind = (extra > 0).then_some(&behind);
            let conv = Conv::new(&mut params, "conv", spec, &mut rng(2))?;
            let [loss, gradients] = differentiate(&params, || {
                let y = conv.forward_enlarged(&x, size, behind)?;
                student_t_loss(&y, &y.zeros_like_on(device)?, 0.7)
            })?;
            let y = conv.detached().forward_enlarged(&x, size, behind)?;
            Ok([values(&y), loss, gradients])
        });
    }
}

/// Zeros that need no kernel of Candle's.
trait ZerosOn {
    fn zeros_like_on(&self, device: &Device) -> Result<Tensor>;
}

impl ZerosOn for Tensor {
    fn zeros_like_on(&self, device: &Device) -> Result<Tensor> {
        Tensor::from_vec(vec![0.0f32; self.elem_count()], self.shape(), device)
    }
}

#[test]
fn a_whole_sampling_net_agrees() {
    assert_agree("dense net", |device| {
        let mut params = Parameters::new(device);
        let mut rng = rng(4);
        let first = Linear::new(&mut params, "first", 12, 20, ACT, &mut rng)?;
        let mean = Linear::new(&mut params, "mean", 20, 5, Activation::Identity, &mut rng)?;
        let log_var = Linear::new(&mut params, "log_var", 20, 5, Activation::Identity, &mut rng)?;
        let last = Linear::new(&mut params, "last", 5, 12, ACT, &mut rng)?;
        let scene = params.add("scene", (1, 2, 2, 3), Init::Uniform { fan_in: 1 }, &mut rng)?;
        let x = random_on(device, &[7, 12], 1);
        let mask = random_on(device, &[7, 20], 2);
        let noise = random_on(device, &[7, 5], 3);
        let encode = || {
            let y = apply_mask(&first.forward(&x)?, &mask)?;
            Ok::<_, candle_core::Error>((mean.forward(&y)?, clamp(&log_var.forward(&y)?, -0.1, 0.1)?))
        };
        let [loss, gradients] = differentiate(&params, || {
            let (mean, log_var) = encode()?;
            let z = reparameterize(&mean, &log_var, &noise)?;
            let y = add_to_each(&reshape(&last.forward(&z)?, (7, 2, 2, 3))?, &scene)?;
            let y = enlarge(&y, 3)?;
            let target = random_on(device, &[7, 6, 6, 3], 5);
            let likelihood = student_t_loss(&y, &target, 0.2)?;
            weighted_sum([(&likelihood, 1.5), (&kl_loss(&mean, &log_var)?, 0.3)])
        })?;
        let (mean, log_var) = encode()?;
        let divergence = kl(&mean, &log_var)?;
        Ok([loss, gradients, values(&mean), values(&divergence)])
    });
}

#[test]
fn views_into_larger_arrays_and_joined_channels_agree() {
    assert_agree("views", |device| {
        let all = random_on(device, &[6, 2, 3, 2], 1);
        let (a, b) = (all.narrow(0, 1, 2)?, all.narrow(0, 4, 2)?);
        let joined = join(&a, &b)?;
        assert_eq!(joined.dims(), [2, 2, 3, 4]);
        let appended = append(&b.flatten_all()?, &a.flatten_all()?)?;
        let nan = Tensor::from_vec(vec![f32::NAN], 1, device)?;
        assert!(values(&clamp(&nan, -0.5, 0.5)?)[0].is_nan());
        Ok([values(&joined), values(&clamp(&b, -0.5, 0.5)?), values(&appended)])
    });
}

#[test]
fn many_arrays_go_there_and_back_with_one_transfer() {
    let Some(gpu) = gpu() else { return };
    let arrays = [vec![1.0, 2.0, 3.0], Vec::new(), vec![4.0], vec![5.0, 6.0]];
    let slices: Vec<&[f32]> = arrays.iter().map(Vec::as_slice).collect();
    let mut staging = Staging::default();
    // As long as what is there already, shorter, and longer.
    for part in [0..3, 0..3, 2..4, 0..4, 3..3] {
        let there = staging.upload(&slices[part.clone()], &gpu).unwrap();
        assert_eq!(read(&there).unwrap(), arrays[part]);
    }
}

#[test]
fn maps_of_where_a_net_was_wrong_agree() {
    for [height, width] in [[1, 1], [2, 3], [9, 7], [25, 45]] {
        assert_agree(&format!("maps of {height} x {width}"), |device| {
            let picture = |channels, seed| random_on(device, &[1, height, width, channels], seed);
            let error = squared_error(&picture(3, 1), &picture(3, 2))?;
            let latent = random_on(device, &[1, height.div_ceil(2), width.div_ceil(2)], 3);
            let motion = motion_score(&picture(2, 4), &picture(2, 5), &latent, 0.2)?;
            let smooth = [box_mean(&error, 5)?, box_mean(&motion, 3)?];
            let [errors, motions] = smooth.map(|map| values(&map));
            Ok([values(&error), values(&motion), errors, motions])
        });
    }
}

/// What ten steps make of a net, the fourth with an input that is not finite. Of every other step nobody asks what it told.
fn trained(device: &Device) -> Result<[Vec<f32>; 4]> {
    let config = AdamConfig {
        max_norm: 0.5,
        ..AdamConfig::default()
    };
    let spec = ConvSpec {
        inputs: 2,
        outputs: 24,
        kernel: 3,
        stride: 1,
        padding: 1,
        activation: ACT,
    };
    let mut params = Parameters::new(device);
    let mut slow = Parameters::new(device);
    // More values than four blocks of threads.
    let behind = ConvSpec {
        inputs: 24,
        outputs: 3,
        ..spec
    };
    let conv = Conv::new(&mut params, "conv", spec, &mut rng(1))?;
    let last = Conv::new(&mut params, "last", behind, &mut rng(2))?;
    Conv::new(&mut slow, "conv", spec, &mut rng(5))?;
    Conv::new(&mut slow, "last", behind, &mut rng(6))?;
    let mut adam = Adam::new(&params, config)?;
    let target = random_on(device, &[2, 5, 4, 3], 4);
    let features = random_on(device, &[2, 5, 4, 24], 5);
    let mut told = Vec::new();
    for step in 0..10 {
        let bad = if step == 3 { f32::NAN } else { 1.0 };
        let x = random(&[2, 5, 4, 2], &mut rng(10 + step));
        let x = x.affine(f64::from(bad), 0.0)?.to_device(device)?;
        let before = (params.values()?, adam.state()?);
        let (losses, tape) = Tape::record(|| -> Result<_> {
            let reconstruction = student_t_loss(&last.forward(&conv.forward(&x)?)?, &target, 0.1)?;
            let kl = student_t_loss(&conv.forward(&x)?, &features, 1.0)?;
            let loss = weighted_sum([(&reconstruction, 1.0), (&kl, 0.5)])?;
            Ok(Losses {
                loss,
                reconstruction,
                kl,
            })
        })?;
        let report = adam.learn(&params, tape, &losses, 0.01)?;
        if !report.is_some_and(|r| r.is_refused()) {
            slow.lerp_from(&params, 0.2, adam.pending())?;
        }
        if step % 2 == 0 {
            continue;
        }
        let report = match (report, adam.pending().map(values)) {
            (None, Some(told)) => adam.settle(&told)?,
            (report, _) => report.expect("told at once on the CPU"),
        };
        let refused = report.is_refused();
        assert_eq!(refused, step == 3, "step {step}");
        assert_eq!(
            refused,
            (params.values()?, adam.state()?) == before,
            "step {step}"
        );
        if let StepOutcome::Done { grad_norm } = report.outcome {
            told.extend([report.loss, report.reconstruction, report.kl, grad_norm].map(|v| v as f32));
        }
    }
    let state = adam.state()?;
    assert_eq!(state.steps, 9);
    Ok([
        params.values()?,
        slow.values()?,
        told,
        [state.first, state.second].concat(),
    ])
}

#[test]
fn the_optimiser_agrees_and_refuses_what_is_not_finite() {
    trained(&Device::Cpu).unwrap();
    // Adam makes a step as long of a small gradient as of a large one, roundings included.
    assert_near("ten steps", 1e-3, trained);
}

#[test]
fn values_and_moments_go_from_device_to_device() {
    let Some(gpu) = gpu() else { return };
    let net = |device: &Device, seed| {
        let mut params = Parameters::new(device);
        Linear::new(&mut params, "linear", 3, 4, ACT, &mut rng(seed)).unwrap();
        params
    };
    let (here, there) = (net(&Device::Cpu, 1), net(&gpu, 2));
    there.set_values(&here.values().unwrap()).unwrap();
    assert_eq!(there.values().unwrap(), here.values().unwrap());
    let mut adam = Adam::new(&there, AdamConfig::default()).unwrap();
    let mut state = adam.state().unwrap();
    state.steps = 7;
    state
        .first
        .iter_mut()
        .zip(0u8..)
        .for_each(|(m, i)| *m = f32::from(i));
    adam.restore(&there, &state).unwrap();
    assert_eq!(adam.state().unwrap(), state);
}
