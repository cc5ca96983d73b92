//! Colour of the ground: lawn, paving, kerb, asphalt.

use super::canvas::Rgb;
use super::layout::{
    BENCH, CENTRE_LINE, FACADE, FAR_PAVEMENT, KERB, LAMPS, PARKING, PROMENADE, ROAD, SHADOW, TREES,
};
use super::random::{fractal2, hash2, noise2};

/// The lit colour of the ground at x, z.
pub fn color(x: f32, z: f32) -> Rgb {
    let base = match z {
        z if z < PROMENADE - 0.16 => lawn(x, z),
        z if z < PROMENADE => edging(x, z),
        z if z < KERB => slabs(x, z, 0.62, Rgb::hex(0xa69c8e), 11),
        z if z < ROAD => kerb(x, z - KERB),
        z if z < PARKING => asphalt(x, z),
        z if z < FAR_PAVEMENT - 0.3 => parking(x, z),
        z if z < FAR_PAVEMENT => kerb(x, z - FAR_PAVEMENT + 0.3),
        _ => slabs(x, z, 0.5, Rgb::hex(0x9a948c), 12),
    };
    base.shade(static_light(x, z))
}

fn lawn(x: f32, z: f32) -> Rgb {
    let broad = fractal2(21, x * 0.35, z * 0.35);
    let tufts = fractal2(22, x * 3.1, z * 3.1);
    let blades = noise2(23, x * 19.0, z * 11.0);
    let stripe = if (x * 0.55 + z * 0.2).rem_euclid(2.0) < 1.0 {
        1.05
    } else {
        0.96
    };
    let dry = Rgb::hex(0x8b8a4c);
    let green = Rgb::hex(0x587a38).mix(dry, (broad * 1.5 - 0.55).clamp(0.0, 0.55));
    let daisy = hash2(24, (x * 22.0).floor() as i32, (z * 22.0).floor() as i32) > 0.9975;
    if daisy {
        return Rgb::hex(0xc9c8ae);
    }
    green.shade(stripe * (0.62 + 0.42 * tufts + 0.28 * blades))
}

fn edging(x: f32, z: f32) -> Rgb {
    let joint = (x / 0.9).rem_euclid(1.0) < 0.03;
    let grain = noise2(31, x * 14.0, z * 14.0);
    Rgb::hex(0x8c8a84).shade(if joint { 0.6 } else { 0.85 + 0.25 * grain })
}

/// Paving slabs of `size` metres in running bond, each with its own tint, with stains across them.
fn slabs(x: f32, z: f32, size: f32, color: Rgb, seed: u32) -> Rgb {
    let row = (z / size).floor();
    let along = x / (size * 1.4) + 0.5 * row.rem_euclid(2.0);
    let (u, v) = (along.rem_euclid(1.0), (z / size).rem_euclid(1.0));
    let tint = hash2(seed, along.floor() as i32, row as i32);
    let warm = hash2(seed + 1, along.floor() as i32, row as i32);
    let joint = u < 0.028 || v < 0.045;
    let grain = noise2(seed + 2, x * 23.0, z * 23.0);
    let stain = fractal2(seed + 3, x * 0.7, z * 0.9);
    let gum = hash2(seed + 4, (x * 5.0).floor() as i32, (z * 5.0).floor() as i32) > 0.985;
    let light = if joint {
        0.66
    } else {
        0.84 + 0.16 * tint + 0.10 * grain
    };
    let light = light * (0.86 + 0.26 * stain) * if gum { 0.86 } else { 1.0 };
    color.mix(Rgb::hex(0xb09a86), 0.35 * warm).shade(light)
}

fn kerb(x: f32, across: f32) -> Rgb {
    let joint = (x / 1.2).rem_euclid(1.0) < 0.02;
    let grain = noise2(41, x * 18.0, across * 18.0);
    let edge = if across > 0.2 { 0.55 } else { 1.0 };
    Rgb::hex(0xb4b0a8).shade(edge * if joint { 0.62 } else { 0.85 + 0.2 * grain })
}

fn asphalt(x: f32, z: f32) -> Rgb {
    let grain = hash2(51, (x * 26.0).floor() as i32, (z * 26.0).floor() as i32);
    let broad = fractal2(52, x * 0.4, z * 0.8);
    let lane = if z < CENTRE_LINE {
        z - ROAD
    } else {
        z - CENTRE_LINE
    };
    let track = (-((lane - 0.65) / 0.3).powi(2)).exp() + (-((lane - 1.95) / 0.3).powi(2)).exp();
    let oil = (-((lane - 1.3) / 0.22).powi(2)).exp();
    let mut color = Rgb::hex(0x63646a).shade(0.8 + 0.12 * grain + 0.2 * broad + 0.05 * track - 0.07 * oil);
    let patch = (5.2..8.9).contains(&x) && (20.2..21.4).contains(&z) || (17.0..18.6).contains(&x) && z > 22.4;
    if patch {
        color = color.shade(0.80);
    }
    let crack = (fractal2(53, x * 0.6, z * 0.6) - 0.5).abs() < 0.006;
    if crack {
        color = color.shade(0.72);
    }
    let manhole = ((x - 10.4).powi(2) + (z - 20.5).powi(2)).sqrt();
    if manhole < 0.36 {
        color = Rgb::hex(0x4b4a48).shade(if manhole > 0.31 { 0.7 } else { 0.9 + 0.3 * grain });
    }
    let worn = noise2(54, x * 5.0, z * 5.0);
    let dash = (z - CENTRE_LINE).abs() < 0.07 && (x / 4.0).rem_euclid(1.0) < 0.5;
    let border = (z - PARKING + 0.08).abs() < 0.06;
    if (dash || border) && worn > 0.22 {
        color = color.mix(Rgb::hex(0xd8d6cc), 0.75);
    }
    color
}

fn parking(x: f32, z: f32) -> Rgb {
    let cobble = |v: f32| (v / 0.17).rem_euclid(1.0) < 0.16;
    let tint = hash2(61, (x / 0.17).floor() as i32, (z / 0.17).floor() as i32);
    let joint = cobble(x) || cobble(z);
    Rgb::hex(0x77706a).shade(if joint { 0.72 } else { 0.85 + 0.25 * tint })
}

/// Static shadows: of the houses, trees, lamp posts, the bench.
fn static_light(x: f32, z: f32) -> f32 {
    let foot = 1.0 - 0.35 * (-(FACADE - z).max(0.0) / 0.5).exp();
    let mut shade = 0.0f32;
    for (tx, tz, height, radius) in TREES {
        let (dx, dz) = (x - tx - SHADOW.0 * height, z - tz - SHADOW.1 * height);
        let ragged = 0.75 + 0.5 * fractal2(71, x * 1.4, z * 1.4);
        let inside = 1.0 - (dx * dx + dz * dz * 1.6).sqrt() / (radius * ragged);
        shade = shade.max((inside * 4.0).clamp(0.0, 1.0) * 0.30);
        shade = shade.max(post_shadow(x - tx, z - tz, height, 0.13));
    }
    for (lx, lz) in LAMPS {
        shade = shade.max(post_shadow(x - lx, z - lz, 5.2, 0.05));
    }
    let bench = (x - BENCH.0 - 0.3).abs() < 0.95 && (z - BENCH.1 - 0.1).abs() < 0.28;
    if bench {
        shade = shade.max(0.28);
    }
    foot * (1.0 - shade)
}

/// Darkness of the shadow of an upright post at a point relative to its foot.
fn post_shadow(dx: f32, dz: f32, height: f32, radius: f32) -> f32 {
    let length = (SHADOW.0 * SHADOW.0 + SHADOW.1 * SHADOW.1).sqrt();
    let along = (dx * SHADOW.0 + dz * SHADOW.1) / length;
    let across = (dx * SHADOW.1 - dz * SHADOW.0) / length;
    if (0.0..height * length).contains(&along) && across.abs() < radius {
        0.28
    } else {
        0.0
    }
}
