//! Model files: round trips, bounds, damaged and foreign files.

use std::sync::OnceLock;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::detector::online_tests::{SIZE, failing, process};
use crate::detector::{Config, CueKind, Detector, NetArch, Temporal};

fn learnt_from(frames: u64, config: &Config) -> Model {
    let mut detector = Detector::new(config.clone(), SIZE).unwrap();
    (0..frames).for_each(|i| drop(process(&mut detector, i)));
    model(detector.learnt().unwrap())
}

fn model(learnt: Learnt) -> Model {
    Model {
        learnt,
        next_event: NonZeroU64::new(7).unwrap(),
        began: 1_700_000_000,
        saved: 1_700_000_060,
    }
}

/// A file after 40 frames.
fn content() -> &'static [u8] {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    CONTENT.get_or_init(|| write(learnt_from(40, &Config::default())).unwrap())
}

/// The same file with other metadata, under a checksum that is right.
fn with_metadata(change: impl FnOnce(&mut HashMap<String, String>)) -> Vec<u8> {
    let file = SafeTensors::deserialize(content()).unwrap();
    let (_, header) = SafeTensors::read_metadata(content()).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    change(&mut metadata);
    let texts = ["shape", "learnt", "packed"].map(|key| metadata.get(key).cloned().unwrap_or_default());
    let right = checksum([&texts[0], &texts[1], &texts[2]], arrays::in_order(&file));
    metadata.insert("checksum".to_owned(), right);
    safetensors::serialize(file.iter(), Some(metadata)).unwrap()
}

fn reason(content: &[u8]) -> String {
    read(content).expect_err("a refusal").to_string()
}

#[test]
fn a_model_is_read_back_as_it_was() {
    let model = learnt_from(40, &Config::default());
    let read = read(&write(model.clone()).unwrap()).unwrap();
    assert_eq!(
        (read.next_event, read.began, read.saved),
        (model.next_event, model.began, model.saved)
    );
    // Buffers know their sizes from the detector that they are in.
    let mut detectors = [model, read].map(|model| {
        let mut detector = Detector::new(Config::default(), SIZE).unwrap();
        detector.restore(model.learnt).unwrap();
        detector
    });
    let [a, b] = detectors.each_mut().map(|detector| detector.learnt().unwrap());
    assert!(a == b, "without printing megabytes");
    for i in 40..60 {
        let [a, b] = detectors.each_mut().map(|detector| process(detector, i));
        assert_eq!(a, b, "frame {i}");
    }
}

#[test]
fn a_model_that_a_gpu_learnt_continues_on_the_cpu_and_the_other_way_round() {
    let detectors = || {
        [
            Detector::new(Config::default(), SIZE).unwrap(),
            failing(u32::MAX, true, Config::default(), SIZE),
        ]
    };
    let files = detectors().map(|mut detector| {
        (0..30).for_each(|i| drop(process(&mut detector, i)));
        write(model(detector.learnt().unwrap())).unwrap()
    });
    let mut scores = Vec::new();
    for file in &files {
        for mut detector in detectors() {
            detector.restore(read(file).unwrap().learnt).unwrap();
            scores.push((30..45).map(|i| process(&mut detector, i).0).collect::<Vec<_>>());
        }
    }
    assert!(scores.iter().all(|s| *s == scores[0]));
}

#[test]
fn refusals_name_the_field_and_what_was_expected() {
    let cut = &content()[..content().len() - 9];
    assert!(
        reason(cut).contains("file: expected a safetensors file, got "),
        "{}",
        reason(cut)
    );
    assert!(reason(b"\x89PNG").contains("a safetensors file"));
    let mut flipped = content().to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(read(&flipped).is_err());

    let set = |key: &str, value: &str| {
        reason(&with_metadata(|metadata| {
            metadata.insert(key.to_owned(), value.to_owned());
        }))
    };
    assert_eq!(set("version", "2"), "saved state: version: expected 1, got \"2\"");
    assert_eq!(
        set("format", "pt"),
        "saved state: format: expected vaeanomaly-model, got \"pt\""
    );
    assert!(set("learnt", "{}").contains("learnt: expected all values in their ranges, got missing field"));
    let huge = r#"{"ignored":{"samples":0,"values":0},"motion.replay":{"samples":1000000,"values":1000000}}"#;
    let bomb = set("packed", huge);
    assert!(
        bomb.contains("motion.replay: expected at most")
            && bomb.ends_with("got 1000000 samples of 1000000 values"),
        "{bomb}"
    );
    let without = reason(&with_metadata(|metadata| drop(metadata.remove("shape"))));
    assert_eq!(
        without,
        "saved state: shape: expected an entry in the metadata, got none"
    );
    let foreign = safetensors::serialize([("weight", Foreign)], None).unwrap();
    assert_eq!(
        reason(&foreign),
        "saved state: format: expected an entry in the metadata, got none"
    );
}

/// A tensor of another program.
struct Foreign;

impl safetensors::tensor::View for Foreign {
    fn dtype(&self) -> safetensors::tensor::Dtype {
        safetensors::tensor::Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &[1]
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&[0; 4][..]).into()
    }

    fn data_len(&self) -> usize {
        4
    }
}

#[test]
fn other_nets_and_another_aspect_are_rejected_and_another_size_is_not() {
    let restore = |config: &Config, size| {
        let mut detector = Detector::new(config.clone(), size).unwrap();
        let restored = detector.restore(read(content()).unwrap().learnt);
        restored.map_err(|e| e.to_string())
    };
    let default = Config::default();
    assert_eq!(restore(&default, SIZE), Ok(()));
    assert_eq!(restore(&default, (4 * SIZE.0, 4 * SIZE.1)), Ok(()));
    assert_eq!(
        restore(&default, (SIZE.0, 2 * SIZE.1)),
        Err("saved state: grey image (aspect ratio): expected 180x180 pixels, got 180x92 pixels".to_owned())
    );
    let other = [
        Config {
            cues: vec![CueKind::Motion],
            ..default.clone()
        },
        Config {
            latent_dim: 8,
            ..default.clone()
        },
        Config {
            model_width: 32,
            ..default.clone()
        },
        Config {
            net_arch: "[(8,3,2)]".parse::<NetArch>().unwrap(),
            ..default.clone()
        },
        Config {
            temporal: Temporal::ConvLstm,
            ..default
        },
    ];
    let fields = [
        "cues: expected motion, got motion+appearance",
        "latent-dim: expected 8, got 16",
        "model-width",
        "net-arch",
        "temporal: expected conv-lstm, got none",
    ];
    for (config, field) in other.iter().zip(fields) {
        let reason = restore(config, SIZE).unwrap_err();
        assert!(reason.contains(field), "{reason}");
    }
}

#[test]
fn samples_that_do_not_compress_are_thinned_to_the_limit() {
    let mut model = learnt_from(10, &Config::default());
    let noise = |n: usize, len: usize| -> Vec<u8> {
        let mut x = n as u64 + 1;
        let mut next = || {
            x = x
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (x >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    };
    let mut filled = 0;
    model
        .learnt
        .cues
        .arrays(&mut |_, array| {
            if let Array::Bytes(samples) = array {
                let len = samples[0].len();
                // 64x48 pixels, as of 4:3 frames, in a buffer for 64x32.
                *samples = (0..2000)
                    .map(|n| noise(n, 64 * 48 * 3.max(len / 2048)).into())
                    .collect();
                filled += 1;
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(filled, 1);
    let file = write(model).unwrap();
    assert!(
        (17_000_000..20_000_000).contains(&file.len()),
        "{} bytes",
        file.len()
    );
    let mut kept = Vec::new();
    read(&file)
        .unwrap()
        .learnt
        .cues
        .arrays(&mut |_, array| {
            if let Array::Bytes(samples) = array {
                kept.clone_from(samples);
            }
            Ok(())
        })
        .unwrap();
    assert!((1800..2100).contains(&kept.len()), "{} samples", kept.len());
    assert_eq!(*kept[0], noise(0, kept[0].len()));
}

/// Reads a file, and where it is a model, continues from it.
fn try_to_continue(content: &[u8]) -> bool {
    let Ok(model) = read(content) else { return false };
    let mut detector = Detector::new(Config::default(), SIZE).unwrap();
    if detector.restore(model.learnt).is_err() {
        return false;
    }
    for i in 0..4 {
        let (prediction, _) = process(&mut detector, i);
        assert!(prediction.score.is_finite(), "{prediction:?}");
    }
    true
}

/// Replaces the number `index` numbers into a JSON value.
fn replace_number(value: &mut Value, index: &mut usize, with: &Value) {
    match value {
        Value::Number(_) => {
            if *index == 0 {
                *value = with.clone();
            }
            *index = index.wrapping_sub(1);
        }
        Value::Array(values) => values.iter_mut().for_each(|v| replace_number(v, index, with)),
        Value::Object(values) => values.values_mut().for_each(|v| replace_number(v, index, with)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_rejected(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4), end in any::<prop::sample::Index>(), cut in any::<bool>(),
    ) {
        let mut damaged = content().to_vec();
        for (index, flip) in changes {
            let index = index.index(damaged.len());
            damaged[index] ^= flip;
        }
        if cut {
            damaged.truncate(end.index(content().len()));
        }
        if damaged != content() {
            // The version of the crate and the times are not under the checksum.
            let _ = read(&damaged);
        }
    }

    #[test]
    fn a_damaged_header_is_rejected(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let header = 8 + u64::from_le_bytes(content()[..8].try_into().unwrap()) as usize;
        let mut damaged = content().to_vec();
        for (index, value) in changes {
            damaged[index.index(header)] = value;
        }
        let _ = read(&damaged);
    }

    #[test]
    fn any_numbers_in_a_file_are_rejected_or_survived(
        key in prop::sample::select(vec!["learnt", "packed", "shape"]), index in 0usize..60,
        with in prop::sample::select(vec!["-1", "0", "1e308", "-1e308", "1.5", "4294967295", "18446744073709551615", "1e-320"]),
    ) {
        let with: Value = serde_json::from_str(with).unwrap();
        let file = with_metadata(|metadata| {
            let text = metadata.get_mut(key).unwrap();
            let mut value: Value = serde_json::from_str(text).unwrap();
            replace_number(&mut value, &mut { index }, &with);
            *text = value.to_string();
        });
        try_to_continue(&file);
    }
}

#[test]
fn the_unchanged_file_is_continued_from() {
    assert!(try_to_continue(&with_metadata(|_| ())));
}
