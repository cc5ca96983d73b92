//! Model files: any bytes, and files that are right but for some values.

use std::collections::HashMap;
use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use gstvaeanomaly::detector::store::{self, Model};
use gstvaeanomaly::detector::{ColorModel, Config, CueKind, Detector, ImageView, PixelFormat, Tuning};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;

use crate::values::with_input;

/// Width and height of the frames.
const SIZE: (usize, usize) = (24, 16);

fn config(cues: &[CueKind]) -> Config {
    Config {
        cues: cues.to_vec(),
        net_arch: "[(4,3,2),(4,3,2)]".parse().expect("a valid net"),
        latent_dim: 4,
        model_width: 16,
        ..Config::default()
    }
}

fn process(detector: &mut Detector, frames: std::ops::Range<u64>) {
    for i in frames {
        let pixels: Vec<u8> = (0..384u64)
            .map(|p| (p.wrapping_mul(0x9e37_79b9 + (i & 3)) >> 8) as u8)
            .collect();
        let view = ImageView {
            format: PixelFormat::Gray8,
            width: SIZE.0,
            height: SIZE.1,
            planes: &[&pixels],
            strides: &[SIZE.0],
            color: ColorModel::BT601,
        };
        let time = std::time::Duration::from_millis(100 * i);
        let (p, _) = detector
            .process(&view, Some(time), None, &Tuning::default())
            .expect("a frame");
        assert!(
            p.raw_score.is_finite() && p.threshold.is_finite() && p.score.is_finite(),
            "{p:?}"
        );
    }
}

/// Files of a model with both cues, and of one with motion only.
fn files() -> &'static [Vec<u8>; 2] {
    static FILES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    FILES.get_or_init(|| {
        [CueKind::ALL, &[CueKind::Motion]].map(|cues| {
            let mut detector = Detector::new(config(cues), SIZE).expect("valid settings");
            process(&mut detector, 0..20);
            detector.accept(0..=20);
            let model = Model {
                learnt: detector.learnt().expect("the CPU does not fail"),
                next_event: std::num::NonZeroU64::MIN,
                began: 1,
                saved: 2,
            };
            store::write(model).expect("all numbers are finite")
        })
    })
}

/// A file is refused, or a detector continues from it and scores with finite numbers.
pub fn model(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    match first {
        0..=31 => continue_from(rest, first & 1),
        _ => with_input(rest, |u| {
            let which = first & 1;
            let mut content = files()[usize::from(which)].clone();
            match first & 2 {
                0 => {
                    // Bytes of a whole file; the header is a small part of it.
                    for _ in 0..u.int_in_range(1..=8)? {
                        let within = match u.arbitrary()? {
                            true => content.len(),
                            false => content.len().min(4000),
                        };
                        let at = u.choose_index(within)?;
                        content[at] = u.arbitrary()?;
                    }
                    if u.ratio(1, 8)? {
                        content.truncate(u.choose_index(content.len())?);
                    }
                }
                _ => content = edited(&content, u)?,
            }
            continue_from(&content, which);
            Ok(())
        }),
    }
}

fn continue_from(content: &[u8], which: u8) {
    let Ok(model) = store::read(content) else { return };
    let cues = [CueKind::ALL, &[CueKind::Motion]][usize::from(which)];
    let mut detector = Detector::new(config(cues), SIZE).expect("valid settings");
    if detector.restore(model.learnt).is_err() {
        return;
    }
    process(&mut detector, 100..104);
    let learnt = detector.learnt().expect("the CPU does not fail");
    let model = Model {
        learnt,
        next_event: model.next_event,
        began: model.began,
        saved: model.saved,
    };
    // From numbers that no camera leads to, larger ones may have been learnt, which are not written.
    if let Ok(again) = store::write(model) {
        store::read(&again).expect("what was written is read");
    }
}

/// A tensor of a file.
struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

/// The file with other numbers, texts and tensors, under a checksum that is right.
fn edited(content: &[u8], u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let file = SafeTensors::deserialize(content).expect("a safetensors file");
    let (_, header) = SafeTensors::read_metadata(content).expect("a safetensors file");
    let mut metadata = header.metadata().clone().expect("metadata");
    let mut tensors: Vec<Tensor> = file
        .iter()
        .map(|(name, view)| Tensor {
            name: name.to_owned(),
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            data: view.data().to_vec(),
        })
        .collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    for _ in 0..u.int_in_range(1..=4)? {
        if u.ratio(2, 3)? {
            edit_metadata(&mut metadata, u)?;
        } else {
            edit_tensors(&mut tensors, u)?;
        }
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    // The library that writes the file takes every name once.
    tensors.dedup_by(|a, b| a.name == b.name);
    let mut crc = flate2::Crc::new();
    for key in ["shape", "learnt", "packed"] {
        crc.update(metadata.get(key).map_or(&[], |text| text.as_bytes()));
    }
    for tensor in &tensors {
        crc.update(tensor.name.as_bytes());
        crc.update(&tensor.data);
    }
    metadata.insert("checksum".to_owned(), format!("{:08x}", crc.sum()));
    let views = tensors.iter().filter_map(|tensor| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data);
        Some((tensor.name.clone(), view.ok()?))
    });
    Ok(safetensors::serialize(views, Some(metadata)).unwrap_or_default())
}

const KEYS: [&str; 9] = [
    "learnt", "learnt", "learnt", "packed", "shape", "format", "version", "began", "saved",
];

fn edit_metadata(metadata: &mut HashMap<String, String>, u: &mut Unstructured<'_>) -> Result<()> {
    let key = *u.choose(&KEYS)?;
    let Some(text) = metadata.get_mut(key) else {
        return Ok(());
    };
    match (serde_json::from_str::<Value>(text), u.int_in_range(0..=9)?) {
        (_, 0) => drop(metadata.remove(key)),
        (_, 1) => *text = u.arbitrary::<&str>()?.to_owned(),
        (Ok(mut value), _) => {
            let count = leaves(&mut value, &mut |_| ());
            if count > 0 {
                let (mut wanted, with) = (u.choose_index(count)?, number(u)?);
                leaves(&mut value, &mut |leaf| {
                    if wanted == 0 {
                        *leaf = with.clone();
                    }
                    wanted = wanted.wrapping_sub(1);
                });
            }
            *text = value.to_string();
        }
        _ => {}
    }
    Ok(())
}

/// Visits all values that are neither lists nor objects, and empty lists; returns how many there are.
fn leaves(value: &mut Value, visit: &mut dyn FnMut(&mut Value)) -> usize {
    match value {
        Value::Array(values) if !values.is_empty() => values.iter_mut().map(|v| leaves(v, visit)).sum(),
        Value::Object(values) => values.values_mut().map(|v| leaves(v, visit)).sum(),
        leaf => {
            visit(leaf);
            1
        }
    }
}

fn number(u: &mut Unstructured<'_>) -> Result<Value> {
    const EDGES: [&str; 14] = [
        "0",
        "-1",
        "1",
        "1e308",
        "-1e308",
        "1e-320",
        "1.5",
        "4294967295",
        "9223372036854775807",
        "18446744073709551615",
        "null",
        "[]",
        "true",
        "\"\"",
    ];
    let text = match u.int_in_range(0..=3)? {
        0 => u.arbitrary::<u64>()?.to_string(),
        1 => (f64::from(u.arbitrary::<i32>()?) / 1000.0).to_string(),
        _ => (*u.choose(&EDGES)?).to_owned(),
    };
    Ok(serde_json::from_str(&text).expect("a JSON value"))
}

fn edit_tensors(tensors: &mut Vec<Tensor>, u: &mut Unstructured<'_>) -> Result<()> {
    let index = u.choose_index(tensors.len())?;
    let tensor = &mut tensors[index];
    let width = tensor.dtype.bitsize() / 8;
    match u.int_in_range(0..=7)? {
        0 => drop(tensors.remove(index)),
        1 => tensor.name = u.arbitrary::<&str>()?.to_owned(),
        2 => {
            let len = u.int_in_range(0..=tensor.data.len() / width)?;
            tensor.data.truncate(len * width);
            tensor.shape = vec![len];
        }
        3 => {
            tensor.dtype = Dtype::U8;
            tensor.shape = vec![tensor.data.len()];
        }
        4 => {
            let extra = u.int_in_range(1..=100)?;
            tensor.data.extend(std::iter::repeat_n(0, extra * width));
            tensor.shape = vec![tensor.data.len() / width];
        }
        _ if !tensor.data.is_empty() => {
            const VALUES: [f32; 6] = [f32::NAN, f32::INFINITY, f32::MAX, -1e30, 0.0, 1e-40];
            let bytes = match u.arbitrary()? {
                true => u.choose(&VALUES)?.to_le_bytes(),
                false => u.arbitrary()?,
            };
            let at = u.choose_index(tensor.data.len())? / 4 * 4;
            for (to, from) in tensor.data[at..].iter_mut().zip(bytes) {
                *to = from;
            }
        }
        _ => {}
    }
    Ok(())
}
