//! Cars and vans: extruded side profiles, lit by the sky.

use std::f32::consts::TAU;

use super::camera::{Camera, Point3};
use super::canvas::{Canvas, Rgb};
use super::random::Random;

/// Corners of a side view: metres along the vehicle, metres above the ground.
type Profile = &'static [(f32, f32)];

/// Muted colours.
const PAINTS: [u32; 8] = [
    0x74797e, 0x5d6368, 0x6a4a48, 0x4a5a74, 0x4b5a52, 0x7d7a6c, 0x59708a, 0x50565c,
];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Body {
    Hatchback,
    Saloon,
    Van,
}

#[derive(Clone, Copy, Debug)]
pub struct Vehicle {
    pub body: Body,
    pub paint: Rgb,
}

impl Vehicle {
    /// A passing car; vans only occur parked.
    pub fn random(random: &mut Random) -> Self {
        Self {
            body: random.pick(&[Body::Hatchback, Body::Saloon]),
            paint: Rgb::hex(random.pick(&PAINTS)),
        }
    }

    /// Length, height and width in metres.
    pub fn size(&self) -> (f32, f32, f32) {
        match self.body {
            Body::Hatchback => (4.0, 1.48, 1.72),
            Body::Saloon => (4.5, 1.43, 1.76),
            Body::Van => (5.0, 2.05, 1.90),
        }
    }

    /// Outlines (forward, up) of lower body and cabin.
    fn profiles(&self) -> (Profile, Profile) {
        match self.body {
            Body::Hatchback => (
                &[
                    (-2.0, 0.28),
                    (-2.0, 0.72),
                    (-1.92, 0.96),
                    (0.80, 0.98),
                    (1.72, 0.82),
                    (2.0, 0.62),
                    (2.0, 0.28),
                ],
                &[
                    (-1.92, 0.95),
                    (-1.52, 1.44),
                    (-0.1, 1.48),
                    (0.28, 1.42),
                    (0.98, 0.96),
                ],
            ),
            Body::Saloon => (
                &[
                    (-2.25, 0.28),
                    (-2.25, 0.80),
                    (-2.15, 0.94),
                    (0.85, 0.97),
                    (1.95, 0.80),
                    (2.25, 0.60),
                    (2.25, 0.28),
                ],
                &[
                    (-1.72, 0.93),
                    (-1.05, 1.40),
                    (-0.1, 1.43),
                    (0.25, 1.38),
                    (1.02, 0.95),
                ],
            ),
            Body::Van => (
                &[
                    (-2.5, 0.30),
                    (-2.5, 1.15),
                    (-2.5, 1.2),
                    (1.55, 1.2),
                    (2.30, 0.98),
                    (2.5, 0.70),
                    (2.5, 0.30),
                ],
                &[
                    (-2.5, 1.15),
                    (-2.42, 2.02),
                    (0.85, 2.05),
                    (1.05, 1.98),
                    (1.72, 1.18),
                ],
            ),
        }
    }

    /// The side windows as spans of the cabin's length, 0 = rear, 1 = front.
    fn windows(&self) -> &'static [(f32, f32)] {
        match self.body {
            Body::Van => &[(0.62, 0.80)],
            _ => &[(0.16, 0.46), (0.49, 0.86)],
        }
    }
}

/// A vehicle at a position: maps local coordinates (forward, up, across towards the camera) to the image.
struct LocalFrame<'a> {
    camera: &'a Camera,
    x: f32,
    z: f32,
    facing: f32,
}

impl LocalFrame<'_> {
    fn at(&self, forward: f32, up: f32, near: f32) -> (f32, f32) {
        let p: Point3 = [self.x + self.facing * forward, up, self.z - near];
        self.camera.xy(p)
    }
}

/// Draws the vehicle with its shadow, centred at x, z, its front towards `facing` along x.
pub fn draw(
    canvas: &mut Canvas<'_>,
    camera: &Camera,
    vehicle: &Vehicle,
    x: f32,
    z: f32,
    facing: f32,
    travelled: f32,
) {
    let frame = LocalFrame { camera, x, z, facing };
    let (length, height, width) = vehicle.size();
    let (half, side) = (length / 2.0, width / 2.0);
    let shadow = [
        (-half - 0.1, side + 0.1),
        (half + 0.1, side + 0.1),
        (half + 0.1, -side - 0.1),
        (-half - 0.1, -side - 0.1),
    ];
    let ground: Vec<_> = shadow.iter().map(|&(f, n)| frame.at(f, 0.0, n)).collect();
    canvas.polygon_alpha(&ground, Rgb(0.03, 0.03, 0.05), 0.55);
    let cast: Vec<_> = shadow
        .iter()
        .map(|&(f, n)| camera.xy([x + facing * f + 0.45 * height, 0.0, z - n + 0.25 * height]))
        .collect();
    canvas.polygon_alpha(&cast, Rgb(0.03, 0.03, 0.05), 0.28);
    let (lower, cabin) = vehicle.profiles();
    draw_wheels(canvas, &frame, vehicle, side, -1.0, travelled);
    extrude(canvas, &frame, lower, (side, side), vehicle.paint, false);
    extrude(
        canvas,
        &frame,
        cabin,
        (side * 0.94, side * 0.78),
        vehicle.paint,
        vehicle.body != Body::Van,
    );
    draw_side(canvas, &frame, vehicle, side);
    draw_wheels(canvas, &frame, vehicle, side, 1.0, travelled);
    draw_lights(canvas, &frame, half, side);
}

/// Half the width at a height: the cabin leans inwards.
fn inset(profile: &[(f32, f32)], widths: (f32, f32), up: f32) -> f32 {
    let (bottom, top) = (profile[0].1, profile.iter().map(|p| p.1).fold(f32::MIN, f32::max));
    widths.0 + (widths.1 - widths.0) * ((up - bottom) / (top - bottom).max(1e-3)).clamp(0.0, 1.0)
}

fn extrude(
    canvas: &mut Canvas<'_>,
    frame: &LocalFrame<'_>,
    profile: &[(f32, f32)],
    widths: (f32, f32),
    paint: Rgb,
    glazed: bool,
) {
    for (i, pair) in profile.windows(2).enumerate() {
        let (a, b) = (pair[0], pair[1]);
        let (wa, wb) = (inset(profile, widths, a.1), inset(profile, widths, b.1));
        let quad = [
            frame.at(a.0, a.1, wa),
            frame.at(a.0, a.1, -wa),
            frame.at(b.0, b.1, -wb),
            frame.at(b.0, b.1, wb),
        ];
        if turned_away(&quad, frame.facing) {
            continue;
        }
        let slope = (b.1 - a.1).abs() / ((b.0 - a.0).powi(2) + (b.1 - a.1).powi(2)).sqrt().max(1e-3);
        let window = glazed && (i == 0 || i == profile.len() - 2);
        let color = if window {
            Rgb::hex(0x2b343b).mix(Rgb::hex(0x9fb2bf), 0.25)
        } else {
            paint.mix(Rgb::hex(0xdfe6ec), 0.22 * (1.0 - slope))
        };
        canvas.polygon(&quad, color.shade(1.05 - 0.3 * slope));
    }
    let side: Vec<_> = profile
        .iter()
        .map(|&(f, u)| frame.at(f, u, inset(profile, widths, u)))
        .collect();
    canvas.polygon(&side, paint.shade(0.86));
}

/// Whether a face points away from the camera, by the order of its corners.
fn turned_away(quad: &[(f32, f32); 4], facing: f32) -> bool {
    let area: f32 = (0..4)
        .map(|i| {
            let (a, b) = (quad[i], quad[(i + 1) % 4]);
            a.0 * b.1 - b.0 * a.1
        })
        .sum();
    area * facing <= 0.0
}

fn draw_side(canvas: &mut Canvas<'_>, frame: &LocalFrame<'_>, vehicle: &Vehicle, side: f32) {
    let (lower, cabin) = vehicle.profiles();
    let widths = (side * 0.94, side * 0.78);
    let dark: Vec<_> = [
        (lower[0].0 + 0.02, 0.30),
        (lower[0].0 + 0.02, 0.52),
        (lower[6].0 - 0.02, 0.50),
        (lower[6].0 - 0.02, 0.30),
    ]
    .iter()
    .map(|&(f, u)| frame.at(f, u, side))
    .collect();
    canvas.polygon_alpha(&dark, Rgb(0.0, 0.0, 0.0), 0.28);
    let (bottom, top) = (cabin[0].1 + 0.06, cabin[1].1.min(cabin[3].1) - 0.07);
    let rear =
        |u: f32| cabin[0].0 + (cabin[1].0 - cabin[0].0) * ((u - cabin[0].1) / (cabin[1].1 - cabin[0].1));
    let front =
        |u: f32| cabin[4].0 + (cabin[3].0 - cabin[4].0) * ((u - cabin[4].1) / (cabin[3].1 - cabin[4].1));
    for &(from, to) in vehicle.windows() {
        let corner = |share: f32, u: f32| {
            let forward = rear(u) + (front(u) - rear(u)) * share;
            frame.at(forward, u, inset(cabin, widths, u))
        };
        let pane = [
            corner(from, bottom),
            corner(from, top),
            corner(to, top),
            corner(to, bottom),
        ];
        canvas.polygon(&pane, Rgb::hex(0x252d33));
        let glint = [
            corner(from, (bottom + top) / 2.0),
            corner(from, top),
            corner(to, top),
        ];
        canvas.polygon_alpha(&glint, Rgb::hex(0xa9bdca), 0.28);
    }
    for forward in [-0.35, 0.75] {
        let line = [frame.at(forward, 0.42, side), frame.at(forward, 0.93, side)];
        canvas.line_alpha(&line, 0.8, Rgb(0.0, 0.0, 0.0), 0.28);
    }
}

fn draw_wheels(
    canvas: &mut Canvas<'_>,
    frame: &LocalFrame<'_>,
    vehicle: &Vehicle,
    side: f32,
    near: f32,
    travelled: f32,
) {
    let (length, ..) = vehicle.size();
    for axle in [-0.31 * length, 0.31 * length] {
        let ring = |radius: f32, offset: f32| -> Vec<(f32, f32)> {
            (0..20)
                .map(|i| {
                    let (s, c) = (TAU * i as f32 / 20.0).sin_cos();
                    frame.at(axle + radius * c, 0.32 + radius * s, near * side + offset)
                })
                .collect()
        };
        canvas.polygon(&ring(0.38, 0.0), Rgb::hex(0x121315));
        canvas.polygon(&ring(0.315, 0.01), Rgb::hex(0x1d1e20));
        canvas.polygon(&ring(0.19, 0.02), Rgb::hex(0x8f9498));
        for k in 0..5 {
            let (s, c) = (-travelled / 0.32 + TAU * k as f32 / 5.0).sin_cos();
            let spoke = [
                frame.at(axle, 0.32, near * side),
                frame.at(axle + 0.17 * c, 0.32 + 0.17 * s, near * side),
            ];
            canvas.line_alpha(&spoke, 1.0, Rgb::hex(0x3a3d40), 0.6);
        }
    }
}

fn draw_lights(canvas: &mut Canvas<'_>, frame: &LocalFrame<'_>, half: f32, side: f32) {
    for (end, color) in [(half, Rgb::hex(0xf2efe0)), (-half, Rgb::hex(0xb3201c))] {
        let outward = frame.facing * end.signum();
        let to_camera = frame.camera.position()[0] - (frame.x + frame.facing * end);
        if to_camera * outward <= 0.0 {
            continue;
        }
        for near in [side * 0.95, -side * 0.95] {
            let inner = near - near.signum() * 0.28;
            let quad = [
                frame.at(end, 0.62, near),
                frame.at(end, 0.76, near),
                frame.at(end, 0.76, inner),
                frame.at(end, 0.62, inner),
            ];
            canvas.polygon(&quad, color);
        }
    }
}
