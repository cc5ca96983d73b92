//! Runs the programs that read the metadata, in three languages, on a short scene.

mod common;

use std::path::PathBuf;
use std::process::{Command, Output};

use common::{command, scratch, short_scene};

/// Every program prints one line per frame and the messages, and exits successfully.
fn check(output: &Output) {
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{errors}");
    let frames = text.lines().filter(|line| line.starts_with("frame ")).count();
    assert_eq!(frames, short_scene().1.frames.len(), "{errors}");
    assert!(text.contains("state-changed"), "messages are printed: {errors}");
    let lines = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert!(lines("  region ") > 3, "regions are printed: {errors}");
    assert_eq!(lines("  map "), frames, "and one map per frame");
}

fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its path");
    let folder = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("tests lie in deps/");
    folder.join("examples").join(name)
}

#[test]
fn rust_reads_the_metadata() {
    check(
        &command(example("read_meta"))
            .arg(&short_scene().0)
            .output()
            .expect("the example is built"),
    );
}

#[test]
fn python_reads_the_metadata() {
    let Some(mut python) = common::python() else {
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/read_meta.py");
    check(
        &python
            .arg(script)
            .arg(&short_scene().0)
            .output()
            .expect("Python runs"),
    );
}

#[test]
fn c_reads_the_metadata() {
    let program = scratch("examples").join("read_meta_c");
    let flags = Command::new("pkg-config")
        .args(["--cflags", "--libs", "gstreamer-1.0", "gstreamer-video-1.0"])
        .output()
        .unwrap();
    let built = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/read_meta.c"))
        .args(String::from_utf8_lossy(&flags.stdout).split_whitespace())
        .output()
        .expect("cc runs");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    check(
        &command(program)
            .arg(&short_scene().0)
            .output()
            .expect("the program runs"),
    );
}
