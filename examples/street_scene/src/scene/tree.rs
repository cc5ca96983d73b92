//! Crowns of the trees: leaves drawn once, moved by the wind in every frame.

use tiny_skia::{Pixmap, PremultipliedColorU8};

use super::camera::Camera;
use super::canvas::Rgb;
use super::layout::TREES;
use super::random::{Random, fractal2, hash2};

/// Leaves of one crown at rest, with a margin to move in.
pub struct Crown {
    rest: Pixmap,
    left: f32,
    top: f32,
    /// Pixels per metre.
    scale: f32,
    phase: f32,
}

impl Crown {
    /// The crown of tree `index` of the layout.
    pub fn new(camera: &Camera, index: usize, seed: u64) -> Option<Self> {
        let (x, z, height, radius) = TREES[index];
        let centre = camera.project([x, height, z]);
        let scale = camera.scale([x, height, z]);
        let mut random = Random::new(seed, 900 + index as u64);
        let clusters: Vec<(f32, f32, f32)> = (0..46)
            .map(|_| {
                let (angle, r) = (random.range(0.0, std::f32::consts::TAU), random.unit().sqrt());
                let size = random.range(0.24, 0.5) * radius * (1.15 - 0.5 * r);
                (
                    angle.cos() * r * radius * 0.86,
                    angle.sin() * r * radius * 0.80,
                    size,
                )
            })
            .collect();
        let half = (radius * 1.45 * scale).ceil();
        let mut rest = Pixmap::new(2 * half as u32, 2 * half as u32)?;
        let side = rest.width();
        for (i, pixel) in rest.pixels_mut().iter_mut().enumerate() {
            let u = ((i as u32 % side) as f32 + 0.5 - half) / scale;
            let v = ((i as u32 / side) as f32 + 0.5 - half) / scale;
            *pixel = leaf(&clusters, u, v, radius, index as u32);
        }
        let phase = random.range(0.0, 6.0);
        Some(Self {
            rest,
            left: centre.x - half,
            top: centre.y - half,
            scale,
            phase,
        })
    }

    /// Draws the crown in the wind at time `t` (seconds).
    pub fn draw(&self, target: &mut Pixmap, t: f64) {
        let side = self.rest.width() as i32;
        let (width, height) = (target.width() as i32, target.height() as i32);
        let (left, top) = (self.left.round() as i32, self.top.round() as i32);
        let t = (t.rem_euclid(4096.0)) as f32 + self.phase;
        let gust = 0.6 + 0.4 * (t * 0.23).sin() * (t * 0.091).cos();
        let sway = gust * self.scale * (0.035 * (t * 1.3).sin() + 0.02 * (t * 2.1 + 1.0).sin());
        let flutter = gust * 0.022 * self.scale;
        // Two waves over the leaves; sin(a + b) is split so that each row and column is computed once.
        let columns: Vec<[(f32, f32); 2]> = (0..side)
            .map(|column| [19.0, 13.0].map(|k| (k * column as f32 / side as f32).sin_cos()))
            .collect();
        let data = target.pixels_mut();
        for row in 0.max(-top)..side.min(height - top) {
            let v = row as f32 / side as f32;
            let lean = sway * (1.2 - v);
            let [(s1, c1), (s2, c2)] = [(t * 4.1 + v * 11.0).sin_cos(), (t * 3.3 - v * 17.0).sin_cos()];
            for column in 0.max(-left)..side.min(width - left) {
                let [(su1, cu1), (su2, cu2)] = columns[column as usize];
                let (wave, cross) = (s1 * cu1 + c1 * su1, s2 * cu2 + c2 * su2);
                let leaves = self.sample(
                    column as f32 - lean - flutter * wave,
                    row as f32 - flutter * cross,
                );
                blend(&mut data[((top + row) * width + left + column) as usize], leaves);
            }
        }
    }

    /// Bilinear sample, premultiplied, components 0..255.
    fn sample(&self, x: f32, y: f32) -> [f32; 4] {
        let side = self.rest.width() as i32;
        let (x0, y0) = (x.floor(), y.floor());
        let (fx, fy) = (x - x0, y - y0);
        let (x0, y0) = (x0 as i32, y0 as i32);
        if x0 < 0 || y0 < 0 || x0 + 1 >= side || y0 + 1 >= side {
            return [0.0; 4];
        }
        let pixels = self.rest.pixels();
        let mut sum = [0.0; 4];
        for (dx, dy, weight) in [
            (0, 0, (1.0 - fx) * (1.0 - fy)),
            (1, 0, fx * (1.0 - fy)),
            (0, 1, (1.0 - fx) * fy),
            (1, 1, fx * fy),
        ] {
            let p = pixels[((y0 + dy) * side + x0 + dx) as usize];
            for (sum, part) in sum.iter_mut().zip([p.red(), p.green(), p.blue(), p.alpha()]) {
                *sum += weight * f32::from(part);
            }
        }
        sum
    }
}

/// Blends a premultiplied colour (components 0..255) over an opaque pixel.
fn blend(pixel: &mut PremultipliedColorU8, [r, g, b, a]: [f32; 4]) {
    if a < 1.0 {
        return;
    }
    let keep = 1.0 - a / 255.0;
    let over = |s: f32, d: u8| (s + keep * f32::from(d)).min(255.0) as u8;
    let (r, g, b) = (
        over(r, pixel.red()),
        over(g, pixel.green()),
        over(b, pixel.blue()),
    );
    *pixel = PremultipliedColorU8::from_rgba(r, g, b, 255).unwrap_or(*pixel);
}

/// The colour of the crown at u, v metres from its centre (v down).
fn leaf(clusters: &[(f32, f32, f32)], u: f32, v: f32, radius: f32, seed: u32) -> PremultipliedColorU8 {
    let edge = fractal2(seed + 80, u * 5.0, v * 5.0) - 0.5;
    let mut cover = 0.0f32;
    let mut light = 0.0f32;
    for &(cx, cy, size) in clusters {
        let distance = ((u - cx).powi(2) + (v - cy).powi(2)).sqrt() / size;
        let inside = ((1.0 - distance) * 3.0 + edge * 2.2).clamp(0.0, 1.0);
        if inside > 0.0 {
            cover = cover.max(inside);
            // Each cluster is lit from above left.
            light = light.max(inside * (0.55 - 0.35 * (u - cx + 1.3 * (v - cy)) / size));
        }
    }
    let grain = hash2(seed + 81, (u * 15.0).floor() as i32, (v * 15.0).floor() as i32);
    let fine = fractal2(seed + 82, u * 9.0, v * 9.0);
    let hole = fractal2(seed + 83, u * 4.0, v * 4.0) < 0.30;
    let alpha = if hole { cover * 0.35 } else { cover };
    let depth = 0.72 - 0.22 * (v / radius) - 0.10 * (u / radius);
    let tone = (depth + 0.5 * light - 0.1) * (0.55 + 0.35 * grain + 0.5 * fine);
    let color = Rgb::hex(0x37502a)
        .mix(Rgb::hex(0x7c8a4c), (light * 0.8).clamp(0.0, 0.55))
        .shade(tone * 1.08);
    let byte = |c: f32| (c.clamp(0.0, 1.0) * alpha * 255.0) as u8;
    PremultipliedColorU8::from_rgba(
        byte(color.0),
        byte(color.1),
        byte(color.2),
        (alpha * 255.0).ceil() as u8,
    )
    .unwrap_or(PremultipliedColorU8::TRANSPARENT)
}
