//! The large arrays of what was learnt: each is listed once, by the struct that owns it, and that list both writes and reads.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use super::{LARGEST_FILE, LARGEST_NUMBER, LARGEST_UNPACKED, rejected};
use crate::detector::Result;

/// Deflate expands a byte to no more than this many.
const LARGEST_EXPANSION: usize = 1032;

/// An array that is stored as a tensor of its own. Everything else is in the file's header.
pub(crate) enum Array<'a> {
    F32(&'a mut Vec<f32>),
    F64(&'a mut Vec<f64>),
    /// Samples of equally many 8-bit values each, which are compressed.
    Bytes(&'a mut Vec<Arc<[u8]>>),
    /// Samples of equally many values each, which are compressed.
    Floats(&'a mut Vec<Arc<[f32]>>),
}

/// Visits arrays with their names.
pub(crate) type Visitor<'a> = dyn FnMut(&str, Array<'_>) -> Result<()> + 'a;

/// Whether a number is finite and not too large.
fn is_sane(value: impl Into<f64>) -> bool {
    value.into().abs() <= LARGEST_NUMBER
}

fn expected_numbers() -> String {
    format!("finite numbers up to {LARGEST_NUMBER:e}")
}

/// Checks the length of an array that was read.
///
/// # Errors
/// It differs.
pub(crate) fn check_len(name: &str, got: usize, want: usize) -> Result<()> {
    match got == want {
        true => Ok(()),
        false => Err(rejected(name, format!("{want} values"), format!("{got}"))),
    }
}

/// Number and length of compressed samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Packed {
    pub(super) samples: usize,
    pub(super) values: usize,
}

/// Samples before they are compressed.
enum Samples {
    Bytes(Vec<Arc<[u8]>>),
    Floats(Vec<Arc<[f32]>>),
}

/// An array in the file.
#[derive(Debug)]
pub(super) struct Stored {
    dtype: Dtype,
    shape: [usize; 1],
    data: Vec<u8>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

/// Takes the arrays out of what is to be stored.
#[derive(Default)]
pub(super) struct Writer {
    stored: BTreeMap<String, Stored>,
    samples: Vec<(String, Samples)>,
}

impl Writer {
    pub(super) fn visit(&mut self, name: &str, array: Array<'_>) -> Result<()> {
        let not_finite = || rejected(name, expected_numbers(), "others");
        match array {
            Array::F32(values) => {
                if values.iter().any(|v| !is_sane(*v)) {
                    return Err(not_finite());
                }
                let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                self.add(name, Dtype::F32, values.len(), data);
                values.clear();
            }
            Array::F64(values) => {
                if values.iter().any(|v| !is_sane(*v)) {
                    return Err(not_finite());
                }
                let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                self.add(name, Dtype::F64, values.len(), data);
                values.clear();
            }
            Array::Bytes(samples) => {
                let samples = std::mem::take(samples);
                self.samples.push((name.to_owned(), Samples::Bytes(samples)));
            }
            Array::Floats(samples) => {
                let samples = std::mem::take(samples);
                if samples.iter().any(|sample| sample.iter().any(|v| !is_sane(*v))) {
                    return Err(not_finite());
                }
                self.samples.push((name.to_owned(), Samples::Floats(samples)));
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, dtype: Dtype, len: usize, data: Vec<u8>) {
        let shape = [len];
        self.stored.insert(name.to_owned(), Stored { dtype, shape, data });
    }

    /// All tensors, and what is needed to unpack the samples. Where they would not fit the file, the same share of each
    /// kind of samples is kept, evenly spaced.
    pub(super) fn finish(mut self) -> (BTreeMap<String, Stored>, BTreeMap<String, Packed>) {
        let samples = std::mem::take(&mut self.samples);
        let plain: usize = self.stored.values().map(|stored| stored.data.len()).sum();
        let unpacked: usize = samples.iter().map(|(_, samples)| samples.size()).sum();
        let mut share = (LARGEST_UNPACKED as f64 / unpacked.max(1) as f64).min(1.0);
        let room = LARGEST_FILE.saturating_sub(plain);
        loop {
            let packed: Vec<_> = samples.iter().map(|(_, samples)| samples.pack(share)).collect();
            let size: usize = packed.iter().map(|(_, data)| data.len()).sum();
            if size > room && share > 1e-3 {
                share *= (0.95 * room as f64 / size as f64).clamp(0.01, 0.95);
                continue;
            }
            let mut index = BTreeMap::new();
            for ((name, _), (packed, data)) in samples.iter().zip(packed) {
                self.add(name, Dtype::U8, data.len(), data);
                index.insert(name.clone(), packed);
            }
            return (self.stored, index);
        }
    }
}

impl Samples {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(samples) => samples.len(),
            Self::Floats(samples) => samples.len(),
        }
    }

    /// Values of a sample.
    fn values(&self) -> usize {
        match self {
            Self::Bytes(samples) => samples.first().map_or(0, |sample| sample.len()),
            Self::Floats(samples) => samples.first().map_or(0, |sample| sample.len()),
        }
    }

    /// Uncompressed bytes.
    fn size(&self) -> usize {
        let bytes = match self {
            Self::Bytes(_) => 1,
            Self::Floats(_) => size_of::<f32>(),
        };
        self.len() * self.values() * bytes
    }

    /// Compresses a share of the samples.
    fn pack(&self, share: f64) -> (Packed, Vec<u8>) {
        let kept = (self.len() as f64 * share) as usize;
        let slots = (0..kept).map(|i| i * self.len() / kept);
        let packed = Packed {
            samples: kept,
            values: self.values(),
        };
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        let written = match self {
            Self::Bytes(samples) => write_differences(&mut encoder, slots.map(|slot| &*samples[slot])),
            Self::Floats(samples) => {
                let samples: Vec<&[f32]> = slots.map(|slot| &*samples[slot]).collect();
                write_planes(&mut encoder, &samples)
            }
        };
        let data = written.and_then(|()| encoder.finish());
        (packed, data.expect("writing to memory does not fail"))
    }
}

/// Writes each sample less the first one: of a fixed camera little remains.
fn write_differences<'a>(
    to: &mut impl Write,
    samples: impl Iterator<Item = &'a [u8]>,
) -> std::io::Result<()> {
    let mut first: Option<&[u8]> = None;
    let mut difference = Vec::new();
    for sample in samples {
        match first {
            None => to.write_all(first.insert(sample))?,
            Some(first) => {
                difference.clear();
                difference.extend(sample.iter().zip(first).map(|(s, f)| s.wrapping_sub(*f)));
                to.write_all(&difference)?;
            }
        }
    }
    Ok(())
}

/// Writes the values' most significant bytes, then the next ones: the first two planes compress, the others hardly.
fn write_planes(to: &mut impl Write, samples: &[&[f32]]) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    for plane in 0..size_of::<f32>() {
        for sample in samples {
            bytes.clear();
            bytes.extend(sample.iter().map(|v| v.to_be_bytes()[plane]));
            to.write_all(&bytes)?;
        }
    }
    Ok(())
}

/// Fills the arrays from a file.
pub(super) struct Reader<'a> {
    file: &'a SafeTensors<'a>,
    packed: &'a BTreeMap<String, Packed>,
    /// Bytes that may still be unpacked.
    room: usize,
    read: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a SafeTensors<'a>, packed: &'a BTreeMap<String, Packed>) -> Self {
        Self {
            file,
            packed,
            room: LARGEST_UNPACKED,
            read: 0,
        }
    }

    /// Number of tensors read.
    pub(super) fn count(&self) -> usize {
        self.read
    }

    pub(super) fn visit(&mut self, name: &str, array: Array<'_>) -> Result<()> {
        self.read += 1;
        let finite = |all: bool| match all {
            true => Ok(()),
            false => Err(rejected(name, expected_numbers(), "others")),
        };
        match array {
            Array::F32(values) => {
                let data = self.data(name, Dtype::F32)?;
                *values = data
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b))
                    .collect();
                finite(values.iter().all(|v| is_sane(*v)))
            }
            Array::F64(values) => {
                let data = self.data(name, Dtype::F64)?;
                *values = data
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f64::from_le_bytes(*b))
                    .collect();
                finite(values.iter().all(|v| is_sane(*v)))
            }
            Array::Bytes(samples) => {
                let (packed, mut data) = self.unpack(name, 1)?;
                if packed.samples == 0 {
                    return Ok(());
                }
                let (first, others) = data.split_at_mut(packed.values);
                for other in others.chunks_exact_mut(packed.values) {
                    other
                        .iter_mut()
                        .zip(&*first)
                        .for_each(|(v, f)| *v = v.wrapping_add(*f));
                }
                *samples = data.chunks_exact(packed.values).map(Arc::from).collect();
                Ok(())
            }
            Array::Floats(samples) => {
                let (packed, data) = self.unpack(name, size_of::<f32>())?;
                if packed.samples == 0 {
                    return Ok(());
                }
                let count = packed.samples * packed.values;
                let value = |i: usize| f32::from_be_bytes([0, 1, 2, 3].map(|plane| data[plane * count + i]));
                let values: Vec<f32> = (0..count).map(value).collect();
                *samples = values.chunks_exact(packed.values).map(Arc::from).collect();
                finite(values.iter().all(|v| is_sane(*v)))
            }
        }
    }

    fn data(&self, name: &str, dtype: Dtype) -> Result<&'a [u8]> {
        let tensor = self.file.tensor(name);
        let tensor = tensor.map_err(|_| rejected(name, "a tensor", "none"))?;
        match tensor.dtype() == dtype {
            true => Ok(tensor.data()),
            false => Err(rejected(name, dtype.to_string(), tensor.dtype().to_string())),
        }
    }

    /// Decompresses samples of `bytes` bytes a value, after their size was found acceptable.
    fn unpack(&mut self, name: &str, bytes: usize) -> Result<(Packed, Vec<u8>)> {
        let data = self.data(name, Dtype::U8)?;
        let packed = self.packed.get(name).copied();
        let packed = packed.ok_or_else(|| rejected(name, "an entry in 'packed'", "none"))?;
        let size = packed
            .samples
            .checked_mul(packed.values)
            .and_then(|n| n.checked_mul(bytes));
        let limit = self.room.min(data.len().saturating_mul(LARGEST_EXPANSION));
        let size = match size {
            Some(size) if size <= limit && (packed.samples == 0) == (size == 0) => size,
            _ => {
                let got = format!("{} samples of {} values", packed.samples, packed.values);
                return Err(rejected(name, format!("at most {limit} bytes of samples"), got));
            }
        };
        self.room -= size;
        let mut unpacked = Vec::with_capacity(size);
        DeflateDecoder::new(data)
            .take(size as u64 + 1)
            .read_to_end(&mut unpacked)
            .map_err(|e| rejected(name, "deflated samples", e.to_string()))?;
        check_len(name, unpacked.len(), size)?;
        Ok((packed, unpacked))
    }
}

/// The stored bytes of all tensors, in the order of their names.
pub(super) fn in_order<'a>(file: &'a SafeTensors<'a>) -> BTreeMap<&'a str, &'a [u8]> {
    file.iter().map(|(name, tensor)| (name, tensor.data())).collect()
}

/// The same before they are written.
pub(super) fn data(stored: &BTreeMap<String, Stored>) -> impl Iterator<Item = (&str, &[u8])> {
    stored
        .iter()
        .map(|(name, stored)| (name.as_str(), stored.data.as_slice()))
}
