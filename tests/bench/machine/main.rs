//! One table from one run: what a frame costs on this machine, beside other things that cost something.
//!
//! `make bench` runs it. All times are CPU times of one thread, or, with several elements, of the process, so that
//! other load on the machine matters little; every figure is the median of rounds in which all figures take turns.

mod crowd;
mod figures;
mod neighbour;
mod nets;
mod rates;
#[path = "../support/mod.rs"]
mod support;

use figures::Figures;

/// Rounds of the slow and of the quick figures.
const ROUNDS: usize = 9;

fn main() {
    let asked = |what: &str| std::env::args().any(|argument| argument == what);
    if !asked("table") && !asked(neighbour::ARGUMENT) {
        println!("machine: run with the argument table, as make bench does");
        return;
    }
    gst::init().expect("GStreamer starts");
    gstvaeanomaly::plugin_register_static().expect("the plugin registers");
    if asked(neighbour::ARGUMENT) {
        neighbour::serve();
        return;
    }
    let mut figures = Figures::default();
    let step = |what: &str| eprintln!("machine: {what}");

    step("eight elements learn, each a camera of its own");
    let mut crowd = crowd::Crowd::learn(&mut figures);
    step("elements in one process");
    crowd.measure(ROUNDS, &mut figures);
    step("one element beside the core, other elements and memory");
    rates::measure(crowd.into_first(), ROUNDS, &mut figures);
    step("the nets beside PyTorch and the machine's peak");
    nets::measure(&mut figures);

    println!("{}", figures.table());
    let file = figures.write().expect("target/ can be written to");
    println!("Figures: {}", file.display());
}
