//! The static part of the scene: ground and houses by ray casting, and street furniture.

use tiny_skia::{Pixmap, PremultipliedColorU8};

use super::camera::Camera;
use super::canvas::{Canvas, Rgb};
use super::layout::{BENCH, BIN, FACADE, LAMPS, TREES};
use super::{facade, ground};

/// Rays per pixel in each direction.
const SAMPLES: u32 = 3;

/// The empty street.
pub fn draw(camera: &Camera) -> Pixmap {
    let (width, height) = (camera.width as u32, camera.height as u32);
    let mut pixmap = Pixmap::new(width, height).expect("the caller checks the size");
    for (i, pixel) in pixmap.pixels_mut().iter_mut().enumerate() {
        let (x, y) = (i as u32 % width, i as u32 / width);
        let Rgb(r, g, b) = sample(camera, x, y).shade(vignette(camera, x, y));
        let byte = |v: f32| (v.clamp(0.0, 1.0) * 255.0).round() as u8;
        *pixel = PremultipliedColorU8::from_rgba(byte(r), byte(g), byte(b), 255)
            .expect("opaque colours are valid");
    }
    pixmap
}

fn sample(camera: &Camera, x: u32, y: u32) -> Rgb {
    let mut sum = Rgb(0.0, 0.0, 0.0);
    for i in 0..SAMPLES * SAMPLES {
        let offset = |k: u32| (k as f32 + 0.5) / SAMPLES as f32;
        let color = cast(
            camera,
            x as f32 + offset(i % SAMPLES),
            y as f32 + offset(i / SAMPLES),
        );
        sum = Rgb(sum.0 + color.0, sum.1 + color.1, sum.2 + color.2);
    }
    sum.shade(1.0 / (SAMPLES * SAMPLES) as f32)
}

/// The colour of the ray through a point of the image: ground or facade, with haze in the distance.
fn cast(camera: &Camera, x: f32, y: f32) -> Rgb {
    let origin = camera.position();
    let ray = camera.ray(x, y);
    let to_facade = FACADE / ray[2].max(1e-4);
    let height = origin[1] + ray[1] * to_facade;
    let (color, distance) = if height > 0.0 {
        (facade::color(origin[0] + ray[0] * to_facade, height), to_facade)
    } else {
        let to_ground = origin[1] / -ray[1];
        (
            ground::color(origin[0] + ray[0] * to_ground, ray[2] * to_ground),
            to_ground,
        )
    };
    let haze = 1.0 - (-(distance - 15.0).max(0.0) / 260.0).exp();
    color.mix(Rgb::hex(0xb8bfc6), haze)
}

/// Vignetting of the lens.
fn vignette(camera: &Camera, x: u32, y: u32) -> f32 {
    let u = (x as f32 - camera.width / 2.0) / camera.width;
    let v = (y as f32 - camera.height / 2.0) / camera.width;
    1.0 - 0.45 * (u * u + v * v)
}

/// The trunk of a tree at the kerb.
pub fn draw_trunk(canvas: &mut Canvas<'_>, camera: &Camera, index: usize) {
    let (x, z, height, _) = TREES[index];
    let foot = camera.xy([x, 0.0, z]);
    let scale = camera.scale([x, 0.0, z]);
    let top = camera.xy([x, height, z]);
    let bark = Rgb::hex(0x4c4034);
    let (wide, thin) = (0.15 * scale, 0.09 * scale);
    canvas.ellipse(foot, 0.5 * scale, 0.2 * scale, Rgb::hex(0x4a4034));
    let trunk = [
        (foot.0 - wide, foot.1),
        (foot.0 + wide, foot.1),
        (top.0 + thin, top.1),
        (top.0 - thin, top.1),
    ];
    canvas.polygon(&trunk, bark);
    let lit = [
        (foot.0 - wide, foot.1),
        (foot.0 - wide * 0.3, foot.1),
        (top.0 - thin * 0.3, top.1),
        (top.0 - thin, top.1),
    ];
    canvas.polygon(&lit, bark.shade(1.35));
}

/// A lamp post with its arm over the road.
pub fn draw_lamp(canvas: &mut Canvas<'_>, camera: &Camera, index: usize) {
    let (x, z) = LAMPS[index];
    let scale = camera.scale([x, 0.0, z]);
    let at = |y: f32, dz: f32| camera.xy([x, y, z + dz]);
    let steel = Rgb::hex(0x3f464a);
    canvas.line(&[at(0.0, 0.0), at(0.9, 0.0)], 0.17 * scale, steel);
    canvas.line(&[at(0.0, 0.0), at(5.6, 0.0), at(5.9, 0.9)], 0.09 * scale, steel);
    canvas.line(&[at(0.0, 0.0), at(5.6, 0.0)], 0.03 * scale, steel.shade(1.7));
    canvas.line(&[at(5.88, 0.8), at(5.95, 1.5)], 0.16 * scale, Rgb::hex(0xc9ccc8));
}

/// The bench at the lawn's edge.
pub fn draw_bench(canvas: &mut Canvas<'_>, camera: &Camera) {
    let (x, z) = BENCH;
    let scale = camera.scale([x, 0.0, z]);
    let at = |dx: f32, y: f32, dz: f32| camera.xy([x + dx, y, z + dz]);
    let (wood, iron) = (Rgb::hex(0x7a5634), Rgb::hex(0x2d2d2d));
    for dx in [-0.75, 0.75] {
        canvas.line(&[at(dx, 0.0, 0.2), at(dx, 0.45, 0.2)], 0.06 * scale, iron);
        canvas.line(&[at(dx, 0.0, -0.2), at(dx, 0.85, -0.25)], 0.06 * scale, iron);
    }
    for dz in [-0.05, 0.08, 0.21] {
        canvas.line(
            &[at(-0.9, 0.45, dz), at(0.9, 0.45, dz)],
            0.075 * scale,
            wood.shade(1.1 - dz),
        );
    }
    for y in [0.62, 0.78] {
        canvas.line(&[at(-0.9, y, -0.24), at(0.9, y, -0.24)], 0.085 * scale, wood);
    }
}

/// The litter bin.
pub fn draw_bin(canvas: &mut Canvas<'_>, camera: &Camera) {
    let (x, z) = BIN;
    let scale = camera.scale([x, 0.0, z]);
    let (foot, top) = (camera.xy([x, 0.0, z]), camera.xy([x, 0.85, z]));
    let r = 0.24 * scale;
    let green = Rgb::hex(0x2f4b3a);
    canvas.ellipse(foot, r, r * 0.4, green.shade(0.7));
    canvas.polygon(
        &[
            (foot.0 - r, foot.1),
            (foot.0 + r, foot.1),
            (top.0 + r, top.1),
            (top.0 - r, top.1),
        ],
        green,
    );
    canvas.polygon_alpha(
        &[
            (foot.0 - r, foot.1),
            (foot.0 - r * 0.4, foot.1),
            (top.0 - r * 0.4, top.1),
            (top.0 - r, top.1),
        ],
        Rgb::hex(0xffffff),
        0.15,
    );
    canvas.ellipse(top, r, r * 0.4, green.shade(1.2));
    canvas.ellipse(top, r * 0.75, r * 0.28, Rgb::hex(0x161a18));
}
