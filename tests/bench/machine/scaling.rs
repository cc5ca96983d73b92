//! One, two, four and eight elements in one process: their CPU time and their memory.

use std::time::Duration;

use gst::prelude::*;
use gstvaeanomaly::State;

use crate::background::BackgroundLoad;
use crate::summary::Summary;
use crate::support::feed::{Feed, buffers, caps};
use crate::support::images::Images;
use crate::support::{median, process_time, resident_mb};

const MAX_ELEMENTS: usize = 8;
/// Frames until each net has made 1500 training steps and the replay buffer is full.
const WARM_UP: usize = 2100;
/// Frames per element in one measured block: whole periods of the training cadence.
pub const BLOCK: usize = 30;

/// A trained element and its frames.
pub struct Camera {
    pub feed: Feed,
    pub frames: Vec<gst::Buffer>,
    next: usize,
}

impl Camera {
    /// Trains a new element on the images of camera `seed`.
    pub fn train(seed: usize) -> Self {
        let element = gst::ElementFactory::make("vaeanomaly")
            .build()
            .expect("the plugin is registered");
        // Small frames of the same aspect ratio: the element reduces both to the same small images.
        let small = buffers(&Images::new(320, 180, seed));
        let mut feed = Feed::new(element, &caps("I420", 320, 180, 10), None);
        for i in 0..WARM_UP {
            feed.push(&small[i % small.len()]);
        }
        Self {
            feed,
            frames: Vec::new(),
            next: WARM_UP,
        }
    }

    /// Continues at 30 frames per second with frames of another size.
    pub fn switch_to(&mut self, width: usize, height: usize, seed: usize) {
        self.frames = buffers(&Images::new(width, height, seed));
        self.feed.renegotiate(&caps("I420", width, height, 30));
        self.process(BLOCK);
        let state: State = self.feed.element.property("state");
        assert_eq!(
            state,
            State::Detecting,
            "the element trains at its normal cadence"
        );
    }

    pub fn process(&mut self, frames: usize) {
        for _ in 0..frames {
            self.feed.push(&self.frames[self.next % self.frames.len()]);
            self.next += 1;
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// All elements, one camera each.
pub struct Cameras(Vec<Camera>);

impl Cameras {
    /// Trains one element, then the others, and measures how memory grows.
    pub fn train(summary: &mut Summary) -> Self {
        let mut cameras = vec![Camera::train(0)];
        let first = resident_mb();
        let seeds: Vec<usize> = (1..MAX_ELEMENTS).collect();
        for seeds in seeds.chunks(cores()) {
            std::thread::scope(|scope| {
                let threads: Vec<_> = seeds
                    .iter()
                    .map(|&seed| scope.spawn(move || Camera::train(seed)))
                    .collect();
                cameras.extend(
                    threads
                        .into_iter()
                        .map(|thread| thread.join().expect("training does not panic")),
                );
            });
        }
        let each = (resident_mb() - first) / (MAX_ELEMENTS - 1) as f64;
        summary.heading("Memory with full replay buffers");
        summary.row("process with one element", format!("{first:.0} MB"));
        summary.row("each further element", format!("{each:.1} MB"));
        summary.field("rss_per_element_mb", Some(each));
        for (seed, camera) in cameras.iter_mut().enumerate() {
            camera.switch_to(1920, 1080, seed);
        }
        Self(cameras)
    }

    /// CPU time of 1, 2, 4 and 8 elements, each in a thread of its own; and of one element while other processes keep
    /// all other cores busy, which separates contention between cores from contention between elements.
    pub fn measure(&mut self, rounds: usize, summary: &mut Summary) {
        let mut background: Vec<_> = (1..cores()).map(|_| BackgroundLoad::start()).collect();
        let sizes = [1, 2, 4, MAX_ELEMENTS];
        let mut ratios = vec![Vec::new(); sizes.len()];
        let mut alone = Vec::new();
        let mut busy_ratios = Vec::new();
        for _ in 0..rounds {
            // One element before and after the others, so that a drift of the machine's speed cancels.
            let before = self.block(1).as_secs_f64();
            let times = sizes.map(|n| self.block(n).as_secs_f64());
            background.iter_mut().for_each(BackgroundLoad::begin);
            let busy = self.block(1).as_secs_f64();
            background.iter_mut().for_each(BackgroundLoad::end);
            let one = 0.5 * (before + self.block(1).as_secs_f64());
            alone.push(one);
            busy_ratios.push(busy / one);
            for (ratios, time) in ratios.iter_mut().zip(times) {
                ratios.push(time / one);
            }
        }
        summary.heading("Elements in one process, 1080p30, default cadence (CPU time)");
        let frame = 1e3 * median(alone) / BLOCK as f64;
        summary.row("one element, per frame", format!("{frame:.2} ms"));
        for (n, ratios) in sizes.into_iter().zip(ratios).skip(1) {
            let ratio = median(ratios);
            summary.row(format!("{n} elements, relative to one"), format!("{ratio:.2}"));
            summary.field(&format!("scaling_{n}"), Some(ratio));
        }
        let ratio = median(busy_ratios);
        summary.row(
            "one element, other cores busy, relative to one",
            format!("{ratio:.2}"),
        );
        summary.field("busy_cores", Some(ratio));
    }

    /// CPU time of the process while `n` elements process a block at the same time.
    fn block(&mut self, n: usize) -> Duration {
        let from = process_time();
        std::thread::scope(|scope| {
            for camera in &mut self.0[..n] {
                scope.spawn(|| camera.process(BLOCK));
            }
        });
        process_time() - from
    }

    /// The first element; the others stop.
    pub fn into_first(self) -> Camera {
        self.0.into_iter().next().expect("there are eight cameras")
    }
}
