//! Formats, sizes, strides, and changes of caps in mid-stream.

mod common;

use std::str::FromStr;

use common::rig::{self, Rig};
use common::synthetic::{SIZE, Scene};
use gst::prelude::*;
use gstvaeanomaly::FrameResult;
use gstvaeanomaly::detector::{PixelFormat, State};

/// A small model: what matters here is how the pixels are read.
const SMALL: [(&str, &str); 4] = [
    ("net-arch", "[(2,3,4)]"),
    ("model-width", "16"),
    ("latent-dim", "2"),
    ("warm-up", "4"),
];
const FRAMES: u64 = 8;

fn info(format: &str, width: u32, height: u32) -> gst_video::VideoInfo {
    let format = gst_video::VideoFormat::from_str(format).unwrap();
    gst_video::VideoInfo::builder(format, width, height)
        .fps(gst::Fraction::new(10, 1))
        .build()
        .unwrap()
}

/// Padding of a buffer's layout: bytes before each plane and after each row.
#[derive(Clone, Copy, Debug)]
struct Padding {
    before: usize,
    after: usize,
}

const NONE: Padding = Padding { before: 0, after: 0 };

/// Grey level of frame `i` of a moving texture.
fn texture(x: usize, y: usize, i: u64) -> u8 {
    let i = i as usize;
    let tile = ((x + i) / 4 * 7 + y / 3 * 13) % 17;
    (40 + 9 * tile + (x * y + i) % 5) as u8
}

/// Offsets and strides of the planes, and the total size.
fn layout(info: &gst_video::VideoInfo, padding: Padding) -> (Vec<usize>, Vec<i32>, usize) {
    let planes = info.n_planes() as usize;
    let bound = |plane: usize| info.offset().get(plane).copied().filter(|_| plane < planes);
    let (mut offsets, mut strides, mut size) = (Vec::new(), Vec::new(), 0);
    for plane in 0..planes {
        let bytes = bound(plane + 1).unwrap_or(info.size()) - info.offset()[plane];
        let stride = info.stride()[plane] as usize;
        offsets.push(size + padding.before);
        strides.push((stride + padding.after) as i32);
        size += padding.before + bytes.div_ceil(stride) * (stride + padding.after);
    }
    (offsets, strides, size)
}

/// A colourless frame of the texture in any format; the padding is noise.
fn frame(info: &gst_video::VideoInfo, padding: Padding, i: u64) -> gst::Buffer {
    let (offsets, strides, size) = layout(info, padding);
    let mut bytes: Vec<u8> = (0..size).map(|n| (n * 31 + 7) as u8).collect();
    for component in 0..info.n_components() as u8 {
        paint(&mut bytes, info, component, (&offsets, &strides), i);
    }
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    let buffer_mut = buffer.get_mut().unwrap();
    buffer_mut.set_pts(rig::frame_time(10, i));
    buffer_mut.set_duration(rig::frame_time(10, 1));
    if padding.before + padding.after > 0 {
        let flags = gst_video::VideoFrameFlags::empty();
        let (width, height) = (info.width(), info.height());
        gst_video::VideoMeta::add_full(
            buffer_mut,
            flags,
            info.format(),
            width,
            height,
            &offsets,
            &strides,
        )
        .unwrap();
    }
    buffer
}

fn paint(
    bytes: &mut [u8],
    info: &gst_video::VideoInfo,
    component: u8,
    (offsets, strides): (&[usize], &[i32]),
    i: u64,
) {
    let plane = info.comp_plane(component) as usize;
    let (width, height) = (
        info.comp_width(component) as usize,
        info.comp_height(component) as usize,
    );
    let step = info.comp_pstride(component) as usize;
    // GStreamer 1.22.0 has 1 for P010's last component.
    let offset = match (info.comp_depth(component) > 8, component) {
        (true, 2) => 2,
        _ => info.comp_poffset(component) as usize,
    };
    let first = offsets[plane] + offset;
    let textured = component == 0 || info.is_rgb() && component < 3;
    for y in 0..height {
        for x in 0..width {
            let value = if textured { texture(x, y, i) } else { 128 };
            let at = first + y * strides[plane] as usize + x * step;
            if info.comp_depth(component) > 8 {
                bytes[at..at + 2].copy_from_slice(&(u16::from(value) << 8).to_le_bytes());
            } else {
                bytes[at] = value;
            }
        }
    }
}

/// The texture's results in one format, size and layout.
fn results(info: &gst_video::VideoInfo, padding: Padding) -> Vec<FrameResult> {
    let mut rig = Rig::new(&SMALL);
    rig.harness.set_src_caps(info.to_caps().unwrap());
    for i in 0..FRAMES {
        rig.push(frame(info, padding, i));
    }
    assert_eq!(rig.stats().get("unscored"), Ok(0u64), "{info:?}");
    rig.take_results()
}

#[test]
fn every_format_in_odd_sizes_and_any_stride() {
    for format in PixelFormat::ALL {
        for (width, height) in [(17, 19), (33, 16), (161, 121)] {
            let info = info(format.name(), width, height);
            let plain = results(&info, NONE);
            assert_eq!(plain.len(), FRAMES as usize);
            assert!(plain.iter().all(|r| r.prediction.raw_score.is_finite()));
            assert_ne!(
                plain[FRAMES as usize - 1].prediction.raw_score,
                0.0,
                "{} scores",
                format.name()
            );
            let padding = Padding {
                before: 52,
                after: 20,
            };
            assert_eq!(
                results(&info, padding),
                plain,
                "{} {width}x{height}",
                format.name()
            );
        }
    }
}

#[test]
fn formats_with_the_same_content_get_the_same_scores() {
    let raw = |format: &str| -> Vec<f64> {
        let results = results(&info(format, 64, 36), NONE);
        results.iter().map(|r| r.prediction.raw_score).collect()
    };
    let i420 = raw("I420");
    for format in [
        "YV12",
        "NV12",
        "NV21",
        "NV16",
        "Y42B",
        "Y444",
        "YUY2",
        "UYVY",
        "P010_10LE",
    ] {
        for (a, b) in raw(format).iter().zip(&i420) {
            // P010 has two more bits, which are zero here.
            assert!((a - b).abs() < 0.05, "{format}: {a}, I420 {b}");
        }
    }
    let rgb = raw("RGB");
    for format in [
        "BGR", "RGBx", "BGRx", "xRGB", "xBGR", "RGBA", "BGRA", "ARGB", "ABGR",
    ] {
        for (a, b) in raw(format).iter().zip(&rgb) {
            assert!((a - b).abs() < 1e-6, "{format}: {a}, RGB {b}");
        }
    }
}

#[test]
fn learnt_state_is_kept_if_the_aspect_ratio_stays() {
    let mut rig = Rig::new(&SMALL);
    let mut feed = |format: &str, width: u32, height: u32, from: u64| {
        let info = info(format, width, height);
        rig.harness.set_src_caps(info.to_caps().unwrap());
        for i in from..from + FRAMES {
            rig.push(frame(&info, NONE, i));
        }
        rig.take_results()
    };
    let first = feed("I420", 64, 48, 0);
    assert_eq!(first[7].prediction.state, State::Detecting);
    for (round, (format, width, height)) in [
        ("NV12", 64, 48),
        ("RGB", 64, 48),
        ("I420", 128, 96),
        ("GRAY8", 48, 36),
    ]
    .into_iter()
    .enumerate()
    {
        let from = FRAMES * (round as u64 + 1);
        let seen = feed(format, width, height, from);
        assert_eq!(seen[0].prediction.frame, from, "frame numbers continue");
        assert!(
            seen.iter()
                .all(|r| [State::Detecting, State::Adapting].contains(&r.prediction.state)),
            "{format} {width}x{height} continues"
        );
        assert!(
            seen.iter()
                .all(|r| r.prediction.region.x + r.prediction.region.width <= width),
            "locations in the new image"
        );
    }
    let other = feed("I420", 48, 64, 5 * FRAMES);
    assert_eq!(
        other[0].prediction.state,
        State::WarmingUp,
        "another aspect ratio is another camera"
    );
    assert_eq!(other[0].prediction.frame, 5 * FRAMES);
}

#[test]
fn streams_without_rate_or_times_are_scored() {
    for (caps, timed) in [
        ("framerate=0/1", true),
        ("framerate=0/1", false),
        ("framerate=25/1", false),
        ("framerate=30/1,max-framerate=60/1", true),
        ("framerate=25/1,interlace-mode=mixed", true),
        (
            "framerate=25/1,interlace-mode=interleaved,field-order=top-field-first",
            true,
        ),
        ("framerate=25/1,pixel-aspect-ratio=16/11,colorimetry=bt709", true),
    ] {
        let mut rig = Rig::new(&[
            ("warm-up", "10"),
            ("drop-normal", "true"),
            ("keepalive-interval", "200000000"),
        ]);
        let (width, height) = SIZE;
        rig.harness.set_src_caps_str(&format!(
            "video/x-raw,format=GRAY8,width={width},height={height},{caps}"
        ));
        for i in 0..40 {
            let mut buffer = rig::grey_frame(&Scene::quiet(), 10, i);
            if !timed {
                let buffer = buffer.get_mut().unwrap();
                buffer.set_pts(None);
                buffer.set_duration(None);
            }
            rig.push(buffer);
        }
        let stats = rig.stats();
        assert_eq!(stats.get("frames"), Ok(40u64), "{caps}: {stats}");
        let results = rig.take_results();
        assert!(
            (11..40).contains(&results.len()),
            "{caps} timed={timed}: {} kept",
            results.len()
        );
        assert!(
            results.iter().all(|r| r.prediction.raw_score.is_finite()),
            "{caps}"
        );
    }
}

#[test]
fn caps_outside_the_template_are_rejected() {
    for caps in [
        "video/x-raw,format=GRAY8,width=15,height=64,framerate=10/1",
        "video/x-raw,format=GRAY8,width=64,height=8,framerate=10/1",
        "video/x-raw,format=GRAY8,width=20000,height=64,framerate=10/1",
        "video/x-raw,format=GRAY8,width=64,height=16385,framerate=10/1",
        "video/x-raw,format=v210,width=64,height=64,framerate=10/1",
        "video/x-raw(memory:GLMemory),format=RGBA,width=64,height=64,framerate=10/1",
        "video/x-h264",
    ] {
        let element = rig::element(&[]);
        let sink = element.static_pad("sink").unwrap();
        element.set_state(gst::State::Paused).unwrap();
        let caps = gst::Caps::from_str(caps).unwrap();
        assert!(!sink.query_accept_caps(&caps), "{caps}");
        sink.send_event(gst::event::StreamStart::new("test"));
        assert!(!sink.send_event(gst::event::Caps::new(&caps)), "{caps}");
        element.set_state(gst::State::Null).unwrap();
    }
}

/// What the caps promise, the core processes.
#[test]
fn the_largest_size_of_the_caps_is_scored() {
    let mut rig = Rig::new(&SMALL);
    for (width, height) in [(16_384, 16), (16, 16_384)] {
        let info = info("GRAY8", width, height);
        rig.harness.set_src_caps(info.to_caps().unwrap());
        rig.push(frame(&info, NONE, 0));
        assert_eq!(rig.take_results().len(), 1, "{width}x{height}");
    }
}

#[test]
fn a_buffer_that_is_too_small_passes_unscored_with_one_warning() {
    let mut rig = Rig::grey(&[], 10);
    rig.push_scene(&Scene::quiet(), 10, 0..2);
    for _ in 0..2 {
        rig.push(gst::Buffer::from_slice([0u8; 100]));
    }
    rig.push_scene(&Scene::quiet(), 10, 4..6);
    assert_eq!(rig.take_buffers().len(), 6, "nothing is lost");
    assert_eq!(rig.stats().get("unscored"), Ok(2u64));
    let warnings = std::iter::from_fn(|| rig.bus.pop_filtered(&[gst::MessageType::Warning])).count();
    assert_eq!(warnings, 1);
}
