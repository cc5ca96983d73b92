//! Layout of the street: zones by their distance z from the camera, in metres.

/// The lawn ends and the promenade (near pavement) begins.
pub const PROMENADE: f32 = 13.0;
/// The promenade ends in a kerb.
pub const KERB: f32 = 19.0;
/// The road begins behind the kerb.
pub const ROAD: f32 = 19.3;
/// The line between the two lanes.
pub const CENTRE_LINE: f32 = 21.9;
/// The road ends and the parking bay begins.
pub const PARKING: f32 = 24.5;
/// The far pavement begins.
pub const FAR_PAVEMENT: f32 = 26.6;
/// The facades.
pub const FACADE: f32 = 30.0;

/// Middle of the lane whose traffic drives towards +x.
pub const NEAR_LANE: f32 = 20.6;
/// Middle of the lane whose traffic drives towards -x.
pub const FAR_LANE: f32 = 23.2;

/// Trees at the kerb: x, z, height of the crown's centre, radius of the crown.
pub const TREES: [(f32, f32, f32, f32); 3] = [
    (0.4, 18.3, 4.6, 1.75),
    (10.6, 18.3, 4.9, 1.9),
    (19.2, 18.3, 4.7, 1.8),
];
/// Lamp posts: x, z.
pub const LAMPS: [(f32, f32); 2] = [(5.9, 18.6), (15.6, 18.6)];
/// A bench and a litter bin at the edge of the lawn: x, z.
pub const BENCH: (f32, f32) = (11.6, 13.25);
pub const BIN: (f32, f32) = (9.2, 13.2);
/// Direction in which shadows fall on the ground, and their length for one metre of height.
pub const SHADOW: (f32, f32) = (0.62, 0.34);
