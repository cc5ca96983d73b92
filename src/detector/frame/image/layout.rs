//! Where a format keeps its components: which bytes of a row make which number.

use super::PixelFormat;

/// A byte of a sample and what it counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tap {
    /// Distance from the first byte of the row's first sample to be read.
    pub(super) offset: usize,
    pub(super) factor: f32,
}

/// One component within the rows of a plane.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Component {
    /// The bytes of a row's first sample that make its value.
    pub(super) taps: Vec<Tap>,
    /// Bytes from one sample to the next.
    pub(super) step: usize,
    /// Pixels that share a sample, horizontally.
    pub(super) shared: usize,
    /// The grey image is made of it.
    pub(super) grey: bool,
    /// Its channel of Y, Cb, Cr or R, G, B, where the colour image is made of it.
    pub(super) colour: Option<usize>,
}

/// One plane.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plane {
    /// Rows of pixels that share a row of samples.
    pub(super) shared: usize,
    pub(super) components: Vec<Component>,
}

/// What the averages of the components are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Grey,
    Yuv,
    Rgb,
}

/// Where a format keeps its components.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) family: Family,
    pub(super) planes: Vec<Plane>,
}

impl Layout {
    pub(super) fn of(format: PixelFormat) -> Self {
        use PixelFormat as F;
        match format {
            F::Gray8 => grey(Depth::Byte),
            F::Gray16Le => grey(Depth::Word),
            F::I420 => planar(1, 2, 2, 2),
            F::Yv12 => planar(2, 1, 2, 2),
            F::Y42b => planar(1, 2, 2, 1),
            F::Y444 => planar(1, 2, 1, 1),
            F::Nv12 => semi_planar(Depth::Byte, 1, 2, 2),
            F::Nv21 => semi_planar(Depth::Byte, 2, 1, 2),
            F::Nv16 => semi_planar(Depth::Byte, 1, 2, 1),
            F::P010Le => semi_planar(Depth::Word, 1, 2, 2),
            F::Yuy2 => packed(0, 1, 3),
            F::Uyvy => packed(1, 0, 2),
            F::Rgb => rgb([0, 1, 2], 3),
            F::Bgr => rgb([2, 1, 0], 3),
            F::Rgbx | F::Rgba => rgb([0, 1, 2], 4),
            F::Bgrx | F::Bgra => rgb([2, 1, 0], 4),
            F::Xrgb | F::Argb => rgb([1, 2, 3], 4),
            F::Xbgr | F::Abgr => rgb([3, 2, 1], 4),
        }
    }
}

/// Bytes of a stored number.
#[derive(Clone, Copy)]
enum Depth {
    Byte,
    /// Little endian.
    Word,
}

impl Depth {
    fn bytes(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
        }
    }

    fn taps(self, offset: usize) -> Vec<Tap> {
        let factors: &[f32] = match self {
            Self::Byte => &[1.0],
            Self::Word => &[1.0, 256.0],
        };
        factors
            .iter()
            .zip(offset..)
            .map(|(&factor, offset)| Tap { offset, factor })
            .collect()
    }
}

fn luma(depth: Depth, offset: usize, step: usize) -> Component {
    Component {
        taps: depth.taps(offset),
        step,
        shared: 1,
        grey: true,
        colour: Some(0),
    }
}

fn chroma(depth: Depth, channel: usize, offset: usize, step: usize, shared: usize) -> Component {
    Component {
        taps: depth.taps(offset),
        step,
        shared,
        grey: false,
        colour: Some(channel),
    }
}

fn plane(shared: usize, components: impl Into<Vec<Component>>) -> Plane {
    Plane {
        shared,
        components: components.into(),
    }
}

fn grey(depth: Depth) -> Layout {
    Layout {
        family: Family::Grey,
        planes: vec![plane(1, [luma(depth, 0, depth.bytes())])],
    }
}

/// Three planes; `second` and `third` are the channels of the second and the third one.
fn planar(second: usize, third: usize, shared_x: usize, shared_y: usize) -> Layout {
    let planes = vec![
        plane(1, [luma(Depth::Byte, 0, 1)]),
        plane(shared_y, [chroma(Depth::Byte, second, 0, 1, shared_x)]),
        plane(shared_y, [chroma(Depth::Byte, third, 0, 1, shared_x)]),
    ];
    Layout {
        family: Family::Yuv,
        planes,
    }
}

/// A plane of luma, one of chroma pairs.
fn semi_planar(depth: Depth, first: usize, second: usize, shared_y: usize) -> Layout {
    let bytes = depth.bytes();
    let pairs = [
        chroma(depth, first, 0, 2 * bytes, 2),
        chroma(depth, second, bytes, 2 * bytes, 2),
    ];
    Layout {
        family: Family::Yuv,
        planes: vec![plane(1, [luma(depth, 0, bytes)]), plane(shared_y, pairs)],
    }
}

/// Two pixels in four bytes; the offsets of the first luma, of Cb and of Cr.
fn packed(y: usize, cb: usize, cr: usize) -> Layout {
    let components = [
        luma(Depth::Byte, y, 2),
        chroma(Depth::Byte, 1, cb, 4, 2),
        chroma(Depth::Byte, 2, cr, 4, 2),
    ];
    Layout {
        family: Family::Yuv,
        planes: vec![plane(1, components)],
    }
}

/// The offsets of R, G, B in a pixel of `step` bytes. Grey is BT.601 luma of R'G'B'.
fn rgb(offsets: [usize; 3], step: usize) -> Layout {
    let factors = [0.299, 0.587, 0.114];
    let taps = offsets
        .into_iter()
        .zip(factors)
        .map(|(offset, factor)| Tap { offset, factor })
        .collect();
    let mut components = vec![Component {
        taps,
        step,
        shared: 1,
        grey: true,
        colour: None,
    }];
    for (channel, offset) in offsets.into_iter().enumerate() {
        components.push(Component {
            taps: Depth::Byte.taps(offset),
            step,
            shared: 1,
            grey: false,
            colour: Some(channel),
        });
    }
    Layout {
        family: Family::Rgb,
        planes: vec![plane(1, components)],
    }
}
