//! What was learnt as a file: one safetensors file that any such reader opens.
//!
//! The metadata of its header are texts:
//!
//! | key | content |
//! |---|---|
//! | `format`, `version` | `vaeanomaly-model` and the version of this format |
//! | `crate` | version of the crate that wrote it |
//! | `shape` | JSON: the settings and image sizes that shape the nets |
//! | `frames`, `began`, `saved` | frames learnt; Unix time in seconds of the first one and of the file |
//! | `learnt` | JSON: all scalars that were learnt, random states included |
//! | `packed` | JSON: number and length of the samples in each compressed tensor |
//! | `checksum` | CRC-32 of `shape`, `learnt`, `packed` and all tensors in the order of their names |
//!
//! The tensors are weights, their moving averages and moments (`CUE.weights` and so on, in the order of the layers),
//! `background`, and the replayed samples (`CUE.replay`, deflated: images less the first one, or the byte planes of
//! `f32`). The file holds all of them up to 20 MB; beyond that, weights are whole and of the samples an evenly spaced share
//! is kept. At the defaults all samples fit.
//!
//! A file is untrusted input: every size is checked before anything of that size is allocated, every number must be
//! finite and below 1e15, and [`Detector::restore`] compares all lengths with its own.
//!
//! [`Detector::restore`]: super::Detector::restore

mod arrays;
mod file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;

use safetensors::tensor::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use arrays::{Array, Visitor, check_len};
pub(crate) use file::content;
pub use file::{Loaded, Refusal, backup, load, open, save, set_aside};

use self::arrays::{Packed, Reader, Writer};
use super::cue::CueSetLearnt;
use super::decision::PostProcessorLearnt;
use super::frame::SceneLearnt;
use super::online::Shape;
use super::{Error, Learnt, Result};

const FORMAT: &str = "vaeanomaly-model";
const VERSION: u32 = 1;
/// Samples are left out to keep the tensors of a file within this many bytes.
const LARGEST_FILE: usize = 20_000_000 - LARGEST_HEADER;
/// What the header may take of it; with the largest windows it is a few kilobytes.
const LARGEST_HEADER: usize = 100_000;
/// The bytes that the samples of a file may unpack to, and that weights may make a file larger by.
const LARGEST_UNPACKED: usize = 1 << 28;

/// No number that is learnt comes near this one. The squares and sums of larger ones may not be finite.
const LARGEST_NUMBER: f64 = 1e15;

/// All that is saved of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// What the detector learnt.
    pub learnt: Learnt,
    /// Number of the next event.
    pub next_event: NonZeroU64,
    /// Unix time in seconds at which learning began.
    pub began: u64,
    /// Unix time in seconds at which the model was saved.
    pub saved: u64,
}

/// The scalars of a [`Model`].
#[derive(Serialize, Deserialize)]
struct Scalars {
    scene: SceneLearnt,
    cues: CueSetLearnt,
    post_processor: PostProcessorLearnt,
    frames: u64,
    next_event: NonZeroU64,
}

impl Scalars {
    fn arrays(&mut self, visit: &mut Visitor<'_>) -> Result<()> {
        self.scene.arrays(visit)?;
        self.cues.arrays(visit)?;
        self.post_processor.arrays(visit)
    }
}

/// An error that names a field, what was expected and what was found.
fn rejected(field: &str, expected: impl AsRef<str>, got: impl AsRef<str>) -> Error {
    Error::Learnt(format!(
        "{field}: expected {}, got {}",
        expected.as_ref(),
        got.as_ref()
    ))
}

/// The file's content for a model.
///
/// # Errors
/// A number is not finite or too large: such a model could not be read back.
pub fn write(model: Model) -> Result<Vec<u8>> {
    let Model {
        learnt,
        next_event,
        began,
        saved,
    } = model;
    let frames = learnt.frames;
    let mut scalars = Scalars {
        scene: learnt.scene,
        cues: learnt.cues,
        post_processor: learnt.post_processor,
        frames,
        next_event,
    };
    let mut writer = Writer::default();
    scalars.arrays(&mut |name, array| writer.visit(name, array))?;
    let (stored, packed) = writer.finish();
    let text = |result: serde_json::Result<String>| result.map_err(|e| Error::Learnt(e.to_string()));
    let shape = text(serde_json::to_string(&learnt.shape))?;
    check_numbers(&scalars)?;
    let scalars = text(serde_json::to_string(&scalars))?;
    let packed = text(serde_json::to_string(&packed))?;
    let checksum = checksum([&shape, &scalars, &packed], arrays::data(&stored));
    let metadata = HashMap::from(
        [
            ("format", FORMAT.to_owned()),
            ("version", VERSION.to_string()),
            ("crate", env!("CARGO_PKG_VERSION").to_owned()),
            ("shape", shape),
            ("frames", frames.to_string()),
            ("began", began.to_string()),
            ("saved", saved.to_string()),
            ("learnt", scalars),
            ("packed", packed),
            ("checksum", checksum),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    safetensors::serialize(stored, Some(metadata)).map_err(|e| Error::Learnt(e.to_string()))
}

/// The model in a file's content.
///
/// # Errors
/// It is no such file, a broken one, or one of a newer version; the message names the field and what was expected.
pub fn read(content: &[u8]) -> Result<Model> {
    let file = SafeTensors::deserialize(content);
    let file = file.map_err(|e| rejected("file", "a safetensors file", e.to_string()))?;
    let (_, header) = SafeTensors::read_metadata(content).map_err(|e| Error::Learnt(e.to_string()))?;
    let no_metadata = HashMap::new();
    let metadata = header.metadata().as_ref().unwrap_or(&no_metadata);
    let field = |key: &str| {
        let value = metadata.get(key);
        value.ok_or_else(|| rejected(key, "an entry in the metadata", "none"))
    };
    let format = field("format")?;
    if format != FORMAT {
        return Err(rejected("format", FORMAT, shortened(format)));
    }
    let version = field("version")?;
    if version.parse() != Ok(VERSION) {
        return Err(rejected("version", VERSION.to_string(), shortened(version)));
    }
    let number = |key| {
        let text = field(key)?;
        text.parse()
            .map_err(|_| rejected(key, "a number", shortened(text)))
    };
    let (began, saved) = (number("began")?, number("saved")?);
    let (shape, scalars, packed) = (field("shape")?, field("learnt")?, field("packed")?);
    let learnt_shape: Shape = parse("shape", shape)?;
    let mut learnt: Scalars = parse("learnt", scalars)?;
    check_numbers(&learnt)?;
    let index: BTreeMap<String, Packed> = parse("packed", packed)?;
    let mut reader = Reader::new(&file, &index);
    learnt.arrays(&mut |name, array| reader.visit(name, array))?;
    let count = reader.count();
    if count != file.len() {
        return Err(rejected(
            "file",
            format!("{count} tensors"),
            file.len().to_string(),
        ));
    }
    let want = field("checksum")?;
    let got = checksum([shape, scalars, packed], arrays::in_order(&file));
    if *want != got {
        return Err(rejected("checksum", shortened(want), got));
    }
    Ok(Model {
        learnt: Learnt {
            shape: learnt_shape,
            scene: learnt.scene,
            cues: learnt.cues,
            post_processor: learnt.post_processor,
            frames: learnt.frames,
        },
        next_event: learnt.next_event,
        began,
        saved,
    })
}

/// # Errors
/// A number is not finite in the type that it was read into, or too large.
fn check_numbers(scalars: &Scalars) -> Result<()> {
    fn largest(value: &Value) -> f64 {
        match value {
            Value::Number(number) if number.is_f64() => number.as_f64().map_or(0.0, f64::abs),
            Value::Array(values) => values.iter().map(largest).fold(0.0, f64::max),
            Value::Object(values) => values.values().map(largest).fold(0.0, f64::max),
            _ => 0.0,
        }
    }
    let error = |e: serde_json::Error| rejected("learnt", "all values in their ranges", e.to_string());
    let value = serde_json::to_value(scalars).map_err(error)?;
    let largest = largest(&value);
    if largest > LARGEST_NUMBER {
        return Err(rejected(
            "learnt",
            format!("numbers up to {LARGEST_NUMBER:e}"),
            format!("{largest:e}"),
        ));
    }
    // Numbers that are not finite became null, which is not read back.
    Scalars::deserialize(value).map_err(error).map(|_| ())
}

fn parse<'a, T: Deserialize<'a>>(field: &str, text: &'a str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| rejected(field, "all values in their ranges", e.to_string()))
}

/// The beginning of a text from a file, for a message.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(40).filter(|c| !c.is_control()).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    format!("\"{short}\"")
}

fn checksum<'a>(texts: [&String; 3], tensors: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut crc = flate2::Crc::new();
    texts.iter().for_each(|text| crc.update(text.as_bytes()));
    for (name, data) in tensors {
        crc.update(name.as_bytes());
        crc.update(data);
    }
    format!("{:08x}", crc.sum())
}
