//! The two pictures of the demo: the score over time, and a sheet of what was found.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use resvg::tiny_skia::{FilterQuality, IntSize, Pixmap, PixmapPaint, Transform};

use crate::common::chart::{Chart, escape};
use crate::common::raster;
use crate::media::Picture;
use crate::summary::{Found, Summary, clock};

/// Width of one picture on the sheet, and the height of its caption, in pixels.
const TILE: f32 = 480.0;
const CAPTION: f32 = 30.0;
const GAP: f32 = 8.0;

/// Draws score, threshold, ground truth and life cycle over time.
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
    raster::write_png(&chart.svg(), 1.5, path)
}

/// Stretches in which the element does not decide yet: state, from, to.
fn learning(summary: &Summary) -> Vec<(String, f64, f64)> {
    let mut spans: Vec<(String, f64, f64)> = Vec::new();
    for frame in summary.frames.iter().filter(|f| !f.decides()) {
        match spans.last_mut() {
            Some((_, _, to)) if frame.time - *to < 1.0 => *to = frame.time,
            _ => spans.push((frame.state.clone(), frame.time, frame.time)),
        }
    }
    spans
}

/// Draws one tile an event: its strongest frame with the place marked.
pub fn write_sheet(summary: &Summary, tiles: &[(Found, Picture)], path: &Path) -> Result<()> {
    let Some((_, first)) = tiles.first() else {
        return Ok(());
    };
    let columns = tiles.len().clamp(1, 3);
    let rows = tiles.len().div_ceil(columns);
    let scale = TILE / first.width as f32;
    let tile_height = first.height as f32 * scale;
    let (step_x, step_y) = (TILE + GAP, tile_height + CAPTION + GAP);
    let (width, height) = (columns as f32 * step_x + GAP, rows as f32 * step_y + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"DejaVu Sans\" font-size=\"15\">"
    );
    let size = IntSize::from_wh(width as u32, height as u32).context("the sheet is empty")?;
    let mut sheet = Pixmap::new(size.width(), size.height()).context("the sheet is too large")?;
    sheet.fill(resvg::tiny_skia::Color::from_rgba8(24, 27, 32, 255));
    for (i, (found, picture)) in tiles.iter().enumerate() {
        let (x, y) = (
            (i % columns) as f32 * step_x + GAP,
            (i / columns) as f32 * step_y + GAP,
        );
        let size = IntSize::from_wh(picture.width, picture.height).context("an empty picture")?;
        let frame = Pixmap::from_vec(picture.data.clone(), size).context("a picture of the wrong size")?;
        let paint = PixmapPaint {
            quality: FilterQuality::Bicubic,
            ..PixmapPaint::default()
        };
        let place = Transform::from_row(scale, 0.0, 0.0, scale, x, y);
        sheet.draw_pixmap(0, 0, frame.as_ref(), &paint, place, None);
        mark(&mut svg, summary, found, (x, y), scale, tile_height);
    }
    svg.push_str("</svg>");
    raster::draw_over(&svg, &mut sheet)?;
    sheet
        .save_png(path)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The box round the strongest place, and the caption.
fn mark(svg: &mut String, summary: &Summary, found: &Found, (x, y): (f32, f32), scale: f32, height: f32) {
    let [px, py, pw, ph] = found.place.map(|v| v as f32 * scale);
    // The frame is drawn round the place, not on it.
    let air = 2.0;
    let left = (px - air).clamp(0.0, TILE);
    let top = (py - air).clamp(0.0, height);
    let right = (px + pw + air).clamp(0.0, TILE);
    let bottom = (py + ph + air).clamp(0.0, height);
    let what = match found.planted {
        Some(index) => summary.planted[index].kind.clone(),
        None if summary.planted.is_empty() => String::new(),
        None => "nothing planted here".into(),
    };
    let color = if found.planted.is_none() && !summary.planted.is_empty() {
        "#f0b429"
    } else {
        "#ff3b30"
    };
    let caption = format!("{}   peak {:.2}   {}", clock(found.shown_time), found.peak, what);
    let _ = write!(
        svg,
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"4\" fill=\"none\" stroke=\"{color}\" \
         stroke-width=\"3\"/><text x=\"{:.1}\" y=\"{:.1}\" fill=\"#e8eaed\">{}</text>",
        x + left,
        y + top,
        right - left,
        bottom - top,
        x + 4.0,
        y + height + 21.0,
        escape(&caption)
    );
}
