//! Things that move: a figure and the track it follows.

use std::f32::consts::TAU;

use super::camera::{Camera, Rect};
use super::canvas::{Canvas, Rgb};
use super::cyclist::{self, Cyclist};
use super::person::{self, Look, Pose};
use super::vehicle::{self, Vehicle};

/// A position at a time in seconds after the start of the track.
#[derive(Clone, Copy, Debug)]
pub struct Waypoint {
    pub t: f32,
    pub x: f32,
    pub y: f32,
    pub z: f32,
}

/// A piecewise linear path through the scene.
#[derive(Clone, Debug)]
pub struct Track {
    /// Scene time of the first waypoint, in seconds.
    pub start: f64,
    points: Vec<Waypoint>,
    /// Distance along the track at each waypoint, in metres.
    distance: Vec<f32>,
    /// Small lateral deviation: amplitude in metres, and phase.
    sway: (f32, f32),
}

/// Position and motion at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    pub x: f32,
    pub y: f32,
    pub z: f32,
    pub facing: f32,
    /// Distance from the start in metres.
    pub travelled: f32,
    pub moving: bool,
}

impl Track {
    /// A track through `points`, at least two, in ascending order of time.
    pub fn new(start: f64, points: Vec<Waypoint>, sway: (f32, f32)) -> Self {
        let mut distance = vec![0.0];
        for pair in points.windows(2) {
            let step = ((pair[1].x - pair[0].x).powi(2) + (pair[1].z - pair[0].z).powi(2)).sqrt();
            distance.push(distance[distance.len() - 1] + step);
        }
        Self {
            start,
            points,
            distance,
            sway,
        }
    }

    /// A track on the ground through (x, z) points at `speed` metres per second; a repeated point is a pause of `pause` seconds.
    pub fn walk(start: f64, speed: f32, pause: f32, points: &[(f32, f32)], sway: (f32, f32)) -> Self {
        let mut t = 0.0;
        let mut waypoints: Vec<Waypoint> = Vec::with_capacity(points.len());
        for &(x, z) in points {
            if let Some(last) = waypoints.last() {
                let step = ((x - last.x).powi(2) + (z - last.z).powi(2)).sqrt();
                t += if step > 0.0 { step / speed } else { pause };
            }
            waypoints.push(Waypoint { t, x, y: 0.0, z });
        }
        Self::new(start, waypoints, sway)
    }

    /// Scene time of the last waypoint.
    pub fn end(&self) -> f64 {
        self.start + f64::from(self.points[self.points.len() - 1].t)
    }

    /// Scene time at which the given waypoint is reached.
    pub fn time_at(&self, waypoint: usize) -> f64 {
        self.start + f64::from(self.points[waypoint].t)
    }

    /// The position at scene time `t`; `None` before the start and after the end.
    pub fn at(&self, t: f64) -> Option<Position> {
        let local = (t - self.start) as f32;
        if t < self.start || t > self.end() {
            return None;
        }
        let next = self
            .points
            .partition_point(|p| p.t <= local)
            .clamp(1, self.points.len() - 1);
        let (a, b) = (self.points[next - 1], self.points[next]);
        let share = ((local - a.t) / (b.t - a.t).max(1e-6)).clamp(0.0, 1.0);
        let step = self.distance[next] - self.distance[next - 1];
        let travelled = self.distance[next - 1] + step * share;
        let ahead = self.points[..=next]
            .windows(2)
            .rev()
            .find(|p| (p[1].x - p[0].x).abs() > 1e-3);
        let facing = ahead.map_or(1.0, |p| (p[1].x - p[0].x).signum());
        Some(Position {
            x: a.x + (b.x - a.x) * share,
            y: a.y + (b.y - a.y) * share,
            z: a.z + (b.z - a.z) * share + self.sway.0 * (travelled * 0.35 + self.sway.1).sin(),
            facing,
            travelled,
            moving: step > 1e-3,
        })
    }
}

/// The appearance of an actor.
#[derive(Clone, Debug)]
pub enum Figure {
    Person { look: Look, running: bool },
    Cyclist(Cyclist),
    Vehicle(Vehicle),
    Ball { radius: f32 },
    Crate,
}

#[derive(Clone, Debug)]
pub struct Actor {
    pub figure: Figure,
    pub track: Track,
    /// Scene time of the highest point of a throw.
    pub throws_at: Option<f64>,
}

impl Actor {
    pub fn new(figure: Figure, track: Track) -> Self {
        Self {
            figure,
            track,
            throws_at: None,
        }
    }

    /// Draws the actor at a position.
    pub fn draw(&self, canvas: &mut Canvas<'_>, camera: &Camera, t: f64, position: &Position) {
        let Position {
            x,
            y,
            z,
            facing,
            travelled,
            moving,
        } = *position;
        match &self.figure {
            Figure::Person { look, running } => {
                let gait = if !moving {
                    0.0
                } else if *running {
                    2.0
                } else {
                    1.0
                };
                let reach = self
                    .throws_at
                    .map_or(0.0, |at| (1.0 - ((t - at) / 0.45).abs() as f32).max(0.0));
                let pose = Pose {
                    x,
                    z,
                    lift: y,
                    facing,
                    walked: travelled,
                    gait,
                    reach,
                };
                person::draw(canvas, camera, look, &pose);
            }
            Figure::Cyclist(look) => cyclist::draw(canvas, camera, look, x, z, facing, travelled),
            Figure::Vehicle(look) => vehicle::draw(canvas, camera, look, x, z, facing, travelled),
            Figure::Ball { radius } => draw_ball(canvas, camera, position, *radius),
            Figure::Crate => draw_crate(canvas, camera, x, z),
        }
    }

    /// Its bounding box in the image.
    pub fn bounds(&self, camera: &Camera, position: &Position) -> Rect {
        let (width, height, depth) = match &self.figure {
            Figure::Person { look, running } => (if *running { 1.0 } else { 0.62 }, look.height, 0.3),
            Figure::Cyclist(_) => (1.75, 1.78, 0.3),
            Figure::Vehicle(look) => {
                let (length, height, width) = look.size();
                (length, height, width)
            }
            Figure::Ball { radius } => (2.0 * radius, 2.0 * radius, 0.0),
            Figure::Crate => (1.15, 1.05, 0.8),
        };
        camera.bounds([position.x, position.y, position.z], width, height, depth)
    }
}

/// A big striped ball that turns as it flies and rolls.
fn draw_ball(canvas: &mut Canvas<'_>, camera: &Camera, position: &Position, radius: f32) {
    let ground = camera.xy([position.x + 0.6 * position.y, 0.0, position.z + 0.3 * position.y]);
    let scale = camera.scale([position.x, position.y, position.z]);
    let (cx, cy) = camera.xy([position.x, position.y + radius, position.z]);
    let r = radius * scale;
    canvas.ellipse_alpha(ground, r, r * 0.42, Rgb(0.05, 0.05, 0.06), 0.32);
    canvas.ellipse((cx, cy), r, r, Rgb::hex(0xf2efe6));
    let turn = position.facing * position.travelled / radius;
    for k in 0..3 {
        let from = turn + TAU * k as f32 / 3.0;
        let mut wedge = vec![(cx, cy)];
        wedge.extend((0..=6).map(|i| {
            let (s, c) = (from + TAU / 10.0 * i as f32 / 6.0).sin_cos();
            (cx + r * c, cy + r * s)
        }));
        canvas.polygon(&wedge, Rgb::hex([0xd8352a, 0x2f6fc4, 0xe9b92c][k]));
    }
    canvas.ellipse_alpha(
        (cx + 0.25 * r, cy + 0.35 * r),
        r * 0.7,
        r * 0.6,
        Rgb(0.0, 0.0, 0.0),
        0.18,
    );
    canvas.ellipse_alpha(
        (cx - 0.35 * r, cy - 0.4 * r),
        r * 0.28,
        r * 0.22,
        Rgb(1.0, 1.0, 1.0),
        0.55,
    );
}

/// A tall red transport box on castors.
fn draw_crate(canvas: &mut Canvas<'_>, camera: &Camera, x: f32, z: f32) {
    let (w, d, h) = (0.55, 0.4, 1.02);
    let at = |dx: f32, y: f32, dz: f32| camera.xy([x + dx, y, z + dz]);
    let red = Rgb::hex(0xb8261c);
    let shadow = [
        at(-w, 0.0, -d),
        at(w + 0.1, 0.0, -d),
        at(w + 0.65, 0.0, d),
        at(-w + 0.5, 0.0, d + 0.3),
    ];
    canvas.polygon_alpha(&shadow, Rgb(0.03, 0.03, 0.05), 0.4);
    let front = [at(-w, 0.08, -d), at(-w, h, -d), at(w, h, -d), at(w, 0.08, -d)];
    let left = [at(-w, 0.08, -d), at(-w, h, -d), at(-w, h, d), at(-w, 0.08, d)];
    let top = [at(-w, h, -d), at(w, h, -d), at(w, h, d), at(-w, h, d)];
    canvas.polygon(&left, red.shade(1.1));
    canvas.polygon(&front, red.shade(0.85));
    canvas.polygon(&top, red.shade(1.35));
    let scale = camera.scale([x, 0.0, z]);
    for y in [0.4, 0.72] {
        canvas.line(
            &[at(-w, y, d), at(-w, y, -d), at(w, y, -d)],
            0.045 * scale,
            red.shade(0.6),
        );
    }
    canvas.polygon(
        &[
            at(-0.25, 0.5, -d),
            at(-0.25, 0.64, -d),
            at(0.25, 0.64, -d),
            at(0.25, 0.5, -d),
        ],
        Rgb::hex(0xe8e2d2),
    );
    for dx in [-0.45, 0.45] {
        canvas.ellipse(at(dx, 0.05, -d), 0.06 * scale, 0.06 * scale, Rgb::hex(0x141414));
    }
}
