//! One element: at its cadences, beside the bare core, beside other elements, at other sizes.

use std::hint::black_box;
use std::time::Duration;

use gst::prelude::*;
use gstvaeanomaly::detector::bench_support::Preprocessor;
use gstvaeanomaly::detector::{Config, Detector, Tuning};

use crate::crowd::Camera;
use crate::figures::Figures;
use crate::support::feed::{Feed, buffers, caps};
use crate::support::pictures::Pictures;
use crate::support::{median, milliseconds};

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;
/// Time of one figure in one round.
const TURN: Duration = Duration::from_millis(150);
/// Frames between looks at the clock: a period of the training cadence.
const PERIOD: usize = 5;
/// Frames until the core has the default cadence.
const WARM_UP: usize = 1600;

/// A figure that takes turns with the others.
struct Figure<'a> {
    work: Box<dyn FnMut() -> f64 + 'a>,
    times: Vec<f64>,
}

impl<'a> Figure<'a> {
    /// `work` gives milliseconds.
    fn new(work: impl FnMut() -> f64 + 'a) -> Self {
        Self {
            work: Box::new(work),
            times: Vec::new(),
        }
    }

    fn median(&self) -> f64 {
        median(self.times.clone())
    }
}

fn take_turns(rounds: usize, figures: &mut [Figure<'_>]) {
    for round in 0..=rounds {
        for figure in &mut *figures {
            let time = (figure.work)();
            // The first round warms up.
            if round > 0 {
                figure.times.push(time);
            }
        }
    }
}

/// Fills in the parts of the table.
pub fn measure(mut camera: Camera, rounds: usize, figures: &mut Figures) {
    cadences(&mut camera, rounds, figures);
    sizes(&mut camera, rounds, figures);
    neighbours(rounds, figures);
}

/// Milliseconds a frame.
fn play(camera: &mut Camera) -> f64 {
    milliseconds(TURN, || camera.play(PERIOD)) / PERIOD as f64
}

/// The core with what the element's detector has learnt.
struct Core {
    detector: Detector,
    pictures: Pictures,
    frame: usize,
}

impl Core {
    fn learn() -> Self {
        let mut core = Self {
            detector: Detector::new(Config::default(), (320, 180)).expect("defaults fit"),
            pictures: Pictures::new(320, 180, 0),
            frame: 0,
        };
        for _ in 0..WARM_UP {
            core.show(10.0);
        }
        core.pictures = Pictures::new(WIDTH, HEIGHT, 0);
        core.frame *= 3;
        core.show(30.0);
        core
    }

    fn show(&mut self, fps: f64) {
        let time = Duration::from_secs_f64(self.frame as f64 / fps);
        let Self {
            detector,
            pictures,
            frame,
        } = self;
        pictures
            .with_view(*frame, |view| {
                detector.process(view, Some(time), None, &Tuning::default())
            })
            .expect("the frame is good");
        *frame += 1;
    }
}

fn cadences(camera: &mut Camera, rounds: usize, figures: &mut Figures) {
    let camera = std::cell::RefCell::new(camera);
    let with = |learn: bool, interval: u32| {
        let camera = &camera;
        move || {
            let mut camera = camera.borrow_mut();
            camera.feed.element.set_property("learn", learn);
            camera.feed.element.set_property("train-interval", interval);
            camera.play(PERIOD);
            play(&mut camera)
        }
    };
    let mut core = Core::learn();
    let mut all = [
        Figure::new(with(true, 5)),
        Figure::new(with(true, 1)),
        Figure::new(with(false, 5)),
        Figure::new(move || milliseconds(TURN, || (0..PERIOD).for_each(|_| core.show(30.0))) / PERIOD as f64),
    ];
    take_turns(rounds, &mut all);
    figures.part("1080p I420 through the element, one core (CPU time)");
    let names = [
        ("default: a training step every 5th frame", "default"),
        ("training on every frame", "train"),
        ("scoring only", "score"),
    ];
    for (figure, (name, key)) in all.iter().zip(names) {
        let fps = 1e3 / figure.median();
        figures.row(name, format!("{fps:.0} frames/s"));
        figures.row("  cameras of 30 frames/s", format!("{:.1}", fps / 30.0));
        figures.field(&format!("fps_1080p_{key}"), Some(fps));
    }
    let overhead = all[0].median() - all[3].median();
    figures.row(
        "element over the bare core, a frame",
        format!("{:.0} us", 1e3 * overhead),
    );
    figures.field("element_overhead_ms", Some(overhead));
    let element = &camera.borrow().feed.element;
    element.set_property("learn", true);
    element.set_property("train-interval", 5u32);
}

fn sizes(camera: &mut Camera, rounds: usize, figures: &mut Figures) {
    figures.part("Default cadence at other sizes");
    let mut full = 0.0;
    for (width, height) in [(WIDTH, HEIGHT), (640, 360), (1280, 720), (3840, 2160)] {
        camera.watch(width, height, 0);
        let mut all = [Figure::new(|| play(camera))];
        take_turns(rounds / 2, &mut all);
        let time = all[0].median();
        if width == WIDTH {
            full = time;
        }
        let value = format!("{time:.2} ms  x{:.2}", time / full);
        figures.row(format!("{width} x {height}, a frame, times 1080p"), value);
        figures.field(&format!("frame_ms_{height}p"), Some(time));
    }
}

/// Milliseconds a frame of another element, where it is installed.
fn other(name: &str, format: &str, wanted: Option<&str>) -> Option<Figure<'static>> {
    let element = gst::ElementFactory::make(name).build().ok()?;
    if name == "motioncells" {
        element.set_property("display", false);
    }
    let pictures = Pictures::new(WIDTH, HEIGHT, 0);
    let frames = match format {
        "RGB" => (0..4)
            .map(|i| gst::Buffer::from_slice(pictures.bytes(i).repeat(2)))
            .collect(),
        _ => buffers(&pictures),
    };
    let wanted = wanted.map(|format| caps(format, WIDTH, HEIGHT, 30));
    let mut feed = Feed::new(element, &caps(format, WIDTH, HEIGHT, 30), wanted.as_ref());
    let mut next = 0;
    Some(Figure::new(move || {
        milliseconds(TURN, || {
            feed.push(&frames[next % frames.len()]);
            next += 1;
        })
    }))
}

/// What other work on a frame of the same size costs.
fn neighbours(rounds: usize, figures: &mut Figures) {
    let pictures = Pictures::new(WIDTH, HEIGHT, 0);
    let luma = &pictures.bytes(0)[..WIDTH * HEIGHT];
    let mut copy = luma.to_vec();
    let mut reducer = pictures.with_view(0, |view| {
        Preprocessor::new(view, Some((180, 100)), Some((64, 40))).expect("the frame is good")
    });
    let mut all = vec![
        Figure::new(|| milliseconds(TURN, || black_box(&mut copy).copy_from_slice(black_box(luma)))),
        Figure::new(|| {
            let once = || pictures.with_view(0, |view| reducer.run(black_box(view)).expect("it fits"));
            milliseconds(TURN, once)
        }),
    ];
    let mut names = vec!["copy of the luma", "pre-processing (in the element's time)"];
    let elements = [
        ("videoconvert", "videoconvert I420 to BGRx", "I420", Some("BGRx")),
        ("motioncells", "motioncells (takes RGB only)", "RGB", None),
    ];
    for (element, name, format, wanted) in elements {
        if let Some(figure) = other(element, format, wanted) {
            all.push(figure);
            names.push(name);
        }
    }
    take_turns(rounds, &mut all);
    figures.part("Beside other work on a 1080p frame (CPU time)");
    for (figure, name) in all.iter().zip(names) {
        figures.row(name, format!("{:.2} ms", figure.median()));
    }
    let ratio = all[1].median() / all[0].median();
    figures.row("pre-processing, times the copy", format!("{ratio:.2}"));
    figures.field("preprocess_vs_memcpy", Some(ratio));
}
