//! People on foot, seen from the side: a jointed figure with a gait.

use std::f32::consts::TAU;

use super::camera::Camera;
use super::canvas::{Canvas, Rgb};
use super::layout::SHADOW;
use super::random::Random;

const SKIN: [u32; 5] = [0xe3b694, 0xcf9a74, 0xa9714c, 0x7a4c30, 0xf0c8a8];
const HAIR: [u32; 6] = [0x1d1713, 0x3a2718, 0x5b3d22, 0x8a6a3c, 0x77736e, 0x2a211c];
const TOPS: [u32; 14] = [
    0x2b3a55, 0x5b3533, 0x3f4f3a, 0x8a8478, 0x20242a, 0xb5a27c, 0x4d3a5c, 0x7f5a50, 0x31606b, 0xa9a69e,
    0x5b5d63, 0x7d6f3c, 0x7a4642, 0x46607c,
];
const TROUSERS: [u32; 7] = [
    0x23293a, 0x33373b, 0x4b4338, 0x1b1c20, 0x5d6b80, 0x6d6353, 0x2f3f56,
];

/// What a person carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bag {
    None,
    Backpack(Rgb),
    Shoulder(Rgb),
    Suitcase(Rgb),
}

/// The constant appearance of a person.
#[derive(Clone, Debug)]
pub struct Look {
    /// Metres.
    pub height: f32,
    /// Width of body and limbs, 1 = average.
    build: f32,
    skin: Rgb,
    hair: Rgb,
    long_hair: bool,
    top: Rgb,
    trousers: Rgb,
    shoes: Rgb,
    /// Lower end of the coat or skirt, as a share of the height.
    hem: f32,
    pub bag: Bag,
}

impl Look {
    pub fn random(random: &mut Random) -> Self {
        let top = Rgb::hex(random.pick(&TOPS)).shade(random.range(0.85, 1.15));
        let bag_color = Rgb::hex(random.pick(&TOPS)).shade(0.8);
        let bag = match random.unit() {
            u if u < 0.2 => Bag::Backpack(bag_color),
            u if u < 0.42 => Bag::Shoulder(bag_color),
            u if u < 0.5 => Bag::Suitcase(bag_color),
            _ => Bag::None,
        };
        Self {
            height: (1.72 + 0.09 * random.normal()).clamp(1.5, 1.95),
            build: random.range(0.88, 1.2),
            skin: Rgb::hex(random.pick(&SKIN)),
            hair: Rgb::hex(random.pick(&HAIR)),
            long_hair: random.chance(0.35),
            top,
            trousers: Rgb::hex(random.pick(&TROUSERS)).shade(random.range(0.85, 1.2)),
            shoes: Rgb::hex(random.pick(&[0x16140f, 0x2c221a, 0xb9b4aa])),
            hem: random.pick(&[0.47, 0.47, 0.46, 0.40, 0.30]),
            bag,
        }
    }

    /// A person in a bright jacket, unlike all others.
    pub fn bright(random: &mut Random) -> Self {
        let mut look = Self::random(random);
        look.top = Rgb::hex(random.pick(&[0xd9502c, 0xe0c22e, 0xe8e6e0]));
        look
    }

    /// A person dressed for running.
    pub fn runner(random: &mut Random) -> Self {
        let mut look = Self::bright(random);
        look.hem = 0.45;
        look.bag = Bag::None;
        look
    }
}

/// The pose of a person at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Pose {
    pub x: f32,
    pub z: f32,
    /// Height of the feet above the ground, in metres.
    pub lift: f32,
    /// Direction of walking along x: +1 or -1.
    pub facing: f32,
    /// Metres walked so far; determines the phase of the gait.
    pub walked: f32,
    /// 0 = standing, 1 = walking, 2 = running; values between are allowed.
    pub gait: f32,
    /// 0 = arms swing, 1 = the near arm is raised to throw.
    pub reach: f32,
}

/// Maps the coordinates of the figure (u forward, v up, in metres) to the image.
struct Frame {
    foot: (f32, f32),
    u: f32,
    v: f32,
}

impl Frame {
    fn at(&self, u: f32, v: f32) -> (f32, f32) {
        (self.foot.0 + u * self.u, self.foot.1 - v * self.v)
    }
}

/// Lengths of the body and angles of the joints at one moment.
struct Gait {
    swing: f32,
    amplitude: f32,
    knee: f32,
    elbow: f32,
    lean: f32,
    bob: f32,
}

impl Gait {
    fn new(pose: &Pose, height: f32) -> Self {
        let running = (pose.gait - 1.0).clamp(0.0, 1.0);
        let walking = pose.gait.clamp(0.0, 1.0);
        // One stride is two steps.
        let stride = height * (0.82 + 0.75 * running);
        let swing = TAU * pose.walked / stride;
        Self {
            swing,
            amplitude: walking * (0.42 + 0.38 * running),
            knee: walking * (0.75 + 0.9 * running),
            elbow: 0.25 + 1.25 * running,
            lean: 0.03 * walking + 0.14 * running,
            bob: walking * (0.012 + 0.035 * running) * (2.0 * swing).cos(),
        }
    }
}

/// Draws the figure with its shadow.
pub fn draw(canvas: &mut Canvas<'_>, camera: &Camera, look: &Look, pose: &Pose) {
    let foot = camera.xy([pose.x, pose.lift, pose.z]);
    let head = camera.xy([pose.x, pose.lift + look.height, pose.z]);
    let scale = camera.scale([pose.x, pose.lift, pose.z]);
    let frame = Frame {
        foot,
        u: pose.facing * scale * 0.93,
        v: (foot.1 - head.1) / look.height,
    };
    draw_shadow(canvas, camera, pose.x, pose.z, look.height, 0.26 * look.build);
    let gait = Gait::new(pose, look.height);
    let h = look.height;
    let hip = (0.0, 0.52 * h + gait.bob * h);
    let shoulder = (hip.0 + (0.30 * h) * gait.lean.sin(), hip.1 + 0.30 * h);

    if let Bag::Suitcase(color) = look.bag {
        draw_suitcase(canvas, &frame, color);
    }
    draw_arm(canvas, &frame, look, &gait, shoulder, -1.0, 0.0);
    draw_leg(canvas, &frame, look, &gait, hip, -1.0);
    draw_leg(canvas, &frame, look, &gait, hip, 1.0);
    draw_torso(canvas, &frame, look, hip, shoulder, &gait);
    draw_head(canvas, &frame, look, shoulder);
    draw_arm(canvas, &frame, look, &gait, shoulder, 1.0, pose.reach);
    draw_bag(canvas, &frame, look, hip, shoulder);
}

/// The shadow on the ground of an upright body.
pub fn draw_shadow(canvas: &mut Canvas<'_>, camera: &Camera, x: f32, z: f32, height: f32, radius: f32) {
    let (sx, sz) = (SHADOW.0 * height, SHADOW.1 * height);
    let length = (sx * sx + sz * sz).sqrt().max(1e-3);
    let (ax, az) = (sx / length, sz / length);
    let half = length / 2.0 + 0.1;
    let oval: [(f32, f32); 16] = std::array::from_fn(|i| {
        let (s, c) = (TAU * i as f32 / 16.0).sin_cos();
        let (along, across) = (half * c, radius * s);
        camera.xy([
            x + sx / 2.0 + ax * along - az * across,
            0.0,
            z + sz / 2.0 + az * along + ax * across,
        ])
    });
    canvas.polygon_alpha(&oval, Rgb(0.05, 0.06, 0.09), 0.30);
    let scale = camera.scale([x, 0.0, z]);
    canvas.ellipse_alpha(
        camera.xy([x, 0.0, z]),
        0.3 * scale,
        0.11 * scale,
        Rgb(0.05, 0.05, 0.06),
        0.25,
    );
}

fn draw_leg(canvas: &mut Canvas<'_>, frame: &Frame, look: &Look, gait: &Gait, hip: (f32, f32), side: f32) {
    let (h, swing) = (look.height, gait.swing + if side > 0.0 { 0.0 } else { TAU / 2.0 });
    let thigh_angle = gait.amplitude * swing.sin() + 0.3 * gait.lean;
    let flexion = gait.knee * (0.12 + (swing.cos() * 0.5 + 0.5).powi(2)) * 0.8;
    let knee = (
        hip.0 + 0.26 * h * thigh_angle.sin(),
        hip.1 - 0.26 * h * thigh_angle.cos(),
    );
    let shank_angle = thigh_angle - flexion;
    let ankle = (
        knee.0 + 0.245 * h * shank_angle.sin(),
        (knee.1 - 0.245 * h * shank_angle.cos()).max(0.02),
    );
    let toe = (ankle.0 + 0.085 * h, (ankle.1 - 0.015).max(0.015));
    let color = if side > 0.0 {
        look.trousers
    } else {
        look.trousers.shade(0.72)
    };
    let width = |k: f32| k * h * look.build * frame.v;
    let px = |p: (f32, f32)| frame.at(p.0, p.1);
    canvas.line(&[px(ankle), px(toe)], width(0.034), look.shoes);
    canvas.line(&[px(hip), px(knee)], width(0.088), color);
    canvas.line(&[px(knee), px(ankle)], width(0.062), color.shade(0.94));
}

fn draw_arm(
    canvas: &mut Canvas<'_>,
    frame: &Frame,
    look: &Look,
    gait: &Gait,
    shoulder: (f32, f32),
    side: f32,
    reach: f32,
) {
    let h = look.height;
    let swing = -side * gait.amplitude * 0.85 * gait.swing.sin();
    let upper = swing * (1.0 - reach) + 2.4 * reach;
    let lower = upper + gait.elbow * (1.0 - reach) + 0.35 * reach;
    let elbow = (
        shoulder.0 + 0.165 * h * upper.sin(),
        shoulder.1 - 0.02 * h - 0.165 * h * upper.cos(),
    );
    let hand = (elbow.0 + 0.15 * h * lower.sin(), elbow.1 - 0.15 * h * lower.cos());
    let color = if side > 0.0 {
        look.top.shade(0.92)
    } else {
        look.top.shade(0.68)
    };
    let width = |k: f32| k * h * look.build * frame.v;
    let px = |p: (f32, f32)| frame.at(p.0, p.1);
    canvas.line(
        &[px((shoulder.0, shoulder.1 - 0.02 * h)), px(elbow), px(hand)],
        width(0.056),
        color,
    );
    canvas.ellipse(px(hand), width(0.030), width(0.032), look.skin);
}

fn draw_torso(
    canvas: &mut Canvas<'_>,
    frame: &Frame,
    look: &Look,
    hip: (f32, f32),
    shoulder: (f32, f32),
    gait: &Gait,
) {
    let (h, b) = (look.height, look.build);
    let hem = look.hem * h + gait.bob * h;
    let flare = 0.085 + 0.25 * (0.47 - look.hem) + 0.02 * gait.amplitude * gait.swing.sin().abs();
    let at = |u: f32, v: f32| frame.at(u, v);
    let outline = [
        at(hip.0 - flare * h * b, hem),
        at(hip.0 - 0.072 * h * b, hip.1 + 0.06 * h),
        at(shoulder.0 - 0.092 * h * b, shoulder.1 - 0.09 * h),
        at(shoulder.0 - 0.080 * h * b, shoulder.1 - 0.01 * h),
        at(shoulder.0 - 0.035 * h * b, shoulder.1 + 0.025 * h),
        at(shoulder.0 + 0.035 * h * b, shoulder.1 + 0.025 * h),
        at(shoulder.0 + 0.078 * h * b, shoulder.1 - 0.02 * h),
        at(shoulder.0 + 0.088 * h * b, shoulder.1 - 0.10 * h),
        at(hip.0 + 0.076 * h * b, hip.1 + 0.05 * h),
        at(hip.0 + flare * h * b, hem),
    ];
    canvas.polygon(&outline, look.top);
    // The shaded side; the light comes from the left of the image.
    let dark = if frame.u > 0.0 { 1.0 } else { -1.0 };
    let edge = |k: f32| dark * k * h * b;
    let shaded = [
        at(hip.0 + edge(0.015), hem),
        at(shoulder.0 + edge(0.02), shoulder.1 - 0.02 * h),
        at(shoulder.0 + edge(0.085), shoulder.1 - 0.06 * h),
        at(hip.0 + edge(0.074), hip.1 + 0.05 * h),
        at(hip.0 + edge(flare), hem),
    ];
    canvas.polygon_alpha(&shaded, Rgb(0.0, 0.0, 0.02), 0.24);
}

fn draw_head(canvas: &mut Canvas<'_>, frame: &Frame, look: &Look, shoulder: (f32, f32)) {
    let h = look.height;
    let centre = (shoulder.0 + 0.012 * h, shoulder.1 + 0.105 * h);
    let px = |du: f32, dv: f32| frame.at(centre.0 + du * h, centre.1 + dv * h);
    let r = |k: f32| k * h * frame.v;
    canvas.line(
        &[px(-0.005, -0.08), px(0.0, -0.03)],
        r(0.055),
        look.skin.shade(0.85),
    );
    canvas.ellipse(px(0.006, -0.005), r(0.054), r(0.068), look.skin);
    if look.long_hair {
        canvas.line(&[px(-0.030, 0.01), px(-0.038, -0.085)], r(0.045), look.hair);
    }
    canvas.ellipse(px(-0.014, 0.022), r(0.056), r(0.054), look.hair);
}

fn draw_bag(canvas: &mut Canvas<'_>, frame: &Frame, look: &Look, hip: (f32, f32), shoulder: (f32, f32)) {
    let h = look.height;
    let at = |u: f32, v: f32| frame.at(u, v);
    match look.bag {
        Bag::Backpack(color) => {
            let (back, top) = (shoulder.0 - 0.075 * h, shoulder.1 - 0.005 * h);
            let corners = [
                at(back, top),
                at(back - 0.095 * h, top - 0.04 * h),
                at(back - 0.1 * h, top - 0.22 * h),
                at(back, top - 0.25 * h),
            ];
            canvas.polygon(&corners, color);
        }
        Bag::Shoulder(color) => {
            let (u, v) = (hip.0 - 0.02 * h, hip.1 + 0.0 * h);
            canvas.line(
                &[at(shoulder.0, shoulder.1), at(u, v + 0.08 * h)],
                0.018 * h * frame.v,
                color.shade(0.7),
            );
            let corners = [
                at(u - 0.08, v + 0.1),
                at(u + 0.1, v + 0.1),
                at(u + 0.12, v - 0.14),
                at(u - 0.1, v - 0.14),
            ];
            canvas.polygon(&corners, color);
        }
        Bag::Suitcase(_) | Bag::None => {}
    }
}

fn draw_suitcase(canvas: &mut Canvas<'_>, frame: &Frame, color: Rgb) {
    let at = |u: f32, v: f32| frame.at(u, v);
    canvas.line(
        &[at(-0.24, 0.78), at(-0.42, 0.52)],
        0.035 * frame.v,
        Rgb::hex(0x2a2a2a),
    );
    canvas.polygon(
        &[at(-0.34, 0.60), at(-0.62, 0.56), at(-0.72, 0.06), at(-0.44, 0.08)],
        color,
    );
    canvas.ellipse(
        at(-0.66, 0.05),
        0.05 * frame.v,
        0.05 * frame.v,
        Rgb::hex(0x111111),
    );
}
