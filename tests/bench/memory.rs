//! Checks that memory does not grow: 100,000 small frames, every thousand from a new thread, as when streams start and
//! stop. Fails if resident memory has grown since the warm-up.
//!
//! `cargo bench --bench memory -- --frames 100000`

mod support;

use support::feed::{Feed, buffers, caps};
use support::images::Images;
use support::resident_mb;

/// Frames per thread.
const BLOCK: usize = 1000;
/// Frames in which the replay buffers fill.
const WARM_UP: usize = 20_000;
/// Tolerated growth in MB.
const SLACK: f64 = 2.0;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(position) = arguments.iter().position(|argument| argument == "--frames") else {
        println!("memory: run with --frames 100000, as make bench-memory does");
        return;
    };
    let frames: usize = arguments[position + 1].parse().expect("a number of frames");
    gst::init().expect("GStreamer starts");
    gstvaeanomaly::plugin_register_static().expect("the plugin registers");
    let (width, height) = (160, 48);
    let element = gst::ElementFactory::make("vaeanomaly")
        .build()
        .expect("the plugin is registered");
    let mut feed = Feed::new(element, &caps("I420", width, height, 10), None);
    let images = buffers(&Images::new(width, height, 0));
    let mut baseline = 0.0;
    println!("{:>8} {:>8}", "frames", "MB");
    for start in (0..frames).step_by(BLOCK) {
        std::thread::scope(|scope| {
            let block = scope.spawn(|| {
                for i in start..start + BLOCK {
                    feed.push(&images[i % images.len()]);
                }
            });
            block.join().expect("the element accepts the frames");
        });
        let (done, now) = (start + BLOCK, resident_mb());
        if done == WARM_UP {
            baseline = now;
        }
        if done % 10_000 == 0 {
            println!("{done:8} {now:8.1}");
        }
        let grown = now - baseline;
        assert!(
            done <= WARM_UP || grown < SLACK,
            "{grown:.1} MB more after {done} frames"
        );
    }
}
