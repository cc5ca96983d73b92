//! A street seen by a fixed camera, as a function of time.
//!
//! The scene needs no video library: [`Scene::render`] draws the image at any time, [`Scene::truth`] returns its ground
//! truth. Positions depend on the time alone, so the same scene can be recorded at any frame rate.

mod actor;
mod anomaly;
mod background;
mod camera;
mod canvas;
mod cyclist;
mod facade;
mod ground;
mod labels;
mod layout;
mod person;
mod random;
mod sensor;
mod traffic;
mod tree;
mod vehicle;

use tiny_skia::Pixmap;

pub use anomaly::Kind;
pub use camera::Rect;
pub use labels::Labels;

use actor::{Actor, Position};
use anomaly::Anomaly;
use camera::Camera;
use canvas::Canvas;
use random::Random;
use sensor::Sensor;
use tree::Crown;

/// An anomaly counts as visible if this share of its bounding box is inside the image.
const VISIBLE_SHARE: f32 = 0.5;
/// Normal time after the last anomaly, in seconds.
const TAIL: f64 = 8.0;

/// Configuration of a scene.
#[derive(Clone, Debug)]
pub struct Config {
    /// Image size in pixels, at least 64 x 36.
    pub width: u32,
    pub height: u32,
    /// The same seed gives the same scene.
    pub seed: u64,
    /// Normal time before the first anomaly, in seconds.
    pub lead_in: f64,
    /// Number of anomalies.
    pub events: usize,
    /// Kinds of anomalies, used in turn; empty = all.
    pub kinds: Vec<Kind>,
    /// Normal time between anomalies, in seconds.
    pub spacing: f64,
    /// Length of the scene in seconds, over which the anomalies are spread; `None` = as long as needed.
    pub duration: Option<f64>,
    /// Standard deviation of the sensor noise in 8-bit levels.
    pub noise: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            width: 640,
            height: 360,
            seed: 1,
            lead_in: 60.0,
            events: 6,
            kinds: Vec::new(),
            spacing: 20.0,
            duration: None,
            noise: 2.0,
        }
    }
}

/// The ground truth at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    /// Index of the anomaly in the order of time, from 0.
    pub event: usize,
    pub kind: Kind,
    /// Its bounding box in pixels, clipped to the image.
    pub region: Rect,
}

/// A street that can be rendered at any time between 0 and [`Scene::duration`].
pub struct Scene {
    world: World,
    image: Pixmap,
    sensor: Sensor,
    duration: f64,
}

/// Everything that is the same in every frame.
struct World {
    camera: Camera,
    background: Pixmap,
    normal: Vec<Actor>,
    /// Longest time that an actor of `normal` is in the scene, in seconds.
    longest: f64,
    anomalies: Vec<Anomaly>,
    crowns: Vec<Crown>,
}

/// Something to draw.
enum Item<'a> {
    Actor(&'a Actor, Position),
    Parked(usize),
    Tree(usize),
    Lamp(usize),
    Bench,
    Bin,
}

impl Scene {
    /// Prepares the scene.
    ///
    /// # Errors
    /// An invalid configuration, with the value and its range.
    pub fn new(config: &Config) -> Result<Self, String> {
        let (width, height) = (config.width, config.height);
        if !(64..=7680).contains(&width) || !(36..=4320).contains(&height) {
            return Err(format!(
                "the size must be 64x36 to 7680x4320, got {width}x{height}"
            ));
        }
        let camera = Camera::new(width, height);
        let (anomalies, duration) = plan(config, &camera)?;
        let mut normal = traffic::normal(&camera, config.seed, duration);
        normal.retain(|actor| !anomalies.iter().any(|anomaly| anomaly.displaces(actor)));
        let longest = normal
            .iter()
            .map(|a| a.track.end() - a.track.start)
            .fold(0.0, f64::max);
        let background = background::draw(&camera);
        let crowns = (0..layout::TREES.len())
            .filter_map(|i| Crown::new(&camera, i, config.seed))
            .collect();
        Ok(Self {
            image: background.clone(),
            world: World {
                camera,
                background,
                normal,
                longest,
                anomalies,
                crowns,
            },
            sensor: Sensor::new(config.seed, config.noise),
            duration,
        })
    }

    /// Length in seconds.
    pub fn duration(&self) -> f64 {
        self.duration
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.image.width(), self.image.height())
    }

    /// The image at time `t` (seconds): rows without padding, 4 bytes per pixel: R, G, B, 255.
    pub fn render(&mut self, t: f64) -> &[u8] {
        self.image
            .data_mut()
            .copy_from_slice(self.world.background.data());
        for (_, item) in self.world.visible(t) {
            self.world.draw(&mut self.image, t, &item);
        }
        let width = self.image.width() as usize;
        self.sensor.expose(self.image.data_mut(), width, t);
        self.image.data()
    }

    /// The anomaly that is visible at `t`, if any.
    pub fn truth(&self, t: f64) -> Option<Truth> {
        let camera = &self.world.camera;
        self.world
            .anomalies
            .iter()
            .enumerate()
            .find_map(|(event, anomaly)| {
                let actor = anomaly.subject();
                let bounds = actor.bounds(camera, &actor.track.at(t)?);
                let visible = camera.share_in_view(&bounds) >= VISIBLE_SHARE;
                let region = bounds.clip(camera.width, camera.height);
                visible.then_some(Truth {
                    event,
                    kind: anomaly.kind,
                    region,
                })
            })
    }
}

impl World {
    /// Everything that may be visible at `t`, farthest first.
    fn visible(&self, t: f64) -> Vec<(f32, Item<'_>)> {
        let mut items: Vec<(f32, Item<'_>)> =
            vec![(layout::BENCH.1, Item::Bench), (layout::BIN.1, Item::Bin)];
        items.extend(
            traffic::PARKED
                .iter()
                .enumerate()
                .map(|(i, car)| (car.1, Item::Parked(i))),
        );
        items.extend(
            layout::TREES
                .iter()
                .enumerate()
                .map(|(i, tree)| (tree.1, Item::Tree(i))),
        );
        items.extend(
            layout::LAMPS
                .iter()
                .enumerate()
                .map(|(i, lamp)| (lamp.1, Item::Lamp(i))),
        );
        let first = self.normal.partition_point(|a| a.track.start < t - self.longest);
        let last = self.normal.partition_point(|a| a.track.start <= t);
        let planted = self.anomalies.iter().flat_map(|a| &a.actors);
        for actor in self.normal[first..last].iter().chain(planted) {
            if let Some(position) = actor.track.at(t) {
                items.push((position.z, Item::Actor(actor, position)));
            }
        }
        items.sort_by(|a, b| b.0.total_cmp(&a.0));
        items
    }

    fn draw(&self, image: &mut Pixmap, t: f64, item: &Item<'_>) {
        let camera = &self.camera;
        let mut canvas = Canvas { pixmap: image };
        match item {
            Item::Actor(actor, position) => actor.draw(&mut canvas, camera, t, position),
            Item::Parked(i) => {
                let (x, z, facing, car) = traffic::PARKED[*i];
                vehicle::draw(&mut canvas, camera, &car, x, z, facing, 0.0);
            }
            Item::Tree(i) => {
                background::draw_trunk(&mut canvas, camera, *i);
                self.crowns[*i].draw(canvas.pixmap, t);
            }
            Item::Lamp(i) => background::draw_lamp(&mut canvas, camera, *i),
            Item::Bench => background::draw_bench(&mut canvas, camera),
            Item::Bin => background::draw_bin(&mut canvas, camera),
        }
    }
}

/// Schedules the anomalies; returns them and the length of the scene in seconds.
fn plan(config: &Config, camera: &Camera) -> Result<(Vec<Anomaly>, f64), String> {
    let kinds = if config.kinds.is_empty() {
        Kind::ALL.to_vec()
    } else {
        config.kinds.clone()
    };
    let at = |index: usize, start: f64| {
        Anomaly::new(kinds[index % kinds.len()], camera, config.seed, index, start)
    };
    let needed: f64 = (0..config.events).map(|i| at(i, 0.0).end()).sum();
    let spacing = match config.duration {
        None => config.spacing,
        Some(duration) if config.events == 0 && duration > 0.0 => return Ok((Vec::new(), duration)),
        Some(duration) => {
            let spacing = (duration - config.lead_in - needed) / config.events.max(1) as f64;
            if spacing < 2.0 {
                let least = config.lead_in + needed + 2.0 * config.events as f64;
                return Err(format!(
                    "{} anomalies need at least {least:.0} s, got {duration} s",
                    config.events
                ));
            }
            spacing
        }
    };
    let mut random = Random::new(config.seed, 4000);
    let mut start = config.lead_in;
    let mut anomalies = Vec::with_capacity(config.events);
    for index in 0..config.events {
        let anomaly = at(index, start);
        let free =
            spacing * f64::from(random.range(0.8, 1.2)) * if config.duration.is_some() { 0.83 } else { 1.0 };
        start = anomaly.end() + free;
        anomalies.push(anomaly);
    }
    let last = anomalies.last().map_or(config.lead_in, Anomaly::end);
    let duration = config
        .duration
        .unwrap_or(last + if config.events == 0 { 0.0 } else { TAIL });
    if duration <= 0.0 {
        return Err(format!("the scene must last longer than 0 s, got {duration} s"));
    }
    Ok((anomalies, duration))
}
