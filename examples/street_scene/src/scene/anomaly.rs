//! The planted anomalies.

use super::actor::{Actor, Figure, Position, Track, Waypoint};
use super::camera::Camera;
use super::canvas::Rgb;
use super::cyclist::Cyclist;
use super::layout::NEAR_LANE;
use super::person::{Bag, Look};
use super::random::Random;
use super::traffic::across;
use super::vehicle::{Body, Vehicle};

/// Kinds of anomalies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A person cycles on the promenade.
    Cyclist,
    /// A person runs on the promenade.
    Runner,
    /// A big ball is thrown and bounces across promenade and lawn.
    Thrown,
    /// A person walks on the lawn, which is otherwise empty.
    Trespasser,
    /// A box is wheeled in, left behind, and taken away later.
    ObjectLeft,
    /// A car drives fast down the near lane against the traffic.
    WrongWayCar,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::Cyclist,
        Self::Trespasser,
        Self::ObjectLeft,
        Self::Runner,
        Self::WrongWayCar,
        Self::Thrown,
    ];

    /// The name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cyclist => "cyclist",
            Self::Runner => "runner",
            Self::Thrown => "thrown",
            Self::Trespasser => "trespasser",
            Self::ObjectLeft => "object-left",
            Self::WrongWayCar => "wrong-way-car",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One planted anomaly with all actors involved.
#[derive(Clone, Debug)]
pub struct Anomaly {
    pub kind: Kind,
    pub actors: Vec<Actor>,
    /// Index of the actor that is the anomaly.
    pub subject: usize,
}

impl Anomaly {
    /// The anomaly of this kind that begins at scene time `start`.
    pub fn new(kind: Kind, camera: &Camera, seed: u64, index: usize, start: f64) -> Self {
        let mut random = Random::new(seed, 5000 + index as u64);
        let actors = match kind {
            Kind::Cyclist => cyclist(camera, &mut random, start),
            Kind::Runner => runner(camera, &mut random, start),
            Kind::Thrown => thrown(camera, &mut random, start),
            Kind::Trespasser => trespasser(camera, &mut random, start),
            Kind::ObjectLeft => object_left(camera, &mut random, start),
            Kind::WrongWayCar => wrong_way_car(camera, &mut random, start),
        };
        Self {
            kind,
            actors,
            subject: 0,
        }
    }

    pub fn subject(&self) -> &Actor {
        &self.actors[self.subject]
    }

    /// Whether a normal car would collide with this anomaly and must be left out.
    pub fn displaces(&self, normal: &Actor) -> bool {
        const MARGIN: f64 = 1.5;
        let (a, b) = (&self.subject().track, &normal.track);
        let same_time = a.start - MARGIN < b.end() && b.start < a.end() + MARGIN;
        let same_lane = |position: Position| (position.z - NEAR_LANE).abs() < 0.6;
        self.kind == Kind::WrongWayCar
            && matches!(normal.figure, Figure::Vehicle(_))
            && same_time
            && b.at(b.start).is_some_and(same_lane)
    }

    /// Scene time at which the last actor is gone.
    pub fn end(&self) -> f64 {
        self.actors.iter().map(|a| a.track.end()).fold(f64::MIN, f64::max)
    }
}

fn direction(random: &mut Random) -> f32 {
    if random.chance(0.5) { 1.0 } else { -1.0 }
}

fn cyclist(camera: &Camera, random: &mut Random, start: f64) -> Vec<Actor> {
    let look = Cyclist {
        jacket: Rgb::hex(random.pick(&[0xd9a520, 0x2f6f9a, 0xb23a3a])),
        helmet: Rgb::hex(random.pick(&[0xe8e8e8, 0x202020, 0xc03030])),
        frame: Rgb::hex(random.pick(&[0x202020, 0x8a1f1f, 0x2b5a8a])),
    };
    let (z, facing, speed) = (
        random.range(14.4, 16.6),
        direction(random),
        random.range(5.0, 6.2),
    );
    vec![Actor::new(
        Figure::Cyclist(look),
        across(camera, start, z, facing, speed, 1.2),
    )]
}

fn runner(camera: &Camera, random: &mut Random, start: f64) -> Vec<Actor> {
    let look = Look::runner(random);
    let (z, facing, speed) = (
        random.range(14.2, 16.4),
        direction(random),
        random.range(5.4, 6.4),
    );
    vec![Actor::new(
        Figure::Person { look, running: true },
        across(camera, start, z, facing, speed, 1.0),
    )]
}

fn trespasser(camera: &Camera, random: &mut Random, start: f64) -> Vec<Actor> {
    let look = Look::bright(random);
    let z = random.range(10.2, 11.2);
    let (left, right) = camera.span(z, 1.0);
    let middle = left + (right - left) * random.range(0.4, 0.6);
    let (from, to) = if random.chance(0.5) {
        (left, right)
    } else {
        (right, left)
    };
    let points = [(from, z), (middle, z - 0.4), (middle, z - 0.4), (to, z + 0.3)];
    let track = Track::walk(
        start,
        random.range(1.3, 1.6),
        random.range(1.0, 2.0),
        &points,
        (0.0, 0.0),
    );
    vec![Actor::new(Figure::Person { look, running: false }, track)]
}

fn wrong_way_car(camera: &Camera, random: &mut Random, start: f64) -> Vec<Actor> {
    let paint = Rgb::hex(random.pick(&[0xc8b02a, 0xb02a24, 0x1d1f22]));
    let vehicle = Vehicle {
        body: random.pick(&[Body::Hatchback, Body::Saloon]),
        paint,
    };
    let track = across(camera, start, NEAR_LANE, -1.0, random.range(9.5, 11.0), 3.0);
    vec![Actor::new(Figure::Vehicle(vehicle), track)]
}

/// A ball thrown by a person on the promenade: it flies, bounces, and rolls out of the view.
fn thrown(camera: &Camera, random: &mut Random, start: f64) -> Vec<Actor> {
    let z = random.range(14.4, 15.0);
    let (left, right) = camera.span(z, 1.2);
    let x = left + (right - left) * random.range(0.22, 0.28);
    let points = [(left, z), (x, z), (x, z), (right, z)];
    let walk = Track::walk(start, 1.35, 1.4, &points, (0.0, 0.0));
    let throw = walk.time_at(1) + 0.7;
    let mut thrower = Actor::new(
        Figure::Person {
            look: Look::random(random),
            running: false,
        },
        walk,
    );
    thrower.throws_at = Some(throw);

    const STEP: f32 = 0.03;
    let mut velocity = (random.range(6.6, 7.4), 3.6, random.range(-1.5, -1.2));
    let (mut px, mut py, mut pz) = (x + 0.4, 1.9, z);
    let mut points = Vec::new();
    for i in 0..400 {
        points.push(Waypoint {
            t: i as f32 * STEP,
            x: px,
            y: py,
            z: pz,
        });
        let foot = camera.project([px, 0.0, pz]);
        if foot.x > camera.width + 40.0 || foot.y > camera.height + 60.0 {
            break;
        }
        velocity.1 -= 9.81 * STEP;
        (px, py, pz) = (
            px + velocity.0 * STEP,
            py + velocity.1 * STEP,
            pz + velocity.2 * STEP,
        );
        if py <= 0.0 {
            py = 0.0;
            velocity.1 = if velocity.1 < -0.8 {
                -0.62 * velocity.1
            } else {
                0.0
            };
            velocity.0 *= 0.97;
        }
    }
    let ball = Actor::new(
        Figure::Ball { radius: 0.47 },
        Track::new(throw, points, (0.0, 0.0)),
    );
    vec![ball, thrower]
}

/// A box is wheeled in by one person, stands unattended, and is wheeled away by another.
fn object_left(camera: &Camera, random: &mut Random, start: f64) -> Vec<Actor> {
    let (z, speed) = (13.75, 1.25);
    let rest = random.range(9.0, 12.0);
    let (left, right) = camera.span(z, 2.2);
    let x = left + (right - left) * random.range(0.30, 0.42);
    let box_track = Track::walk(
        start,
        speed,
        rest,
        &[(left, z), (x, z), (x, z), (right, z)],
        (0.0, 0.0),
    );
    let person = |random: &mut Random| {
        let mut look = Look::random(random);
        look.bag = Bag::None;
        Figure::Person { look, running: false }
    };
    // The first person pushes the box in and leaves; the second comes and pushes it away.
    let bring = Track::walk(
        start,
        speed,
        1.0,
        &[(left - 0.85, z), (x - 0.85, z), (x - 0.85, z), (left, z + 0.7)],
        (0.0, 0.0),
    );
    let fetch_start = box_track.time_at(2) - f64::from((right - x) / speed) - f64::from(1.6 / speed);
    let fetch = [
        (right, z + 0.9),
        (x + 0.3, z + 0.9),
        (x - 0.85, z),
        (right - 0.85, z),
    ];
    let fetch = Track::walk(fetch_start, speed, 0.0, &fetch, (0.0, 0.0));
    vec![
        Actor::new(Figure::Crate, box_track),
        Actor::new(person(random), bring),
        Actor::new(person(random), fetch),
    ]
}
