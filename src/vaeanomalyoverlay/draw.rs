//! From the metadata of a frame to small images and where they go. Knows no GStreamer.
//!
//! All sizes follow the height of the frame, so that the drawing looks alike at 320x240 and at 4K.

use std::collections::VecDeque;

use tiny_skia::{Color, FillRule, Paint, PathBuilder, Pixmap, PremultipliedColorU8, Rect, Stroke, Transform};

use super::{Show, text};
use crate::detector::{AnomalousRegion, CueKind, Label, Region};
use crate::vaeanomaly::{FrameResult, SmallImage};

/// An image that is drawn over the frame, stretched over `target`.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) width: u32,
    pub(super) height: u32,
    /// R, G, B, A, the colours not multiplied with the opacity: GStreamer loses the flag of such an overlay when it scales
    /// it.
    pub(super) rgba: Vec<u8>,
    pub(super) target: Region,
}

impl Layer {
    fn new(pixmap: &Pixmap, target: Region) -> Self {
        let straight = |pixel: &PremultipliedColorU8| {
            let color = pixel.demultiply();
            [color.red(), color.green(), color.blue(), color.alpha()]
        };
        Self {
            width: pixmap.width(),
            height: pixmap.height(),
            rgba: pixmap.pixels().iter().flat_map(straight).collect(),
            target,
        }
    }
}

/// Height of the frame over height of the font, and the smallest font in pixels.
const LINES: f32 = 28.0;
const SMALLEST_FONT: f32 = 10.0;
/// Shares of the frame's width: strip and reconstruction.
const STRIP: f32 = 0.36;
const INSET: f32 = 0.26;
/// Pixels of the heat map for each cell, in both directions.
const FINE: usize = 8;
/// Score at which a cell begins to show, and opacity of the hottest ones.
const FAINTEST: f32 = 0.3;
const HOTTEST: f32 = 0.6;
/// Opacity of what is ignored, and distance of its stripes in cells.
const IGNORED: f32 = 0.45;
const STRIPES: f32 = 2.0;

/// The scores of the last seconds.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Times in seconds and scores.
    scores: VecDeque<(f64, f64)>,
}

/// Scores that are kept.
const MOST_SCORES: usize = 10_000;

impl History {
    /// Takes a score, and forgets what is older than `length` seconds. A jump in time forgets all.
    pub(super) fn add(&mut self, time: f64, score: f64, length: f64) {
        if self
            .scores
            .back()
            .is_some_and(|&(last, _)| time < last || time > last + length)
        {
            self.scores.clear();
        }
        self.scores.push_back((time, score));
        while self.scores.len() > MOST_SCORES
            || self
                .scores
                .front()
                .is_some_and(|&(first, _)| first < time - length)
        {
            self.scores.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        self.scores.clear();
    }
}

/// What is drawn over a frame of `size` = (width, height) pixels; `length` is that of the strip in seconds.
pub(super) fn layers(
    result: &FrameResult,
    history: &History,
    size: (u32, u32),
    show: Show,
    length: f64,
) -> Vec<Layer> {
    let style = Style::new(size);
    let mut layers = Vec::new();
    if let Some(map) = &result.anomaly_map {
        let heat = show.contains(Show::MAP);
        let ignored = show.contains(Show::IGNORED);
        layers.extend(map_layer(map, size, heat, ignored));
    }
    if show.contains(Show::RECONSTRUCTION) {
        layers.extend(
            result
                .reconstruction
                .as_ref()
                .and_then(|image| inset(image, size, &style)),
        );
    }
    let strip = show.contains(Show::STRIP).then_some((history, length));
    if strip.is_some() || show.contains(Show::STATE) {
        layers.extend(panel(result, strip, show.contains(Show::STATE), size, &style));
    }
    if show.contains(Show::BOXES) {
        let regions = result.regions_in(size.0, size.1);
        // The strongest one is drawn last, over the others.
        layers.extend(
            regions
                .iter()
                .rev()
                .flat_map(|region| box_layers(region, size, &style)),
        );
    }
    layers
}

/// Sizes that follow the height of the frame.
struct Style {
    font: f32,
    line: f32,
}

impl Style {
    fn new((_, height): (u32, u32)) -> Self {
        let font = (height as f32 / LINES).max(SMALLEST_FONT).round();
        Self {
            font,
            line: (font / 6.0).round().max(1.0),
        }
    }

    /// Height of a line of text with its margins.
    fn row(&self) -> f32 {
        (1.4 * self.font).ceil()
    }
}

fn paint(r: u8, g: u8, b: u8, a: u8) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(r, g, b, a);
    paint
}

fn white() -> Paint<'static> {
    paint(255, 255, 255, 255)
}

fn plate() -> Color {
    Color::from_rgba8(12, 16, 22, 150)
}

fn cue_color(cue: CueKind) -> (u8, u8, u8) {
    match cue {
        CueKind::Motion => (255, 59, 48),
        CueKind::Appearance => (255, 149, 0),
    }
}

/// A region of whole pixels that is inside a frame; `None` where nothing of it is.
fn inside(
    x: f32,
    y: f32,
    width: f32,
    height: f32,
    (frame_width, frame_height): (u32, u32),
) -> Option<Region> {
    // Casts saturate.
    let (left, upper) = (
        (x.round().max(0.0) as u32).min(frame_width),
        (y.round().max(0.0) as u32).min(frame_height),
    );
    let right = ((x + width).round().max(0.0) as u32).min(frame_width);
    let lower = ((y + height).round().max(0.0) as u32).min(frame_height);
    (right > left && lower > upper).then(|| Region {
        x: left,
        y: upper,
        width: right - left,
        height: lower - upper,
    })
}

/// Four edges around a region, and its label above them, or below at the upper border.
fn box_layers(found: &AnomalousRegion, size: (u32, u32), style: &Style) -> Vec<Layer> {
    let (r, g, b) = cue_color(found.cue);
    let [x, y, w, h] = [
        found.region.x,
        found.region.y,
        found.region.width,
        found.region.height,
    ]
    .map(|v| v as f32);
    let t = style.line;
    let dark = (0.5 * t).round().max(1.0);
    // A dark frame around the coloured one: the colour alone may be as bright as the image.
    let mut layers: Vec<Layer> = [
        (t, dark, Color::from_rgba8(12, 16, 22, 255)),
        (0.0, t, Color::from_rgba8(r, g, b, 255)),
    ]
    .into_iter()
    .flat_map(|(gap, t, color)| {
        let (x, y, w, h) = (x - gap, y - gap, w + 2.0 * gap, h + 2.0 * gap);
        let edges = [
            (x - t, y - t, w + 2.0 * t, t),
            (x - t, y + h, w + 2.0 * t, t),
            (x - t, y, t, h),
            (x + w, y, t, h),
        ];
        edges.into_iter().filter_map(move |(x, y, w, h)| {
            let target = inside(x, y, w, h, size)?;
            let mut pixmap = Pixmap::new(target.width, target.height)?;
            pixmap.fill(color);
            Some(Layer::new(&pixmap, target))
        })
    })
    .collect();
    let label = format!("#{} {} {:.2}", found.id, found.cue, found.score);
    let width = (text::width(&label, style.font) + style.font)
        .ceil()
        .min(size.0 as f32);
    let above = y - t - dark - style.row();
    let top = if above >= 0.0 {
        above
    } else {
        (y + h + t).min(size.1 as f32 - style.row())
    };
    let left = (x - t).min(size.0 as f32 - width).max(0.0);
    let label_layer = || {
        let target = inside(left, top, width, style.row(), size)?;
        let mut pixmap = Pixmap::new(target.width, target.height)?;
        pixmap.fill(plate());
        let badge = Rect::from_xywh(0.0, 0.0, (0.25 * style.font).max(1.0), target.height as f32)?;
        pixmap.fill_rect(badge, &paint(r, g, b, 255), Transform::identity(), None);
        text::draw(
            &mut pixmap,
            &label,
            style.font,
            (0.6 * style.font, 1.05 * style.font),
            &white(),
        );
        Some(Layer::new(&pixmap, target))
    };
    layers.extend(label_layer());
    layers
}

/// Heat from a transparent yellow to red, R, G, B, A.
fn heat(score: f32) -> [u8; 4] {
    let above = ((score - FAINTEST) / (1.0 - FAINTEST)).clamp(0.0, 1.0);
    let byte = |share: f32| (255.0 * share).round() as u8;
    [
        255,
        byte(0.85 * (1.0 - above)),
        byte(0.05 * (1.0 - above)),
        byte(HOTTEST * above.sqrt()),
    ]
}

/// Shade over what is ignored, in stripes.
fn shade(position: f32) -> [u8; 4] {
    let is_stripe = (position / STRIPES).rem_euclid(1.0) < 0.5;
    let opacity = if is_stripe { IGNORED } else { 0.6 * IGNORED };
    [38, 51, 76, (255.0 * opacity) as u8]
}

/// Heat map and ignored cells; `None` where there is nothing to be seen.
fn map_layer(map: &SmallImage, size: (u32, u32), with_heat: bool, with_ignored: bool) -> Option<Layer> {
    let (columns, rows) = (map.width as usize, map.height as usize);
    if map.pixels.len() != columns * rows {
        return None;
    }
    let score = |value: u8| (f32::from(value) - 1.0) / 254.0;
    let seen = |value: u8| match value {
        0 => with_ignored,
        _ => with_heat && score(value) > FAINTEST,
    };
    // Only the cells around what is to be seen.
    let cells = (0..map.pixels.len()).filter(|&i| seen(map.pixels[i]));
    let around = cells.fold(None, |around: Option<[usize; 4]>, i| {
        let (x, y) = (i % columns, i / columns);
        let [left, upper, right, lower] = around.unwrap_or([x, y, x, y]);
        Some([left.min(x), upper.min(y), right.max(x), lower.max(y)])
    });
    let [left, upper, right, lower] = around?;
    let (left, upper) = (left.saturating_sub(1), upper.saturating_sub(1));
    let (right, lower) = ((right + 2).min(columns), (lower + 2).min(rows));

    let (width, height) = ((right - left) * FINE, (lower - upper) * FINE);
    // What is transparent has the colour of the faintest heat, so that scaling gives no dark fringes.
    let [r, g, b, _] = heat(FAINTEST);
    let mut rgba = [r, g, b, 0].repeat(width * height);
    for (i, pixel) in rgba.chunks_exact_mut(4).enumerate() {
        // In cells, from the centre of the first one.
        let x = left as f32 + ((i % width) as f32 + 0.5) / FINE as f32 - 0.5;
        let y = upper as f32 + ((i / width) as f32 + 0.5) / FINE as f32 - 0.5;
        let own = map.pixels[(y + 0.5) as usize * columns + (x + 0.5) as usize];
        if own == 0 {
            if with_ignored {
                pixel.copy_from_slice(&shade(x + y));
            }
        } else if with_heat {
            // Linear between the centres; what is ignored has no part in it.
            let at = |dx: f32, dy: f32| {
                let column = ((x.floor() + dx).max(0.0) as usize).min(columns - 1);
                let row = ((y.floor() + dy).max(0.0) as usize).min(rows - 1);
                let value = map.pixels[row * columns + column];
                score(if value == 0 { own } else { value })
            };
            let (fx, fy) = (x - x.floor(), y - y.floor());
            let upper = at(0.0, 0.0) * (1.0 - fx) + at(1.0, 0.0) * fx;
            let lower = at(0.0, 1.0) * (1.0 - fx) + at(1.0, 1.0) * fx;
            pixel.copy_from_slice(&heat(upper * (1.0 - fy) + lower * fy));
        }
    }
    let scale = |cell: usize, cells: usize, pixels: u32| cell as f32 * pixels as f32 / cells as f32;
    let (x, y) = (scale(left, columns, size.0), scale(upper, rows, size.1));
    let target = inside(
        x,
        y,
        scale(right, columns, size.0) - x,
        scale(lower, rows, size.1) - y,
        size,
    )?;
    Some(Layer {
        width: width as u32,
        height: height as u32,
        rgba,
        target,
    })
}

/// The reconstruction in the upper right corner, with a caption.
fn inset(image: &SmallImage, size: (u32, u32), style: &Style) -> Option<Layer> {
    if image.width == 0 || image.pixels.len() != 3 * (image.width * image.height) as usize {
        return None;
    }
    // It is stretched over the frame, whatever its own aspect ratio.
    let width = (INSET * size.0 as f32).max(1.0);
    let height = (width * size.1 as f32 / size.0 as f32).max(1.0);
    let (border, caption) = (style.line, style.row());
    let (outer_width, outer_height) = (width + 2.0 * border, height + border + caption);
    let margin = style.font * 0.5;
    let target = inside(
        size.0 as f32 - outer_width - margin,
        margin,
        outer_width,
        outer_height,
        size,
    )?;
    let mut pixmap = Pixmap::new(target.width, target.height)?;
    pixmap.fill(Color::from_rgba8(12, 16, 22, 220));
    let mut small = Pixmap::new(image.width, image.height)?;
    for (pixel, rgb) in small.pixels_mut().iter_mut().zip(image.pixels.chunks_exact(3)) {
        *pixel = PremultipliedColorU8::from_rgba(rgb[0], rgb[1], rgb[2], 255)?;
    }
    let stretch = Transform::from_scale(width / image.width as f32, height / image.height as f32);
    let quality = tiny_skia::PixmapPaint {
        quality: tiny_skia::FilterQuality::Bilinear,
        ..tiny_skia::PixmapPaint::default()
    };
    pixmap.draw_pixmap(
        0,
        0,
        small.as_ref(),
        &quality,
        stretch.post_translate(border, border),
        None,
    );
    let baseline = border + height + 1.0 * style.font;
    text::draw(
        &mut pixmap,
        "expected",
        style.font,
        (0.5 * style.font, baseline),
        &white(),
    );
    Some(Layer::new(&pixmap, target))
}

/// State, score and event, and the strip of the last scores below, in the lower left corner.
fn panel(
    result: &FrameResult,
    strip: Option<(&History, f64)>,
    with_state: bool,
    size: (u32, u32),
    style: &Style,
) -> Option<Layer> {
    let prediction = &result.prediction;
    let mut line = format!("{} {:.2}", prediction.state, prediction.score);
    if let Some(id) = result.event_id {
        line += &format!(" event {id}");
    }
    let margin = (0.5 * style.font).round();
    let wanted = match with_state {
        true => text::width(&line, style.font) + 1.6 * style.font,
        false => 0.0,
    };
    let width = (STRIP * size.0 as f32)
        .max(wanted)
        .min(size.0 as f32 - 2.0 * margin);
    let plot = if strip.is_some() {
        (2.6 * style.font).round()
    } else {
        0.0
    };
    let head = if with_state { style.row() } else { 0.0 };
    let height = head + plot;
    let target = inside(margin, size.1 as f32 - height - margin, width, height, size)?;
    let mut pixmap = Pixmap::new(target.width, target.height)?;
    pixmap.fill(plate());
    if with_state {
        let (r, g, b) = match prediction.label {
            Some(Label::Anomaly) => cue_color(prediction.cue),
            Some(Label::Normal) => (80, 200, 120),
            None => (160, 170, 180),
        };
        let side = 0.6 * style.font;
        let badge = Rect::from_xywh(0.4 * style.font, 0.5 * (head - side), side, side)?;
        pixmap.fill_rect(badge, &paint(r, g, b, 255), Transform::identity(), None);
        text::draw(
            &mut pixmap,
            &line,
            style.font,
            (1.3 * style.font, 1.03 * style.font),
            &white(),
        );
    }
    if let Some((history, length)) = strip {
        draw_strip(&mut pixmap, history, length, (head, plot), style);
    }
    Some(Layer::new(&pixmap, target))
}

/// The scores as a line, and the threshold at half the height; what is above it is filled.
fn draw_strip(pixmap: &mut Pixmap, history: &History, length: f64, (top, height): (f32, f32), style: &Style) {
    let width = pixmap.width() as f32;
    let pad = style.line + 1.0;
    let y = |score: f64| top + height - pad - score.clamp(0.0, 1.0) as f32 * (height - 2.0 * pad);
    let threshold = y(0.5);
    let Some(&(now, _)) = history.scores.back() else {
        return;
    };
    let x = |time: f64| width - pad - ((now - time) / length) as f32 * (width - 2.0 * pad);
    if let Some(line) = Rect::from_xywh(0.0, threshold - 0.5, width, 1.0f32.max(0.4 * style.line)) {
        pixmap.fill_rect(line, &paint(255, 255, 255, 110), Transform::identity(), None);
    }
    // One point for each pixel at most.
    let mut points: Vec<(f32, f32)> = Vec::new();
    for &(time, score) in &history.scores {
        let point = (x(time), y(score));
        match points.last_mut() {
            Some(last) if point.0 - last.0 < 1.0 => last.1 = last.1.min(point.1),
            _ => points.push(point),
        }
    }
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return;
    };
    let mut above = PathBuilder::new();
    above.move_to(first.0, threshold);
    points
        .iter()
        .for_each(|&(x, y)| above.line_to(x, y.min(threshold)));
    above.line_to(last.0, threshold);
    above.close();
    if let Some(path) = above.finish() {
        pixmap.fill_path(
            &path,
            &paint(255, 59, 48, 190),
            FillRule::Winding,
            Transform::identity(),
            None,
        );
    }
    let mut line = PathBuilder::new();
    for (i, &(x, y)) in points.iter().enumerate() {
        if i == 0 {
            line.move_to(x, y);
        } else {
            line.line_to(x, y);
        }
    }
    if let Some(path) = line.finish() {
        let stroke = Stroke {
            width: style.line,
            ..Stroke::default()
        };
        pixmap.stroke_path(&path, &white(), &stroke, Transform::identity(), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::{Prediction, State};

    fn result(regions: Vec<AnomalousRegion>) -> FrameResult {
        FrameResult {
            prediction: Prediction {
                frame: 7,
                raw_score: 3.0,
                threshold: 1.75,
                score: 0.78,
                label: Some(Label::Anomaly),
                cue: CueKind::Motion,
                region: regions.first().map(|r| r.region).unwrap_or_default(),
                regions,
                state: State::Detecting,
            },
            event_id: std::num::NonZeroU64::new(3),
            scored: true,
            image_size: (640, 360),
            anomaly_map: None,
            reconstruction: None,
        }
    }

    fn found(x: u32, y: u32) -> AnomalousRegion {
        AnomalousRegion {
            id: 1,
            region: Region {
                x,
                y,
                width: 60,
                height: 40,
            },
            score: 0.9,
            cue: CueKind::Motion,
        }
    }

    #[test]
    fn everything_stays_inside_frames_of_any_size() {
        let mut result = result(vec![found(0, 0), found(580, 320), found(600, 0)]);
        result.anomaly_map = Some(SmallImage {
            width: 45,
            height: 25,
            pixels: (0..45 * 25).map(|i| (i % 256) as u8).collect(),
        });
        result.reconstruction = Some(SmallImage {
            width: 8,
            height: 4,
            pixels: vec![90; 96],
        });
        let mut history = History::default();
        (0..100).for_each(|i| history.add(f64::from(i) * 0.1, f64::from(i % 10) / 10.0, 10.0));
        for size in [
            (16, 16),
            (320, 240),
            (640, 360),
            (1920, 1080),
            (3840, 2160),
            (16, 2000),
            (2000, 16),
        ] {
            let layers = layers(&result, &history, size, Show::all(), 10.0);
            assert!(!layers.is_empty());
            for Layer {
                width,
                height,
                rgba,
                target,
            } in layers
            {
                assert!(
                    target.x + target.width <= size.0 && target.y + target.height <= size.1,
                    "{target:?} in {size:?}"
                );
                assert!(target.area() > 0 && rgba.len() as u32 == 4 * width * height);
            }
        }
    }

    #[test]
    fn the_edges_of_a_box_are_around_its_region() {
        let layers = layers(
            &result(vec![found(100, 100)]),
            &History::default(),
            (640, 360),
            Show::BOXES,
            10.0,
        );
        let target = |i: usize| layers[4 + i].target;
        assert_eq!(layers.len(), 9, "four dark edges, four coloured ones and a label");
        assert_eq!((target(0).y + target(0).height, target(1).y), (100, 140));
        assert_eq!((target(2).x + target(2).width, target(3).x), (100, 160));
        assert!(
            target(4).y + target(4).height <= target(0).y,
            "the label is above"
        );
    }

    #[test]
    fn heat_is_where_scores_are_high_and_never_where_they_are_missing() {
        let mut pixels = vec![20u8; 40 * 20];
        pixels[10 * 40 + 20] = 255;
        pixels[10 * 40 + 21] = 0;
        let map = SmallImage {
            width: 40,
            height: 20,
            pixels,
        };
        let layer = map_layer(&map, (640, 320), true, false).unwrap();
        assert_eq!(layer.target.x, 19 * 16, "one cell around it");
        let alpha = |cell_x: usize, cell_y: usize| {
            let (x, y) = ((cell_x - 19) * FINE + FINE / 2, (cell_y - 9) * FINE + FINE / 2);
            layer.rgba[4 * (y * layer.width as usize + x) + 3]
        };
        assert!(alpha(20, 10) > 120, "{}", alpha(20, 10));
        assert_eq!((alpha(19, 9), alpha(21, 10)), (0, 0));
        let ignored_columns = (2 * FINE..3 * FINE).map(|x| (FINE..2 * FINE).map(move |y| (x, y)));
        for (x, y) in ignored_columns.flatten() {
            let width = layer.width as usize;
            if x < width {
                assert_eq!(
                    layer.rgba[4 * (y * width + x) + 3],
                    0,
                    "no heat leaks into what is ignored"
                );
            }
        }
        let shaded = map_layer(&map, (640, 320), false, true).unwrap();
        assert_eq!(shaded.target.x, 20 * 16);
        assert!(map_layer(&map, (640, 320), false, false).is_none());
    }

    #[test]
    fn the_history_forgets_what_is_old_and_jumps() {
        let mut history = History::default();
        (0..300).for_each(|i| history.add(f64::from(i) * 0.1, 0.5, 10.0));
        assert_eq!(history.scores.len(), 101);
        history.add(3.0, 0.5, 10.0);
        assert_eq!(history.scores.len(), 1);
    }
}
