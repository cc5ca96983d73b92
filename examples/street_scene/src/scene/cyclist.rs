//! A cyclist, seen from the side.

use std::f32::consts::TAU;

use super::camera::Camera;
use super::canvas::{Canvas, Rgb};
use super::person::draw_shadow;

/// Colours of rider and bicycle.
#[derive(Clone, Copy, Debug)]
pub struct Cyclist {
    pub jacket: Rgb,
    pub helmet: Rgb,
    pub frame: Rgb,
}

type Uv = (f32, f32);

/// Draws the cyclist at x, z riding towards `facing`, `ridden` metres from the start.
pub fn draw(
    canvas: &mut Canvas<'_>,
    camera: &Camera,
    look: &Cyclist,
    x: f32,
    z: f32,
    facing: f32,
    ridden: f32,
) {
    let foot = camera.xy([x, 0.0, z]);
    let head = camera.xy([x, 1.7, z]);
    let scale = camera.scale([x, 0.0, z]);
    let (ku, kv) = (facing * scale * 0.93, (foot.1 - head.1) / 1.7);
    let at = |p: Uv| (foot.0 + p.0 * ku, foot.1 - p.1 * kv);
    draw_shadow(canvas, camera, x, z, 1.6, 0.45);
    let width = |metres: f32| metres * kv;
    let tyre = Rgb::hex(0x17181a);
    for hub in [-0.53, 0.53] {
        let rim: Vec<_> = (0..=20)
            .map(|i| {
                let (s, c) = (TAU * i as f32 / 20.0).sin_cos();
                at((hub + 0.34 * c, 0.35 + 0.34 * s))
            })
            .collect();
        canvas.line(&rim, width(0.05), tyre);
        let turn = ridden / 0.34;
        for k in 0..3 {
            let (s, c) = (turn + TAU * k as f32 / 6.0).sin_cos();
            let spoke = [
                at((hub - 0.3 * c, 0.35 + 0.3 * s)),
                at((hub + 0.3 * c, 0.35 - 0.3 * s)),
            ];
            canvas.line_alpha(&spoke, width(0.015), Rgb::hex(0x9a9a9a), 0.6);
        }
    }
    let crank: Uv = (-0.05, 0.32);
    let (saddle, hands): (Uv, Uv) = ((-0.22, 0.92), (0.42, 1.02));
    let tube = [at(saddle), at(crank), at((0.36, 0.82)), at((-0.18, 0.76))];
    canvas.line(&tube, width(0.05), look.frame);
    canvas.line(
        &[at(crank), at((-0.53, 0.35)), at((-0.18, 0.76))],
        width(0.035),
        look.frame,
    );
    canvas.line(
        &[at((0.53, 0.35)), at((0.36, 0.82)), at(hands)],
        width(0.04),
        look.frame,
    );
    draw_rider(canvas, look, &at, &width, crank, ridden);
}

fn draw_rider(
    canvas: &mut Canvas<'_>,
    look: &Cyclist,
    at: &dyn Fn(Uv) -> (f32, f32),
    width: &dyn Fn(f32) -> f32,
    crank: Uv,
    ridden: f32,
) {
    let (hip, shoulder, hands): (Uv, Uv, Uv) = ((-0.2, 0.98), (0.16, 1.42), (0.42, 1.04));
    let trousers = Rgb::hex(0x20242e);
    for (side, shade) in [(0.0, 0.7), (TAU / 2.0, 1.0)] {
        let (s, c) = (-ridden / 0.34 * 0.4 + side).sin_cos();
        let pedal = (crank.0 + 0.17 * c, crank.1 + 0.17 * s);
        let knee = joint(hip, pedal, 0.44, 0.46);
        canvas.line(
            &[at(hip), at(knee), at(pedal)],
            width(0.12),
            trousers.shade(shade),
        );
        canvas.line(
            &[at(pedal), at((pedal.0 + 0.14, pedal.1))],
            width(0.07),
            Rgb::hex(0x111111),
        );
    }
    canvas.line(&[at(hip), at(shoulder)], width(0.27), look.jacket);
    canvas.line(
        &[
            at((hip.0 + 0.06, hip.1 - 0.02)),
            at((shoulder.0 + 0.05, shoulder.1 - 0.05)),
        ],
        width(0.1),
        look.jacket.shade(0.75),
    );
    canvas.line(
        &[at(shoulder), at((0.34, 1.16)), at(hands)],
        width(0.095),
        look.jacket.shade(0.88),
    );
    canvas.ellipse(at((0.28, 1.60)), width(0.105), width(0.125), Rgb::hex(0xd2a07c));
    canvas.ellipse(at((0.26, 1.67)), width(0.135), width(0.10), look.helmet);
}

/// The knee between hip and pedal: a two-bone leg, flexed forward.
fn joint(hip: Uv, pedal: Uv, thigh: f32, shank: f32) -> Uv {
    let (dx, dy) = (pedal.0 - hip.0, pedal.1 - hip.1);
    let distance = (dx * dx + dy * dy).sqrt().clamp(0.05, thigh + shank - 1e-3);
    let along = (thigh * thigh - shank * shank + distance * distance) / (2.0 * distance);
    let off = (thigh * thigh - along * along).max(0.0).sqrt();
    (
        hip.0 + (dx * along - dy * off) / distance,
        hip.1 + (dy * along + dx * off) / distance,
    )
}
