//! The part of the build script for feature `cuda`: kernels to a fat binary, and what is linked in place of CUDA's
//! libraries.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const KERNELS: &str = "src/detector/engine/cuda/kernels";
/// Training and scoring; the reduction of frames, which runs in the contexts of their producers.
const SOURCES: [&str; 2] = ["kernels", "reduce"];
/// Scoring in clusters of blocks.
const TEAM: &str = "team";
/// The compute capability from which there are clusters.
const CLUSTERS: &str = "90";
/// PTX for this compute capability runs from there upwards, on GPUs to come as well, once the driver has compiled it.
const PTX: &str = "75";
/// Machine code for those that most users have: it needs no compiling at the first start.
const MACHINE_CODE: [&str; 2] = ["80", "90"];

pub fn build() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo:rerun-if-changed={KERNELS}");
    println!("cargo:rerun-if-env-changed=VAEANOMALY_NVCC");
    for source in SOURCES {
        compile(source, PTX, &MACHINE_CODE, &out);
    }
    compile(TEAM, CLUSTERS, &[CLUSTERS], &out);
    libraries(&out.join("cuda_link"));
}

/// `kernels/NAME.cu` to `NAME.fatbin`: PTX for a compute capability, machine code for others.
fn compile(name: &str, ptx: &str, machine_code: &[&str], out: &Path) {
    let Ok(nvcc) = env::var("VAEANOMALY_NVCC") else {
        panic!("feature `cuda` is built by `make cuda`, or by `sh src/cuda_link/toolkit.sh cargo ...`");
    };
    let mut command = Command::new(&nvcc);
    command.args(["--fatbin", "-std=c++17", "-O3", "--threads", "2"]);
    command.args(["-gencode", &format!("arch=compute_{ptx},code=compute_{ptx}")]);
    for capability in machine_code {
        command.args([
            "-gencode",
            &format!("arch=compute_{capability},code=sm_{capability}"),
        ]);
    }
    let source = Path::new(KERNELS).join(name).with_extension("cu");
    let image = out.join(name).with_extension("fatbin");
    match command.arg("-o").arg(image).arg(&source).status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{nvcc} could not compile {}: {status}", source.display()),
        Err(error) => panic!("{nvcc}: {error}"),
    }
}

/// The libraries that cudarc and candle-kernels name to the linker, in a folder that cargo puts before the system's:
/// all functions are in the first one.
fn libraries(folder: &Path) {
    const FILES: [&str; 3] = [
        "src/cuda_link/find.c",
        "src/cuda_link/jump.S",
        "src/cuda_link/symbols.h",
    ];
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    cc::Build::new()
        .files(&FILES[..2])
        .warnings(true)
        .cargo_metadata(false)
        .out_dir(folder)
        .compile("cuda");
    for name in ["nvrtc", "curand", "cublas", "cublasLt", "cudart"] {
        fs::write(folder.join(format!("lib{name}.a")), "!<arch>\n").expect("OUT_DIR can be written to");
    }
    println!("cargo:rustc-link-search=native={}", folder.display());
}
