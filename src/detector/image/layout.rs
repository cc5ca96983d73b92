//! Where a format keeps its components: which bytes of a row make which number.

use super::PixelFormat;

/// Grey from R'G'B' as BT.601, in thousandths.
pub(super) const LUMA_WEIGHTS: [u32; 3] = [299, 587, 114];

/// How the bytes of one sample add up to its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sample {
    /// One byte.
    Byte,
    /// Two bytes, little endian.
    Word,
    /// Bytes of R', G', B' at these places within the pixel, weighted with [`LUMA_WEIGHTS`].
    Luma([usize; 3]),
}

impl Sample {
    /// What the value is if all its bytes are one.
    pub(super) fn gain(self) -> u32 {
        match self {
            Self::Byte => 1,
            Self::Word => 257,
            Self::Luma(_) => LUMA_WEIGHTS.iter().sum(),
        }
    }
}

/// One component within the rows of a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Component {
    pub(super) sample: Sample,
    /// Byte of the first sample in its row.
    pub(super) offset: usize,
    /// Bytes from one sample to the next.
    pub(super) step: usize,
    /// Pixels that share a sample, horizontally.
    pub(super) shared: usize,
    /// The grey picture is made of it.
    pub(super) grey: bool,
    /// Its place among Y, Cb, Cr or R, G, B, where the colour picture is made of it.
    pub(super) colour: Option<usize>,
}

/// One plane.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) family: Family,
    pub(super) planes: Vec<Plane>,
}

impl Layout {
    pub(super) fn of(format: PixelFormat) -> Self {
        use PixelFormat as F;
        match format {
            F::Gray8 => grey(Sample::Byte),
            F::Gray16Le => grey(Sample::Word),
            F::I420 => planar(1, 2, 2, 2),
            F::Yv12 => planar(2, 1, 2, 2),
            F::Y42b => planar(1, 2, 2, 1),
            F::Y444 => planar(1, 2, 1, 1),
            F::Nv12 => semi_planar(Sample::Byte, 1, 2, 2),
            F::Nv21 => semi_planar(Sample::Byte, 2, 1, 2),
            F::Nv16 => semi_planar(Sample::Byte, 1, 2, 1),
            F::P010Le => semi_planar(Sample::Word, 1, 2, 2),
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

fn luma(sample: Sample, offset: usize, step: usize) -> Component {
    Component {
        sample,
        offset,
        step,
        shared: 1,
        grey: true,
        colour: Some(0),
    }
}

fn chroma(sample: Sample, place: usize, offset: usize, step: usize, shared: usize) -> Component {
    Component {
        sample,
        offset,
        step,
        shared,
        grey: false,
        colour: Some(place),
    }
}

fn plane(shared: usize, components: impl Into<Vec<Component>>) -> Plane {
    Plane {
        shared,
        components: components.into(),
    }
}

fn grey(sample: Sample) -> Layout {
    let step = if sample == Sample::Word { 2 } else { 1 };
    Layout {
        family: Family::Grey,
        planes: vec![plane(1, [luma(sample, 0, step)])],
    }
}

/// Three planes; `second` and `third` are the places of the second and the third one's component.
fn planar(second: usize, third: usize, shared_x: usize, shared_y: usize) -> Layout {
    let planes = vec![
        plane(1, [luma(Sample::Byte, 0, 1)]),
        plane(shared_y, [chroma(Sample::Byte, second, 0, 1, shared_x)]),
        plane(shared_y, [chroma(Sample::Byte, third, 0, 1, shared_x)]),
    ];
    Layout {
        family: Family::Yuv,
        planes,
    }
}

/// A plane of luma, one of chroma pairs.
fn semi_planar(sample: Sample, first: usize, second: usize, shared_y: usize) -> Layout {
    let bytes = if sample == Sample::Word { 2 } else { 1 };
    let pairs = [
        chroma(sample, first, 0, 2 * bytes, 2),
        chroma(sample, second, bytes, 2 * bytes, 2),
    ];
    Layout {
        family: Family::Yuv,
        planes: vec![plane(1, [luma(sample, 0, bytes)]), plane(shared_y, pairs)],
    }
}

/// Two pixels in four bytes; the places of the first luma, of Cb and of Cr.
fn packed(y: usize, cb: usize, cr: usize) -> Layout {
    let components = [
        luma(Sample::Byte, y, 2),
        chroma(Sample::Byte, 1, cb, 4, 2),
        chroma(Sample::Byte, 2, cr, 4, 2),
    ];
    Layout {
        family: Family::Yuv,
        planes: vec![plane(1, components)],
    }
}

/// The places of R, G, B in a pixel of `step` bytes.
fn rgb(places: [usize; 3], step: usize) -> Layout {
    let mut components = vec![Component {
        sample: Sample::Luma(places),
        offset: 0,
        step,
        shared: 1,
        grey: true,
        colour: None,
    }];
    components.extend(places.iter().enumerate().map(|(place, &offset)| Component {
        sample: Sample::Byte,
        offset,
        step,
        shared: 1,
        grey: false,
        colour: Some(place),
    }));
    Layout {
        family: Family::Rgb,
        planes: vec![plane(1, components)],
    }
}
