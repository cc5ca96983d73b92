//! Parts of the frame that are ignored: read from a mask image or from polygons, and brought to the sizes of the small
//! images.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use super::{GREY_CELL, ReducedSizes};
use crate::detector::{Error, Result, store};

/// Width and height of the bitmap that polygons are drawn into.
const CANVAS: usize = 1024;
/// Larger mask images are not read.
const LARGEST_SIDE: usize = 16_384;
/// Polygons and corners that are read.
const MOST_POLYGONS: usize = 256;
const MOST_CORNERS: usize = 1024;
/// Pixels of the frame by which a small pixel depends on what is beside it, through subsampled colours.
const REACH: f64 = 2.0;
/// Side of the blocks whose means are compared for cuts, and of the boxes that the scores are averaged over.
pub(super) const BLOCK: usize = 8;
const CELL_BOX: usize = 3;
const PIXEL_BOX: usize = 5;

/// What the small images hold where the frame is ignored: mid-grey.
const GREY: f32 = 0.5;
const COLOUR: f32 = 128.0;

/// Parts of the frame, in no particular size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoredRegions {
    masks: Vec<Arc<Bitmap>>,
}

/// Row by row, whether a pixel is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bitmap {
    width: usize,
    height: usize,
    ignored: Vec<bool>,
}

impl IgnoredRegions {
    /// Nothing is ignored.
    pub fn none() -> Self {
        Self::default()
    }

    /// Both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.masks.extend(other.masks);
        self
    }

    /// A mask image of any size, which is stretched over the frame: PNG or PGM, and what is darker than half is ignored.
    ///
    /// # Errors
    /// The image cannot be read, or is too large.
    pub fn from_image(content: &[u8]) -> Result<Self> {
        let (width, height, values) = match content {
            [b'P', b'2' | b'5', ..] => read_pgm(content)?,
            _ => read_png(content)?,
        };
        Ok(Self::from_bitmap(Bitmap {
            width,
            height,
            ignored: values.iter().map(|&value| value < 128).collect(),
        }))
    }

    /// The mask image in a file, as [`IgnoredRegions::from_image`].
    ///
    /// # Errors
    /// The file cannot be read, is no regular one, or holds no such image.
    pub fn from_file(path: &Path) -> Result<Self> {
        let content = store::content(path).map_err(|error| Error::File {
            path: path.to_owned(),
            error,
        })?;
        Self::from_image(&content)
    }

    /// Polygons in fractions of width and height, as `x,y x,y x,y; x,y x,y x,y`: the corners of a polygon are separated by
    /// spaces, polygons by semicolons. An empty text ignores nothing.
    ///
    /// # Errors
    /// The text is of another form, or a number is outside 0..=1.
    pub fn from_polygons(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(';').filter(|part| !part.trim().is_empty()).collect();
        if parts.is_empty() {
            return Ok(Self::none());
        }
        if parts.len() > MOST_POLYGONS {
            return Err(invalid_polygons(format!("{} polygons", parts.len())));
        }
        let mut bitmap = Bitmap {
            width: CANVAS,
            height: CANVAS,
            ignored: vec![false; CANVAS * CANVAS],
        };
        for part in parts {
            let corners = part.split_whitespace().map(parse_corner);
            let corners = corners.collect::<Result<Vec<_>>>()?;
            if !(3..=MOST_CORNERS).contains(&corners.len()) {
                return Err(invalid_polygons(format!(
                    "{} corners in \"{}\"",
                    corners.len(),
                    part.trim()
                )));
            }
            bitmap.fill(&corners);
        }
        Ok(Self::from_bitmap(bitmap))
    }

    /// Whether each pixel of an image of `size` = (width, height) that shows the whole frame shows something ignored; row by
    /// row.
    pub fn pixels(&self, size: (usize, usize)) -> Vec<bool> {
        self.covered(size, (0.0, 0.0))
    }

    fn from_bitmap(bitmap: Bitmap) -> Self {
        let masks = match bitmap.ignored.contains(&true) {
            true => vec![Arc::new(bitmap)],
            false => Vec::new(),
        };
        Self { masks }
    }

    /// Whether each pixel of an image of `size` = (width, height) shows something ignored. The image is of the whole frame,
    /// and its pixels reach that far beyond their edges, in fractions of the frame.
    fn covered(&self, (width, height): (usize, usize), reach: (f64, f64)) -> Vec<bool> {
        let mut covered = vec![false; width * height];
        for mask in &self.masks {
            let columns: Vec<_> = (0..width).map(|x| span(x, width, mask.width, reach.0)).collect();
            for (y, row) in covered.chunks_exact_mut(width.max(1)).enumerate() {
                let rows = span(y, height, mask.height, reach.1);
                for (pixel, columns) in row.iter_mut().zip(&columns) {
                    *pixel |= rows
                        .clone()
                        .any(|y| mask.ignored[y * mask.width..][columns.clone()].contains(&true));
                }
            }
        }
        covered
    }
}

/// The pixels of a mask of `of` pixels that pixel `i` of `count` covers.
fn span(i: usize, count: usize, of: usize, reach: f64) -> std::ops::Range<usize> {
    let (count, scale) = (count as f64, of as f64);
    let start = ((i as f64 / count - reach) * scale).floor().max(0.0) as usize;
    let end = (((i + 1) as f64 / count + reach) * scale).ceil() as usize;
    start.min(of - 1)..end.clamp(1, of)
}

impl Bitmap {
    /// Fills a polygon by the even-odd rule: pixels whose centre is inside.
    fn fill(&mut self, corners: &[(f64, f64)]) {
        let mut crossings = Vec::new();
        for y in 0..self.height {
            let at = (y as f64 + 0.5) / self.height as f64;
            crossings.clear();
            for (i, &(x1, y1)) in corners.iter().enumerate() {
                let (x2, y2) = corners[(i + 1) % corners.len()];
                if (y1 <= at) != (y2 <= at) {
                    crossings.push(x1 + (at - y1) / (y2 - y1) * (x2 - x1));
                }
            }
            crossings.sort_by(f64::total_cmp);
            for pair in crossings.chunks_exact(2) {
                let column =
                    |x: f64| ((x * self.width as f64 - 0.5).ceil().max(0.0) as usize).min(self.width);
                let (left, right) = (column(pair[0]), column(pair[1]));
                self.ignored[y * self.width..][left..right.max(left)].fill(true);
            }
        }
    }
}

fn invalid_polygons(got: String) -> Error {
    Error::Setting {
        name: "ignore-regions",
        allowed: format!(
            "polygons of 3 to {MOST_CORNERS} corners in fractions of the image, as \"0,0 0.5,0 0.5,0.2; ...\""
        ),
        got,
    }
}

fn parse_corner(text: &str) -> Result<(f64, f64)> {
    let number = |text: &str| text.parse().ok().filter(|n| (0.0..=1.0).contains(n));
    let corner = text.split_once(',').and_then(|(x, y)| number(x).zip(number(y)));
    corner.ok_or_else(|| invalid_polygons(format!("\"{text}\"")))
}

fn invalid_image(reason: impl std::fmt::Display) -> Error {
    Error::Setting {
        name: "mask-location",
        allowed: format!("a PNG or PGM image of at most {LARGEST_SIDE} x {LARGEST_SIDE} pixels"),
        got: reason.to_string(),
    }
}

fn check_size(width: usize, height: usize) -> Result<()> {
    match (1..=LARGEST_SIDE).contains(&width) && (1..=LARGEST_SIDE).contains(&height) {
        true => Ok(()),
        false => Err(invalid_image(format!("{width} x {height} pixels"))),
    }
}

/// Width, height and 8-bit values; of colours the largest, without opacity.
fn read_png(content: &[u8]) -> Result<(usize, usize, Vec<u8>)> {
    let mut decoder = png::Decoder::new(Cursor::new(content));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(invalid_image)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    check_size(width, height)?;
    let size = reader.output_buffer_size();
    let mut pixels = vec![0; size.ok_or_else(|| invalid_image("too many pixels"))?];
    let frame = reader.next_frame(&mut pixels).map_err(invalid_image)?;
    let (channels, colours) = match frame.color_type {
        png::ColorType::Grayscale => (1, 1),
        png::ColorType::GrayscaleAlpha => (2, 1),
        png::ColorType::Rgb | png::ColorType::Indexed => (3, 3),
        png::ColorType::Rgba => (4, 3),
    };
    let value = |pixel: &[u8]| pixel[..colours].iter().copied().max().unwrap_or(0);
    Ok((width, height, pixels.chunks_exact(channels).map(value).collect()))
}

/// A portable grey map, text (`P2`) or binary (`P5`).
fn read_pgm(content: &[u8]) -> Result<(usize, usize, Vec<u8>)> {
    let mut rest = &content[2..];
    let mut number = || -> Result<usize> {
        loop {
            match rest {
                [b'#', ..] => {
                    let line = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
                    rest = &rest[line..];
                }
                [b, ..] if b.is_ascii_whitespace() => rest = &rest[1..],
                _ => break,
            }
        }
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, behind) = rest.split_at(digits);
        rest = behind;
        let number = std::str::from_utf8(digits)
            .ok()
            .and_then(|text| text.parse().ok());
        number.ok_or_else(|| invalid_image("a PGM image with a number missing"))
    };
    let (width, height, most) = (number()?, number()?, number()?);
    check_size(width, height)?;
    if !(1..=65_535).contains(&most) {
        return Err(invalid_image(format!(
            "a PGM image with the largest value {most}"
        )));
    }
    let scaled = |value: usize| (value.min(most) * 255 / most) as u8;
    let count = width * height;
    let too_short = || invalid_image("a PGM image that ends too early");
    let values: Vec<u8> = if content[1] == b'2' {
        // A number takes a byte and a separator.
        if count > content.len() {
            return Err(too_short());
        }
        let values = (0..count).map(|_| number().map(scaled));
        values.collect::<Result<_>>()?
    } else {
        let bytes = if most < 256 { 1 } else { 2 };
        let data = rest.get(1..).filter(|data| data.len() >= count * bytes);
        let pixels = data.ok_or_else(too_short)?.chunks_exact(bytes).take(count);
        pixels
            .map(|pixel| scaled(pixel.iter().fold(0, |value, &b| 256 * value + usize::from(b))))
            .collect()
    };
    Ok((width, height, values))
}

/// What is ignored of the small images.
#[derive(Debug, PartialEq)]
pub(crate) struct Ignored {
    /// Of the grey image, 1 = ignored.
    pub(super) grey: Arc<[u8]>,
    /// Indices of the pixels of the grey image that are not ignored, and of those without an ignored neighbour.
    pub(super) grey_kept: Vec<usize>,
    pub(super) grey_inner: Vec<usize>,
    /// Indices of the blocks of the grey image that are at least half seen.
    pub(super) blocks_kept: Vec<usize>,
    /// Indices of the grid's cells that count, and of those that have no score.
    pub(crate) cells_kept: Vec<usize>,
    pub(crate) cells_unscored: Vec<usize>,
    /// Indices of the colour image's pixels that are ignored, and of those that have no score.
    pub(super) pixels: Vec<usize>,
    pub(crate) pixels_unscored: Vec<usize>,
}

impl Ignored {
    /// Indices of the grey image's pixels that are ignored.
    pub(super) fn grey_pixels(&self) -> impl Iterator<Item = usize> {
        let pixels = self.grey.iter().enumerate();
        pixels.filter_map(|(i, &ignored)| (ignored == 1).then_some(i))
    }

    /// For frames of `frame` = (width, height) pixels; `None` where nothing is ignored.
    pub(crate) fn new(regions: &IgnoredRegions, sizes: ReducedSizes, frame: (usize, usize)) -> Option<Self> {
        if regions.masks.is_empty() {
            return None;
        }
        let reach = (REACH / frame.0 as f64, REACH / frame.1 as f64);
        let grey_size = sizes.grey.unwrap_or_default();
        let grey = regions.covered(grey_size, reach);
        let (columns, rows) = (grey_size.0 / GREY_CELL, grey_size.1 / GREY_CELL);
        let cells = shares(&grey, grey_size, (columns, rows), GREY_CELL);
        let cells: Vec<bool> = cells.into_iter().map(|share| share >= 0.5).collect();
        let (blocks_x, blocks_y) = (grey_size.0 / BLOCK, grey_size.1 / BLOCK);
        let blocks = shares(&grey, grey_size, (blocks_x, blocks_y), BLOCK);
        let colour_size = sizes.colour.unwrap_or_default();
        let pixels = regions.covered(colour_size, reach);
        let indices = |values: &[bool], wanted: bool| -> Vec<usize> {
            (0..values.len()).filter(|&i| values[i] == wanted).collect()
        };
        Some(Self {
            grey_kept: indices(&grey, false),
            grey_inner: indices(&widened(&grey, grey_size, 3), false),
            blocks_kept: (0..blocks.len()).filter(|&i| blocks[i] <= 0.5).collect(),
            grey: grey.iter().map(|&ignored| u8::from(ignored)).collect(),
            cells_kept: indices(&cells, false),
            cells_unscored: indices(&widened(&cells, (columns, rows), CELL_BOX), true),
            pixels_unscored: indices(&widened(&pixels, colour_size, PIXEL_BOX), true),
            pixels: indices(&pixels, true),
        })
    }

    /// Removes what is ignored from the two small images.
    pub(super) fn blank(&self, grey: &mut [f32], colour: &mut [f32]) {
        for (value, &ignored) in grey.iter_mut().zip(self.grey.iter()) {
            if ignored == 1 {
                *value = GREY;
            }
        }
        self.blank_colour(colour, COLOUR);
    }

    /// Sets what is ignored of a colour image, three values a pixel, to `value`.
    pub(crate) fn blank_colour<T: Copy>(&self, colour: &mut [T], value: T) {
        for &pixel in &self.pixels {
            if let Some(values) = colour.get_mut(3 * pixel..3 * pixel + 3) {
                values.fill(value);
            }
        }
    }
}

/// The values at these indices; all of them without indices.
pub(crate) fn kept<'a>(values: &'a [f32], indices: Option<&[usize]>, scratch: &'a mut Vec<f32>) -> &'a [f32] {
    match indices {
        None => values,
        Some(indices) => {
            scratch.clear();
            scratch.extend(indices.iter().map(|&i| values[i]));
            scratch
        }
    }
}

/// The ignored share of each whole square of `side` pixels.
fn shares(ignored: &[bool], size: (usize, usize), (columns, rows): (usize, usize), side: usize) -> Vec<f64> {
    let share = |i: usize| {
        let (x, y) = (i % columns * side, i / columns * side);
        let rows = (y..y + side).map(|y| &ignored[y * size.0 + x..][..side]);
        let count = rows.flatten().filter(|&&ignored| ignored).count();
        count as f64 / (side * side) as f64
    };
    (0..columns * rows).map(share).collect()
}

/// Every pixel in a square of `side` pixels around an ignored one.
fn widened(ignored: &[bool], (width, height): (usize, usize), side: usize) -> Vec<bool> {
    let reach = side / 2;
    let mut wide = vec![false; ignored.len()];
    for i in (0..ignored.len()).filter(|&i| ignored[i]) {
        let (x, y) = (i % width, i / width);
        for y in y.saturating_sub(reach)..(y + reach + 1).min(height) {
            wide[y * width..][x.saturating_sub(reach)..(x + reach + 1).min(width)].fill(true);
        }
    }
    wide
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(regions: &IgnoredRegions) -> f64 {
        let covered = regions.covered((200, 100), (0.0, 0.0));
        covered.iter().filter(|&&c| c).count() as f64 / covered.len() as f64
    }

    fn png(color: png::ColorType, depth: png::BitDepth, size: (u32, u32), data: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        let mut encoder = png::Encoder::new(&mut content, size.0, size.1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        content
    }

    #[test]
    fn masks_of_any_size_and_kind_are_stretched_over_the_frame() {
        let left_half = [
            b"P5\n# a comment\n2 1\n255\n\x00\xff".to_vec(),
            b"P2 4 1 9  0 0 9 9".to_vec(),
            b"P5 2 1 65535 \x00\x00\xff\xff".to_vec(),
            png(png::ColorType::Grayscale, png::BitDepth::Eight, (2, 1), &[0, 255]),
            png(
                png::ColorType::Grayscale,
                png::BitDepth::One,
                (2, 2),
                &[0x40, 0x40],
            ),
            png(
                png::ColorType::Grayscale,
                png::BitDepth::Sixteen,
                (2, 1),
                &[0, 200, 200, 0],
            ),
            png(
                png::ColorType::Rgba,
                png::BitDepth::Eight,
                (2, 1),
                &[0, 0, 0, 255, 0, 0, 200, 255],
            ),
        ];
        for content in left_half {
            let regions = IgnoredRegions::from_image(&content).unwrap();
            let covered = regions.covered((4, 2), (0.0, 0.0));
            assert_eq!(covered, [true, true, false, false, true, true, false, false]);
        }
        let white = IgnoredRegions::from_image(b"P2 1 1 1 1").unwrap();
        assert_eq!(white, IgnoredRegions::none());
    }

    #[test]
    fn a_small_pixel_that_shows_a_little_of_it_is_ignored() {
        // A column of 10, over images of 4 pixels.
        let one_of_ten = IgnoredRegions::from_image(b"P2 10 1 1 1 1 0 1 1 1 1 1 1 1").unwrap();
        assert_eq!(one_of_ten.covered((4, 1), (0.0, 0.0)), [true, true, false, false]);
        assert_eq!(one_of_ten.covered((4, 1), (0.25, 0.0)), [true, true, true, false]);
    }

    #[test]
    fn polygons_are_fractions_of_the_frame() {
        let polygons = |text| IgnoredRegions::from_polygons(text).unwrap();
        assert_eq!(polygons(" ; "), IgnoredRegions::none());
        let triangle = polygons("0,0 1,0 0,1");
        assert!((share(&triangle) - 0.5).abs() < 0.02, "{}", share(&triangle));
        let two = polygons("0,0 0.5,0 0.5,0.5 0,0.5; 0.5,0.5 1,0.5 1,1 0.5,1");
        assert!((share(&two) - 0.5).abs() < 0.02, "{}", share(&two));
        assert!((share(&triangle.and(two)) - 0.75).abs() < 0.02);
        for wrong in ["0,0 1,0", "0,0 1,0 0.5", "0,0 1,0 2,1", "0,0 1,0 nan,1"] {
            let message = IgnoredRegions::from_polygons(wrong).unwrap_err().to_string();
            assert!(
                message.starts_with("ignore-regions must be polygons of 3"),
                "{message}"
            );
        }
    }

    #[test]
    fn images_that_are_none_are_rejected_with_the_reason() {
        let broken: [&[u8]; 6] = [
            b"",
            b"GIF89a",
            b"P5 2 2 255 \x00",
            b"P2 2 2 255 1 2 3",
            b"P5 20000 1 255 ",
            b"P5 99999999999999999999 1 255 ",
        ];
        for content in broken {
            let message = IgnoredRegions::from_image(content).unwrap_err().to_string();
            assert!(
                message.starts_with("mask-location must be a PNG or PGM image"),
                "{message}"
            );
        }
    }
}
