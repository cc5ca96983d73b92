//! The page in headless Chromium: `tests/browser/page.mjs` on a running program. Needs `chromium`, `node` and `npm`.
//!
//! `SCREENSHOTS=folder` keeps its screenshots there, of more and larger cameras, with the images of the documentation.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use street_scene::record::{Recorder, Settings};
use street_scene::scene::{Config, Kind, Scene};

const FPS: i32 = 10;

/// The program, killed at the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, or does now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A street of less than a minute with two anomalies, the first after 12 s.
fn street(file: &Path, (width, height): (u32, u32), seed: u64) {
    let mut scene = Scene::new(&Config {
        width,
        height,
        seed,
        lead_in: 12.0,
        events: 2,
        spacing: 10.0,
        kinds: vec![Kind::WrongWayCar, Kind::Cyclist],
        ..Config::default()
    })
    .unwrap();
    let mut recorder = Recorder::new(&Settings {
        file: file.to_owned(),
        width,
        height,
        fps: gst::Fraction::new(FPS, 1),
        bitrate: width,
    })
    .unwrap();
    for frame in 0..(scene.duration() * f64::from(FPS)) as u64 {
        recorder
            .push(scene.render(frame as f64 / f64::from(FPS)))
            .unwrap();
    }
    recorder.finish().unwrap();
}

/// The first of these programs that is installed.
fn installed(names: &[&str]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let mut files = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = files.find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("none of {} is installed", names.join(", ")))
}

/// A folder with the modules of `tests/browser/package-lock.json`, installed if they have changed.
fn modules() -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser-modules");
    let lock = std::fs::read(from.join("package-lock.json")).unwrap();
    // Written by npm when everything is installed.
    let complete = folder.join("node_modules/.package-lock.json").exists();
    if !complete || std::fs::read(folder.join("package-lock.json")).ok() != Some(lock) {
        std::fs::create_dir_all(&folder).unwrap();
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(from.join(file), folder.join(file)).unwrap();
        }
        let installed = Command::new(installed(&["npm"]))
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
            .current_dir(&folder)
            .status()
            .unwrap();
        assert!(installed.success(), "npm ci: {installed}");
    }
    folder
}

/// Starts the program, returns it with the address of its page.
fn start(config: &Path) -> (Running, String) {
    let child = Command::new(env!("CARGO_BIN_EXE_watch"))
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines();
    let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
        eprintln!("{line}");
        line.strip_prefix("page: ").map(str::to_owned)
    });
    // So that the program never waits for room in the pipe.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
    (
        running,
        address.expect("the program prints the address of its page"),
    )
}

#[test]
fn the_page_works_in_a_browser() {
    gst::init().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let modules = modules();
    let screenshots = std::env::var_os("SCREENSHOTS").map(PathBuf::from);
    let (size, names): (_, &[&str]) = match &screenshots {
        Some(_) => ((640, 360), &["Gate", "Yard", "Car park"]),
        None => ((320, 180), &["Gate", "Yard"]),
    };
    std::thread::scope(|threads| {
        for (seed, name) in (3..).zip(names) {
            let file = folder.path().join(format!("{name}.mp4"));
            threads.spawn(move || street(&file, size, seed));
        }
    });
    let names = [names, &["Cellar"]].concat();
    let mut cameras: String = names
        .iter()
        .map(|name| format!("[{name}]\nsource = {name}.mp4\nloop = true\n"))
        .collect();
    if screenshots.is_none() {
        // Both anomalies of a street are in one clip.
        cameras.push_str("[defaults]\ngate.post-roll = 12s\n");
        // The folder of the clips of one camera cannot be created.
        std::fs::create_dir_all(folder.path().join("data/clips")).unwrap();
        std::os::unix::fs::symlink("nowhere/at-all", folder.path().join("data/clips/yard")).unwrap();
    }
    let config = folder.path().join("config.ini");
    std::fs::write(
        &config,
        format!("{cameras}[web]\nlisten = 127.0.0.1:0\n[storage]\nfolder = data\n"),
    )
    .unwrap();
    let out = screenshots.clone().unwrap_or_else(|| folder.path().join("out"));
    std::fs::create_dir_all(&out).unwrap();
    let (_running, address) = start(&config);
    let mut test = Command::new(installed(&["node"]));
    if screenshots.is_some() {
        test.env("IMAGES", "1");
    }
    let tested = test
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/page.mjs"))
        .env("PAGE", address)
        .env("OUT", std::path::absolute(out).unwrap())
        .env("MODULES", modules)
        .env("CAMERAS", names.join(","))
        .env(
            "CHROMIUM",
            installed(&["chromium", "chromium-browser", "google-chrome"]),
        )
        .status()
        .unwrap();
    assert!(tested.success(), "{tested}");
}
