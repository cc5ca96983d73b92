//! Whether memory stays where it is: 100,000 small frames, every thousand from a thread of its own, as when
//! streams start and stop. Ends with an error when the memory in RAM has grown after the start.
//!
//! `cargo bench --bench memory -- --frames 100000`

mod support;

use support::feed::{Feed, buffers, caps};
use support::pictures::Pictures;
use support::resident_mb;

/// Frames from one thread.
const STRETCH: usize = 1000;
/// Until here replay and reservoir fill.
const START: usize = 20_000;
/// MB that an allocator may be off.
const SLACK: f64 = 2.0;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(place) = arguments.iter().position(|argument| argument == "--frames") else {
        println!("memory: run with --frames 100000, as make bench-memory does");
        return;
    };
    let frames: usize = arguments[place + 1].parse().expect("a number of frames");
    gst::init().expect("GStreamer starts");
    gstvaeanomaly::plugin_register_static().expect("the plugin registers");
    let (width, height) = (160, 48);
    let element = gst::ElementFactory::make("vaeanomaly")
        .build()
        .expect("an element");
    let mut feed = Feed::new(element, &caps("I420", width, height, 10), None);
    let pictures = buffers(&Pictures::new(width, height, 0));
    let mut usual = 0.0;
    println!("{:>8} {:>8}", "frames", "MB");
    for start in (0..frames).step_by(STRETCH) {
        std::thread::scope(|scope| {
            let stretch = scope.spawn(|| {
                for i in start..start + STRETCH {
                    feed.push(&pictures[i % pictures.len()]);
                }
            });
            stretch.join().expect("the frames are taken");
        });
        let (done, now) = (start + STRETCH, resident_mb());
        if done == START {
            usual = now;
        }
        if done % 10_000 == 0 {
            println!("{done:8} {now:8.1}");
        }
        let grown = now - usual;
        assert!(
            done <= START || grown < SLACK,
            "{grown:.1} MB more after {done} frames"
        );
    }
}
