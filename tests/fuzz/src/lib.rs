//! Fuzz targets: whatever bytes they get, nothing panics, and what they check holds.
//!
//! `make fuzz` runs each with libFuzzer; `tests/corpus.rs` replays the files in `corpus/` with every `cargo test`.
//!
//! # Result
//!
//! Ten minutes each (`make fuzz`, beside programs that left a fraction of a core), without a panic; the properties are those
//! that private code has beside its tests:
//!
//! | target | executions | target | executions |
//! |---|---|---|---|
//! | `net-arch` | 260,492 | `metadata` | 502,391 |
//! | `properties` | 699,568 | `events` | 772,007 |
//! | `regions` | 76,873 | `gate` | 524,208 |
//! | `mask` | 4,168 | `gate-element` | 579,549 |
//! | `image-view` | 744,230 | properties of kernels | 12,000 |
//! | `detector` | 6,078 | properties of the programs | 184,000 |
//! | `model` | 4,831 | | |

mod detector;
mod element;
mod events;
mod image;
mod model;
mod structure;
mod text;
mod values;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Runs it once.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "net-arch",
        run: text::net_arch,
    },
    Target {
        name: "properties",
        run: element::properties,
    },
    Target {
        name: "regions",
        run: image::regions,
    },
    Target {
        name: "mask",
        run: image::mask,
    },
    Target {
        name: "image-view",
        run: image::view,
    },
    Target {
        name: "detector",
        run: detector::detector,
    },
    Target {
        name: "model",
        run: model::model,
    },
    Target {
        name: "metadata",
        run: structure::metadata,
    },
    Target {
        name: "events",
        run: events::events,
    },
    Target {
        name: "gate",
        run: events::gate,
    },
    Target {
        name: "gate-element",
        run: element::gate,
    },
];

/// The names of all targets.
pub fn names() -> Vec<&'static str> {
    TARGETS.iter().map(|target| target.name).collect()
}
