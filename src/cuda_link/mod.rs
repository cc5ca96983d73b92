//! CUDA's libraries, looked for when they are first called, so that the plugin loads where there are none.
//!
//! Candle links against libcuda, libcublas and their like; the CUDA engine calls the first alone. In their place stand
//! small functions (`jump.S`, one for every name in `symbols.h`) that load the library at the first call (`find.c`) and,
//! where it is not there, give its own error status. `build.rs` beside this file builds them; `toolkit.sh` brings NVIDIA's compiler.

// Reason: asks the C part what it found.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};

unsafe extern "C" {
    safe fn vaeanomaly_cuda_missing() -> *const c_char;
}

/// What a CUDA device needs and cannot be loaded here, in words: `the driver's libcuda.so.1`.
#[must_use]
pub fn missing() -> Option<&'static str> {
    let name = vaeanomaly_cuda_missing();
    if name.is_null() {
        return None;
    }
    // SAFETY: not null, so one of the string constants of find.c.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}
