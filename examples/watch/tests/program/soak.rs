//! Random failures of sources for two minutes, or for `SOAK` seconds.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::Value;

use crate::common::{init, street, wait_until};
use crate::server::{CAMERA, Server};

/// Cameras that fail.
const CAMERAS: usize = 3;

/// Threads, open files and resident memory in MB of a process.
fn resources(process: u32) -> (usize, usize, f64) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{process}/{what}")).map_or(0, Iterator::count);
    (count("task"), count("fd"), resident(process))
}

/// Resident memory of a process in MB; 0 if it has ended.
pub fn resident(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let size: Option<f64> = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()
    });
    size.unwrap_or_default() / 1000.0
}

/// A camera; `silent` stops sending after two seconds without an end of the stream.
fn camera(port: i32, silent: bool) -> Server {
    Server::start(port, CAMERA, move |media| {
        let pad = media.by_name("eye").and_then(|eye| eye.static_pad("src"));
        let count = std::sync::atomic::AtomicUsize::new(0);
        pad.expect("a pad")
            .add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                match silent && count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 20 {
                    false => gst::PadProbeReturn::Ok,
                    true => gst::PadProbeReturn::Handled,
                }
            });
    })
}

#[test]
fn cameras_that_fail_at_random_always_come_back() {
    init();
    let seconds = std::env::var("SOAK")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(120);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(17);
    let mut servers: Vec<Option<Server>> = (0..CAMERAS).map(|_| Some(camera(0, false))).collect();
    let ports: Vec<i32> = servers.iter().flatten().map(|server| server.port).collect();
    let folder = tempfile::tempdir().unwrap();
    let mut text = format!(
        "[storage]\nfolder = data\nmin-free = 0\n[web]\nlisten = off\n[defaults]\ntimeout = 3\n\
         [door]\nsource = {}\nloop = true\ntimeout = 60\n",
        street().display()
    );
    for (number, server) in servers.iter().flatten().enumerate() {
        text.push_str(&format!("[yard {number}]\nsource = {}\n", server.uri()));
    }
    let file = folder.path().join("config.ini");
    std::fs::write(&file, text).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_watch"));
    let mut program = program
        .arg("--json")
        .arg(&file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let states = Arc::new(Mutex::new(HashMap::<String, Value>::new()));
    let (output, seen) = (program.stdout.take().unwrap(), Arc::clone(&states));
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let message: Value = serde_json::from_str(&line).expect("a line is a JSON object");
            if message["type"] == "camera" {
                let camera = message["camera"].as_str().expect("a name").to_owned();
                if camera == "door" && message["status"]["error"].is_string() {
                    eprintln!("door: {}", message["status"]);
                }
                seen.lock().unwrap().insert(camera, message["status"].clone());
            }
        }
    });
    let all_play = || {
        let states = states.lock().unwrap();
        let mut playing = states.values().filter(|status| status["connection"] == "playing");
        playing.by_ref().count() == CAMERAS + 1
    };
    wait_until("all cameras play", all_play);
    let before = resources(program.id());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_millis(random.random_range(200..2500)));
        let number = random.random_range(0..CAMERAS);
        servers[number] = None;
        if random.random_bool(0.6) {
            servers[number] = Some(camera(ports[number], random.random_bool(0.3)));
        }
    }
    for (server, port) in servers.iter_mut().zip(&ports) {
        *server = None;
        *server = Some(camera(*port, false));
    }
    // Until what has just failed is noticed, all still seem to play.
    std::thread::sleep(Duration::from_secs(4));
    wait_until("all cameras play again", all_play);
    let after = resources(program.id());
    println!("threads, files, MB resident: {before:?} at first, {after:?} after {seconds} s");
    assert!(
        Command::new("kill")
            .arg(program.id().to_string())
            .status()
            .unwrap()
            .success()
    );
    assert!(program.wait().unwrap().success());
    reader.join().unwrap();
    let states = states.lock().unwrap();
    assert_eq!(states["door"]["restarts"], 0, "a camera that works is left alone");
    let restarts: u64 = states
        .values()
        .map(|status| status["restarts"].as_u64().unwrap())
        .sum();
    assert!(restarts > 0, "sources have failed");
    assert!(
        after.0 <= before.0 + 10 && after.1 <= before.1 + 20,
        "{before:?}, {after:?}"
    );
    let database = rusqlite::Connection::open(folder.path().join("data/events.sqlite")).unwrap();
    let open: i64 = database
        .query_row("SELECT count(*) FROM events WHERE end IS NULL", (), |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(open, 0);
}
