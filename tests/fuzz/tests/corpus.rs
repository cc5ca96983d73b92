//! Replays the corpus of every fuzz target.

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use fuzz::TARGETS;

/// The files of a target, in the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn no_target_panics_on_its_corpus() {
    // GStreamer's bindings catch panics of elements.
    static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    panic::set_hook(Box::new(|info| PANICS.lock().unwrap().push(info.to_string())));
    let mut failures = Vec::new();
    let mut replayed = 0;
    for target in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target.name);
        for file in files(&folder) {
            let content = std::fs::read(&file).unwrap();
            let result = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(&content)));
            let panics = std::mem::take(&mut *PANICS.lock().unwrap());
            if result.is_err() || !panics.is_empty() {
                failures.push(format!("{}: {}", file.display(), panics.join("; ")));
            }
            replayed += 1;
        }
    }
    drop(panic::take_hook());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(replayed >= TARGETS.len(), "{replayed} files");
}
