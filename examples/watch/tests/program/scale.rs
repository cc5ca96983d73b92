//! What eight cameras cost with everything on; no frame may be lost. `CAMERAS` and `SECONDS` are others than 8 and 120, `WATCH`
//! is another program than that of the tests, such as `target/release/watch`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gst::prelude::*;
use serde_json::Value;
use street_scene::record::{Recorder, Settings};
use street_scene::scene::{Config, Scene};

use crate::common::{free_port, init};
use crate::publishing::Broker;
use crate::server::Server;
use crate::soak::resident;

const FPS: i32 = 10;

/// A number from the environment.
fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} = {text}"))
    })
}

/// A street of 640x360 with an anomaly every half a minute.
fn record(file: &Path, seed: u64, seconds: f64) {
    let mut scene = Scene::new(&Config {
        width: 640,
        height: 360,
        seed,
        lead_in: 30.0,
        events: (seconds / 30.0) as usize,
        duration: Some(seconds),
        ..Config::default()
    })
    .unwrap();
    let mut recorder = Recorder::new(&Settings {
        file: file.to_owned(),
        width: 640,
        height: 360,
        fps: gst::Fraction::new(FPS, 1),
        bitrate: 800,
    })
    .unwrap();
    for frame in 0..(seconds * f64::from(FPS)) as u64 {
        recorder
            .push(scene.render(frame as f64 / f64::from(FPS)))
            .unwrap();
    }
    recorder.finish().unwrap();
}

/// A camera that sends a file once, and the number of frames that it has sent.
fn camera(file: &Path) -> (Server, Arc<AtomicU64>) {
    let launch = format!(
        "( filesrc location={} ! qtdemux ! h264parse ! identity name=eye ! rtph264pay name=pay0 config-interval=-1 pt=96 )",
        file.display()
    );
    let sent = Arc::new(AtomicU64::new(0));
    let (count, clients) = (Arc::clone(&sent), AtomicUsize::new(0));
    let server = Server::start(0, &launch, move |media| {
        if clients.fetch_add(1, Ordering::Relaxed) > 0 {
            return;
        }
        let pad = media.by_name("eye").and_then(|eye| eye.static_pad("src"));
        let count = Arc::clone(&count);
        pad.expect("a pad")
            .add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                count.fetch_add(1, Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            });
    });
    (server, sent)
}

/// Reads an answer without end; counts its bytes.
fn view(address: &str, path: &str, received: &Arc<AtomicU64>) {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let received = Arc::clone(received);
    std::thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            received.fetch_add(count as u64, Ordering::Relaxed);
        }
    });
}

/// CPU time of a process, and its resident memory in MB.
fn usage(process: u32) -> (Duration, f64) {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Behind the name, which may contain spaces: state, then fields 4, 5, ...; 14 and 15 are ticks of 10 ms.
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    (Duration::from_millis(10 * ticks), resident(process))
}

#[test]
#[ignore = "a measurement for a machine that does nothing else"]
fn eight_cameras_lose_no_frame() {
    init();
    let (cameras, seconds) = (setting("CAMERAS", 8), setting("SECONDS", 120.0));
    let program = setting("WATCH", PathBuf::from(env!("CARGO_BIN_EXE_watch")));
    let folder = tempfile::tempdir().unwrap();
    let files = [1, 2].map(|seed| folder.path().join(format!("{seed}.mp4")));
    for (seed, file) in (1..).zip(&files) {
        record(file, seed, seconds);
    }
    let servers: Vec<_> = files
        .iter()
        .cycle()
        .take(cameras)
        .map(|file| camera(file))
        .collect();
    let (mqtt, page) = (free_port(), free_port());
    let _broker = Broker::start(folder.path(), mqtt);
    let mut text = format!(
        "[storage]\nfolder = data\nmin-free = 0\n[web]\nlisten = 127.0.0.1:{page}\n[mqtt]\nbroker = 127.0.0.1:{mqtt}\n"
    );
    for (number, (server, _)) in servers.iter().enumerate() {
        text.push_str(&format!("[camera {number}]\nsource = {}\n", server.uri()));
    }
    std::fs::write(folder.path().join("config.ini"), text).unwrap();
    let mut child = Command::new(std::path::absolute(program).unwrap())
        .args(["--json", "--every", "frame", "config.ini"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let viewed = Arc::new(AtomicU64::new(0));
    let mut analysed = BTreeMap::<String, u64>::new();
    let mut unscored = 0;
    // Cameras whose file has ended; they send it again.
    let mut ended = BTreeSet::new();
    let mut events = 0;
    // When all cameras play: time, CPU time and frames.
    let mut start = None;
    let mut end = None;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let camera = line["camera"].as_str().unwrap_or_default().to_owned();
        match line["type"].as_str() {
            Some("frame") if !ended.contains(&camera) => {
                *analysed.entry(camera).or_default() += 1;
                unscored += u32::from(line["scored"] == false);
                if start.is_none() && analysed.len() == cameras {
                    let address = format!("127.0.0.1:{page}");
                    view(&address, "/api/stream", &viewed);
                    for number in 0..cameras {
                        view(&address, &format!("/api/cameras/camera-{number}/live"), &viewed);
                    }
                    start = Some((
                        Instant::now(),
                        usage(child.id()).0,
                        analysed.values().sum::<u64>(),
                    ));
                }
            }
            Some("begin") => events += 1,
            Some("camera") if line["status"]["connection"] == "failed" => {
                if ended.is_empty() {
                    end = Some((Instant::now(), usage(child.id()), analysed.values().sum::<u64>()));
                }
                ended.insert(camera);
                if ended.len() == cameras {
                    break;
                }
            }
            _ => {}
        }
    }
    let stopped = Command::new("kill").arg(child.id().to_string()).status();
    assert!(stopped.unwrap().success());
    let sent: u64 = servers.iter().map(|(_, sent)| sent.load(Ordering::Relaxed)).sum();
    let (start, cpu_before, frames_before) = start.expect("all cameras played");
    let (end, (cpu, resident), frames) = end.expect("the first camera has ended");
    let (wall, cpu, counted) = (end - start, cpu - cpu_before, frames - frames_before);
    let analysed: u64 = analysed.values().sum();
    let cores = cpu.as_secs_f64() / wall.as_secs_f64();
    println!(
        "{cameras} cameras, {:.0} s: {sent} frames sent, {analysed} analysed, {unscored} unscored, {events} events, \
         {:.0} MB to viewers\nCPU: {:.1} ms a frame, {cores:.2} cores, {:.1} % of a core a camera\n\
         resident memory: {resident:.0} MB, {:.0} MB a camera",
        wall.as_secs_f64(),
        viewed.load(Ordering::Relaxed) as f64 / 1e6,
        cpu.as_secs_f64() * 1e3 / counted as f64,
        100.0 * cores / cameras as f64,
        resident / cameras as f64,
    );
    let _ = child.wait();
    assert_eq!((analysed, unscored), (sent, 0), "no frame is lost");
}
