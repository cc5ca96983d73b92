//! Reduction of a frame to the two small images, compared with a copy of a luma plane of the same size.
//!
//! `cargo bench --bench preprocess` runs criterion's statistics and then prints the ratios: both sides are measured
//! alternately, and the tenth percentile of each counts, so other load on the machine matters little.
//! `cargo bench --bench preprocess -- ratios` prints only the ratios.

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
/// Width and height of the small images at the default settings and 16:9.
const GREY: (usize, usize) = (180, 100);
const COLOUR: (usize, usize) = (64, 40);

/// A textured frame.
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
        let texture = |len: usize| (0..len).map(|i| ((i * 31) >> 3) as u8).collect();
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

    fn with_view<R>(&self, visit: impl FnOnce(&ImageView<'_>) -> R) -> R {
        let planes: Vec<&[u8]> = self.planes.iter().map(Vec::as_slice).collect();
        visit(&ImageView {
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

/// Tenth percentile in microseconds.
fn tenth_percentile(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 10].as_secs_f64() * 1e6
}

fn ratios() {
    const BLOCKS: usize = 40;
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
                for _ in 0..BLOCKS {
                    copied.extend(
                        (0..CALLS).map(|_| timed(|| black_box(&mut copy).copy_from_slice(black_box(&luma)))),
                    );
                    reduced.extend(
                        (0..CALLS)
                            .map(|_| timed(|| preprocessor.run(black_box(view)).expect("frame is valid"))),
                    );
                }
            });
            let (reduced, copied) = (tenth_percentile(reduced), tenth_percentile(copied));
            println!(
                "{name:6} {format:10} {reduced:12.0} {copied:12.0} {:7.2}",
                reduced / copied
            );
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has_argument = |name: &str| arguments.iter().any(|argument| argument == name);
    if !has_argument("ratios") {
        let mut criterion = Criterion::default().configure_from_args();
        statistics(&mut criterion);
        criterion.final_summary();
    }
    if has_argument("--bench") && !has_argument("--list") {
        ratios();
    }
}
