//! The element computes in the streaming thread only and starts no thread pool, whatever the settings. One test in a process
//! of its own, because it counts the threads of the process.

mod common;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::mpsc::{Sender, channel};

use common::rig::{self, Rig};
use common::synthetic::{SIZE, Scene};

/// Names of the threads of this process, with their numbers.
fn threads() -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        // A thread may end while the list is read.
        if let Ok(name) = std::fs::read_to_string(task.unwrap().path().join("comm")) {
            *names.entry(name.trim_end().to_owned()).or_default() += 1;
        }
    }
    names
}

/// Scores and trains with both models, also after the warm-up.
fn work() -> Rig {
    let mut rig = Rig::grey(&[("warm-up", "10")], 10);
    rig.push_scene(&Scene::quiet(), 10, 0..25);
    assert!(rig.stats().get::<u64>("trained").unwrap() > 15);
    rig
}

/// Settings with tensors that are larger than what Candle's own operations process in one thread.
const LARGE: [&[(&str, &str)]; 4] = [
    &[],
    &[("model-width", "128")],
    &[("net-arch", "[(32,5,2),(8,3,2)]"), ("dropout", "0.5")],
    &[("net-arch", "[(16,3,1),(16,3,4)]"), ("dropout", "0.5")],
];

/// As [`work`] on upright video of 360x640, until training includes replayed frames.
fn work_upright(properties: &[(&str, &str)]) {
    const FRAMES: u64 = 14;
    const UPRIGHT: (usize, usize) = (360, 640);
    let mut rig = Rig::new(properties);
    let (width, height) = UPRIGHT;
    let caps = format!("video/x-raw,format=GRAY8,width={width},height={height},framerate=10/1");
    rig.harness.set_src_caps(gst::Caps::from_str(&caps).unwrap());
    for i in 0..FRAMES {
        let scene = Scene::quiet().image(i as f64 / 10.0);
        let row = |y: usize| (0..width).map(move |x| y * SIZE.1 / height * SIZE.0 + x * SIZE.0 / width);
        let pixels: Vec<u8> = (0..height).flat_map(row).map(|i| scene[i]).collect();
        let mut buffer = gst::Buffer::from_mut_slice(pixels);
        buffer.get_mut().unwrap().set_pts(rig::frame_time(10, i));
        rig.push(buffer);
    }
    let stats = rig.stats();
    assert!(stats.get::<u64>("trained").unwrap() >= FRAMES - 2, "{stats}");
}

#[test]
fn elements_start_no_threads() {
    rig::init();
    let _idle = Rig::grey(&[], 10);
    let before = threads();
    let one = work();
    assert_eq!(threads(), before, "one element");
    for properties in LARGE {
        work_upright(properties);
        assert_eq!(threads(), before, "upright video with {properties:?}");
    }

    // Four elements, each with its streaming thread, as they run side by side.
    let now = std::thread::scope(|scope| {
        let (done, finished) = channel();
        let held: Vec<Sender<()>> = (0..4)
            .map(|_| {
                let (hold, released) = channel();
                let done = done.clone();
                scope.spawn(move || {
                    let rig = work();
                    done.send(()).unwrap();
                    // Ends when the threads were counted and `hold` is gone.
                    released.recv().unwrap_err();
                    drop(rig);
                });
                hold
            })
            .collect();
        drop(done);
        held.iter()
            .for_each(|_| finished.recv().expect("four elements work"));
        threads()
    });
    let streaming = before.values().sum::<usize>() + 4;
    assert_eq!(now.values().sum::<usize>(), streaming, "four elements: {now:?}");
    drop(one);

    // Candle's own convolution starts a pool, which this test can detect.
    let image =
        candle_core::Tensor::zeros((1, 8, 64, 64), candle_core::DType::F32, &candle_core::Device::Cpu);
    let kernel = candle_core::Tensor::zeros((8, 8, 3, 3), candle_core::DType::F32, &candle_core::Device::Cpu);
    image.unwrap().conv2d(&kernel.unwrap(), 1, 1, 1, 1).unwrap();
    assert_ne!(threads(), before, "the test can detect a pool");
}
