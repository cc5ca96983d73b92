//! The part of the build script for feature `cuda`: kernels to PTX, and what is linked in place of CUDA's libraries.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const KERNELS: &str = "src/detector/nn/cuda/kernels.cu";
/// PTX for this compute capability runs from there upwards, on GPUs to come as well.
const ARCHITECTURE: &str = "compute_75";

pub fn build() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    kernels(&out.join("kernels.ptx"));
    libraries(&out.join("cuda_link"));
}

fn kernels(ptx: &Path) {
    println!("cargo:rerun-if-changed={KERNELS}");
    println!("cargo:rerun-if-env-changed=VAEANOMALY_NVCC");
    let Ok(nvcc) = env::var("VAEANOMALY_NVCC") else {
        panic!("feature `cuda` is built by `make cuda`, or by `sh src/cuda_link/toolkit.sh cargo ...`");
    };
    let status = Command::new(&nvcc)
        .args(["--ptx", "-std=c++17", "-O3", "-arch", ARCHITECTURE, "-o"])
        .arg(ptx)
        .arg(KERNELS)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{nvcc} could not compile {KERNELS}: {status}"),
        Err(error) => panic!("{nvcc}: {error}"),
    }
}

/// The libraries that cudarc and candle-kernels name to the linker, in a folder that cargo puts before the system's:
/// all functions are in the first one.
fn libraries(folder: &Path) {
    const SOURCES: [&str; 3] = [
        "src/cuda_link/find.c",
        "src/cuda_link/jump.S",
        "src/cuda_link/symbols.h",
    ];
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
    }
    cc::Build::new()
        .files(&SOURCES[..2])
        .warnings(true)
        .cargo_metadata(false)
        .out_dir(folder)
        .compile("cuda");
    for name in ["nvrtc", "curand", "cublas", "cublasLt", "cudart"] {
        fs::write(folder.join(format!("lib{name}.a")), "!<arch>\n").expect("OUT_DIR can be written to");
    }
    println!("cargo:rustc-link-search=native={}", folder.display());
}
