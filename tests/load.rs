//! The shared library, loaded by a GStreamer that knows only its folder.
//!
//! `VAEANOMALY_PLUGIN` names a file to test instead of the one that cargo built; `make test-loading` sets it to that of
//! `make cuda`.

mod common;

use std::process::{Command, Output};

use common::plugin_file;

/// Runs a program in an empty folder, with the plugin alone in GStreamer's path and a registry of its own.
fn tool(name: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(plugin_file(), folder.path().join("libgstvaeanomaly.so")).unwrap();
    Command::new(name)
        .args(arguments)
        .current_dir(folder.path())
        .env("GST_PLUGIN_PATH", folder.path())
        .env("GST_REGISTRY", folder.path().join("registry.bin"))
        .env("G_DEBUG", "fatal_warnings")
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|e| panic!("{name}: {e}; it is in the Debian package gstreamer1.0-tools"))
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// With and without the feature `cuda`, loading needs only libraries that come with GStreamer.
#[test]
fn it_links_only_to_gstreamer_and_libc() {
    let output = Command::new("readelf")
        .arg("--dynamic")
        .arg(plugin_file())
        .env("LC_ALL", "C")
        .output()
        .expect("readelf is in the Debian package binutils, beside the linker");
    let text = text_of(&output);
    let needed: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split_once('[')?.1.strip_suffix(']'))
        .collect();
    assert!(needed.contains(&"libgstreamer-1.0.so.0"), "{text}");
    let known = [
        "libgst",
        "libglib-",
        "libgobject-",
        "libgio-",
        "libgcc_s.",
        "libc.",
        "libm.",
        "libdl.",
        "libpthread.",
        "librt.",
        "ld-linux",
    ];
    for library in needed {
        assert!(
            known.iter().any(|name| library.starts_with(name)),
            "links to {library}"
        );
    }
}

#[test]
fn it_is_not_blacklisted() {
    let text = text_of(&tool("gst-inspect-1.0", &["--print-blacklist"]));
    assert!(text.contains("0 blacklisted files"), "{text}");
}

#[test]
fn inspect_lists_the_element_and_every_property() {
    let output = tool("gst-inspect-1.0", &["vaeanomaly"]);
    let text = text_of(&output);
    assert!(output.status.success(), "{text}");
    for line in [
        "Filter/Analyzer/Video",
        "GstBaseTransform",
        "none (0)",
        "libgstvaeanomaly.so",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    for property in [
        "device",
        "cues",
        "learn",
        "learning-rate",
        "train-interval",
        "kl-weight",
        "dropout",
        "net-arch",
        "latent-dim",
        "model-width",
        "seed",
        "threshold-mode",
        "threshold",
        "sigma",
        "false-alarm-rate",
        "window",
        "warm-up",
        "drop-normal",
        "keepalive-interval",
        "gap-events",
        "post-roll",
        "min-anomaly",
        "merge-gap",
        "max-lateness",
        "post-messages",
        "roi-meta",
        "attach-map",
        "attach-reconstruction",
        "state",
        "stats",
    ] {
        assert!(
            text.contains(&format!("\n  {property:<20}: ")),
            "no property {property} in {text}"
        );
    }
    for format in ["GRAY16_LE", "P010_10LE", "UYVY", "xBGR"] {
        assert!(text.contains(format), "{format}");
    }
}

#[test]
fn launch_runs_it() {
    let output = tool(
        "gst-launch-1.0",
        &[
            "-m",
            "videotestsrc",
            "num-buffers=30",
            "!",
            "video/x-raw,width=64,height=48,framerate=10/1",
            "!",
            "vaeanomaly",
            "warm-up=8",
            "!",
            "fakesink",
        ],
    );
    let text = text_of(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("state-changed") && text.contains("detecting"),
        "{text}"
    );
}

/// Hosts with a limit (`ulimit -v`) have little address space.
#[test]
fn it_reserves_little_address_space() {
    if std::env::var_os("VAEANOMALY_PLUGIN").is_some() {
        return;
    }
    let text = text_of(&tool(
        "sh",
        &[
            "-c",
            "gst-launch-1.0 videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=10/1 \
             ! vaeanomaly warm-up=8 post-messages=all ! fakesink & pid=$!; sleep 2; grep VmPeak /proc/$pid/status; kill $pid",
        ],
    ));
    let size = text.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kilobytes: u64 = size
        .and_then(|size| size.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_else(|| panic!("{text}"));
    assert!(kilobytes < 900_000, "{kilobytes} kB");
}

#[test]
fn an_invalid_setting_fails_with_a_clear_message() {
    let output = tool(
        "gst-launch-1.0",
        &[
            "videotestsrc",
            "num-buffers=3",
            "!",
            "vaeanomaly",
            "net-arch=[(12,3,3)]",
            "!",
            "fakesink",
        ],
    );
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("net-arch must be a list whose poolings divide the model-width 64"),
        "{errors}"
    );
    assert!(errors.contains("pooling 3 of stage 1"), "{errors}");
}

/// The shell commands in the documentation of a module.
fn documented_commands(source: &str) -> Vec<String> {
    let docs: Vec<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .collect();
    let blocks = docs.split(|line| line.trim() == "```shell").skip(1).map(|block| {
        block
            .split(|line| line.trim() == "```")
            .next()
            .unwrap()
            .join("\n")
    });
    blocks.collect()
}

#[test]
fn the_example_pipelines_of_the_documentation_run() {
    for source in [
        include_str!("../src/vaeanomaly/mod.rs"),
        include_str!("../src/vaeanomalygate/mod.rs"),
    ] {
        let commands = documented_commands(source);
        assert!(commands.len() >= 2, "{commands:?}");
        for command in commands {
            let output = tool("sh", &["-c", &command]);
            assert!(output.status.success(), "{command}\n{}", text_of(&output));
        }
    }
}

#[test]
fn inspect_lists_the_overlay_and_what_it_can_draw() {
    let output = tool("gst-inspect-1.0", &["vaeanomalyoverlay"]);
    let text = text_of(&output);
    assert!(output.status.success(), "{text}");
    for word in [
        "Filter/Editor/Video",
        "boxes",
        "map",
        "strip",
        "state",
        "reconstruction",
        "ignored",
        "strip-duration",
    ] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}
