//! One table from one run: the cost of a frame on this machine, beside other work for comparison.
//!
//! `make bench` runs it; README.md in the folder above explains every figure. All times are CPU times of one thread
//! or, with several elements, of the process, so other load on the machine matters little. Figures that are compared
//! are measured alternately in short blocks, and the median of all rounds counts.

mod background;
mod element;
mod nets;
mod peak;
mod scaling;
mod summary;
#[path = "../support/mod.rs"]
mod support;

use summary::Summary;

/// Rounds of alternating blocks.
const ROUNDS: usize = 9;

fn main() {
    let has_argument = |name: &str| std::env::args().any(|argument| argument == name);
    if !has_argument("table") && !has_argument(background::ARGUMENT) {
        println!("machine: run with the argument table, as make bench does");
        return;
    }
    gst::init().expect("GStreamer starts");
    gstvaeanomaly::plugin_register_static().expect("the plugin registers");
    if has_argument(background::ARGUMENT) {
        background::serve();
        return;
    }
    let mut summary = Summary::default();
    let progress = |what: &str| eprintln!("machine: {what}");

    progress("training eight elements, one per camera");
    let mut cameras = scaling::Cameras::train(&mut summary);
    progress("several elements in one process");
    cameras.measure(ROUNDS, &mut summary);
    progress("one element, its core, other elements, a memory copy");
    element::measure(cameras.into_first(), ROUNDS, &mut summary);
    progress("the nets, PyTorch, the arithmetic peak");
    nets::measure(&mut summary);

    println!("{}", summary.table());
    let file = summary.write().expect("target/ is writable");
    println!("Figures: {}", file.display());
}
