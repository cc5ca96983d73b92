//! Frames in CUDA memory: GStreamer's own elements for it and the plugin, on an emulated driver (`libcuda.so.1`, see
//! `tests/emulated_kernels/src/driver.cpp`) whose device is the host.
//!
//! They need the plugin with the feature `cuda`: `make test-cuda` builds it with the tests, `make test-loading` names that of
//! `make cuda` in `VAEANOMALY_PLUGIN`. With another plugin they report that and do nothing.

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The formats that are tested, in caps.
const FORMATS: [&str; 7] = ["NV12", "I420", "P010_10LE", "BGRA", "RGBA", "BGRx", "RGBx"];
/// Neither side is a multiple of a grid's.
const SIZE: &str = "width=322,height=242,framerate=25/1";
const FRAMES: usize = 60;

/// A folder with the driver, GStreamer's plugins that are needed, and the plugin; `None` without the feature.
fn folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| plugin().map(|plugin| prepare(&plugin)));
    if folder.is_none() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: this plugin has no CUDA support; see make test-cuda"
        );
    }
    folder.as_deref()
}

fn plugin() -> Option<PathBuf> {
    let has_cuda = cfg!(feature = "cuda") || std::env::var_os("VAEANOMALY_PLUGIN").is_some();
    has_cuda.then(common::plugin_file)
}

fn prepare(plugin: &Path) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda-memory");
    let _ = std::fs::remove_dir_all(&folder);
    let plugins = folder.join("plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = Command::new(compiler)
        .args(["-std=c++17", "-O2", "-fPIC", "-shared", "-ffp-contract=off", "-I"])
        .arg(source.join("src/detector/engine/cuda/kernels"))
        .arg("-o")
        .arg(folder.join("libcuda.so.1"))
        .arg(source.join("tests/emulated_kernels/src/driver.cpp"))
        .status()
        .expect("a C++ compiler");
    assert!(status.success());
    let link = |from: &Path, to: &Path| std::os::unix::fs::symlink(from, to).unwrap();
    link(Path::new("libcuda.so.1"), &folder.join("libnvcuvid.so.1"));
    link(
        &plugin.canonicalize().unwrap(),
        &plugins.join("libgstvaeanomaly.so"),
    );
    let output = Command::new("pkg-config")
        .args(["--variable=pluginsdir", "gstreamer-1.0"])
        .output()
        .expect("pkg-config");
    let system = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    for name in ["coreelements", "nvcodec", "videotestsrc"] {
        let file = format!("libgst{name}.so");
        link(&system.join(&file), &plugins.join(&file));
    }
    folder
}

/// Runs a program of GStreamer, with the emulated driver or without one.
fn tool(folder: &Path, driver: bool, name: &str, arguments: &str, emulate: &str) -> Output {
    let mut command = Command::new(name);
    let registry = folder.join(if driver { "with-driver.bin" } else { "without.bin" });
    command
        .args(arguments.split_whitespace())
        .env("GST_PLUGIN_SYSTEM_PATH", folder.join("plugins"))
        .env("GST_PLUGIN_PATH", "")
        .env("GST_REGISTRY", registry)
        .env("VAEANOMALY_EMULATE", emulate)
        .env("G_DEBUG", "fatal_warnings")
        .env("LC_ALL", "C");
    if driver {
        command.env("LD_LIBRARY_PATH", folder);
    }
    command
        .output()
        .unwrap_or_else(|e| panic!("{name}: {e}; it is in the Debian package gstreamer1.0-tools"))
}

/// The raw scores of all frames.
fn raw_scores(folder: &Path, pipeline: &str, emulate: &str) -> Vec<f64> {
    let output = tool(folder, true, "gst-launch-1.0", &format!("-m {pipeline}"), emulate);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{pipeline}: {errors}");
    assert!(!text.contains("Frames are passed on unscored"), "{text}");
    text.lines()
        .filter(|line| line.contains("event=(string)frame"))
        .map(|line| {
            let (_, rest) = line.split_once("raw-score=(double)").unwrap();
            rest.split([',', ';']).next().unwrap().trim().parse().unwrap()
        })
        .collect()
}

fn source(format: &str) -> String {
    format!("videotestsrc pattern=ball num-buffers={FRAMES} ! video/x-raw,format={format},{SIZE}")
}

fn detector(settings: &str) -> String {
    format!("vaeanomaly {settings} warm-up=20 post-messages=all max-lateness=0 ! fakesink sync=false")
}

fn from_system_memory(format: &str, settings: &str) -> String {
    format!("{} ! {}", source(format), detector(settings))
}

fn from_cuda_memory(format: &str, settings: &str) -> String {
    format!(
        "{} ! cudaupload ! video/x-raw(memory:CUDAMemory) ! {}",
        source(format),
        detector(settings)
    )
}

/// Asserts that scores are equal, also those after the element has learnt from the frames before.
fn assert_same(what: &str, got: &[f64], want: &[f64]) {
    assert_eq!((got.len(), want.len()), (FRAMES, FRAMES), "{what}");
    for (frame, (a, b)) in got.iter().zip(want).enumerate() {
        assert_eq!(a, b, "{what}, frame {frame}");
    }
    assert!(want.iter().any(|score| score.abs() > 0.1), "{want:?}");
}

#[test]
fn caps_have_cuda_memory_where_there_is_a_driver() {
    let Some(folder) = folder() else { return };
    let inspect = |driver| {
        let output = tool(folder, driver, "gst-inspect-1.0", "vaeanomaly", "");
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(inspect(true).contains("memory:CUDAMemory"));
    assert!(!inspect(false).contains("CUDAMemory"), "as without the feature");
}

#[test]
fn scores_are_those_of_the_downloaded_frames() {
    let Some(folder) = folder() else { return };
    for format in FORMATS {
        let want = raw_scores(folder, &from_system_memory(format, "device=cpu"), "");
        let got = raw_scores(folder, &from_cuda_memory(format, "device=cpu"), "");
        assert_same(format, &got, &want);
    }
}

#[test]
fn frames_are_downloaded_where_the_context_takes_no_kernel_or_fails() {
    let Some(folder) = folder() else { return };
    let want = raw_scores(folder, &from_system_memory("NV12", "device=cpu"), "");
    for fault in ["module", "reduce"] {
        let got = raw_scores(folder, &from_cuda_memory("NV12", "device=cpu"), fault);
        assert_same(fault, &got, &want);
    }
}

#[test]
fn both_kinds_of_memory_follow_each_other_in_one_pipeline() {
    let Some(folder) = folder() else { return };
    let half = |format: &str| source(format).replace(&format!("={FRAMES} "), &format!("={} ", FRAMES / 2));
    let pipeline = format!(
        "concat name=both ! {} {} ! both. {} ! cudaupload ! video/x-raw(memory:CUDAMemory) ! both.",
        detector("device=cpu"),
        half("I420"),
        half("NV12"),
    );
    assert_eq!(raw_scores(folder, &pipeline, "").len(), FRAMES);
}

#[test]
fn nets_and_frames_may_both_be_on_the_gpu() {
    let Some(folder) = folder() else { return };
    let want = raw_scores(folder, &from_system_memory("NV12", "device=cuda"), "");
    let got = raw_scores(folder, &from_cuda_memory("NV12", "device=cuda"), "");
    assert_same("device=cuda", &got, &want);
}

#[test]
fn frames_pass_unchanged_and_the_neighbours_share_a_context() {
    let Some(folder) = folder() else { return };
    let copy = folder.join("copy.raw");
    // A width without padding, which need not be the same.
    let pipeline = |middle: &str| {
        format!(
            "videotestsrc num-buffers=3 ! video/x-raw,format=NV12,width=320,height=242 {middle} ! filesink location={}",
            copy.display()
        )
    };
    let mut copies = Vec::new();
    for middle in [
        "",
        "! cudaupload ! video/x-raw(memory:CUDAMemory) ! vaeanomaly device=cpu ! cudadownload ! video/x-raw",
    ] {
        let output = tool(folder, true, "gst-launch-1.0", &pipeline(middle), "");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        // Whoever makes a context reports it.
        assert!(text.matches("Got context from element").count() <= 1, "{text}");
        copies.push(std::fs::read(&copy).unwrap());
    }
    assert!(copies[0] == copies[1] && !copies[0].is_empty());
}
