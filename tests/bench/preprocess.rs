//! What reducing a frame to the two small pictures costs, beside a copy of a luma plane of the same size.
//!
//! `cargo bench --bench preprocess` runs criterion's statistics and then prints the ratios: both sides
//! measured in turns, and of both the fastest tenth's limit, so that other load on the machine matters
//! little. `cargo bench --bench preprocess -- ratios` prints the ratios alone.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use gstvaeanomaly::detector::bench_support::Preprocessor;
use gstvaeanomaly::detector::{ColorModel, ImageView, PixelFormat};

const SIZES: [(&str, usize, usize); 2] = [("1080p", 1920, 1080), ("2160p", 3840, 2160)];
const FORMATS: [PixelFormat; 5] = [
    PixelFormat::I420,
    PixelFormat::Nv12,
    PixelFormat::Yuy2,
    PixelFormat::Rgb,
    PixelFormat::Bgra,
];
/// Width and height of the small pictures at the usual settings and 16:9.
const GREY: (usize, usize) = (180, 100);
const COLOUR: (usize, usize) = (64, 40);

/// A frame of some texture.
struct Frame {
    format: PixelFormat,
    width: usize,
    height: usize,
    planes: Vec<Vec<u8>>,
    strides: Vec<usize>,
}

impl Frame {
    fn new(format: PixelFormat, width: usize, height: usize) -> Self {
        let strides: Vec<usize> = (0..format.plane_count())
            .map(|plane| format.row_bytes(plane, width).next_multiple_of(4))
            .collect();
        let texture = |len: usize| (0..len).map(|place| ((place * 31) >> 3) as u8).collect();
        let planes = (0..format.plane_count())
            .map(|plane| texture(format.plane_bytes(plane, width, height, strides[plane])))
            .collect();
        Self {
            format,
            width,
            height,
            planes,
            strides,
        }
    }

    fn with_view<R>(&self, then: impl FnOnce(&ImageView<'_>) -> R) -> R {
        let planes: Vec<&[u8]> = self.planes.iter().map(Vec::as_slice).collect();
        then(&ImageView {
            format: self.format,
            width: self.width,
            height: self.height,
            planes: &planes,
            strides: &self.strides,
            color: ColorModel::BT709,
        })
    }
}

fn statistics(criterion: &mut Criterion) {
    for (name, width, height) in SIZES {
        let mut group = criterion.benchmark_group(format!("preprocess/{name}"));
        group.throughput(Throughput::Elements(1));
        let luma = vec![100_u8; width * height];
        let mut copy = vec![0_u8; luma.len()];
        group.bench_function("luma memcpy", |bencher| {
            bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(&luma)));
        });
        for format in FORMATS {
            let frame = Frame::new(format, width, height);
            group.bench_function(BenchmarkId::from_parameter(format), |bencher| {
                frame.with_view(|view| {
                    let mut preprocessor =
                        Preprocessor::new(view, Some(GREY), Some(COLOUR)).expect("frame is valid");
                    bencher.iter(|| preprocessor.run(black_box(view)).expect("frame is valid"));
                });
            });
        }
        group.finish();
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Microseconds within which the fastest tenth stays.
fn fastest_tenth(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 10].as_secs_f64() * 1e6
}

fn ratios() {
    const TURNS: usize = 40;
    const CALLS: usize = 10;
    println!(
        "{:6} {:10} {:>12} {:>12} {:>7}",
        "size", "format", "reduce us", "memcpy us", "ratio"
    );
    for (name, width, height) in SIZES {
        let luma = vec![100_u8; width * height];
        let mut copy = vec![0_u8; luma.len()];
        for format in FORMATS {
            let (mut reduced, mut copied) = (Vec::new(), Vec::new());
            Frame::new(format, width, height).with_view(|view| {
                let mut preprocessor =
                    Preprocessor::new(view, Some(GREY), Some(COLOUR)).expect("frame is valid");
                for _ in 0..TURNS {
                    copied.extend(
                        (0..CALLS).map(|_| timed(|| black_box(&mut copy).copy_from_slice(black_box(&luma)))),
                    );
                    reduced.extend(
                        (0..CALLS)
                            .map(|_| timed(|| preprocessor.run(black_box(view)).expect("frame is valid"))),
                    );
                }
            });
            let (reduced, copied) = (fastest_tenth(reduced), fastest_tenth(copied));
            println!(
                "{name:6} {format:10} {reduced:12.0} {copied:12.0} {:7.2}",
                reduced / copied
            );
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let is_given = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    if !is_given("ratios") {
        let mut criterion = Criterion::default().configure_from_args();
        statistics(&mut criterion);
        criterion.final_summary();
    }
    if is_given("--bench") && !is_given("--list") {
        ratios();
    }
}
