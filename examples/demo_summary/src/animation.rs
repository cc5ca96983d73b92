//! An animated WebP of the events, from a video with the overlay.
//!
//! `webpenc` encodes single images; this puts them into one file as in the WebP container specification
//! (<https://developers.google.com/speed/webp/docs/riff_container>).

use std::path::Path;

use anyhow::{Context, Result, ensure};
use gst::prelude::*;

use crate::media;
use crate::summary::Summary;

/// Images per second and per event.
const RATE: f64 = 5.0;
const IMAGES: f64 = 7.0;
/// Width in pixels, and quality of the encoder from 0 to 100.
const WIDTH: i32 = 420;
const QUALITY: f64 = 38.0;

/// Writes some seconds around the strongest frame of every event of `source`. Writes nothing without events.
pub fn write(summary: &Summary, source: &str, file: &Path) -> Result<()> {
    let half = IMAGES / RATE / 2.0;
    let mut last = f64::NEG_INFINITY;
    let mut frames = Vec::new();
    media::for_each_frame(source, |time, sample| {
        let is_near = |event_time: f64| (time - event_time).abs() <= half;
        if summary.events.iter().any(|e| is_near(e.image_time)) && time - last > 1.0 / RATE - 0.01 {
            last = time;
            frames.push(sample.clone());
        }
        Ok(())
    })?;
    let Some(first) = frames.first() else {
        return Ok(());
    };
    let (width, height) = media::size(first)?;
    let size = (WIDTH, (WIDTH * height / width) & !1);
    let images = frames
        .iter()
        .map(|frame| still(frame, size))
        .collect::<Result<Vec<_>>>()?;
    let content = animated(&images, size, (1000.0 / RATE) as u32)?;
    std::fs::write(file, content).with_context(|| file.display().to_string())
}

/// The image as a WebP file.
fn still(frame: &gst::Sample, (width, height): (i32, i32)) -> Result<Vec<u8>> {
    let description = format!(
        "appsrc name=source ! videoconvert ! videoscale ! video/x-raw,format=I420,width={width},height={height} \
         ! webpenc quality={QUALITY} speed=6 ! appsink name=sink sync=false"
    );
    let pipeline =
        gst::parse::launch(&description).context("images need webpenc (gstreamer1.0-plugins-bad)")?;
    let bin = pipeline.downcast_ref::<gst::Bin>().context("no pipeline")?;
    let source = bin
        .by_name("source")
        .and_downcast::<gst_app::AppSrc>()
        .context("no source")?;
    let sink = bin
        .by_name("sink")
        .and_downcast::<gst_app::AppSink>()
        .context("no sink")?;
    source.set_caps(frame.caps_owned().as_ref());
    pipeline.set_state(gst::State::Playing)?;
    source.push_buffer(frame.buffer_owned().context("a frame without a buffer")?)?;
    source.end_of_stream()?;
    let image = sink.pull_sample().context("a frame cannot be encoded as WebP")?;
    pipeline.set_state(gst::State::Null)?;
    let content = image
        .buffer()
        .context("an image without content")?
        .map_readable()?;
    Ok(content.to_vec())
}

/// One file from images of one size, each shown for `duration` milliseconds, again and again.
fn animated(images: &[Vec<u8>], (width, height): (i32, i32), duration: u32) -> Result<Vec<u8>> {
    let number = |value: u32| [value as u8, (value >> 8) as u8, (value >> 16) as u8];
    let size = [number(width as u32 - 1), number(height as u32 - 1)].concat();
    let mut body = b"WEBP".to_vec();
    let mut chunk = |name: &[u8; 4], content: &[u8]| {
        body.extend_from_slice(name);
        body.extend_from_slice(&(content.len() as u32).to_le_bytes());
        body.extend_from_slice(content);
        if content.len() % 2 == 1 {
            body.push(0);
        }
    };
    // Flags: it is an animation.
    chunk(b"VP8X", &[&[0b10, 0, 0, 0][..], &size].concat());
    // Background, and 0 = endless.
    chunk(b"ANIM", &[0, 0, 0, 255, 0, 0]);
    for image in images {
        ensure!(
            image.starts_with(b"RIFF") && image.len() > 12,
            "webpenc gave no WebP image"
        );
        let at = [number(0), number(0)].concat();
        // Flags: drawn over the previous image as it is.
        let head = [&at[..], &size, &number(duration), &[0b10]].concat();
        chunk(b"ANMF", &[&head, &image[12..]].concat());
    }
    let mut file = b"RIFF".to_vec();
    file.extend_from_slice(&(body.len() as u32).to_le_bytes());
    file.extend(body);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_put_into_one_container() {
        let still = [&b"RIFF\x0a\0\0\0WEBPVP8 "[..], &[3, 0, 0, 0, 1, 2, 3, 0]].concat();
        let file = animated(&[still.clone(), still], (420, 236), 200).unwrap();
        let length = u32::from_le_bytes(file[4..8].try_into().unwrap()) as usize;
        assert_eq!(file.len(), length + 8);
        assert_eq!(&file[8..16], b"WEBPVP8X");
        assert_eq!(&file[24..30], [163, 1, 0, 235, 0, 0], "width and height less one");
        assert_eq!(file.windows(4).filter(|name| name == b"ANMF").count(), 2);
        assert!(animated(&[b"PNG".to_vec()], (4, 4), 100).is_err());
    }
}
