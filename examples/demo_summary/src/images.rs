//! The two images of the demo: the score over time, and a sheet of the anomalies found.
//!
//! Both are SVG that GStreamer renders (`rsvgdec`), so the demo needs no drawing library of its own.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use chart::{Chart, escape};

use crate::media;
use crate::summary::{Event, Summary, clock};

/// Maximum number of tiles, for the strongest events.
const MOST_TILES: usize = 12;
/// Width of a tile and height of its caption in pixels.
const TILE: i32 = 480;
const CAPTION: i32 = 30;
const GAP: i32 = 8;

/// A frame that shows an event, scaled to [`TILE`] pixels wide.
pub struct Tile {
    event: Event,
    height: i32,
    png: gst::Buffer,
}

/// Draws score, threshold, ground truth and life-cycle states over time.
pub fn write_chart(summary: &Summary, path: &Path) -> Result<()> {
    let mut chart = Chart::new("vaeanomaly: score over time", 1200, 340)
        .time_axis("time (m:ss)", 0.0, summary.duration())
        .y_axis("score (0.5 = threshold)", 0.0, 1.0);
    for (state, from, to) in learning(summary) {
        let label = if state == "adapting" {
            "adapting"
        } else {
            "learning, nothing is dropped"
        };
        chart = chart.band(label, from, to, "#e4e8ee");
    }
    for planted in &summary.planted {
        chart = chart.band("ground truth", planted.from, planted.to, "#f7c6c0");
    }
    let points = summary.frames.iter().map(|f| (f.time, f.score));
    let chart = chart
        .line("score", points, "#1f5fa8")
        .threshold("threshold", 0.5, "#c0392b");
    media::write_svg_as_png(&chart.scaled_svg(1.5), (1800, 510), path)
}

/// Spans without labels: state, from, to.
fn learning(summary: &Summary) -> Vec<(String, f64, f64)> {
    let mut spans: Vec<(String, f64, f64)> = Vec::new();
    for frame in summary.frames.iter().filter(|f| !f.is_labelled()) {
        match spans.last_mut() {
            Some((_, _, to)) if frame.time - *to < 1.0 => *to = frame.time,
            _ => spans.push((frame.state.clone(), frame.time, frame.time)),
        }
    }
    spans
}

/// Decodes a video, the source or what was kept of it with the overlay, and takes one frame of each of the strongest events, in order of time.
pub fn tiles(summary: &Summary, source: &str) -> Result<Vec<Tile>> {
    let mut events = summary.events.clone();
    events.sort_by(|a, b| b.peak.total_cmp(&a.peak));
    events.truncate(MOST_TILES);
    events.sort_by(|a, b| a.image_time.total_cmp(&b.image_time));
    let mut tiles = Vec::new();
    if events.is_empty() {
        return Ok(tiles);
    }
    media::for_each_frame(source, |time, sample| {
        if let Some(index) = events.iter().position(|e| (e.image_time - time).abs() < 0.002) {
            tiles.push(tile(events.swap_remove(index), sample)?);
        }
        Ok(())
    })?;
    tiles.sort_by(|a, b| a.event.image_time.total_cmp(&b.event.image_time));
    Ok(tiles)
}

fn tile(event: Event, sample: &gst::Sample) -> Result<Tile> {
    let (width, height) = media::size(sample)?;
    let scale = f64::from(TILE) / f64::from(width);
    let height = (f64::from(height) * scale).round() as i32;
    let caps = gst::Caps::builder("image/png")
        .field("width", TILE)
        .field("height", height)
        .build();
    let png = gst_video::convert_sample(sample, &caps, Some(gst::ClockTime::from_seconds(10)))
        .context("a frame cannot be encoded as PNG")?;
    let png = png.buffer_owned().context("a PNG sample without a buffer")?;
    Ok(Tile { event, height, png })
}

/// Draws one tile per event with a caption. Writes nothing without tiles.
pub fn write_sheet(summary: &Summary, tiles: &[Tile], path: &Path) -> Result<()> {
    let Some(first) = tiles.first() else {
        return Ok(());
    };
    let columns = tiles.len().min(3);
    let (rows, columns) = (tiles.len().div_ceil(columns) as i32, columns as i32);
    let (step_x, step_y) = (TILE + GAP, first.height + CAPTION + GAP);
    let (width, height) = (columns * step_x + GAP, rows * step_y + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" width=\"{width}\" \
         height=\"{height}\" font-family=\"DejaVu Sans\" font-size=\"15\">\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#181b20\"/>"
    );
    for (i, tile) in (0..).zip(tiles) {
        let (x, y) = (i % columns * step_x + GAP, i / columns * step_y + GAP);
        draw_tile(&mut svg, summary, tile, (x, y))?;
    }
    svg.push_str("</svg>");
    media::write_svg_as_png(&svg, (width, height), path)
}

fn draw_tile(svg: &mut String, summary: &Summary, tile: &Tile, (x, y): (i32, i32)) -> Result<()> {
    let event = &tile.event;
    let planted = event.planted.map(|index| summary.planted[index].kind.as_str());
    let is_false_alarm = planted.is_none() && !summary.planted.is_empty();
    let (what, color) = if is_false_alarm {
        ("nothing planted here", "#f0b429")
    } else {
        (planted.unwrap_or_default(), "#e8eaed")
    };
    let caption = format!("{} · peak {:.2} · {what}", clock(event.image_time), event.peak);
    let (width, height) = (f64::from(TILE), f64::from(tile.height));
    let png = tile.png.map_readable()?;
    write!(
        svg,
        "<g transform=\"translate({x} {y})\"><image width=\"{width}\" height=\"{height}\" \
         xlink:href=\"data:image/png;base64,{}\"/><text x=\"4\" y=\"{:.1}\" fill=\"{color}\">{}</text></g>",
        gst::glib::base64_encode(&png),
        height + 21.0,
        escape(&caption)
    )?;
    Ok(())
}
