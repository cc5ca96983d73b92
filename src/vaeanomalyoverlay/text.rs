//! Text as outlines of the embedded font.

use std::sync::LazyLock;

use tiny_skia::{FillRule, Paint, Path, PathBuilder, Pixmap, Transform};
use ttf_parser::{Face, OutlineBuilder};

/// See `font.LICENSE`.
static FONT: LazyLock<Option<Face<'static>>> =
    LazyLock::new(|| Face::parse(include_bytes!("font.ttf"), 0).ok());

/// Outlines of a line of text, the left end of its baseline at the origin.
struct Outlines {
    path: PathBuilder,
    /// Pixels per font unit, and the left end of the glyph.
    scale: f32,
    left: f32,
}

impl Outlines {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.left + x * self.scale, -y * self.scale)
    }
}

impl OutlineBuilder for Outlines {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}

/// The outlines of a line of text whose font is `size` pixels high, and its width. Characters that the font lacks are left
/// out.
fn outlines(text: &str, size: f32) -> (Option<Path>, f32) {
    let Some(face) = FONT.as_ref() else {
        return (None, 0.0);
    };
    let mut outlines = Outlines {
        path: PathBuilder::new(),
        scale: size / f32::from(face.units_per_em()),
        left: 0.0,
    };
    for glyph in text.chars().filter_map(|c| face.glyph_index(c)) {
        face.outline_glyph(glyph, &mut outlines);
        outlines.left += f32::from(face.glyph_hor_advance(glyph).unwrap_or(0)) * outlines.scale;
    }
    let width = outlines.left;
    (outlines.path.finish(), width)
}

/// Width of a line of text in pixels.
pub(super) fn width(text: &str, size: f32) -> f32 {
    outlines(text, size).1
}

/// Draws a line of text with the left end of its baseline at `(x, y)`.
pub(super) fn draw(pixmap: &mut Pixmap, text: &str, size: f32, (x, y): (f32, f32), paint: &Paint<'_>) {
    if let (Some(path), _) = outlines(text, size) {
        pixmap.fill_path(
            &path,
            paint,
            FillRule::Winding,
            Transform::from_translate(x, y),
            None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_has_what_is_written() {
        let face = FONT.as_ref().expect("the font can be read");
        assert!((' '..='~').all(|c| face.glyph_index(c).is_some()));
        assert!(width("anomaly 0.93", 20.0) > 1.9 * width("anomaly", 20.0) * 0.8);
        assert!((width("0.93", 40.0) - 2.0 * width("0.93", 20.0)).abs() < 1e-3);
        assert_eq!(width("", 20.0), 0.0);
    }
}
