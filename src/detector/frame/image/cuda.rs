//! Frames in the memory of a CUDA device: what the host describes to the kernel that reduces them.

use std::ffi::c_void;

use super::cells::Axis;
use super::colour::Expansion;
use super::layout::{self, Layout};
use super::reduce::{ReducedFrame, ReducedSizes, check_sizes, mark_outside};
use super::{ColorModel, ImageView, PixelFormat};
use crate::detector::Result;

/// A frame in device memory. Strides are in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CudaImage<'a> {
    /// Layout of the pixels.
    pub(crate) format: PixelFormat,
    /// Width in pixels.
    pub(crate) width: usize,
    /// Height in pixels.
    pub(crate) height: usize,
    /// Device address and size in bytes of each plane.
    pub(crate) planes: &'a [(u64, usize)],
    /// Bytes from one row to the next, of each plane.
    pub(crate) strides: &'a [usize],
    /// How stored numbers become colours.
    pub(crate) color: ColorModel,
}

/// Cells of a row that a block of the kernel computes; `reduce.cuh` has the same number.
const TILE: usize = 32;
/// Bytes of a sample that count, as in `reduce.cuh`.
const MAX_TAPS: usize = 3;

/// A stored component of the pixels on one grid, as in `reduce.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Component {
    first: u64,
    stride: i64,
    step: i32,
    offset: [i32; MAX_TAPS],
    shared_x: i32,
    shared_y: i32,
    other_rows: i32,
    divisor: i32,
    factor: [f32; MAX_TAPS],
}

/// A small image, as in `reduce.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Grid {
    out: u64,
    width: i32,
    height: i32,
    channels: i32,
    tiles: i32,
    blocks: i32,
    components: i32,
    taps: i32,
    offset_x: i32,
    offset_y: i32,
    component: [Component; 3],
}

/// The kernel's argument, as in `reduce.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Argument {
    grey: Grid,
    colour: Grid,
    width: i32,
    height: i32,
}

/// The reduction of a frame: the kernel averages its stored components as [`Reducer`](super::Reducer) does, and what is
/// made of the averages is computed here.
#[derive(Debug)]
pub(crate) struct Reduction {
    argument: Argument,
    sizes: ReducedSizes,
    displacement: [f32; 2],
    expansion: Expansion,
}

impl Reduction {
    /// The reduction of `image` to images at the address `out`: grey, and behind it colour; displaced as by
    /// [`Reducer`](super::Reducer).
    ///
    /// # Errors
    /// Planes that are too small for the image's format and size, or sizes out of range.
    pub(crate) fn new(
        image: &CudaImage<'_>,
        sizes: ReducedSizes,
        displacement: [f32; 2],
        out: u64,
    ) -> Result<Self> {
        let lengths: Vec<usize> = image.planes.iter().map(|&(_, bytes)| bytes).collect();
        ImageView::validate_planes(
            image.format,
            (image.width, image.height),
            &lengths,
            image.strides,
            image.color,
        )?;
        check_sizes(sizes)?;
        let Layout { family, planes } = Layout::of(image.format);
        let mut argument = Argument {
            grey: Grid::new(sizes.grey, 1, displacement, image, out),
            colour: Grid::new(
                sizes.colour,
                3,
                displacement,
                image,
                out + 4 * values(sizes.grey) as u64,
            ),
            width: int(image.width),
            height: int(image.height),
        };
        for ((plane, &(address, _)), &stride) in planes.iter().zip(image.planes).zip(image.strides) {
            // Rows of cells that cut the plane.
            let cut = |size: Option<(usize, usize)>, by: fn(&layout::Component) -> bool| {
                size.filter(|_| plane.components.iter().any(by))
                    .map_or(0, |(_, rows)| rows)
            };
            let grey_rows = cut(sizes.grey, |component| component.grey);
            let colour_rows = cut(sizes.colour, |component| component.colour.is_some());
            for component in &plane.components {
                let on_grid = |width, other_rows| {
                    let axis = Axis::new(image.width, width, component.shared, displacement[0]);
                    let mut described = Component {
                        first: address,
                        stride: stride as i64,
                        step: int(component.step),
                        shared_x: int(component.shared),
                        shared_y: int(plane.shared),
                        other_rows: int(other_rows),
                        divisor: int(axis.divisor()),
                        ..Component::default()
                    };
                    for (i, tap) in component.taps.iter().enumerate() {
                        described.offset[i] = int(tap.offset);
                        described.factor[i] = axis.scale() * tap.factor;
                    }
                    described
                };
                let taps = component.taps.len();
                if let Some((width, _)) = sizes.grey.filter(|_| component.grey) {
                    argument.grey.put(0, on_grid(width, colour_rows), taps);
                }
                if let Some((channel, (width, _))) = component.colour.zip(sizes.colour) {
                    argument.colour.put(channel, on_grid(width, grey_rows), taps);
                }
            }
        }
        Ok(Self {
            argument,
            sizes,
            displacement,
            expansion: Expansion::new(image.format, family, image.color),
        })
    }

    /// Values of both images.
    pub(crate) fn values(sizes: ReducedSizes) -> usize {
        values(sizes.grey) + 3 * values(sizes.colour)
    }

    /// Blocks of the launch.
    pub(crate) fn blocks(&self) -> i32 {
        self.argument.grey.blocks + self.argument.colour.blocks
    }

    /// The kernel's argument.
    pub(crate) fn argument(&self) -> *const c_void {
        (&raw const self.argument).cast()
    }

    /// Fills `frame` from what the kernel wrote.
    pub(crate) fn read(&self, written: &[f32], frame: &mut ReducedFrame) {
        let (grey, colour) = written.split_at(values(self.sizes.grey));
        for (image, values) in [(&mut frame.grey, grey), (&mut frame.colour, colour)] {
            image.clear();
            image.extend_from_slice(values);
        }
        self.expansion.grey(&mut frame.grey);
        self.expansion.colour(&mut frame.colour);
        let size = (self.argument.width as usize, self.argument.height as usize);
        mark_outside(size, self.sizes, self.displacement, frame);
    }
}

impl Grid {
    fn new(
        size: Option<(usize, usize)>,
        channels: usize,
        displacement: [f32; 2],
        image: &CudaImage<'_>,
        out: u64,
    ) -> Self {
        let (width, height) = size.unwrap_or_default();
        let tiles = width.div_ceil(TILE);
        Self {
            out,
            width: int(width),
            height: int(height),
            channels: int(channels),
            tiles: int(tiles),
            blocks: int(tiles * height),
            offset_x: Axis::new(image.width, width, 1, displacement[0]).offset as i32,
            offset_y: Axis::new(image.height, height, 1, displacement[1]).offset as i32,
            ..Self::default()
        }
    }

    fn put(&mut self, channel: usize, component: Component, taps: usize) {
        self.component[channel] = component;
        self.components += 1;
        self.taps = int(taps);
    }
}

fn values(size: Option<(usize, usize)>) -> usize {
    size.map_or(0, |(width, height)| width * height)
}

/// Sides and strides of valid images fit.
fn int(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::super::Reducer;
    use super::super::testing::Frame;
    use super::*;

    const USUAL: ReducedSizes = ReducedSizes {
        grey: Some((180, 100)),
        colour: Some((64, 40)),
    };
    const SMALL: ReducedSizes = ReducedSizes {
        grey: Some((45, 28)),
        colour: Some((16, 8)),
    };

    fn on_device(frame: &Frame, sizes: ReducedSizes, displacement: [f32; 2], reverse: bool) -> ReducedFrame {
        let planes: Vec<_> = frame
            .planes
            .iter()
            .map(|plane| (plane.as_ptr() as u64, plane.len()))
            .collect();
        let image = CudaImage {
            format: frame.format,
            width: frame.width,
            height: frame.height,
            planes: &planes,
            strides: &frame.strides,
            color: frame.color,
        };
        let mut written = vec![f32::NAN; Reduction::values(sizes)];
        let reduction = Reduction::new(&image, sizes, displacement, written.as_mut_ptr() as u64).unwrap();
        #[allow(unsafe_code, reason = "the kernel takes addresses")]
        // SAFETY: the planes are as large as was checked, and there is room for both images.
        unsafe {
            emulated_kernels::reduce(reverse, reduction.blocks(), reduction.argument());
        }
        let mut out = ReducedFrame::default();
        reduction.read(&written, &mut out);
        out
    }

    fn on_cpu(frame: &Frame, sizes: ReducedSizes, displacement: [f32; 2]) -> ReducedFrame {
        let mut out = ReducedFrame::default();
        frame.view(|view| {
            let mut reducer = Reducer::new(view, sizes, displacement).unwrap();
            reducer.reduce(view, &mut out).unwrap();
        });
        out
    }

    /// Asserts that both sides agree to the last bit.
    fn assert_as_cpu(frame: &Frame, sizes: ReducedSizes) {
        assert_displaced_as_cpu(frame, sizes, [0.0; 2]);
    }

    fn assert_displaced_as_cpu(frame: &Frame, sizes: ReducedSizes, displacement: [f32; 2]) {
        let got = on_device(frame, sizes, displacement, false);
        let want = on_cpu(frame, sizes, displacement);
        let what = format!(
            "{} {}x{} {sizes:?} displaced by {displacement:?}",
            frame.format, frame.width, frame.height
        );
        for (got, want) in [(&got.grey, &want.grey), (&got.colour, &want.colour)] {
            assert_eq!(got.len(), want.len(), "{what}");
            for (i, (a, b)) in got.iter().zip(want).enumerate() {
                assert_eq!(a.to_bits(), b.to_bits(), "{what}: value {i} is {a}, not {b}");
            }
        }
    }

    #[test]
    fn every_format_odd_size_and_stride_is_reduced_as_on_the_cpu() {
        let colors = [ColorModel::BT601, ColorModel::BT709, ColorModel::JPEG];
        for (index, format) in PixelFormat::ALL.into_iter().enumerate() {
            for (size, padding) in [((16, 16), 0), ((17, 19), 3), ((101, 77), 1), ((130, 16), 7)] {
                let mut frame = Frame::random(format, size, padding, index as u64);
                for color in colors {
                    frame.color = color;
                    assert_as_cpu(&frame, SMALL);
                }
            }
        }
    }

    #[test]
    fn usual_images_of_small_and_large_frames_are_as_on_the_cpu() {
        for format in [
            PixelFormat::Nv12,
            PixelFormat::I420,
            PixelFormat::P010Le,
            PixelFormat::Bgra,
        ] {
            for size in [(16, 16), (23, 161), (401, 301), (1280, 719)] {
                assert_as_cpu(&Frame::random(format, size, 9, 2), USUAL);
            }
        }
    }

    #[test]
    fn displaced_images_are_as_on_the_cpu() {
        for (index, format) in PixelFormat::ALL.into_iter().enumerate() {
            let frames = [(17, 19), (101, 77), (641, 481)];
            let frames = frames.map(|size| Frame::random(format, size, index % 3, index as u64));
            for displacement in [
                [0.01, 0.0],
                [-0.013, 0.021],
                [0.3, -0.27],
                [-0.004, -0.9],
                [1.0, 0.0],
            ] {
                for frame in &frames {
                    assert_displaced_as_cpu(frame, SMALL, displacement);
                    assert_displaced_as_cpu(frame, USUAL, displacement);
                }
            }
            let alone = ReducedSizes { grey: None, ..USUAL };
            assert_displaced_as_cpu(&frames[1], alone, [0.02, 0.03]);
        }
    }

    #[test]
    fn a_cell_may_have_more_rows_than_a_block_holds_and_either_image_may_be_off() {
        let one = ReducedSizes {
            grey: Some((1, 1)),
            colour: Some((1, 1)),
        };
        for format in [PixelFormat::Gray16Le, PixelFormat::Nv12, PixelFormat::Rgbx] {
            let frame = Frame::random(format, (300, 523), 0, 3);
            assert_as_cpu(&frame, one);
            assert_as_cpu(
                &frame,
                ReducedSizes {
                    colour: None,
                    ..USUAL
                },
            );
            assert_as_cpu(&frame, ReducedSizes { grey: None, ..USUAL });
        }
    }

    #[test]
    fn the_largest_sums_do_not_overflow() {
        let one = ReducedSizes {
            grey: Some((1, 1)),
            colour: Some((1, 1)),
        };
        let mut frame = Frame::new(PixelFormat::Gray16Le, (16_384, 40), 0, 255);
        frame.color = ColorModel::JPEG;
        let out = on_device(&frame, one, [0.0; 2], false);
        assert_eq!((out.grey, out.colour), (vec![1.0], vec![255.0, 128.0, 128.0]));
    }

    #[test]
    fn the_order_of_a_phase_changes_no_bit() {
        let frame = Frame::random(PixelFormat::Nv12, (641, 481), 3, 4);
        let [forward, reverse] = [false, true].map(|reverse| on_device(&frame, USUAL, [0.0; 2], reverse));
        assert_eq!(forward.grey, reverse.grey);
        assert_eq!(forward.colour, reverse.colour);
    }

    #[test]
    fn planes_that_are_too_small_are_an_error() {
        let image = CudaImage {
            format: PixelFormat::Nv12,
            width: 64,
            height: 48,
            planes: &[(4096, 64 * 48), (8192, 64 * 24 - 1)],
            strides: &[64, 64],
            color: ColorModel::BT601,
        };
        let error = Reduction::new(&image, SMALL, [0.0; 2], 0)
            .unwrap_err()
            .to_string();
        assert!(error.contains("plane 1 must hold at least 1536 bytes"), "{error}");
    }

    #[test]
    fn both_sides_have_the_same_structures() {
        let layout = [
            size_of::<Component>(),
            offset_of!(Component, stride),
            offset_of!(Component, step),
            offset_of!(Component, offset),
            offset_of!(Component, shared_x),
            offset_of!(Component, shared_y),
            offset_of!(Component, other_rows),
            offset_of!(Component, divisor),
            offset_of!(Component, factor),
            size_of::<Grid>(),
            offset_of!(Grid, width),
            offset_of!(Grid, height),
            offset_of!(Grid, channels),
            offset_of!(Grid, tiles),
            offset_of!(Grid, blocks),
            offset_of!(Grid, components),
            offset_of!(Grid, taps),
            offset_of!(Grid, offset_x),
            offset_of!(Grid, offset_y),
            offset_of!(Grid, component),
            size_of::<Argument>(),
            offset_of!(Argument, grey),
            offset_of!(Argument, colour),
            offset_of!(Argument, width),
            offset_of!(Argument, height),
            TILE,
            super::super::columns::MAX_ROWS,
        ];
        assert_eq!(emulated_kernels::reduction_layout(), layout);
    }
}
