//! Anti-aliased shapes in image coordinates, on top of tiny-skia.

use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform,
};

/// A colour with components 0..1 (sRGB).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rgb(pub f32, pub f32, pub f32);

impl Rgb {
    /// From a hexadecimal number such as `0x336699`.
    pub const fn hex(value: u32) -> Self {
        let [_, red, green, blue] = value.to_be_bytes();
        Self(red as f32 / 255.0, green as f32 / 255.0, blue as f32 / 255.0)
    }

    /// Brighter (above 1) or darker (below 1).
    pub fn shade(self, k: f32) -> Self {
        Self(self.0 * k, self.1 * k, self.2 * k)
    }

    pub fn mix(self, other: Self, share: f32) -> Self {
        let blend = |a: f32, b: f32| a + (b - a) * share;
        Self(
            blend(self.0, other.0),
            blend(self.1, other.1),
            blend(self.2, other.2),
        )
    }

    fn paint(self, alpha: f32) -> Paint<'static> {
        let channel = |v: f32| v.clamp(0.0, 1.0);
        let mut paint = Paint::default();
        let color = Color::from_rgba(channel(self.0), channel(self.1), channel(self.2), channel(alpha));
        paint.set_color(color.unwrap_or(Color::BLACK));
        paint.anti_alias = true;
        paint
    }
}

/// An image to draw on.
pub struct Canvas<'a> {
    pub pixmap: &'a mut Pixmap,
}

impl Canvas<'_> {
    fn fill_path(&mut self, path: Option<Path>, color: Rgb, alpha: f32) {
        if let Some(path) = path {
            self.pixmap.fill_path(
                &path,
                &color.paint(alpha),
                FillRule::Winding,
                Transform::identity(),
                None,
            );
        }
    }

    pub fn polygon(&mut self, points: &[(f32, f32)], color: Rgb) {
        self.polygon_alpha(points, color, 1.0);
    }

    pub fn polygon_alpha(&mut self, points: &[(f32, f32)], color: Rgb, alpha: f32) {
        self.fill_path(path_of(points, true), color, alpha);
    }

    pub fn ellipse(&mut self, centre: (f32, f32), rx: f32, ry: f32, color: Rgb) {
        self.ellipse_alpha(centre, rx, ry, color, 1.0);
    }

    pub fn ellipse_alpha(&mut self, (x, y): (f32, f32), rx: f32, ry: f32, color: Rgb, alpha: f32) {
        let rect = Rect::from_ltrb(x - rx, y - ry, x + rx, y + ry);
        self.fill_path(rect.and_then(PathBuilder::from_oval), color, alpha);
    }

    /// A line with round ends, `width` pixels thick.
    pub fn line(&mut self, points: &[(f32, f32)], width: f32, color: Rgb) {
        self.line_alpha(points, width, color, 1.0);
    }

    pub fn line_alpha(&mut self, points: &[(f32, f32)], width: f32, color: Rgb, alpha: f32) {
        let Some(path) = path_of(points, false) else {
            return;
        };
        let stroke = Stroke {
            width,
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        self.pixmap
            .stroke_path(&path, &color.paint(alpha), &stroke, Transform::identity(), None);
    }
}

fn path_of(points: &[(f32, f32)], close: bool) -> Option<Path> {
    let (first, rest) = points.split_first()?;
    let mut path = PathBuilder::with_capacity(points.len() + 1, points.len());
    path.move_to(first.0, first.1);
    for (x, y) in rest {
        path.line_to(*x, *y);
    }
    if close {
        path.close();
    }
    path.finish()
}
