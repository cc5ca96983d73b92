//! The kernels against the CPU engine.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use super::super::descriptor::{Job, Layer, Net, ParameterMap, Plan, Purpose, Report, THREADS};
use super::emulated::Emulated;
use super::{Camera, engine, initial};
use crate::detector::cue::{appearance, motion};
use crate::detector::engine::{CpuEngine, Engine};
use crate::detector::nn::Rng;
use crate::detector::vae::tests::recurrent;
use crate::detector::vae::{
    Checkpoint, DecoderStage, EncoderStage, Latent, ScoreMap, TemporalLayer, VaeConfig,
};
use rand::{Rng as _, SeedableRng};

pub(super) fn appearance_net(arch: &str, latent: usize, size: (usize, usize)) -> VaeConfig {
    appearance::vae_config(&arch.parse().unwrap(), latent, size)
}

/// Asserts that values are near, as a share of the largest one wanted.
fn assert_near(what: &str, got: &[f32], want: &[f32], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want
        .iter()
        .fold(1e-30f64, |most, &v| most.max(f64::from(v).abs()));
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let off = f64::from(got - want).abs() / largest;
        assert!(
            off <= tolerance,
            "{what}: value {i} is {got}, on the CPU {want}: {off:.1e} of the largest"
        );
    }
}

/// Steps and scores of one net on both engines, from the same weights.
fn assert_agree(config: &VaeConfig, images: usize, dropout: f64, steps: usize, shared: usize, reverse: bool) {
    let (device, controls) = Emulated::with_shared(shared);
    controls.reverse.store(reverse, Ordering::Relaxed);
    assert_engine_agrees(engine(device), config, images, dropout, steps);
}

/// The same for any engine.
pub(super) fn assert_engine_agrees(
    mut gpu: impl Engine,
    config: &VaeConfig,
    images: usize,
    dropout: f64,
    steps: usize,
) {
    let name = format!("{config:?}, {images} images");
    let mut cpu = CpuEngine::default();
    let mut camera = Camera::new(std::slice::from_ref(config), 7);
    let (there, here) = (camera.nets(&mut gpu), camera.nets(&mut cpu));
    let mut reports = Vec::new();
    for step in 0..steps {
        camera.next(images, dropout);
        let (map, want) = (
            gpu.infer(&camera.scores(&there)).unwrap(),
            cpu.infer(&camera.scores(&here)).unwrap(),
        );
        assert_near(
            &format!("{name}: map before step {step}"),
            &map[0],
            &want[0],
            2e-3,
        );
        let (image, want) = (
            gpu.reconstruction(there[0]).unwrap(),
            cpu.reconstruction(here[0]).unwrap(),
        );
        assert_near(
            &format!("{name}: image before step {step}"),
            &image.unwrap(),
            &want.unwrap(),
            2e-3,
        );
        let report = gpu.train(&camera.steps(&there)).unwrap()[0];
        if let Some(want) = reports.pop() {
            assert_same_report(&name, report, want);
        }
        reports.push(cpu.train(&camera.steps(&here)).unwrap()[0]);
        let (got, want) = (
            gpu.checkpoint(there[0]).unwrap(),
            cpu.checkpoint(here[0]).unwrap(),
        );
        assert_eq!(got.steps, want.steps, "{name}");
        for (part, got, want, tolerance) in [
            ("first moment", &got.first_moment, &want.first_moment, 1e-3),
            ("second moment", &got.second_moment, &want.second_moment, 2e-3),
            ("weights", &got.weights, &want.weights, 1e-3),
            ("average", &got.average, &want.average, 1e-3),
        ] {
            assert_near(&format!("{name}: {part} after step {step}"), got, want, tolerance);
        }
    }
}

fn assert_same_report(name: &str, got: crate::detector::StepReport, want: crate::detector::StepReport) {
    assert_eq!(got.rejected, want.rejected, "{name}");
    for (part, got, want) in [
        ("loss", got.loss, want.loss),
        ("reconstruction", got.reconstruction, want.reconstruction),
        ("kl", got.kl, want.kl),
    ] {
        assert!(
            (got - want).abs() <= 1e-4 * want.abs().max(1e-3),
            "{name}: {part} {got}, on the CPU {want}"
        );
    }
}

/// Size of the motion grid, images of a step, dropout.
pub(super) const MOTION: [((usize, usize), usize, f64); 5] = [
    ((6, 5), 2, 0.0),
    ((8, 6), 2, 0.3),
    ((7, 4), 1, 0.0),
    ((3, 2), 3, 0.2),
    ((2, 1), 2, 0.0),
];

/// Architecture, latent values, size, images of a step, dropout.
pub(super) type Appearance = (&'static str, usize, (usize, usize), usize, f64);

pub(super) const APPEARANCE: [Appearance; 10] = [
    ("[(12,3,2),(24,3,2),(32,3,2)]", 16, (16, 8), 4, 0.0),
    ("[(12,3,2),(24,3,2),(32,3,2)]", 16, (16, 8), 1, 0.3),
    ("[(4,3,2),(6,3,2)]", 3, (8, 4), 4, 0.2),
    ("[(32,5,2),(8,3,2)]", 16, (16, 16), 2, 0.0),
    ("[(4,7,3),(6,1,1)]", 5, (12, 9), 3, 0.2),
    ("[(4,3,4)]", 16, (16, 4), 4, 0.0),
    ("[(4,3,1)]", 16, (16, 7), 2, 0.0),
    ("[(5,1,2),(7,5,3)]", 7, (12, 6), 4, 0.1),
    ("[(9,7,2),(3,3,4),(2,1,1)]", 2, (16, 8), 5, 0.0),
    (
        "[(3,3,1),(3,3,1),(4,3,2),(4,3,1),(5,3,1),(6,3,2)]",
        4,
        (8, 8),
        2,
        0.0,
    ),
];

#[test]
fn motion_nets_train_and_score_as_on_the_cpu() {
    for (size, images, dropout) in MOTION {
        for reverse in [false, true] {
            assert_agree(&motion::vae_config(size), images, dropout, 3, 28_000, reverse);
        }
        assert_agree(&motion::vae_config(size), images, dropout, 2, 0, false);
    }
}

#[test]
fn appearance_nets_of_any_architecture_train_and_score_as_on_the_cpu() {
    for (arch, latent, size, images, dropout) in APPEARANCE {
        let config = appearance_net(arch, latent, size);
        for reverse in [false, true] {
            assert_agree(&config, images, dropout, 3, 28_000, reverse);
        }
        // Too little shared memory for some of the weights, and for all.
        assert_agree(&config, images, dropout, 2, 1500, false);
        assert_agree(&config, images, dropout, 2, 0, true);
    }
}

#[test]
fn nets_of_the_usual_sizes_train_and_score_as_on_the_cpu() {
    assert_agree(&motion::vae_config((45, 25)), 2, 0.1, 2, 28_000, false);
    assert_agree(&motion::vae_config((45, 34)), 2, 0.0, 1, 28_000, true);
    assert_agree(
        &appearance_net("[(12,3,2),(24,3,2),(32,3,2)]", 16, (64, 40)),
        4,
        0.1,
        2,
        28_000,
        true,
    );
    assert_agree(
        &appearance_net("[(12,3,2),(24,3,2),(32,3,2)]", 16, (64, 48)),
        5,
        0.0,
        1,
        6000,
        false,
    );
}

#[test]
fn nets_with_a_temporal_layer_train_and_score_as_on_the_cpu() {
    for reverse in [false, true] {
        assert_agree(
            &recurrent(motion::vae_config((6, 5))),
            2,
            0.0,
            10,
            28_000,
            reverse,
        );
        assert_agree(&recurrent(motion::vae_config((7, 4))), 1, 0.3, 6, 28_000, reverse);
    }
    for (arch, latent, size, clips, dropout) in APPEARANCE {
        let config = recurrent(appearance_net(arch, latent, size));
        assert_agree(&config, clips, dropout, 6, 28_000, clips % 2 == 0);
    }
    // Without shared memory for weights, and of a kernel without window.
    for kernel in [1, 3, 5] {
        let config = VaeConfig {
            temporal: Some(TemporalLayer { kernel, clip: 4 }),
            ..unusual()
        };
        assert_agree_where_the_cpu_can(&config, kernel == 3);
        assert_agree(&recurrent(motion::vae_config((3, 2))), 3, 0.2, 6, 0, kernel == 3);
    }
}

#[test]
fn a_net_with_a_temporal_layer_scores_one_image_a_call() {
    let config = recurrent(motion::vae_config((6, 5)));
    let (device, _) = Emulated::new();
    let mut gpu = engine(device);
    let mut camera = Camera::new(&[config], 1);
    let nets = camera.nets(&mut gpu);
    camera.next(2, 0.0);
    let job = camera.scores(&nets)[0];
    let error = gpu.infer(&[job, job]).unwrap_err().to_string();
    assert!(
        error.contains("two images of a net with a temporal layer"),
        "{error}"
    );
}

/// A net that no cue has: more channels than a quad, an upsampling that is cropped by two.
fn unusual() -> VaeConfig {
    let decoder = |filters, kernel, upsample| DecoderStage {
        filters,
        kernel,
        upsample,
        conditioned: false,
    };
    VaeConfig {
        size: [7, 10],
        channels: 6,
        condition: 0,
        encoder: vec![
            EncoderStage {
                filters: 5,
                kernel: 3,
                stride: 3,
            },
            EncoderStage {
                filters: 7,
                kernel: 3,
                stride: 1,
            },
        ],
        latent: Latent::Map(3),
        decoder: vec![decoder(5, 3, 1), decoder(6, 5, 3)],
        base_image: true,
        score_map: ScoreMap::SquaredError,
        ..appearance_net("[(4,3,2)]", 3, (8, 8))
    }
}

#[test]
fn nets_that_no_cue_has_score_as_on_the_cpu() {
    for reverse in [false, true] {
        assert_agree_where_the_cpu_can(&unusual(), reverse);
    }
    let conditioned = VaeConfig {
        base_image: true,
        score_map: ScoreMap::SquaredError,
        score_box: 1,
        ..motion::vae_config((5, 6))
    };
    assert_agree(&conditioned, 2, 0.2, 3, 28_000, false);
}

/// The CPU does not crop upsamplings by three.
fn assert_agree_where_the_cpu_can(config: &VaeConfig, reverse: bool) {
    let whole = VaeConfig {
        size: [9, 12],
        ..config.clone()
    };
    assert_agree(&whole, 2, 0.2, 3, 28_000, reverse);
}

#[test]
fn a_gradient_that_is_too_long_is_clipped_alike() {
    for config in [
        motion::vae_config((7, 5)),
        appearance_net("[(12,3,2),(24,3,2)]", 8, (16, 8)),
    ] {
        let heavy = VaeConfig {
            reconstruction_weight: 60.0,
            ..config
        };
        assert_agree(&heavy, 2, 0.0, 3, 28_000, false);
    }
}

#[test]
fn a_step_with_a_value_that_is_not_finite_is_rejected() {
    let config = motion::vae_config((6, 5));
    let (device, _) = Emulated::new();
    let mut gpu = engine(device);
    let mut camera = Camera::new(&[config], 1);
    let nets = camera.nets(&mut gpu);
    camera.next(2, 0.0);
    gpu.train(&camera.steps(&nets)).unwrap();
    let before = gpu.checkpoint(nets[0]).unwrap();
    assert_eq!(before.steps, 1);
    for bad in [f32::NAN, f32::INFINITY] {
        camera.next(2, 0.0);
        camera.batches[0].noise[3] = bad;
        gpu.train(&camera.steps(&nets)).unwrap();
        assert_eq!(gpu.checkpoint(nets[0]).unwrap(), before);
    }
    camera.next(2, 0.0);
    assert!(gpu.train(&camera.steps(&nets)).unwrap()[0].rejected);
    assert_eq!(gpu.checkpoint(nets[0]).unwrap().steps, 2);
    camera.next(2, 0.0);
    assert!(!gpu.train(&camera.steps(&nets)).unwrap()[0].rejected);
}

#[test]
fn a_checkpoint_passes_through_the_device_unchanged() {
    for config in [
        motion::vae_config((6, 5)),
        appearance_net("[(5,3,2),(6,1,1)]", 3, (8, 4)),
        unusual(),
        recurrent(motion::vae_config((6, 5))),
    ] {
        let mut rng = Rng::seed_from_u64(3);
        let mut random = |checkpoint: Vec<f32>| -> Vec<f32> {
            checkpoint.iter().map(|_| rng.random_range(-1.0..1.0)).collect()
        };
        let initial = initial(&config, 1);
        let checkpoint = Checkpoint {
            weights: random(initial.weights),
            first_moment: random(initial.first_moment),
            second_moment: random(initial.second_moment).iter().map(|v| v.abs()).collect(),
            average: random(initial.average),
            steps: 77,
        };
        let (device, _) = Emulated::new();
        let mut gpu = engine(device);
        let net = gpu.create(&config, &checkpoint).unwrap();
        assert_eq!(gpu.checkpoint(net).unwrap(), checkpoint);
        assert_eq!(gpu.reconstruction(net).unwrap(), None);
        let short = Checkpoint {
            first_moment: Vec::new(),
            ..checkpoint
        };
        assert!(
            gpu.create(&config, &short)
                .unwrap_err()
                .to_string()
                .contains("a checkpoint of the net has")
        );
    }
}

#[test]
fn every_parameter_has_an_offset_of_its_own() {
    for config in [
        motion::vae_config((6, 5)),
        appearance_net("[(5,3,2),(6,1,1)]", 3, (8, 4)),
        unusual(),
        recurrent(unusual()),
        recurrent(appearance_net("[(5,3,2),(6,1,1)]", 3, (8, 4))),
    ] {
        let map = ParameterMap::new(&config);
        let plan = Plan::new(&config, Purpose::Scoring, 0).unwrap();
        assert_eq!(map.padded(), plan.net.parameters as usize);
        let mut array = vec![0.0; map.padded()];
        let values: Vec<f32> = (1..=config.parameters()).map(|i| i as f32).collect();
        map.pack(&values, &mut array);
        assert_eq!(map.unpack(&array), values);
        assert_eq!(array.iter().filter(|&&v| v != 0.0).count(), values.len());
    }
}

#[test]
fn nets_that_the_kernels_cannot_run_are_errors() {
    let net = motion::vae_config((6, 5));
    let level_of_flat = VaeConfig {
        score_map: ScoreMap::Level { kl_share: 0.2 },
        ..appearance_net("[(4,3,2)]", 3, (8, 8))
    };
    let stage = net.encoder[0];
    let many_layers = VaeConfig {
        encoder: vec![EncoderStage { stride: 1, ..stage }; 13],
        ..appearance_net("[(4,3,1)]", 3, (8, 8))
    };
    for (config, want) in [(level_of_flat, "level maps"), (many_layers, "layers")] {
        let error = Plan::new(&config, Purpose::Scoring, 0).unwrap_err();
        assert!(error.contains(want), "{error}");
    }
    let huge = Plan::new(
        &appearance_net("[(256,7,1)]", 16, (512, 512)),
        Purpose::Training { batch: 64 },
        0,
    )
    .unwrap_err();
    assert!(huge.contains("MB for its activations"), "{huge}");
}

#[test]
fn the_default_nets_are_small() {
    let plan = |config: &VaeConfig, purpose| Plan::new(config, purpose, 28_000).unwrap();
    for (config, batch, training, scoring) in [
        (motion::vae_config((45, 34)), 2, 1_400_000, 420_000),
        (
            appearance_net("[(12,3,2),(24,3,2),(32,3,2)]", 16, (64, 48)),
            4,
            1_700_000,
            320_000,
        ),
    ] {
        let purposes = [Purpose::Training { batch }, Purpose::Scoring];
        let [train, score] = purposes.map(|purpose| 4 * plan(&config, purpose).workspace);
        assert!(
            train <= training && score <= scoring,
            "{train} and {score} bytes of workspace"
        );
    }
}

/// The structures of Rust and C++ are the same.
#[test]
fn the_kernels_read_what_is_written() {
    let fields = [
        size_of::<Layer>(),
        offset_of!(Layer, kernel),
        offset_of!(Layer, input),
        offset_of!(Layer, extra),
        offset_of!(Layer, upsampled_height),
        offset_of!(Layer, output),
        offset_of!(Layer, weight),
        offset_of!(Layer, staged),
        offset_of!(Layer, last_rows),
        offset_of!(Layer, box_height),
        offset_of!(Layer, output_splits),
        offset_of!(Layer, bias_splits),
        offset_of!(Layer, negative_slope),
        size_of::<Net>(),
        offset_of!(Net, heads),
        offset_of!(Net, gates),
        offset_of!(Net, joined),
        offset_of!(Net, cell_grad),
        offset_of!(Net, condition_channels),
        offset_of!(Net, image),
        offset_of!(Net, condition),
        offset_of!(Net, latent),
        offset_of!(Net, cells),
        offset_of!(Net, features),
        offset_of!(Net, noise),
        offset_of!(Net, base_image),
        offset_of!(Net, moving_average),
        offset_of!(Net, score_map),
        offset_of!(Net, kl_share),
        offset_of!(Net, parameters),
        offset_of!(Net, grad),
        offset_of!(Net, map),
        offset_of!(Net, log_var_min),
        offset_of!(Net, inverse_scale),
        offset_of!(Net, reconstruction_weight),
        offset_of!(Net, beta1),
        offset_of!(Net, epsilon),
        offset_of!(Net, max_norm),
        offset_of!(Net, layer),
        size_of::<Job>(),
        offset_of!(Job, weights),
        offset_of!(Job, average),
        offset_of!(Job, prediction),
        offset_of!(Job, target),
        offset_of!(Job, mask),
        offset_of!(Job, state),
        offset_of!(Job, next_state),
        offset_of!(Job, output),
        offset_of!(Job, batch),
        offset_of!(Job, step_size),
        offset_of!(Job, inv_sqrt_bias2),
        offset_of!(Job, kl_weight),
        offset_of!(Job, average_rate),
        size_of::<Report>(),
        offset_of!(Report, reconstruction),
        offset_of!(Report, kl),
        offset_of!(Report, grad_norm),
        offset_of!(Report, accepted),
    ];
    assert_eq!(fields[..], *emulated_kernels::layout());
    assert_eq!(THREADS, emulated_kernels::threads());
}
