//! The program's arguments.

use std::process::Command;

fn soak(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn what_is_out_of_range_is_named() {
    let (success, text) = soak(&["--hours", "0"]);
    assert!(!success);
    assert!(text.contains("--hours must be 0.005..=10000, got 0"), "{text}");
    let (success, text) = soak(&["--help"]);
    assert!(success && text.starts_with("Runs pipelines"), "{text}");
}
