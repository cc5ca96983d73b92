//! Normal traffic: people on the pavements, cars in their lanes, parked cars.

use super::actor::{Actor, Figure, Track};
use super::camera::Camera;
use super::canvas::Rgb;
use super::layout::{FACADE, FAR_LANE, FAR_PAVEMENT, KERB, NEAR_LANE, PROMENADE};
use super::person::Look;
use super::random::Random;
use super::vehicle::{Body, Vehicle};

/// Seconds of traffic before the recording, so that the street is not empty when it begins.
const BEFORE: f64 = 75.0;
/// Seconds between walkers (or pairs) on the promenade and on the far pavement: minimum, and mean of the random part.
const PROMENADE_GAP: (f32, f32) = (1.6, 1.8);
const FAR_GAP: (f32, f32) = (1.6, 3.0);
/// Speed of cars in this traffic-calmed street, in metres per second.
const CAR_SPEED: f32 = 3.0;
/// Seconds between cars of one lane: minimum, and mean of the random part.
const HEADWAY: (f32, f32) = (5.0, 5.0);

/// Parked cars: x, z, direction, vehicle.
pub const PARKED: [(f32, f32, f32, Vehicle); 4] = [
    (
        1.0,
        25.4,
        -1.0,
        Vehicle {
            body: Body::Hatchback,
            paint: Rgb::hex(0x44576b),
        },
    ),
    (
        13.4,
        25.4,
        -1.0,
        Vehicle {
            body: Body::Saloon,
            paint: Rgb::hex(0xaeb2b4),
        },
    ),
    (
        18.9,
        25.4,
        -1.0,
        Vehicle {
            body: Body::Hatchback,
            paint: Rgb::hex(0x5c5a56),
        },
    ),
    (
        30.5,
        25.4,
        -1.0,
        Vehicle {
            body: Body::Van,
            paint: Rgb::hex(0xc9cbc8),
        },
    ),
];

/// All walkers and cars until `duration` seconds, ordered by start time.
pub fn normal(camera: &Camera, seed: u64, duration: f64) -> Vec<Actor> {
    let mut actors = Vec::new();
    let near = (PROMENADE + 2.4, KERB - 1.1);
    let far = (FAR_PAVEMENT + 0.5, FACADE - 0.6);
    for (stream, gap, (from, to)) in [(1, PROMENADE_GAP, near), (2, FAR_GAP, far)] {
        let mut random = Random::new(seed, stream);
        let mut t = -BEFORE;
        while t < duration {
            t += f64::from(gap.0 + random.wait(1.0 / gap.1));
            let z = random.range(from, to);
            actors.extend(walkers(camera, &mut random, t, z, to));
        }
    }
    for (stream, z, facing) in [(3, NEAR_LANE, 1.0), (4, FAR_LANE, -1.0)] {
        let mut random = Random::new(seed, stream);
        let mut t = -BEFORE;
        while t < duration {
            t += f64::from(HEADWAY.0 + random.wait(1.0 / HEADWAY.1));
            let speed = CAR_SPEED * random.range(0.96, 1.04);
            let track = across(camera, t, z + random.range(-0.12, 0.12), facing, speed, 3.5);
            actors.push(Actor::new(Figure::Vehicle(Vehicle::random(&mut random)), track));
        }
    }
    actors.sort_by(|a, b| a.track.start.total_cmp(&b.track.start));
    actors
}

/// A straight path through the whole view at z.
pub fn across(camera: &Camera, start: f64, z: f32, facing: f32, speed: f32, margin: f32) -> Track {
    let (left, right) = camera.span(z, margin);
    let (from, to) = if facing > 0.0 {
        (left, right)
    } else {
        (right, left)
    };
    Track::walk(start, speed, 0.0, &[(from, z), (to, z)], (0.0, 0.0))
}

/// One person or a pair; some stop for a while.
fn walkers(camera: &Camera, random: &mut Random, start: f64, z: f32, limit: f32) -> Vec<Actor> {
    let facing = if random.chance(0.5) { 1.0 } else { -1.0 };
    let speed = random.range(0.9, 1.3);
    let (left, right) = camera.span(z, 1.2);
    let (from, to) = if facing > 0.0 {
        (left, right)
    } else {
        (right, left)
    };
    let sway = (random.range(0.05, 0.22), random.range(0.0, 6.0));
    let pause = random
        .chance(0.12)
        .then(|| (random.range(0.25, 0.75), random.range(2.0, 7.0)));
    let company = if random.chance(0.22) { 2 } else { 1 };
    (0..company)
        .map(|i| {
            let lane = if z + 0.55 < limit {
                z + 0.55 * i as f32
            } else {
                z - 0.55 * i as f32
            };
            let behind = -facing * random.range(0.0, 0.25) * i as f32;
            let mut points = vec![(from + behind, lane)];
            if let Some((share, _)) = pause {
                let x = from + (to - from) * share + behind;
                points.extend([(x, lane), (x, lane)]);
            }
            points.push((to + behind, lane));
            let track = Track::walk(start, speed, pause.map_or(0.0, |p| p.1), &points, sway);
            Actor::new(
                Figure::Person {
                    look: Look::random(random),
                    running: false,
                },
                track,
            )
        })
        .collect()
}
