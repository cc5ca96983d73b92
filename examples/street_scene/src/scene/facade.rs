//! The row of houses on the far side: plaster and brick, shops below, windows above.

use super::canvas::Rgb;
use super::random::{fractal2, hash2, noise2};

/// One house: its start along x, its wall and its ground floor.
struct House {
    left: f32,
    right: f32,
    wall: Rgb,
    trim: Rgb,
    brick: bool,
    shop: Option<Rgb>,
    seed: u32,
}

const fn house(left: f32, right: f32, wall: u32, trim: u32, brick: bool, shop: Option<Rgb>) -> House {
    let seed = (left as i32 + 100) as u32;
    House {
        left,
        right,
        wall: Rgb::hex(wall),
        trim: Rgb::hex(trim),
        brick,
        shop,
        seed,
    }
}

const HOUSES: [House; 7] = [
    house(-60.0, -4.0, 0xb9a88c, 0xe6dfd0, false, None),
    house(-4.0, 6.5, 0xc9b48a, 0xece4d2, false, Some(Rgb::hex(0x2e5a4a))),
    house(6.5, 16.0, 0x9c5c48, 0xd9d0c2, true, Some(Rgb::hex(0x7a2f2a))),
    house(16.0, 26.5, 0xb7bcc0, 0xf0efe8, false, None),
    house(26.5, 38.0, 0xc48f66, 0xe9dcc8, false, Some(Rgb::hex(0x2b4468))),
    house(38.0, 50.0, 0x8f5546, 0xcfc4b4, true, Some(Rgb::hex(0x3d3d3d))),
    house(50.0, 140.0, 0xa9ab9e, 0xdeded4, false, None),
];

/// The colour of the front at x (along the street) and y (height), in metres.
pub fn color(x: f32, y: f32) -> Rgb {
    let house = HOUSES
        .iter()
        .find(|h| x < h.right)
        .unwrap_or(&HOUSES[HOUSES.len() - 1]);
    let weather = 0.88 + 0.2 * fractal2(house.seed, x * 0.45, y * 0.3);
    let streak = 0.96 + 0.06 * noise2(house.seed + 7, x * 6.0, y * 0.5);
    let light = weather * streak * (0.80 + 0.05 * y.min(4.0));
    let gap = x - house.left < 0.12;
    if gap {
        return house.wall.shade(0.45);
    }
    let local = x - house.left;
    let base = match y {
        y if y < 0.45 => house.wall.shade(0.62 + 0.1 * noise2(3, x * 9.0, y * 9.0)),
        y if y < 3.35 => ground_floor(house, local, y),
        y if y < 3.95 => fascia(house, local, y),
        y if y < 4.15 => house.trim.shade(if y < 3.99 { 0.6 } else { 1.0 }),
        _ => upper_floor(house, local, (y - 4.15) % 3.1),
    };
    base.shade(light)
}

fn wall(house: &House, x: f32, y: f32) -> Rgb {
    if !house.brick {
        return house
            .wall
            .shade(0.95 + 0.1 * noise2(house.seed + 1, x * 8.0, y * 8.0));
    }
    let row = (y / 0.11).floor();
    let along = x / 0.32 + 0.5 * row.rem_euclid(2.0);
    let tint = hash2(house.seed + 2, along.floor() as i32, row as i32);
    let joint = (y / 0.11).rem_euclid(1.0) < 0.16 || along.rem_euclid(1.0) < 0.07;
    if joint {
        house.wall.mix(Rgb::hex(0xb8ac9c), 0.45)
    } else {
        house.wall.shade(0.8 + 0.4 * tint)
    }
}

/// Glass that reflects the sky, darker towards the bottom, with a hint of the interior.
fn glass(seed: u32, x: f32, y: f32, bottom: f32, top: f32) -> Rgb {
    let share = ((y - bottom) / (top - bottom)).clamp(0.0, 1.0);
    let behind = noise2(seed + 5, x * 1.8, y * 2.2);
    let sky = Rgb::hex(0x9db4c4);
    Rgb::hex(0x1f262c)
        .mix(Rgb::hex(0x6b5a3c), 0.45 * behind)
        .mix(sky, 0.12 + 0.35 * share * share)
}

fn ground_floor(house: &House, x: f32, y: f32) -> Rgb {
    let Some(board) = house.shop else {
        return dwelling(house, x, y);
    };
    let bay = 3.3;
    let (index, u) = ((x / bay).floor() as i32, (x / bay).rem_euclid(1.0) * bay);
    let pillar = u < 0.32;
    if pillar {
        return wall(house, x, y).shade(0.92);
    }
    let door = index % 3 == 1;
    let sill = if door { 0.45 } else { 0.9 };
    let frame = !(0.42..=bay - 0.1).contains(&u) || (u - bay * 0.55).abs() < 0.04 || y > 3.25;
    if y < sill {
        return board.shade(0.7);
    }
    if frame || (door && (u - 1.0).abs() < 0.05) {
        return board.shade(0.95);
    }
    let goods = y < 1.9 && hash2(house.seed + 9, (x * 3.0).floor() as i32, (y * 2.5).floor() as i32) > 0.45;
    let pane = glass(house.seed, x, y, sill, 3.25);
    if goods && !door {
        let hue = hash2(
            house.seed + 10,
            (x * 3.0).floor() as i32,
            (y * 2.5).floor() as i32,
        );
        return pane.mix(Rgb(0.5 + 0.4 * hue, 0.45, 0.55 - 0.35 * hue), 0.45);
    }
    pane
}

/// The ground floor of a house without a shop: door and windows.
fn dwelling(house: &House, x: f32, y: f32) -> Rgb {
    let bay = 2.6;
    let (index, u) = ((x / bay).floor() as i32, (x / bay).rem_euclid(1.0) * bay);
    let is_door = index.rem_euclid(4) == 1;
    if is_door && (0.75..1.95).contains(&u) && y < 2.75 {
        let panel = (0.9..1.8).contains(&u) && ((0.7..1.4).contains(&y) || (1.55..2.3).contains(&y));
        let colors = [0x5a2d24, 0x24405a, 0x2f4a2f, 0x4a3a2a];
        let color = Rgb::hex(colors[(house.seed as usize + index.unsigned_abs() as usize) % 4]);
        return color.shade(if panel { 0.85 } else { 1.1 });
    }
    if is_door && (0.6..2.1).contains(&u) && y < 2.9 {
        return house.trim.shade(0.9);
    }
    if !is_door && let Some(color) = window(house, u - 0.7, y - 1.1, 1.2, 1.6, index) {
        return color;
    }
    wall(house, x, y)
}

fn fascia(house: &House, x: f32, y: f32) -> Rgb {
    let Some(board) = house.shop else {
        return wall(house, x, y);
    };
    let bay = 9.9;
    let u = x.rem_euclid(bay);
    // Blocks that read as lettering from a distance.
    let letter = (2.2..6.4).contains(&u) && (3.5..3.8).contains(&y) && (u / 0.34).rem_euclid(1.0) < 0.72;
    let solid = hash2(
        house.seed + 12,
        (u / 0.11).floor() as i32,
        (y / 0.1).floor() as i32,
    ) > 0.3;
    if letter && solid {
        Rgb::hex(0xe8dcb4)
    } else {
        board.shade(1.05)
    }
}

fn upper_floor(house: &House, x: f32, y: f32) -> Rgb {
    let bay = 2.35;
    let (index, u) = ((x / bay).floor() as i32, (x / bay).rem_euclid(1.0) * bay);
    window(house, u - 0.6, y - 0.75, 1.15, 1.75, index + 40).unwrap_or_else(|| wall(house, x, y))
}

/// A sash window with frame, sill and curtains; `None` outside it.
fn window(house: &House, u: f32, v: f32, width: f32, height: f32, index: i32) -> Option<Rgb> {
    if (-0.14..width + 0.14).contains(&u) && (-0.16..0.0).contains(&v) {
        return Some(house.trim.shade(if v < -0.1 { 0.6 } else { 1.02 }));
    }
    if !(-0.1..width + 0.1).contains(&u) || !(-0.02..height + 0.12).contains(&v) {
        return None;
    }
    let reveal = !(0.0..width).contains(&u) || v > height;
    if reveal {
        return Some(house.trim.shade(0.92));
    }
    let bars =
        u < 0.07 || u > width - 0.07 || (u - width / 2.0).abs() < 0.03 || (v - height * 0.55).abs() < 0.035;
    if bars || !(0.07..height - 0.07).contains(&v) {
        return Some(house.trim);
    }
    let pane = glass(house.seed + index.unsigned_abs(), u, v, 0.0, height);
    let curtain = hash2(house.seed + 20, index, 0);
    let drawn = (u < 0.28 || u > width - 0.28) && curtain > 0.35;
    let blind = v > height * (1.0 - 0.6 * curtain) && curtain > 0.6;
    let fold = 0.85 + 0.15 * (u * 40.0).sin();
    Some(if drawn || blind {
        pane.mix(Rgb::hex(0xd6cdb8).shade(fold), 0.62)
    } else {
        pane
    })
}
