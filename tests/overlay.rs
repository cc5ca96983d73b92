//! What `vaeanomaly` says about locations, and what `vaeanomalyoverlay` draws from it.

mod common;

use std::num::NonZeroU64;

use common::rig::{self, Rig};
use common::synthetic::{Happening, SIZE, Scene};
use gst::prelude::*;
use gstvaeanomaly::detector::{AnomalousRegion, CueKind, Label, Prediction, Region, State};
use gstvaeanomaly::{FrameResult, SmallImage};

/// Short warm-up and a high threshold: only planted anomalies are found.
const QUICK: [(&str, &str); 3] = [("warm-up", "100"), ("threshold", "4"), ("seed", "7")];

/// A region of the metadata in a frame of 640x360 pixels, and the hot cell of the map beside it.
const BOX: Region = Region {
    x: 160,
    y: 90,
    width: 80,
    height: 90,
};
const HOT: (u32, u32) = (10, 3);
const GRID: (u32, u32) = (16, 9);
/// Cells of the first column are ignored.
const IGNORED_CELL: (u32, u32) = (0, 4);

fn result() -> FrameResult {
    let (columns, rows) = GRID;
    let mut pixels = vec![40; (columns * rows) as usize];
    pixels[(HOT.1 * columns + HOT.0) as usize] = 255;
    (0..rows).for_each(|row| pixels[(row * columns) as usize] = 0);
    FrameResult {
        prediction: Prediction {
            frame: 1,
            raw_score: 3.0,
            threshold: 1.75,
            score: 0.78,
            label: Some(Label::Anomaly),
            cue: CueKind::Motion,
            region: BOX,
            regions: vec![AnomalousRegion {
                id: 1,
                region: BOX,
                score: 0.9,
                cue: CueKind::Motion,
            }],
            state: State::Detecting,
        },
        event_id: NonZeroU64::new(3),
        scored: true,
        image_size: (640, 360),
        anomaly_map: Some(SmallImage {
            width: columns,
            height: rows,
            pixels,
        }),
        reconstruction: Some(SmallImage {
            width: 8,
            height: 4,
            pixels: [20, 40, 220].repeat(32),
        }),
    }
}

const GREY: u8 = 100;

/// A grey RGBA frame with the metadata.
fn frame(size: (u32, u32)) -> gst::Buffer {
    let pixels = [GREY, GREY, GREY, 255].repeat((size.0 * size.1) as usize);
    let mut buffer = gst::Buffer::from_mut_slice(pixels);
    let buffer_mut = buffer.get_mut().unwrap();
    buffer_mut.set_pts(gst::ClockTime::ZERO);
    result().write(buffer_mut).unwrap();
    buffer
}

fn caps(size: (u32, u32)) -> String {
    format!(
        "video/x-raw,format=RGBA,width={},height={},framerate=10/1",
        size.0, size.1
    )
}

/// The frame with the overlay in a format, as RGBA; pixels by their position in fractions of the frame.
struct Drawn {
    size: (u32, u32),
    pixels: Vec<u8>,
}

impl Drawn {
    fn new(format: &str, size: (u32, u32), show: &str) -> Self {
        rig::init();
        let line = format!(
            "videoconvert ! video/x-raw,format={format} ! vaeanomalyoverlay show={show} ! videoconvert \
             ! capsfilter caps=video/x-raw,format=RGBA"
        );
        let mut harness = gst_check::Harness::new_parse(&line);
        harness.set_src_caps_str(&caps(size));
        let drawn = harness.push_and_pull(frame(size)).unwrap();
        let pixels = drawn.map_readable().unwrap().to_vec();
        assert_eq!(pixels.len(), 4 * (size.0 * size.1) as usize);
        Self { size, pixels }
    }

    /// The pixel at a position of the frame of 640x360.
    fn at(&self, x: f64, y: f64) -> [u8; 3] {
        let scale = |v: f64, size: u32, of: f64| ((v * f64::from(size) / of) as usize).min(size as usize - 1);
        let (x, y) = (scale(x, self.size.0, 640.0), scale(y, self.size.1, 360.0));
        let i = 4 * (y * self.size.0 as usize + x);
        [self.pixels[i], self.pixels[i + 1], self.pixels[i + 2]]
    }

    /// Whether a pixel is as it was, but for rounding on the way through the formats.
    fn is_untouched(&self, x: f64, y: f64) -> bool {
        self.at(x, y).iter().all(|&v| v.abs_diff(GREY) <= 6)
    }
}

/// The middle of a cell of the map in a frame of 640x360.
fn middle((column, row): (u32, u32)) -> (f64, f64) {
    let along = |cell: u32, cells: u32, size: f64| (f64::from(cell) + 0.5) * size / f64::from(cells);
    (along(column, GRID.0, 640.0), along(row, GRID.1, 360.0))
}

const FORMATS: [&str; 14] = [
    "I420",
    "YV12",
    "NV12",
    "NV21",
    "NV16",
    "Y42B",
    "Y444",
    "YUY2",
    "UYVY",
    "P010_10LE",
    "RGB",
    "BGRx",
    "xRGB",
    "ABGR",
];
const SIZES: [(u32, u32); 4] = [(320, 240), (640, 360), (1920, 1080), (3840, 2160)];

#[test]
fn boxes_and_heat_are_at_their_locations_in_every_format() {
    for format in FORMATS {
        let drawn = Drawn::new(format, (640, 360), "boxes+map+ignored");
        check_locations(&drawn, format);
    }
    // Without colours, a box is lighter or darker than the frame.
    for format in ["GRAY8", "GRAY16_LE"] {
        let drawn = Drawn::new(format, (640, 360), "boxes");
        let across = (0..6).map(|i| f64::from(BOX.y) - f64::from(i));
        let darkest = across.map(|y| drawn.at(f64::from(BOX.x + 40), y)[0]).min();
        assert!(darkest < Some(GREY - 40), "{format}: {darkest:?}");
        assert!(drawn.is_untouched(200.0, 135.0), "{format}");
    }
}

#[test]
fn boxes_and_heat_are_at_their_locations_in_every_size() {
    for size in SIZES {
        check_locations(
            &Drawn::new("I420", size, "boxes+map+ignored"),
            &format!("{size:?}"),
        );
    }
}

fn check_locations(drawn: &Drawn, what: &str) {
    let Region { x, y, width, height } = BOX;
    let (left, upper) = (f64::from(x), f64::from(y));
    let (right, lower) = (left + f64::from(width), upper + f64::from(height));
    let is_red = |[r, g, b]: [u8; 3]| r > 150 && g < 120 && b < 120;
    // Some pixel across each edge is red, within four thousandths of the frame.
    let across = |x: f64, y: f64, dx: f64, dy: f64| {
        (-30..=30)
            .map(f64::from)
            .any(|i| is_red(drawn.at(x + 0.1 * i * dx, y + 0.1 * i * dy)))
    };
    let (middle_x, middle_y) = ((left + right) / 2.0, (upper + lower) / 2.0);
    assert!(across(left, middle_y, 1.0, 0.0), "{what}: left edge");
    assert!(across(right, middle_y, 1.0, 0.0), "{what}: right edge");
    assert!(across(middle_x, lower, 0.0, 1.0), "{what}: lower edge");
    assert!(drawn.is_untouched(middle_x, middle_y), "{what}: inside the box");
    assert!(drawn.is_untouched(500.0, 320.0), "{what}: elsewhere");
    let (x, y) = middle(HOT);
    let [r, _, b] = drawn.at(x, y);
    assert!(r > GREY + 40 && b < GREY, "{what}: heat {:?}", drawn.at(x, y));
    let (x, y) = middle(IGNORED_CELL);
    let [r, g, b] = drawn.at(x, y);
    assert!(
        r < GREY - 5 && g < GREY && r <= b + 3,
        "{what}: what is ignored is shaded, {:?}",
        [r, g, b]
    );
}

#[test]
fn panel_and_inset_are_in_their_corners() {
    for size in SIZES {
        let drawn = Drawn::new("I420", size, "strip+state+reconstruction");
        let [_, _, b] = drawn.at(560.0, 40.0);
        assert!(b > 150, "{size:?}: the reconstruction is blue");
        assert!(!drawn.is_untouched(40.0, 340.0), "{size:?}: the strip");
        assert!(drawn.is_untouched(320.0, 180.0), "{size:?}: the middle is free");
        let (x, y) = middle(HOT);
        assert!(drawn.is_untouched(x, y), "{size:?}: no heat");
    }
}

/// The overlay between a source of RGBA frames and a sink that may take overlays as metadata.
fn harness(show: &str, downstream_takes_metadata: bool) -> gst_check::Harness {
    rig::init();
    let mut harness = gst_check::Harness::new_parse(&format!("vaeanomalyoverlay show={show}"));
    if downstream_takes_metadata {
        let api = gst_video::VideoOverlayCompositionMeta::meta_api();
        harness.add_propose_allocation_meta(api, None);
    }
    harness.set_src_caps_str(&caps((640, 360)));
    harness
}

#[test]
fn the_drawing_is_attached_where_downstream_takes_it() {
    let input = frame((640, 360));
    let output = harness("boxes", true).push_and_pull(input.clone()).unwrap();
    let meta = output
        .meta::<gst_video::VideoOverlayCompositionMeta>()
        .expect("it is attached");
    assert_eq!(
        meta.overlay().n_rectangles(),
        9,
        "two times four edges and a label"
    );
    assert_eq!(
        output.map_readable().unwrap().as_slice(),
        input.map_readable().unwrap().as_slice()
    );

    let output = harness("boxes", false).push_and_pull(input.clone()).unwrap();
    assert!(output.meta::<gst_video::VideoOverlayCompositionMeta>().is_none());
    assert_ne!(
        output.map_readable().unwrap().as_slice(),
        input.map_readable().unwrap().as_slice()
    );
}

#[test]
fn frames_over_which_nothing_is_drawn_pass_untouched() {
    let address = |buffer: &gst::Buffer| buffer.map_readable().unwrap().as_ptr();
    let without_metadata = {
        let mut buffer = frame((640, 360));
        let meta =
            gst::meta::CustomMeta::from_mut_buffer(buffer.get_mut().unwrap(), gstvaeanomaly::META_NAME);
        meta.unwrap().remove().unwrap();
        buffer
    };
    for (show, input) in [("0", frame((640, 360))), ("boxes+map", without_metadata)] {
        let kept = input.clone();
        let output = harness(show, false).push_and_pull(input).unwrap();
        assert_eq!(
            output.as_ptr(),
            kept.as_ptr(),
            "{show}: the same buffer, although it is shared"
        );
        assert_eq!(address(&output), address(&kept));
    }
}

#[test]
fn properties_have_their_defaults_and_can_change_while_playing() {
    rig::init();
    let overlay = gst::ElementFactory::make("vaeanomalyoverlay").build().unwrap();
    for name in ["show", "strip-duration"] {
        let property = overlay.find_property(name).unwrap();
        assert!(
            property.flags().contains(gst::PARAM_FLAG_MUTABLE_PLAYING),
            "{name}"
        );
        assert!(property.blurb().is_some(), "{name}");
    }
    assert_eq!(overlay.property::<u64>("strip-duration"), 10_000_000_000);
    let mut harness = harness("0", false);
    let inside = harness.find_element("vaeanomalyoverlay").unwrap();
    let before = harness.push_and_pull(frame((640, 360))).unwrap();
    inside.set_property_from_str("show", "boxes+strip");
    let after = harness.push_and_pull(frame((640, 360))).unwrap();
    assert_ne!(
        before.map_readable().unwrap().as_slice(),
        after.map_readable().unwrap().as_slice()
    );
}

/// A runner for two seconds after 15 s of normal video.
fn runner() -> Scene {
    Scene::quiet().with(15.0..17.0, Happening::Runner)
}

/// Left and right edge of the runner at a time, in pixels.
fn runner_at(time: f64) -> (f64, f64) {
    let (room, way) = (SIZE.0 as f64 + 9.0, 50.0 * (time - 15.0));
    let position = way.rem_euclid(2.0 * room);
    let left = position.min(2.0 * room - position) - 9.0;
    (left, left + 9.0)
}

#[test]
fn regions_are_where_the_runner_is_and_keep_their_id() {
    let mut rig = Rig::grey(&QUICK, 10);
    rig.push_scene(&runner(), 10, 0..170);
    let mut ids = Vec::new();
    let mut overlapping = 0;
    for result in rig.take_results() {
        let Prediction {
            regions,
            label,
            region,
            frame,
            ..
        } = &result.prediction;
        if *label != Some(Label::Anomaly) {
            assert!(regions.is_empty(), "frame {frame}");
            continue;
        }
        assert_eq!(regions[0].region, *region, "the first one is the strongest");
        for found in regions {
            let Region { x, y, width, height } = found.region;
            assert!(
                (x + width) as usize <= SIZE.0 && (y + height) as usize <= SIZE.1,
                "{found:?}"
            );
            assert!(
                (0.0..=1.0).contains(&found.score) && found.region.area() > 0,
                "{found:?}"
            );
        }
        let (left, right) = runner_at(*frame as f64 / 10.0);
        overlapping += usize::from(f64::from(region.x) < right && f64::from(region.x + region.width) > left);
        ids.push(regions[0].id);
    }
    assert!(ids.len() > 10, "{} anomalous frames", ids.len());
    assert!(
        overlapping >= ids.len() - 2,
        "{overlapping} of {} overlap",
        ids.len()
    );
    let first = ids.iter().filter(|&&id| id == ids[ids.len() / 2]).count();
    assert!(
        2 * first > ids.len(),
        "one thing has one id for most of the time: {ids:?}"
    );
}

#[test]
fn the_map_is_attached_on_request_and_hot_where_the_regions_are() {
    let mut rig = Rig::grey(&QUICK, 10);
    rig.push_scene(&runner(), 10, 0..10);
    assert!(
        rig.take_results()
            .iter()
            .all(|result| result.anomaly_map.is_none())
    );
    rig.element.set_property("attach-map", true);
    rig.element.set_property("attach-reconstruction", true);
    rig.push_scene(&runner(), 10, 10..170);
    let mut hot = 0;
    for buffer in rig.take_buffers() {
        let meta = gst::meta::CustomMeta::from_buffer(&buffer, gstvaeanomaly::META_NAME).unwrap();
        let sample = meta.structure().get::<gst::Sample>("anomaly-map").unwrap();
        let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        assert_eq!(info.format(), gst_video::VideoFormat::Gray8);

        let result = FrameResult::read(&buffer).unwrap();
        let map = result.anomaly_map.as_ref().unwrap();
        assert_eq!((map.width, map.height), (info.width(), info.height()));
        assert!(map.pixels.iter().all(|&value| value > 0), "nothing is ignored");
        let reconstruction = result.reconstruction.as_ref().unwrap();
        assert_eq!(
            reconstruction.pixels.len() as u32,
            3 * reconstruction.width * reconstruction.height
        );
        for found in &result.prediction.regions {
            // Highest value in the cells that the region touches, and one cell around them.
            let cell =
                |v: u32, size: usize, cells: u32| (f64::from(v) * f64::from(cells) / size as f64) as u32;
            let Region { x, y, width, height } = found.region;
            let columns =
                cell(x, SIZE.0, map.width).saturating_sub(1)..=cell(x + width, SIZE.0, map.width) + 1;
            let rows =
                cell(y, SIZE.1, map.height).saturating_sub(1)..=cell(y + height, SIZE.1, map.height) + 1;
            let cells = rows.flat_map(|row| columns.clone().map(move |column| (column, row)));
            let values = cells
                .filter(|&(column, row)| column < map.width && row < map.height)
                .map(|(column, row)| map.pixels[(row * map.width + column) as usize]);
            let highest = f64::from(values.max().unwrap() - 1) / 254.0;
            if found.score > 0.5 {
                hot += 1;
                assert!(highest > 0.5, "{found:?} {highest}");
            }
        }
    }
    assert!(hot > 10, "{hot}");
}

#[test]
fn what_is_ignored_has_no_region_and_no_heat() {
    let mut rig = Rig::grey(&QUICK, 10);
    rig.element.set_property("ignore-regions", "0,0 0.5,0 0.5,1 0,1");
    rig.element.set_property("attach-map", true);
    rig.push_scene(&runner(), 10, 0..170);
    let mut anomalous = 0;
    for result in rig.take_results() {
        if result.prediction.label.is_none() {
            continue;
        }
        let map = result.anomaly_map.as_ref().unwrap();
        for (i, &value) in map.pixels.iter().enumerate() {
            let right = (i as u32 % map.width + 1) as f64 / f64::from(map.width);
            assert!(
                value == 0 || right > 0.5,
                "cell {i} of {}x{}",
                map.width,
                map.height
            );
        }
        for found in &result.prediction.regions {
            anomalous += 1;
            assert!(found.region.x as usize >= SIZE.0 / 2 - 2, "{found:?}");
        }
    }
    assert!(anomalous > 3, "the runner is also found in the other half");
}
