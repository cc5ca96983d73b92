//! Moving between devices, with the CPU in the place of a GPU that fails.

use candle_core::Device;

use super::{Appearance, AppearanceConfig, Cue, Fault, Frame, Motion, StepReport};
use crate::detector::clock::Step;
use crate::detector::config::Networks;
use crate::detector::exchange::Exchange;
use crate::detector::{AnomalyMap, NetArch, Tuning};

const GREY: (usize, usize) = (32, 16);
const COLOUR: (usize, usize) = (16, 8);
const SEED: u64 = 3;

fn wave(count: usize, rate: f32, phase: f32) -> Vec<f32> {
    (0..count).map(|i| (rate * i as f32 + phase).sin()).collect()
}

/// Everything of a cue that anybody sees.
#[derive(Debug, PartialEq)]
struct Seen {
    score: Option<f64>,
    map: AnomalyMap,
    lesson: Option<StepReport>,
}

/// A cue and its way to a device.
struct Watcher<C> {
    cue: C,
    exchange: Exchange,
}

/// Shows a cue frame number `i` of a moving pattern.
fn show(Watcher { cue, exchange }: &mut Watcher<impl Cue>, i: u32) -> Seen {
    let phase = 0.4 * i as f32;
    let grey: Vec<f32> = wave(GREY.0 * GREY.1, 0.7, phase)
        .iter()
        .map(|v| 0.5 + 0.4 * v)
        .collect();
    let colour: Vec<f32> = wave(COLOUR.0 * COLOUR.1 * 3, 0.3, phase)
        .iter()
        .map(|v| 128.0 + 90.0 * v)
        .collect();
    let frame = Frame {
        grey: &grey,
        deviation: &wave(grey.len(), 0.2, phase),
        edges: &wave(grey.len(), 0.1, 0.0)
            .iter()
            .map(|v| v.abs())
            .collect::<Vec<_>>(),
        colour: &colour,
        now: 0.1 * f64::from(i),
        step: Step {
            seconds: 0.1,
            ticks: 1.0,
        },
    };
    let tuning = Tuning {
        dropout: 0.2,
        ..Tuning::default()
    };
    let scores = exchange.score(&mut [&mut *cue], &frame, true).unwrap();
    let turn = cue.prepare(&frame, &tuning);
    let lessons = exchange.learn(&mut [&mut *cue], &[turn]).unwrap();
    Seen {
        score: scores[0],
        map: cue.map().clone(),
        lesson: lessons[0],
    }
}

fn motion(device: &Device) -> Watcher<Motion> {
    Watcher {
        cue: Motion::new(GREY, Networks::Trained, SEED),
        exchange: Exchange::new(device),
    }
}

fn appearance(device: &Device) -> Watcher<Appearance> {
    let config = AppearanceConfig {
        arch: "[(4,3,2),(6,3,2)]".parse::<NetArch>().unwrap(),
        latent_dim: 4,
        size: COLOUR,
        networks: Networks::Trained,
        seed: SEED,
    };
    Watcher {
        cue: Appearance::new(config),
        exchange: Exchange::new(device),
    }
}

/// Frames before a fault is injected.
const START: u32 = 20;

/// Compares a cue with a fault with one without, over twenty frames from the fault on.
fn assert_same<C: Cue>(make: fn(&Device) -> Watcher<C>, fault: Fault) {
    let (mut sound, mut failing) = (make(&Device::Cpu), make(&Device::Cpu));
    let mut failures = 0;
    // A frame is two runs, score and lesson.
    for i in 0..START + fault.after / 2 + 20 {
        if i == START {
            failing.cue.inject(fault);
        }
        let (want, got) = (show(&mut sound, i), show(&mut failing, i));
        assert_eq!(got, want, "frame {i}, {fault:?}");
        failures += u32::from(failing.exchange.take_failure().is_some());
    }
    assert_eq!(failures, 1, "{fault:?}");
    assert!(sound.exchange.take_failure().is_none());
}

#[test]
fn a_cue_that_moves_in_mid_stream_scores_bit_for_bit_as_one_that_stayed() {
    // Even ones are scores, odd ones lessons.
    for after in [0, 1, 20, 21] {
        let fault = Fault {
            after,
            readable: true,
        };
        assert_same(motion, fault);
        assert_same(appearance, fault);
    }
}

#[test]
fn what_cannot_be_read_any_more_is_taken_from_the_last_copy() {
    // There is a copy of the moment of the injection, and nothing was learnt since.
    let fault = Fault {
        after: 0,
        readable: false,
    };
    assert_same(motion, fault);
    assert_same(appearance, fault);
    // The next one is made with the hundredth lesson: the fault comes in the one after that. Motion has no lesson on its
    // first two frames.
    let fault = |first: u32| Fault {
        after: 2 * (first + 100 - START) + 1,
        readable: false,
    };
    assert_same(motion, fault(2));
    assert_same(appearance, fault(0));
}

#[test]
fn a_lost_gpu_takes_the_steps_since_the_last_copy_and_no_more() {
    let (mut sound, mut failing) = (appearance(&Device::Cpu), appearance(&Device::Cpu));
    for i in 0..30 {
        if i == 20 {
            failing.cue.inject(Fault {
                after: 10,
                readable: false,
            });
        }
        show(&mut sound, i);
        show(&mut failing, i);
    }
    // Five lessons are gone.
    assert_ne!(show(&mut failing, 30), show(&mut sound, 30));
    assert!(failing.exchange.take_failure().is_some());
    assert_eq!(failing.cue.lessons(), sound.cue.lessons());
}

/// Each frame with the same weights: what training blows up over many frames does not blur it. Without a usable GPU it
/// says so and does nothing.
#[cfg(feature = "cuda")]
fn assert_devices_agree<C: Cue>(make: fn(&Device) -> Watcher<C>, follow: fn(&mut C, &C)) {
    use std::io::Write;
    let gpu = match crate::detector::nn::open_cuda(None) {
        Ok((_, device)) => device,
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "skipped, no CUDA device: {reason}");
            return;
        }
    };
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-4 * a.abs().max(1.0);
    let (mut here, mut there) = (make(&Device::Cpu), make(&gpu));
    // What a step on the GPU tells comes with the next one.
    let mut told: Option<StepReport> = None;
    for i in 0..300 {
        let (want, got) = (show(&mut here, i), show(&mut there, i));
        assert_eq!(there.exchange.take_failure(), None, "frame {i}");
        assert_eq!(want.score.is_some(), got.score.is_some(), "frame {i}");
        for (want, got) in want.score.iter().zip(&got.score) {
            assert!(near(*want, *got), "frame {i}: scores {want} and {got}");
        }
        for (want, got) in want.map.values.iter().zip(&got.map.values) {
            assert!(
                near(f64::from(*want), f64::from(*got)),
                "frame {i}: {want} and {got}"
            );
        }
        assert_eq!(want.lesson.is_some(), got.lesson.is_some(), "frame {i}");
        for (want, got) in told.iter().zip(&got.lesson) {
            assert!(near(want.loss, got.loss), "frame {i}: {want:?} and {got:?}");
            assert!(near(want.kl, got.kl), "frame {i}: {want:?} and {got:?}");
            let (want, got) = (want.reconstruction, got.reconstruction);
            assert!(near(want, got), "frame {i}: {want} and {got}");
        }
        told = want.lesson;
        follow(&mut there.cue, &here.cue);
    }
}

#[cfg(feature = "cuda")]
#[test]
fn three_hundred_frames_are_the_same_on_both_devices_each_with_the_same_weights() {
    assert_devices_agree(motion, |there, here| there.follow(here));
    assert_devices_agree(appearance, |there, here| there.follow(here));
}
