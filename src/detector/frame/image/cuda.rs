//! Frames in the memory of a CUDA device: what the host describes to the kernel that reduces them.

use super::colour::Expansion;
use super::layout::{Family, Layout};
use super::reduce::{ReducedFrame, ReducedSizes, check_sizes};
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

/// A stored component of the pixels, as in `reduce.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Component {
    first: u64,
    stride: i64,
    step: i32,
    bytes: i32,
    shared_x: i32,
    shared_y: i32,
}

/// A small image, as in `reduce.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Grid {
    out: u64,
    width: i32,
    height: i32,
    tiles: i32,
    blocks: i32,
}

/// The kernel's argument, as in `reduce.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reduction {
    component: [Component; 3],
    grey: Grid,
    colour: Grid,
    width: i32,
    height: i32,
    family: i32,
    components: i32,
    black: f32,
    luma_span: f32,
    zero: f32,
    chroma_span: f32,
    kr: f32,
    kb: f32,
}

impl Reduction {
    /// The reduction of `image` to images at the address `out`: grey, and behind it colour.
    ///
    /// # Errors
    /// Planes that are too small for the image's format and size, or sizes out of range.
    pub(crate) fn new(image: &CudaImage<'_>, sizes: ReducedSizes, out: u64) -> Result<Self> {
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
        let Expansion {
            luma, chroma, kr, kb, ..
        } = Expansion::new(image.format, family, image.color);
        let mut reduction = Self {
            grey: Grid::new(sizes.grey, out),
            colour: Grid::new(sizes.colour, out + 4 * values(sizes.grey) as u64),
            width: int(image.width),
            height: int(image.height),
            family: match family {
                Family::Grey => 0,
                Family::Yuv => 1,
                Family::Rgb => 2,
            },
            black: luma.0,
            luma_span: luma.1,
            zero: chroma.0,
            chroma_span: chroma.1,
            kr,
            kb,
            ..Self::default()
        };
        for ((plane, &(address, _)), &stride) in planes.iter().zip(image.planes).zip(image.strides) {
            for component in &plane.components {
                let (Some(channel), [first, ..]) = (component.colour, &component.taps[..]) else {
                    continue;
                };
                reduction.components += 1;
                reduction.component[channel] = Component {
                    first: address + first.offset as u64,
                    stride: stride as i64,
                    step: int(component.step),
                    bytes: int(component.taps.len()),
                    shared_x: int(component.shared),
                    shared_y: int(plane.shared),
                };
            }
        }
        Ok(reduction)
    }

    /// Values of both images.
    pub(crate) fn values(sizes: ReducedSizes) -> usize {
        values(sizes.grey) + 3 * values(sizes.colour)
    }

    /// Blocks of the launch.
    pub(crate) fn blocks(&self) -> i32 {
        self.grey.blocks + self.colour.blocks
    }

    /// Fills `frame` from what the kernel wrote.
    pub(crate) fn read(sizes: ReducedSizes, written: &[f32], frame: &mut ReducedFrame) {
        let (grey, colour) = written.split_at(values(sizes.grey));
        for (image, values) in [(&mut frame.grey, grey), (&mut frame.colour, colour)] {
            image.clear();
            image.extend_from_slice(values);
        }
    }
}

impl Grid {
    fn new(size: Option<(usize, usize)>, out: u64) -> Self {
        let (width, height) = size.unwrap_or_default();
        let tiles = width.div_ceil(TILE);
        Self {
            out,
            width: int(width),
            height: int(height),
            tiles: int(tiles),
            blocks: int(tiles * height),
        }
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

    fn on_device(frame: &Frame, sizes: ReducedSizes, reverse: bool) -> ReducedFrame {
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
        let reduction = Reduction::new(&image, sizes, written.as_mut_ptr() as u64).unwrap();
        #[allow(unsafe_code, reason = "the kernel takes addresses")]
        // SAFETY: the planes are as large as was checked, and there is room for both images.
        unsafe {
            emulated_kernels::reduce(reverse, reduction.blocks(), (&raw const reduction).cast());
        }
        let mut out = ReducedFrame::default();
        Reduction::read(sizes, &written, &mut out);
        out
    }

    fn on_cpu(frame: &Frame, sizes: ReducedSizes) -> ReducedFrame {
        let mut out = ReducedFrame::default();
        frame.view(|view| Reducer::new(view, sizes).unwrap().reduce(view, &mut out).unwrap());
        out
    }

    fn assert_as_cpu(frame: &Frame, sizes: ReducedSizes) {
        let (got, want) = (on_device(frame, sizes, false), on_cpu(frame, sizes));
        let what = format!("{} {}x{} {sizes:?}", frame.format, frame.width, frame.height);
        for (got, want, tolerance) in [(&got.grey, &want.grey, 3e-6), (&got.colour, &want.colour, 5e-4)] {
            assert_eq!(got.len(), want.len(), "{what}");
            for (i, (a, b)) in got.iter().zip(want).enumerate() {
                assert!((a - b).abs() <= tolerance, "{what}: value {i} is {a}, not {b}");
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
        let out = on_device(&frame, one, false);
        assert_eq!((out.grey, out.colour), (vec![1.0], vec![255.0, 128.0, 128.0]));
    }

    #[test]
    fn the_order_of_a_phase_changes_no_bit() {
        let frame = Frame::random(PixelFormat::Nv12, (641, 481), 3, 4);
        let (forward, reverse) = (on_device(&frame, USUAL, false), on_device(&frame, USUAL, true));
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
        let error = Reduction::new(&image, SMALL, 0).unwrap_err().to_string();
        assert!(error.contains("plane 1 must hold at least 1536 bytes"), "{error}");
    }

    #[test]
    fn both_sides_have_the_same_structures() {
        let layout = [
            size_of::<Component>(),
            offset_of!(Component, stride),
            offset_of!(Component, step),
            offset_of!(Component, bytes),
            offset_of!(Component, shared_x),
            offset_of!(Component, shared_y),
            size_of::<Grid>(),
            offset_of!(Grid, width),
            offset_of!(Grid, height),
            offset_of!(Grid, tiles),
            offset_of!(Grid, blocks),
            size_of::<Reduction>(),
            offset_of!(Reduction, grey),
            offset_of!(Reduction, colour),
            offset_of!(Reduction, width),
            offset_of!(Reduction, height),
            offset_of!(Reduction, family),
            offset_of!(Reduction, components),
            offset_of!(Reduction, black),
            offset_of!(Reduction, luma_span),
            offset_of!(Reduction, zero),
            offset_of!(Reduction, chroma_span),
            offset_of!(Reduction, kr),
            offset_of!(Reduction, kb),
            TILE,
        ];
        assert_eq!(emulated_kernels::reduction_layout(), layout);
    }
}
