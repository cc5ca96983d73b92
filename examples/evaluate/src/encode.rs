//! Size of an encoded recording, with and without the normal frames.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use gst::prelude::*;

use crate::clips::Frames;
use crate::stream::{self, ElementSettings};

/// The result of encoding one pass.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The encoder.
    pub encoder: &'static str,
    /// Bytes of each encoded frame, by its number in the stream.
    pub sizes: BTreeMap<u64, u64>,
}

impl Recording {
    /// Number of frames and bytes from frame `first` on.
    pub fn totals_from(&self, first: u64) -> (u64, u64) {
        self.sizes
            .range(first..)
            .fold((0, 0), |(frames, bytes), (_, size)| (frames + 1, bytes + size))
    }

    /// Sizes of all `count` frames of the stream, 0 for dropped ones.
    pub fn per_frame(&self, count: usize) -> Vec<u64> {
        (0..count as u64)
            .map(|number| self.sizes.get(&number).copied().unwrap_or(0))
            .collect()
    }
}

/// Encoders in order of preference, all at constant quality.
const ENCODERS: [(&str, &[(&str, &str)]); 3] = [
    (
        "x264enc",
        &[
            ("speed-preset", "veryfast"),
            ("tune", "zerolatency"),
            ("pass", "quant"),
            ("quantizer", "25"),
            ("threads", "1"),
        ],
    ),
    (
        "vp8enc",
        &[
            ("deadline", "1"),
            ("end-usage", "cq"),
            ("cq-level", "20"),
            ("target-bitrate", "100000000"),
        ],
    ),
    ("jpegenc", &[("quality", "85")]),
];

/// Encodes `frames`: all of them, or with `dropping` those that the element passes.
///
/// `None` if no encoder is installed.
pub fn record(
    frames: Frames,
    dropping: Option<&ElementSettings>,
    frame_rate: f64,
) -> Result<Option<Recording>> {
    let Some((encoder, element)) = make_encoder(frame_rate)? else {
        return Ok(None);
    };
    let mut chain = Vec::new();
    if let Some(settings) = dropping {
        let filter = stream::make_element(settings)?;
        filter.set_property("drop-normal", true);
        chain.push(filter);
    }
    chain.push(gst::ElementFactory::make("videoconvert").build()?);
    chain.push(element);
    let mut sizes = BTreeMap::new();
    stream::pump(frames, &chain, |id, sample| {
        let size = sample
            .buffer()
            .context("an encoded frame without a buffer")?
            .size();
        sizes.insert(id.number, size as u64);
        Ok(())
    })?;
    Ok(Some(Recording { encoder, sizes }))
}

/// The first installed encoder, with a key frame every two seconds.
fn make_encoder(frame_rate: f64) -> Result<Option<(&'static str, gst::Element)>> {
    let Some((name, properties)) = ENCODERS
        .into_iter()
        .find(|(name, _)| gst::ElementFactory::find(name).is_some())
    else {
        return Ok(None);
    };
    let element = gst::ElementFactory::make(name).build()?;
    for (property, value) in properties {
        element.set_property_from_str(property, value);
    }
    let distance = ((2.0 * frame_rate).round() as u32).max(1);
    match name {
        "x264enc" => element.set_property("key-int-max", distance),
        "vp8enc" => element.set_property("keyframe-max-dist", distance as i32),
        _ => {}
    }
    Ok(Some((name, element)))
}
