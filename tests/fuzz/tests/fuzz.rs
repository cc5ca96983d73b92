//! The program that `make fuzz` runs: libFuzzer on the target that the variable `TARGET` names.

#![no_main]

use std::sync::OnceLock;

use fuzz::Target;
use libfuzzer_sys::fuzz_target;

/// What is fuzzed.
fn target() -> &'static Target {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("TARGET").unwrap_or_default();
        let known = fuzz::TARGETS.iter().find(|target| target.name == name);
        known.unwrap_or_else(|| panic!("TARGET must be one of {:?}, got '{name}'", fuzz::names()))
    })
}

fuzz_target!(init: { target(); }, |data: &[u8]| (target().run)(data));
