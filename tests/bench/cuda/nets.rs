//! The two nets of one camera, beside the same nets and step in PyTorch, and on the CPU.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gstvaeanomaly::detector::bench_support::{Counters, NetPair, NetSteps, Sample, allow_teams, counters};
use gstvaeanomaly::detector::{ComputeDevice, DeviceChoice, Error, Temporal};
use serde_json::Value;

use crate::row;

/// Heights of the small images of a 4:3 camera, as `torch_cuda.py` has them.
pub const GREY_HEIGHT: usize = 132;
pub const COLOUR_HEIGHT: usize = 40;
/// The same of a 16:9 camera: a grid of 45 x 25 cells.
const WIDE_GREY_HEIGHT: usize = 100;
const TIME: Duration = Duration::from_millis(200);
/// Times that a figure through the server is measured; the median counts.
const REPEATS: usize = 5;

/// Milliseconds of one call, called one behind the other, and the calls.
fn milliseconds(mut work: impl FnMut() -> Result<(), Error>) -> Result<(f64, u32)> {
    for _ in 0..20 {
        work()?;
    }
    let (mut calls, started) = (0u32, Instant::now());
    while started.elapsed() < TIME {
        work()?;
        calls += 1;
    }
    Ok((
        1e3 * started.elapsed().as_secs_f64() / f64::from(calls),
        calls + 20,
    ))
}

/// Milliseconds of a training step and of scoring.
#[derive(Clone, Copy)]
pub struct Cost {
    step: f64,
    score: f64,
}

fn print(name: &str, Cost { step, score }: Cost) {
    row(name, format!("{step:.3}  {score:.3}"));
}

fn median(mut measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut all = (0..REPEATS).map(|_| measure()).collect::<Result<Vec<_>>>()?;
    all.sort_by(f64::total_cmp);
    Ok(all[REPEATS / 2])
}

fn pair(device: &ComputeDevice, grey_height: usize) -> Result<Cost> {
    let sample = Sample::new(grey_height, COLOUR_HEIGHT, 1)?;
    let mut pair = NetPair::new(device, &sample)?;
    Ok(Cost {
        step: median(|| Ok(milliseconds(|| pair.train())?.0))?,
        score: median(|| Ok(milliseconds(|| pair.score())?.0))?,
    })
}

/// The score of a frame every 33 ms, when every thread has gone to sleep: median and largest, in ms.
fn at_rest(device: &ComputeDevice, grey_height: usize) -> Result<(f64, f64)> {
    let sample = Sample::new(grey_height, COLOUR_HEIGHT, 1)?;
    let mut pair = NetPair::new(device, &sample)?;
    let mut times = Vec::new();
    for _ in 0..31 {
        std::thread::sleep(Duration::from_millis(33));
        let called = Instant::now();
        pair.score()?;
        times.push(1e3 * called.elapsed().as_secs_f64());
    }
    times.remove(0);
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() - 1]))
}

/// Both nets of a camera after a step and a score.
pub fn one_camera(device: &ComputeDevice) -> Result<NetPair> {
    let mut pair = NetPair::new(device, &Sample::new(GREY_HEIGHT, COLOUR_HEIGHT, 1)?)?;
    pair.train()?;
    pair.score()?;
    Ok(pair)
}

/// On the device alone, from the kernels' own clock.
fn on_device(net: &mut NetSteps) -> Result<Cost> {
    let busy = |of: fn(Counters) -> Duration, work: &mut dyn FnMut() -> Result<(), Error>| -> Result<f64> {
        let before = of(counters()?);
        let (_, calls) = milliseconds(&mut *work)?;
        let after = of(counters()?);
        Ok(1e3 * (after - before).as_secs_f64() / f64::from(calls))
    };
    let step = busy(|c| c.steps, &mut || net.train())?;
    // The last step ends before the first score.
    net.score()?;
    let score = busy(|c| c.scores, &mut || net.score())?;
    Ok(Cost { step, score })
}

/// Prints what the nets of a camera take on a GPU: through the server, and on the device alone.
fn measure_on(device: &ComputeDevice, camera: &str, grey_height: usize) -> Result<(Cost, Cost)> {
    let both = pair(device, grey_height)?;
    print(
        &format!("{camera}: both nets through the server, as the detector calls it"),
        both,
    );
    allow_teams(false)?;
    let score = pair(device, grey_height)?.score;
    row("  a score by one block a net", format!("{score:.3}"));
    allow_teams(true)?;
    let (median, most) = at_rest(device, grey_height)?;
    row(
        "  a score every 33 ms: median, largest",
        format!("{median:.3}  {most:.3}"),
    );
    let net_on_device = |temporal| -> Result<[Cost; 2]> {
        let motion = on_device(&mut NetSteps::motion(device, grey_height, temporal)?)?;
        let appearance = on_device(&mut NetSteps::appearance(device, COLOUR_HEIGHT, temporal)?)?;
        Ok([motion, appearance])
    };
    let [motion, appearance] = net_on_device(Temporal::None)?;
    print("  on the device alone: motion", motion);
    print("  on the device alone: appearance", appearance);
    let [recurrent_motion, recurrent_appearance] = net_on_device(Temporal::ConvLstm)?;
    print("  the same with temporal=conv-lstm: motion", recurrent_motion);
    print(
        "  the same with temporal=conv-lstm: appearance",
        recurrent_appearance,
    );
    let slower = Cost {
        step: motion.step.max(appearance.step),
        score: motion.score.max(appearance.score),
    };
    print("  on the device alone: both, beside each other", slower);
    Ok((both, slower))
}

/// Prints what the nets take on the GPU.
pub fn measure_gpu() -> Result<(Cost, Cost)> {
    let device = DeviceChoice::Cuda(Some(0)).open()?;
    row("", "step  score");
    let usual = measure_on(&device, "4:3", GREY_HEIGHT)?;
    measure_on(&device, "16:9", WIDE_GREY_HEIGHT)?;
    Ok(usual)
}

/// Prints the part; `torch` is the file that `torch_cuda.py` wrote.
pub fn measure(torch: Option<&str>) -> Result<()> {
    let (both, slower) = measure_gpu()?;
    match torch {
        Some(file) => compare(both, slower, file)?,
        None => row("PyTorch", "not found"),
    }
    print(
        "both nets on one of this machine's processors",
        pair(&ComputeDevice::cpu(), GREY_HEIGHT)?,
    );
    Ok(())
}

fn compare(ours: Cost, device: Cost, file: &str) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
    let report: Value = serde_json::from_str(&text).with_context(|| file.to_owned())?;
    for (key, name) in [("eager", "PyTorch, eager"), ("graphs", "PyTorch, CUDA graphs")] {
        let both = &report[key];
        let (Some(step), Some(score)) = (both["train"].as_f64(), both["score"].as_f64()) else {
            row(name, "not measured");
            continue;
        };
        print(name, Cost { step, score });
        for (what, ours) in [("through the server", ours), ("on the device", device)] {
            let ratio = format!("{:.2}  {:.2}", step / ours.step, score / ours.score);
            row(&format!("  times as long as ours {what}"), ratio);
        }
    }
    Ok(())
}
