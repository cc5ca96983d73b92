//! The element computes in the streaming thread alone: no pool of threads appears behind the host's back, as long as
//! no training tensor has more than 65,536 values (the README's limits). One test in a process of its own, because it
//! counts the threads of the process.

mod common;

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};

use common::rig::{self, Rig};
use common::synthetic::Scene;

/// Names of the threads of this process, with how often each occurs.
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

/// Scores and trains with both nets; the frames after the last one of the warm-up are labelled.
fn work() -> Rig {
    let mut rig = Rig::grey(&[("warm-up", "10")], 10);
    rig.show(&Scene::quiet(), 10, 0..25);
    assert!(rig.stats().get::<u64>("trained").unwrap() > 15);
    rig
}

#[test]
fn elements_bring_no_threads() {
    rig::init();
    let _idle = Rig::grey(&[], 10);
    let before = threads();
    let one = work();
    assert_eq!(threads(), before, "one element");

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

    // Candle's own convolution starts a pool: this test would see one.
    let picture =
        candle_core::Tensor::zeros((1, 8, 64, 64), candle_core::DType::F32, &candle_core::Device::Cpu);
    let kernel = candle_core::Tensor::zeros((8, 8, 3, 3), candle_core::DType::F32, &candle_core::Device::Cpu);
    picture.unwrap().conv2d(&kernel.unwrap(), 1, 1, 1, 1).unwrap();
    assert_ne!(threads(), before, "a pool is seen");
}
