//! Whole nets: shapes, weights, and losses and gradients against PyTorch.

use candle_core::{Device, Result, Tensor};
use rand::SeedableRng;

use super::learner::{Batch, losses};
use super::{Checkpoint, Learner, ScoringWeights, TemporalLayer, Vae, VaeConfig};
use crate::detector::cue::{appearance, motion};
use crate::detector::engine::{Inputs, StateUpdate, TrainingBatch};
use crate::detector::nn::{Losses, Parameters, Rng, Tape};

/// The motion net on a grid of 5 rows and 6 columns.
pub(crate) fn motion() -> VaeConfig {
    motion::vae_config((6, 5))
}

/// A small appearance net on 8x4 pixels.
pub(crate) fn appearance() -> VaeConfig {
    appearance::vae_config(&"[(4,3,2),(6,3,2)]".parse().unwrap(), 3, (8, 4))
}

/// The same net with a convolutional LSTM and clips of three images.
pub(crate) fn recurrent(config: VaeConfig) -> VaeConfig {
    VaeConfig {
        temporal: Some(TemporalLayer { kernel: 3, clip: 3 }),
        ..config
    }
}

fn make(config: &VaeConfig) -> (Parameters, Vae) {
    let parameters = Parameters::new(Rng::seed_from_u64(1));
    let vae = Vae::new(config, &parameters).unwrap();
    (parameters, vae)
}

#[test]
fn default_nets_have_the_documented_number_of_weights() {
    let motion = motion::vae_config((45, 25));
    let appearance = appearance::vae_config(&Default::default(), 16, (64, 32));
    for (config, count) in [(motion, 13_650), (appearance, 76_115)] {
        assert_eq!(config.parameters(), count);
        assert_eq!(make(&config).0.count(), count);
    }
}

#[test]
fn the_decoder_mirrors_any_encoder() {
    let mut configs = vec![];
    for (height, width) in [(33, 45), (25, 45), (2, 3)] {
        configs.push(motion::vae_config((width, height)));
    }
    for (arch, size) in [
        ("[(32,5,2),(8,3,2)]", (32, 32)),
        ("[(4,7,3),(6,1,1)]", (48, 27)),
        ("[(4,3,4)]", (16, 4)),
        ("[(4,3,1)]", (16, 7)),
    ] {
        configs.push(appearance::vae_config(&arch.parse().unwrap(), 16, size));
    }
    configs.extend([recurrent(motion()), recurrent(appearance())]);
    for config in configs {
        let (parameters, vae) = make(&config);
        let [height, width] = config.size;
        let [h, w, _] = config.bottleneck();
        let target = wave(&[2, height, width, config.channels], 0.37);
        let condition = (config.condition > 0).then(|| wave(&[2, height, width, config.condition], 0.23));
        let mask = wave(&[2 * config.features()], 0.5);
        let forward = || -> Result<Losses> {
            let (posterior, _) = vae.encode(&target, condition.as_ref(), None, None)?;
            match config.latent {
                super::Latent::Flat(dim) => assert_eq!(posterior.mean.dims(), [2, dim], "{config:?}"),
                super::Latent::Map(dim) => assert_eq!(posterior.mean.dims(), [2, h, w, dim], "{config:?}"),
            }
            let prediction = vae.decode(&posterior.mean, condition.as_ref())?;
            assert_eq!(prediction.dims(), target.dims(), "{config:?}");
            let batch = Batch {
                target: &target,
                condition: condition.as_ref(),
                state: None,
                noise: &wave(&[2 * config.latent_values()], 0.91),
                dropout_mask: Some(&mask),
            };
            losses(&config, &vae, batch, 0.1)
        };
        // The motion net's last layer starts at zero and lets no gradient through.
        set_weights(&parameters);
        let (losses, tape) = Tape::record(forward).unwrap();
        let gradients = parameters.backward(tape, &losses.loss).unwrap();
        let by_candle = parameters.backward_by_candle(&losses.loss).unwrap();
        assert_eq!(gradients, by_candle, "{config:?}");
        let first = parameters.iter().next().unwrap().1.elem_count();
        assert!(
            gradients[..first].iter().any(|g| *g != 0.0),
            "{config:?}: the first layer learns"
        );
    }
}

#[test]
fn the_base_image_is_the_first_prediction_of_a_decoder_at_zero() {
    let config = VaeConfig {
        zero_output: true,
        ..appearance()
    };
    let image: Vec<f32> = sine(config.target_values(), 0.3, 0.0).map(|v| v as f32).collect();
    let checkpoint = Checkpoint::initial(&config, 1, Some(&image)).unwrap();
    let mut learner = Learner::new(&config, &checkpoint).unwrap();
    let inputs = Inputs {
        target: &image,
        condition: &[],
    };
    let map = learner.infer(inputs, StateUpdate::default()).unwrap();
    assert_eq!(learner.reconstruction(), Some(image.as_slice()));
    assert!(map.iter().all(|&v| v == 0.0));
    let short = Checkpoint::initial(&config, 1, Some(&image[1..]))
        .unwrap_err()
        .to_string();
    assert!(short.contains("base image"), "{short}");
}

/// Target and condition of an image of a sequence, and the batch of a training step on the clip that ends with it.
fn sample(config: &VaeConfig, number: usize) -> ([Vec<f32>; 2], TrainingBatch) {
    let wave = |values: usize, rate: f64, number: usize| -> Vec<f32> {
        sine(values, rate, 0.7 * number as f64)
            .map(|v| v as f32)
            .collect()
    };
    let images = |from: usize, count: usize| {
        let of = |values, rate| (from..from + count).flat_map(|i| wave(values, rate, i)).collect();
        [
            of(config.target_values(), 0.37),
            of(config.condition_values(), 0.23),
        ]
    };
    let before = config.clip() - 1;
    let [previous_target, previous_condition] = images(number.saturating_sub(before), before);
    let [replayed_target, replayed_condition] = images(100, 2 * config.clip());
    let mut batch = TrainingBatch {
        previous_target,
        previous_condition,
        replayed_target,
        replayed_condition,
        kl_weight: 0.1,
        learning_rate: 1e-3,
        average_rate: 0.1,
        ..TrainingBatch::default()
    };
    batch.draw(config, 0.2, &mut Rng::seed_from_u64(number as u64));
    (images(number, 1), batch)
}

/// Scores images of these numbers, the first after a restart; the last map. Negative numbers are no steps.
fn infer(learner: &mut Learner, config: &VaeConfig, numbers: &[i32]) -> Vec<f32> {
    let mut map = Vec::new();
    for (i, &number) in numbers.iter().enumerate() {
        let ([target, condition], _) = sample(config, number.unsigned_abs() as usize);
        let inputs = Inputs {
            target: &target,
            condition: &condition,
        };
        let update = StateUpdate {
            restart: i == 0,
            advance: number > 0,
        };
        map = learner.infer(inputs, update).unwrap();
    }
    map
}

/// A net whose weights are all random: no layer starts at zero.
fn random_learner(config: &VaeConfig) -> Learner {
    let (parameters, _) = make(config);
    set_weights(&parameters);
    let weights = parameters.values().unwrap();
    let checkpoint = Checkpoint {
        average: match config.scoring_weights {
            ScoringWeights::MovingAverage => weights.clone(),
            ScoringWeights::Trained => Vec::new(),
        },
        weights,
        ..Checkpoint::initial(config, 1, None).unwrap()
    };
    Learner::new(config, &checkpoint).unwrap()
}

#[test]
fn the_state_of_a_temporal_layer_is_carried_along_and_cleared_by_a_restart() {
    for config in [recurrent(motion()), recurrent(appearance())] {
        let mut learner = random_learner(&config);
        let ordered = infer(&mut learner, &config, &[1, 2, 3]);
        assert_eq!(
            infer(&mut learner, &config, &[1, 2, 3]),
            ordered,
            "a restart clears the state"
        );
        assert_ne!(
            infer(&mut learner, &config, &[3]),
            ordered,
            "what came before matters"
        );
        assert_ne!(
            infer(&mut learner, &config, &[2, 1, 3]),
            ordered,
            "so does its order"
        );
        let between = infer(&mut learner, &config, &[1, -7, 2, -8, -9, 3]);
        assert_eq!(
            between, ordered,
            "an image that is no step leaves the state as it is"
        );
    }
    for config in [motion(), appearance()] {
        let mut learner = random_learner(&config);
        let ordered = infer(&mut learner, &config, &[1, 2, 3]);
        assert_eq!(
            infer(&mut learner, &config, &[3]),
            ordered,
            "without the layer there is no state"
        );
    }
}

#[test]
fn a_step_on_clips_continues_from_the_state_before_the_current_one() {
    for config in [recurrent(motion()), recurrent(appearance())] {
        let loss_after = |numbers: &[i32]| {
            let mut learner = random_learner(&config);
            infer(&mut learner, &config, numbers);
            let ([target, condition], batch) = sample(&config, 6);
            let inputs = Inputs {
                target: &target,
                condition: &condition,
            };
            let report = learner.step(inputs, &batch).unwrap();
            assert!(report.loss.is_finite() && !report.rejected);
            report.loss
        };
        let loss = loss_after(&[2, 3, 4, 5, 6]);
        assert_eq!(
            loss_after(&[2, 3, 4, 5, -6]),
            loss,
            "the current image need not be a step"
        );
        assert_ne!(
            loss_after(&[1, 3, 4, 5, 6]),
            loss,
            "images before the clip act through the state"
        );
        assert_eq!(
            loss_after(&[4, 5, 6]),
            loss_after(&[6]),
            "nothing came before the clip"
        );

        let mut learner = random_learner(&config);
        let ([target, condition], mut batch) = sample(&config, 6);
        let values = config.target_values();
        batch.previous_target.truncate(values);
        batch.previous_condition.truncate(config.condition_values());
        let inputs = Inputs {
            target: &target,
            condition: &condition,
        };
        let error = learner.step(inputs, &batch).unwrap_err().to_string();
        assert!(error.contains("no clips of 3"), "{error}");
    }
}

#[test]
fn gradients_of_recurrent_nets_agree_with_finite_differences() {
    for config in [recurrent(motion()), recurrent(appearance())] {
        let (parameters, vae) = make(&config);
        set_weights(&parameters);
        let [height, width] = config.size;
        let images = 2 * config.clip();
        let target = wave(&[images, height, width, config.channels], 0.37);
        let condition =
            (config.condition > 0).then(|| wave(&[images, height, width, config.condition], 0.23));
        let noise = wave(&[images * config.latent_values()], 0.91);
        let state = vae.zero_state(2).unwrap();
        let forward = || {
            let batch = Batch {
                target: &target,
                condition: condition.as_ref(),
                state: state.as_ref(),
                noise: &noise,
                dropout_mask: None,
            };
            losses(&config, &vae, batch, 0.1)
        };
        let (losses, tape) = Tape::record(forward).unwrap();
        let gradients = parameters.backward(tape, &losses.loss).unwrap();
        let values = parameters.values().unwrap();
        let loss_at = |values: &[f32]| {
            parameters.set_values(values).unwrap();
            f64::from(forward().unwrap().loss.to_scalar::<f32>().unwrap())
        };
        // Along random directions: one value alone moves the loss by less than its rounding.
        let norm = gradients.iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
        for rate in [0.13, 0.29, 0.71] {
            let direction: Vec<f64> = sine(values.len(), rate, 1.0).collect();
            let moved = |by: f64| -> Vec<f32> {
                let values = values.iter().zip(&direction);
                values.map(|(v, d)| (f64::from(*v) + by * d) as f32).collect()
            };
            let step = 2e-4;
            let difference = (loss_at(&moved(step)) - loss_at(&moved(-step))) / (2.0 * step);
            let slope: f64 = gradients
                .iter()
                .zip(&direction)
                .map(|(g, d)| f64::from(*g) * d)
                .sum();
            assert!(
                (difference - slope).abs() < 0.02 * norm,
                "{difference}, by the gradient {slope} of {norm}"
            );
        }
    }
}

#[test]
fn a_checkpoint_continues_bit_for_bit() {
    for config in [
        motion(),
        appearance(),
        recurrent(motion()),
        recurrent(appearance()),
    ] {
        let ([target, condition], mut batch) = sample(&config, 6);
        let inputs = Inputs {
            target: &target,
            condition: &condition,
        };
        let mut rng = Rng::seed_from_u64(5);
        let initial = Checkpoint::initial(&config, 1, None).unwrap();
        let mut stayed = Learner::new(&config, &initial).unwrap();
        for _ in 0..5 {
            batch.draw(&config, 0.2, &mut rng);
            stayed.step(inputs, &batch).unwrap();
        }
        let checkpoint = stayed.checkpoint().unwrap();
        assert_eq!(checkpoint.steps, 5);
        let mut moved = Learner::new(&config, &checkpoint).unwrap();
        for _ in 0..3 {
            batch.draw(&config, 0.2, &mut rng);
            assert_eq!(
                moved.step(inputs, &batch).unwrap(),
                stayed.step(inputs, &batch).unwrap()
            );
            let update = StateUpdate::default();
            assert_eq!(
                moved.infer(inputs, update).unwrap(),
                stayed.infer(inputs, update).unwrap()
            );
        }
        let mut other = checkpoint;
        other.weights.pop();
        assert!(
            Learner::new(&config, &other).is_err(),
            "a checkpoint of another net"
        );
    }
}

#[test]
fn a_step_that_is_not_finite_is_rejected_and_changes_nothing() {
    for config in [motion(), appearance()] {
        let target = vec![f32::NAN; config.target_values()];
        let condition = vec![0.0; config.condition_values()];
        let mut batch = TrainingBatch {
            learning_rate: 1e-3,
            average_rate: 0.5,
            ..TrainingBatch::default()
        };
        batch.draw(&config, 0.0, &mut Rng::seed_from_u64(5));
        let initial = Checkpoint::initial(&config, 1, None).unwrap();
        let mut learner = Learner::new(&config, &initial).unwrap();
        let inputs = Inputs {
            target: &target,
            condition: &condition,
        };
        assert!(learner.step(inputs, &batch).unwrap().rejected);
        assert_eq!(learner.checkpoint().unwrap(), initial);
    }
}

/*
Reference values are printed by this script:

import torch
import torch.nn.functional as F
torch.set_default_dtype(torch.float64)

def wave(shape, rate, phase=0.0):
    count = 1
    for s in shape:
        count *= s
    return torch.sin(rate * torch.arange(count) + phase).reshape(shape)

class Net:
    def __init__(self):
        self.params = []
    def add(self, *shape):
        p = (0.2 * wave(shape, 0.7, len(self.params))).requires_grad_()
        self.params.append(p)
        return p
    def conv(self, k, i, o):
        return self.add(k, k, i, o), self.add(o)
    def linear(self, i, o):
        return self.add(i, o), self.add(o)
    def report(self, loss):
        loss.backward()
        print('loss', loss.item())
        for p in self.params:
            g = p.grad.reshape(-1)
            print('%.7e' % (g * torch.cos(0.5 * torch.arange(len(g)))).sum().item())

act = lambda x: F.leaky_relu(x, 0.1)
def conv(x, wb, stride=1):
    w, b = wb
    return F.conv2d(x, w.permute(3, 2, 0, 1), b, stride, w.shape[0] // 2)
student = lambda r, scale: (2 * torch.log(1 + r * r / (3 * scale * scale))).mean()
kl = lambda m, lv, axis: (0.5 * (m * m + lv.exp() - 1 - lv)).sum(axis).mean()
nchw = lambda x: x.permute(0, 3, 1, 2)

def motion():
    n = Net()
    e = [n.conv(3, 4, 16), n.conv(3, 16, 24), n.conv(3, 24, 24)]
    mean, lv, from_latent = n.conv(1, 24, 4), n.conv(1, 24, 4), n.conv(1, 4, 24)
    refine, predict = n.conv(3, 26, 16), n.conv(3, 16, 2)
    y, c = nchw(wave((2, 5, 6, 2), 0.37)), nchw(wave((2, 5, 6, 2), 0.23))
    x = torch.cat([y, c], 1)
    x = act(conv(x, e[0])); x = act(conv(x, e[1], 2)); x = act(conv(x, e[2]))
    m, v = conv(x, mean), conv(x, lv).clamp(-8, 3)
    z = m + (v / 2).exp() * nchw(wave((2, 3, 3, 4), 0.91))
    x = act(conv(z, from_latent))
    x = F.interpolate(x, scale_factor=2)[:, :, :5, :6]
    x = conv(act(conv(torch.cat([x, c], 1), refine)), predict)
    n.report(2 * student(x - y, 1.0) + 0.1 * kl(m, v, 1))

def appearance():
    n = Net()
    e = [n.conv(3, 3, 4), n.conv(3, 4, 6)]
    mean, lv, from_latent = n.linear(12, 3), n.linear(12, 3), n.linear(3, 12)
    d = [n.conv(3, 6, 4), n.conv(3, 4, 3)]
    base = n.add(1, 4, 8, 3)
    p = nchw(wave((2, 4, 8, 3), 0.37))
    x = act(conv(p, e[0], 2)); x = act(conv(x, e[1], 2))
    x = x.permute(0, 2, 3, 1).reshape(2, 12)
    m, v = x @ mean[0] + mean[1], (x @ lv[0] + lv[1]).clamp(-10, 3)
    z = m + (v / 2).exp() * wave((2, 3), 0.91)
    x = nchw(act(z @ from_latent[0] + from_latent[1]).reshape(2, 1, 2, 6))
    x = act(conv(F.interpolate(x, scale_factor=2), d[0]))
    x = conv(F.interpolate(x, scale_factor=2), d[1]) + nchw(base)
    n.report(student(x - p, 0.2) + 0.03 * kl(m, v, 1))

motion()
appearance()
*/

/// `sin(rate * i + phase)`, row by row.
fn sine(count: usize, rate: f64, phase: f64) -> impl Iterator<Item = f64> {
    (0..count).map(move |i| (rate * i as f64 + phase).sin())
}

/// `sin(rate * i)` in any shape.
fn wave(shape: &[usize], rate: f64) -> Tensor {
    let values: Vec<f32> = sine(shape.iter().product(), rate, 0.0)
        .map(|v| v as f32)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Gives a net the script's weights.
fn set_weights(params: &Parameters) {
    for (n, (_, var)) in params.iter().enumerate() {
        let values: Vec<f32> = sine(var.elem_count(), 0.7, n as f64)
            .map(|v| (0.2 * v) as f32)
            .collect();
        var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap())
            .unwrap();
    }
}

/// Compares a loss, and the sum of each parameter's gradient times `cos(i / 2)`, with the script's; and all gradients
/// with those of Candle's own walk.
fn assert_as_pytorch(
    params: &Parameters,
    losses: impl FnOnce() -> Result<Losses>,
    want: f64,
    wanted_gradients: &[f64],
) {
    let (Losses { loss, .. }, tape) = Tape::record(losses).unwrap();
    let got = f64::from(loss.to_scalar::<f32>().unwrap());
    assert!(
        (got - want).abs() < 1e-5 * want.abs(),
        "loss {got}, PyTorch {want}"
    );
    let gradients = params.backward(tape, &loss).unwrap();
    assert_eq!(gradients, params.backward_by_candle(&loss).unwrap());
    let mut start = 0;
    assert_eq!(params.iter().count(), wanted_gradients.len());
    for ((name, var), want) in params.iter().zip(wanted_gradients) {
        let count = var.elem_count();
        let weights = sine(count, 0.5, std::f64::consts::FRAC_PI_2);
        let gradient = &gradients[start..start + count];
        let got: f64 = gradient.iter().zip(weights).map(|(g, w)| f64::from(*g) * w).sum();
        let size: f64 = gradient.iter().map(|g| f64::from(g.abs())).sum();
        assert!(
            (got - want).abs() < 1e-4 * size.max(1e-3),
            "{name}: {got}, PyTorch {want}"
        );
        start += count;
    }
}

#[test]
fn loss_and_gradients_of_the_motion_net_are_pytorchs() {
    let config = motion();
    let (parameters, vae) = make(&config);
    set_weights(&parameters);
    let batch = Batch {
        target: &wave(&[2, 5, 6, 2], 0.37),
        condition: Some(&wave(&[2, 5, 6, 2], 0.23)),
        state: None,
        noise: &wave(&[2, 3, 3, 4], 0.91),
        dropout_mask: None,
    };
    let gradients = [
        0.042089395,
        0.0028958009,
        0.010671401,
        -0.0080662361,
        -0.019938973,
        -0.002789139,
        0.00019892184,
        0.012968734,
        0.00050274613,
        0.088180117,
        -1.3667818,
        0.2674781,
        -0.045149913,
        -0.11049104,
        0.11400513,
        0.11629895,
    ];
    assert_as_pytorch(
        &parameters,
        || losses(&config, &vae, batch, 0.1),
        0.713061267951029,
        &gradients,
    );
}

#[test]
fn loss_and_gradients_of_the_appearance_net_are_pytorchs() {
    let config = appearance();
    let (parameters, vae) = make(&config);
    set_weights(&parameters);
    let batch = Batch {
        target: &wave(&[2, 4, 8, 3], 0.37),
        condition: None,
        state: None,
        noise: &wave(&[2, 3], 0.91),
        dropout_mask: None,
    };
    let gradients = [
        -0.00036334036,
        -0.00066723613,
        -0.0016729812,
        0.0069426983,
        0.00019076081,
        -0.0071453112,
        -0.0002718913,
        0.0065248461,
        -0.0012864949,
        -0.002277319,
        0.0032875441,
        0.019581206,
        -0.05613925,
        -0.10534644,
        -0.026046687,
    ];
    assert_as_pytorch(
        &parameters,
        || losses(&config, &vae, batch, 0.03),
        2.7990277748786356,
        &gradients,
    );
}
