//! One element: at its cadences, beside its core, at other sizes, beside other elements.

use std::hint::black_box;
use std::time::Duration;

use gst::prelude::*;
use gstvaeanomaly::detector::bench_support::Preprocessor;
use gstvaeanomaly::detector::{ColorModel, Config, Detector, ImageView, PixelFormat, Tuning};

use crate::scaling::Camera;
use crate::summary::Summary;
use crate::support::feed::{Feed, buffers, caps};
use crate::support::images::Images;
use crate::support::{median, milliseconds, thread_time};

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;
/// Time of one figure in one round.
const BLOCK: Duration = Duration::from_millis(150);
/// Frames between two looks at the clock: a period of the training cadence.
const PERIOD: usize = 5;
/// Frames until a detector trains at the default cadence.
const WARM_UP: usize = 1600;
/// Paired measurements of element and core.
const PAIRS: usize = 150;

/// A figure that is measured alternately with others.
struct Series<'a> {
    measure: Box<dyn FnMut() -> f64 + 'a>,
    times: Vec<f64>,
}

impl<'a> Series<'a> {
    /// `measure` returns milliseconds.
    fn new(measure: impl FnMut() -> f64 + 'a) -> Self {
        Self {
            measure: Box::new(measure),
            times: Vec::new(),
        }
    }

    fn median(&self) -> f64 {
        median(self.times.clone())
    }
}

/// Measures all series once per round; a first round warms up.
fn interleave(rounds: usize, all: &mut [Series<'_>]) {
    for round in 0..=rounds {
        for series in &mut *all {
            let time = (series.measure)();
            if round > 0 {
                series.times.push(time);
            }
        }
    }
}

/// Fills in the parts of the table.
pub fn measure(mut camera: Camera, rounds: usize, summary: &mut Summary) {
    cadences(&mut camera, rounds, summary);
    overhead(&mut camera, summary);
    sizes(&mut camera, rounds, summary);
    other_work(rounds, summary);
}

/// Milliseconds per frame.
fn frame_time(camera: &mut Camera) -> f64 {
    milliseconds(BLOCK, || camera.process(PERIOD)) / PERIOD as f64
}

fn cadences(camera: &mut Camera, rounds: usize, summary: &mut Summary) {
    let camera = std::cell::RefCell::new(camera);
    let with = |learn: bool, interval: u32| {
        let camera = &camera;
        move || {
            let mut camera = camera.borrow_mut();
            camera.feed.element.set_property("learn", learn);
            camera.feed.element.set_property("train-interval", interval);
            camera.process(PERIOD);
            frame_time(&mut camera)
        }
    };
    let mut all = [
        Series::new(with(true, 5)),
        Series::new(with(true, 1)),
        Series::new(with(false, 5)),
    ];
    interleave(rounds, &mut all);
    summary.heading("1080p I420 through the element, one core (CPU time)");
    let names = [
        ("default: a training step every 5th frame", "default"),
        ("training on every frame", "train"),
        ("scoring only", "score"),
    ];
    for (series, (name, key)) in all.iter().zip(names) {
        let fps = 1e3 / series.median();
        summary.row(name, format!("{fps:.0} frames/s"));
        summary.row("  cameras of 30 frames/s", format!("{:.1}", fps / 30.0));
        summary.field(&format!("fps_1080p_{key}"), Some(fps));
    }
    let element = &camera.borrow().feed.element;
    element.set_property("learn", true);
    element.set_property("train-interval", 5u32);
}

/// The detector without the element, trained on the same images.
struct Core {
    detector: Detector,
    frame: u32,
}

impl Core {
    fn train() -> Self {
        let mut core = Self {
            detector: Detector::new(Config::default(), (320, 180)).expect("the defaults are valid"),
            frame: 0,
        };
        let small = buffers(&Images::new(320, 180, 0));
        for i in 0..WARM_UP {
            core.process(&small[i % small.len()], (320, 180), 10);
        }
        // The same time at 30 frames per second.
        core.frame *= 3;
        core
    }

    /// One I420 frame without padding.
    fn process(&mut self, frame: &gst::Buffer, (width, height): (usize, usize), fps: u32) {
        let map = frame.map_readable().expect("the frame is readable");
        let (luma, chroma) = map.split_at(width * height);
        let (u, v) = chroma.split_at(chroma.len() / 2);
        let view = ImageView {
            format: PixelFormat::I420,
            width,
            height,
            planes: &[luma, u, v],
            strides: &[width, width / 2, width / 2],
            color: ColorModel::BT709,
        };
        let interval = Duration::from_secs(1) / fps;
        let result = self.detector.process(
            &view,
            Some(interval * self.frame),
            Some(interval),
            &Tuning::default(),
        );
        black_box(result.expect("the frame is valid"));
        self.frame += 1;
    }
}

/// The element's time above its core's, on the same frames in the same thread. A pair is the four blocks core, element,
/// element, core: the first two share one set of frames and the last two another, so that both sides read frames from
/// memory once and from the cache once, and a drift of the machine's speed cancels.
fn overhead(camera: &mut Camera, summary: &mut Summary) {
    let mut core = Core::train();
    let frames = camera.frames.clone();
    let mut next = 0;
    let mut differences = Vec::new();
    for pair in 0..=PAIRS {
        let sets = [next, next + PERIOD].map(|first| {
            let set: Vec<_> = (first..first + PERIOD)
                .map(|i| &frames[i % frames.len()])
                .collect();
            set
        });
        next += 2 * PERIOD;
        let mut core_time = |set: &[&gst::Buffer]| {
            let from = thread_time();
            set.iter()
                .for_each(|frame| core.process(frame, (WIDTH, HEIGHT), 30));
            (thread_time() - from).as_secs_f64()
        };
        let mut element_time = |set: &[&gst::Buffer]| {
            let from = thread_time();
            set.iter().for_each(|frame| camera.feed.push(frame));
            (thread_time() - from).as_secs_f64()
        };
        let before = core_time(&sets[0]);
        let element = element_time(&sets[0]) + element_time(&sets[1]);
        let core = before + core_time(&sets[1]);
        // The first pair warms up.
        if pair > 0 {
            differences.push(1e6 * (element - core) / (2 * PERIOD) as f64);
        }
    }
    differences.sort_by(f64::total_cmp);
    let quantile = |q: usize| differences[q * (differences.len() - 1) / 4];
    summary.row(
        "element above its core, per frame",
        format!("{:.0} us", quantile(2)),
    );
    summary.row(
        "  quartiles of the paired differences",
        format!("{:.0} to {:.0} us", quantile(1), quantile(3)),
    );
    summary.field("element_overhead_ms", Some(1e-3 * quantile(2)));
}

fn sizes(camera: &mut Camera, rounds: usize, summary: &mut Summary) {
    summary.heading("Default cadence at other sizes (CPU time per frame, relative to 1080p)");
    let mut full = 0.0;
    for (width, height) in [(WIDTH, HEIGHT), (640, 360), (1280, 720), (3840, 2160)] {
        camera.switch_to(width, height, 0);
        let mut all = [Series::new(|| frame_time(camera))];
        interleave(rounds / 2, &mut all);
        let time = all[0].median();
        if width == WIDTH {
            full = time;
        }
        summary.row(
            format!("{width} x {height}"),
            format!("{time:.2} ms  x{:.2}", time / full),
        );
        summary.field(&format!("frame_ms_{height}p"), Some(time));
    }
}

/// Milliseconds per frame of another element, if it is installed.
fn other_element(name: &str, format: &str, output: Option<&str>) -> Option<Series<'static>> {
    let element = gst::ElementFactory::make(name).build().ok()?;
    if name == "motioncells" {
        element.set_property("display", false);
    }
    let images = Images::new(WIDTH, HEIGHT, 0);
    let frames = match format {
        "RGB" => (0..4)
            .map(|i| gst::Buffer::from_slice(images.bytes(i).repeat(2)))
            .collect(),
        _ => buffers(&images),
    };
    let output = output.map(|format| caps(format, WIDTH, HEIGHT, 30));
    let mut feed = Feed::new(element, &caps(format, WIDTH, HEIGHT, 30), output.as_ref());
    let mut next = 0;
    Some(Series::new(move || {
        milliseconds(BLOCK, || {
            feed.push(&frames[next % frames.len()]);
            next += 1;
        })
    }))
}

/// What other work on a frame of the same size costs.
fn other_work(rounds: usize, summary: &mut Summary) {
    let images = Images::new(WIDTH, HEIGHT, 0);
    let luma = &images.bytes(0)[..WIDTH * HEIGHT];
    let mut copy = luma.to_vec();
    let mut preprocessor = images.with_view(0, |view| {
        Preprocessor::new(view, Some((180, 100)), Some((64, 40))).expect("the frame is valid")
    });
    let mut all = vec![
        Series::new(|| milliseconds(BLOCK, || black_box(&mut copy).copy_from_slice(black_box(luma)))),
        Series::new(|| {
            let once = || {
                images.with_view(0, |view| {
                    preprocessor.run(black_box(view)).expect("the frame is valid")
                })
            };
            milliseconds(BLOCK, once)
        }),
    ];
    let mut names = vec![
        "copy of the luma plane",
        "pre-processing (part of the element's time)",
    ];
    let elements = [
        ("videoconvert", "videoconvert, I420 to BGRx", "I420", Some("BGRx")),
        ("motioncells", "motioncells (takes RGB only)", "RGB", None),
    ];
    for (element, name, format, output) in elements {
        if let Some(series) = other_element(element, format, output) {
            all.push(series);
            names.push(name);
        }
    }
    interleave(rounds, &mut all);
    summary.heading("Other work on a 1080p frame (CPU time)");
    for (series, name) in all.iter().zip(names) {
        summary.row(name, format!("{:.2} ms", series.median()));
    }
    let ratio = all[1].median() / all[0].median();
    summary.row("pre-processing, relative to the copy", format!("{ratio:.2}"));
    summary.field("preprocess_vs_memcpy", Some(ratio));
}
