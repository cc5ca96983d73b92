//! The engine on a GPU. Without a usable one the tests report that and do nothing.

use std::io::Write;
use std::sync::Arc;

use super::super::bench::{DeviceFrames, DeviceReader};
use super::super::descriptor::{Job, Purpose};
use super::super::device::{Device, Kernel, Memory};
use super::super::driver::{Gpu, open};
use super::super::server::{QueuedJob, ServerHandle};
use super::super::ticket::Ticket;
use super::super::try_out::try_out;
use super::kernels::{APPEARANCE, MOTION, appearance_net, assert_engine_agrees};
use super::{Camera, initial};
use crate::detector::cue::{appearance, motion};
use crate::detector::engine::{CpuEngine, Engine, WithFallback};
use crate::detector::error::message;
use crate::detector::frame::{ColorModel, OwnedFrame, PixelFormat, ReducedFrame, ReducedSizes, Reducer};
use crate::detector::vae::VaeConfig;
use crate::detector::vae::tests::recurrent;

/// A server; where there is no GPU, why, past the test harness's capture.
fn gpu() -> Option<ServerHandle<Gpu>> {
    match open(None) {
        Ok((_, server)) => Some(server),
        Err(reason) => {
            report(format_args!("skipped, no CUDA device: {reason}"));
            None
        }
    }
}

fn report(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The nets of a 4:3 camera.
fn usual() -> [VaeConfig; 2] {
    let appearance = appearance::vae_config(&"[(12,3,2),(24,3,2),(32,3,2)]".parse().unwrap(), 16, (64, 48));
    [motion::vae_config((45, 33)), appearance]
}

/// The largest difference, as a share of the largest value wanted.
fn apart(got: &[Vec<f32>], want: &[Vec<f32>]) -> f64 {
    let mut most = 0.0f64;
    for (got, want) in got.iter().zip(want) {
        assert_eq!(got.len(), want.len());
        let largest = want
            .iter()
            .fold(1e-30f64, |most, &v| most.max(f64::from(v).abs()));
        for (&got, &want) in got.iter().zip(want) {
            assert!(got.is_finite());
            most = most.max(f64::from(got - want).abs() / largest);
        }
    }
    most
}

/// A few jobs, for tools that make every access slower.
#[test]
fn small_nets_on_a_gpu_agree_with_the_cpu() {
    let Some(server) = gpu() else { return };
    let (size, images, dropout) = MOTION[1];
    assert_engine_agrees(server.engine(), &motion::vae_config(size), images, dropout, 2);
    for (arch, latent, size, images, dropout) in [APPEARANCE[2], APPEARANCE[7]] {
        assert_engine_agrees(
            server.engine(),
            &appearance_net(arch, latent, size),
            images,
            dropout,
            2,
        );
    }
}

#[test]
fn nets_of_any_shape_on_a_gpu_agree_with_the_cpu() {
    let Some(server) = gpu() else { return };
    for (size, images, dropout) in MOTION {
        assert_engine_agrees(server.engine(), &motion::vae_config(size), images, dropout, 3);
    }
    for (arch, latent, size, images, dropout) in APPEARANCE {
        assert_engine_agrees(
            server.engine(),
            &appearance_net(arch, latent, size),
            images,
            dropout,
            3,
        );
    }
    for config in usual() {
        assert_engine_agrees(server.engine(), &config, 4, 0.1, 3);
    }
}

#[test]
fn nets_of_any_shape_with_a_temporal_layer_on_a_gpu_agree_with_the_cpu() {
    let Some(server) = gpu() else { return };
    for (size, clips, dropout) in MOTION {
        let config = recurrent(motion::vae_config(size));
        assert_engine_agrees(server.engine(), &config, clips, dropout, 8);
    }
    for (arch, latent, size, clips, dropout) in APPEARANCE {
        let config = recurrent(appearance_net(arch, latent, size));
        assert_engine_agrees(server.engine(), &config, clips, dropout, 8);
    }
    for config in usual() {
        assert_engine_agrees(server.engine(), &recurrent(config), 2, 0.1, 8);
    }
}

#[test]
fn with_the_same_weights_on_every_frame_a_gpu_scores_as_the_cpu() {
    let Some(server) = gpu() else { return };
    let mut cpu = CpuEngine::default();
    let mut camera = Camera::new(&usual(), 5);
    let here = camera.nets(&mut cpu);
    let mut most = 0.0f64;
    for _ in 0..300 {
        camera.next(3, 0.1);
        let mut gpu = server.engine();
        let create =
            |(config, &net): (&VaeConfig, _)| gpu.create(config, &cpu.checkpoint(net).unwrap()).unwrap();
        let there: Vec<_> = camera.configs.iter().zip(&here).map(create).collect();
        let got = gpu.infer(&camera.scores(&there)).unwrap();
        most = most.max(apart(&got, &cpu.infer(&camera.scores(&here)).unwrap()));
        cpu.train(&camera.steps(&here)).unwrap();
    }
    report(format_args!(
        "same weights on every one of 300 frames: maps within {most:.1e} of the CPU's"
    ));
    assert!(most <= 1e-4, "{most:.1e}");
}

#[test]
fn left_to_themselves_both_learn_the_same() {
    let Some(server) = gpu() else { return };
    let (mut gpu, mut cpu) = (server.engine(), CpuEngine::default());
    let mut camera = Camera::new(&usual(), 6);
    let (there, here) = (camera.nets(&mut gpu), camera.nets(&mut cpu));
    let mut most = 0.0f64;
    for frame in 1..=300 {
        camera.next(3, 0.1);
        let got = gpu.infer(&camera.scores(&there)).unwrap();
        most = most.max(apart(&got, &cpu.infer(&camera.scores(&here)).unwrap()));
        gpu.train(&camera.steps(&there)).unwrap();
        cpu.train(&camera.steps(&here)).unwrap();
        if frame % 100 == 0 {
            report(format_args!(
                "{frame} frames, each learnt from: maps within {most:.1e} of the CPU's"
            ));
        }
    }
    // Training multiplies every rounding; what it learns is the same.
    assert!(most <= 0.1, "{most:.1e}");
}

#[test]
fn a_camera_gets_the_same_bits_alone_and_among_hundreds() {
    let Some(server) = gpu() else { return };
    let watch = |seed: u64| {
        let mut engine = server.engine();
        let mut camera = Camera::new(&usual(), seed);
        let nets = camera.nets(&mut engine);
        let mut results = Vec::new();
        for _ in 0..4 {
            camera.next(3, 0.1);
            results.extend(engine.infer(&camera.scores(&nets)).unwrap());
            engine.train(&camera.steps(&nets)).unwrap();
        }
        results.push(engine.checkpoint(nets[1]).unwrap().weights);
        results
    };
    let alone = [watch(0), watch(1)];
    let before = server.launches();
    let crowd: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..300u64)
            .map(|seed| scope.spawn(move || watch(seed % 2)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (seed, results) in crowd.iter().enumerate() {
        assert!(*results == alone[seed % 2], "camera {seed}");
    }
    let launches = server.launches() - before;
    report(format_args!("{} jobs in {launches} launches", 300 * 4 * 4));
}

#[test]
fn a_team_of_blocks_gives_the_bits_of_one_block() {
    let Some(server) = gpu() else { return };
    let mut camera = Camera::new(&usual(), 9);
    let mut engines = [server.engine(), server.engine()];
    let nets = engines.each_mut().map(|engine| camera.nets(engine));
    for frame in 0..50 {
        camera.next(3, 0.1);
        let mut maps = Vec::new();
        for (i, (engine, nets)) in engines.iter_mut().zip(&nets).enumerate() {
            server.allow_teams(i == 0);
            maps.push(engine.infer(&camera.scores(nets)).unwrap());
            engine.train(&camera.steps(nets)).unwrap();
        }
        assert!(maps[0] == maps[1], "frame {frame}");
    }
    server.allow_teams(true);
    report(format_args!(
        "{} blocks work on one score together",
        server.device().limits().team
    ));
}

#[test]
fn frames_of_every_format_are_reduced_to_the_bits_of_the_cpu() {
    let Some(_server) = gpu() else { return };
    let sizes = ReducedSizes {
        grey: Some((180, 100)),
        colour: Some((64, 40)),
    };
    let mut count = 0;
    for (i, format) in PixelFormat::ALL.into_iter().enumerate() {
        for size in [(17, 19), (322, 242), (1280, 719)] {
            let mut owned = OwnedFrame::random(format, size, i % 3, i as u64);
            for color in [ColorModel::BT601, ColorModel::BT709, ColorModel::JPEG] {
                owned.color = color;
                let (mut got, mut want) = (ReducedFrame::default(), ReducedFrame::default());
                let displacement = if i % 2 == 0 { [0.0; 2] } else { [0.013, -0.021] };
                let mut frames = DeviceFrames::new().unwrap();
                owned.view(|view| {
                    frames.push(view).unwrap();
                    Reducer::new(view, sizes, displacement)
                        .unwrap()
                        .reduce(view, &mut want)
                        .unwrap();
                });
                let mut reader = DeviceReader::new(&Arc::new(frames)).unwrap();
                reader.reduce(0, sizes, displacement, &mut got).unwrap();
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert!(
                    bits(&got.grey) == bits(&want.grey),
                    "{format} {size:?} {color:?}: grey"
                );
                assert!(
                    bits(&got.colour) == bits(&want.colour),
                    "{format} {size:?} {color:?}: colour"
                );
                count += 1;
            }
        }
    }
    report(format_args!("{count} frames are reduced to the bits of the CPU"));
}

#[test]
fn the_try_out_measures_both_sides() {
    let Some(server) = gpu() else { return };
    let measured = try_out(server.engine()).unwrap();
    report(format_args!(
        "a step and a score of the default appearance net: {measured:?}"
    ));
}

#[test]
#[ignore = "fills the GPU's memory, which others may need"]
fn a_full_gpu_is_an_error_and_others_go_on() {
    let Some(server) = gpu() else { return };
    let mut engine = server.engine();
    let mut camera = Camera::new(&usual(), 1);
    let nets = camera.nets(&mut engine);
    camera.next(3, 0.0);
    let before = engine.infer(&camera.scores(&nets)).unwrap();
    let (mut blocks, mut bytes) = (Vec::new(), 1 << 30);
    while bytes >= 1 << 20 {
        match server.device().allocate(Memory::Device, bytes) {
            Ok(address) => blocks.push(address),
            Err(_) => bytes /= 2,
        }
    }
    let large = appearance_net("[(256,3,1),(256,7,1)]", 16, (64, 64));
    let error = message(server.engine().create(&large, &initial(&large, 1)).unwrap_err());
    report(format_args!("on a full GPU: {error}"));
    assert!(error.contains("MB of memory left"), "{error}");
    assert_eq!(engine.infer(&camera.scores(&nets)).unwrap(), before);
    for block in blocks {
        // SAFETY: allocated above, and used by nothing.
        unsafe { server.device().free(Memory::Device, block) };
    }
}

/// Runs a job whose addresses are nowhere.
fn fault(server: &ServerHandle<Gpu>) -> String {
    let config = &usual()[0];
    let plan = server.plan(config, Purpose::Scoring).unwrap();
    let block = Arc::new(server.staging().allocate(64).unwrap());
    let ticket = Ticket::new(1);
    let job = QueuedJob {
        job: Job {
            net: plan.address(),
            weights: 64,
            average: 64,
            target: 64,
            condition: 64,
            output: 64,
            batch: 1,
            ..Job::default()
        },
        plan,
        blocks: [block.clone(), block.clone(), block],
        ticket: ticket.clone(),
    };
    // SAFETY: none; that is the test.
    unsafe { server.submit(Kernel::Score, [job]) }.unwrap();
    server.wait(Kernel::Score, &ticket).unwrap_err()
}

#[test]
#[ignore = "after the fault no GPU can be used in this process"]
fn a_faulting_kernel_moves_every_camera_to_the_cpu() {
    let Some(server) = gpu() else { return };
    let mut engines: Vec<_> = (0..20).map(|_| WithFallback::new(server.engine())).collect();
    let mut camera = Camera::new(&usual(), 1);
    let nets: Vec<_> = engines.iter_mut().map(|engine| camera.nets(engine)).collect();
    camera.next(3, 0.0);
    for (engine, nets) in engines.iter_mut().zip(&nets) {
        engine.infer(&camera.scores(nets)).unwrap();
        engine.train(&camera.steps(nets)).unwrap();
    }
    let error = fault(&server);
    report(format_args!("after a fault: {error}"));
    for (engine, nets) in engines.iter_mut().zip(&nets) {
        assert_eq!(engine.infer(&camera.scores(nets)).unwrap().len(), 2);
        engine.train(&camera.steps(nets)).unwrap();
        assert!(engine.take_failure().is_some());
        engine.infer(&camera.scores(nets)).unwrap();
        assert_eq!(engine.take_failure(), None);
    }
    drop(engines);
    drop(server);
    let error = open(None).unwrap_err();
    report(format_args!("opened again: {error}"));
}
