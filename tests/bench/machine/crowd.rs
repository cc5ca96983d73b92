//! One, two, four and eight elements in one process: their CPU time and their memory.

use std::time::Duration;

use gst::prelude::*;
use gstvaeanomaly::State;

use crate::figures::Figures;
use crate::neighbour::Neighbour;
use crate::support::feed::{Feed, buffers, caps};
use crate::support::pictures::Pictures;
use crate::support::{median, process_time, resident_mb};

/// Elements at most.
const MOST: usize = 8;
/// Frames until each net has made 1500 training steps and the replay is full.
const WARM_UP: usize = 2100;
/// Frames of every element in one turn: whole periods of the training cadence.
pub const TURN: usize = 30;

/// An element that has learnt its camera, and that camera's pictures.
pub struct Camera {
    pub feed: Feed,
    pub pictures: Vec<gst::Buffer>,
    next: usize,
}

impl Camera {
    pub fn learn(number: usize) -> Self {
        let element = gst::ElementFactory::make("vaeanomaly")
            .build()
            .expect("an element");
        // Small pictures of the same aspect teach the same: both are reduced to the same size.
        let small = buffers(&Pictures::new(320, 180, number));
        let mut feed = Feed::new(element, &caps("I420", 320, 180, 10), None);
        for i in 0..WARM_UP {
            feed.push(&small[i % small.len()]);
        }
        Self {
            feed,
            pictures: Vec::new(),
            next: WARM_UP,
        }
    }

    /// Goes on with 30 pictures a second of another size.
    pub fn watch(&mut self, width: usize, height: usize, seed: usize) {
        self.pictures = buffers(&Pictures::new(width, height, seed));
        self.feed.renegotiate(&caps("I420", width, height, 30));
        self.play(TURN);
        let state: State = self.feed.element.property("state");
        assert_eq!(state, State::Detecting, "the cadence is the usual one");
    }

    pub fn play(&mut self, frames: usize) {
        for _ in 0..frames {
            self.feed.push(&self.pictures[self.next % self.pictures.len()]);
            self.next += 1;
        }
    }
}

/// Elements that learn at the same time.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// All elements.
pub struct Crowd {
    cameras: Vec<Camera>,
}

impl Crowd {
    /// Teaches one element, then the others beside it, and sees how the memory grows.
    pub fn learn(figures: &mut Figures) -> Self {
        let mut cameras = vec![Camera::learn(0)];
        let first = resident_mb();
        let others: Vec<usize> = (1..MOST).collect();
        for numbers in others.chunks(cores()) {
            std::thread::scope(|scope| {
                let learning: Vec<_> = numbers
                    .iter()
                    .map(|&n| scope.spawn(move || Camera::learn(n)))
                    .collect();
                cameras.extend(
                    learning
                        .into_iter()
                        .map(|camera| camera.join().expect("it learns")),
                );
            });
        }
        let each = (resident_mb() - first) / (MOST - 1) as f64;
        figures.part("Memory, replay full");
        figures.row("process with one element", format!("{first:.0} MB"));
        figures.row("every element more", format!("{each:.1} MB"));
        figures.field("rss_per_element_mb", Some(each));
        for (number, camera) in cameras.iter_mut().enumerate() {
            camera.watch(1920, 1080, number);
        }
        Self { cameras }
    }

    /// CPU time of 1, 2, 4, 8 elements, each in a thread of its own, in turns; and of one while processes of their
    /// own do the same on all other cores: that tells what cores cost each other from what elements do.
    pub fn measure(&mut self, rounds: usize, figures: &mut Figures) {
        let mut neighbours: Vec<_> = (1..cores()).map(|_| Neighbour::start()).collect();
        let sizes = [1, 2, 4, MOST];
        let mut ratios = vec![Vec::new(); sizes.len()];
        let mut alone = Vec::new();
        let mut beside = Vec::new();
        for _ in 0..rounds {
            // Alone before and after: what changes on the machine meanwhile is shared.
            let before = self.turn(1).as_secs_f64();
            let many: Vec<f64> = sizes.iter().map(|&n| self.turn(n).as_secs_f64()).collect();
            neighbours.iter_mut().for_each(Neighbour::begin);
            let busy = self.turn(1).as_secs_f64();
            neighbours.iter_mut().for_each(Neighbour::end);
            let one = 0.5 * (before + self.turn(1).as_secs_f64());
            alone.push(one);
            beside.push(busy / one);
            for (ratios, time) in ratios.iter_mut().zip(many) {
                ratios.push(time / one);
            }
        }
        figures.part("Elements in one process, 1080p30, default cadence: CPU time");
        let frame = 1e3 * median(alone) / TURN as f64;
        figures.row("one element, a frame", format!("{frame:.2} ms"));
        for (n, ratios) in sizes.into_iter().zip(ratios).skip(1) {
            let ratio = median(ratios);
            figures.row(format!("{n} elements, times one"), format!("{ratio:.2}"));
            figures.field(&format!("scaling_{n}"), Some(ratio));
        }
        let ratio = median(beside);
        figures.row("one, other cores busy elsewhere", format!("{ratio:.2}"));
        figures.field("busy_cores", Some(ratio));
    }

    /// CPU time of the process while `n` elements take a turn at the same time.
    fn turn(&mut self, n: usize) -> Duration {
        let from = process_time();
        std::thread::scope(|scope| {
            for camera in &mut self.cameras[..n] {
                scope.spawn(|| camera.play(TURN));
            }
        });
        process_time() - from
    }

    /// The first element; the others stop.
    pub fn into_first(self) -> Camera {
        self.cameras.into_iter().next().expect("eight cameras")
    }
}
