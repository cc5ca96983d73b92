//! Sources that fail and come back, each alone.

use gst::prelude::*;
use watch::state::{Connection, Status};

use crate::common::{start, street, wait_for, wait_until};
use crate::server::{CAMERA, Server};

#[test]
fn a_camera_that_was_off_comes_back_and_disturbs_no_other() {
    let server = Server::start(0, CAMERA, |_| {});
    let (port, uri) = (server.port, server.uri());
    let folder = tempfile::tempdir().unwrap();
    let program = start(
        &format!(
            "[yard]\nsource = {uri}\n[door]\nsource = {}\nloop = true\ntimeout = 60\n",
            street().display()
        ),
        folder.path(),
    );
    let yard = program.watch.camera("yard").unwrap().clone();
    let door = program.watch.camera("door").unwrap().clone();
    let plays = |status: &Status| status.connection == Connection::Playing;
    wait_until("both play", || plays(&yard.status()) && plays(&door.status()));
    drop(server);
    let status = wait_for("the failure is reported", || {
        Some(yard.status()).filter(|status| status.connection == Connection::Failed)
    });
    assert!(
        status.error.is_some() && status.retry_at.is_some() && status.attempts > 0,
        "{status:?}"
    );
    let before = door.status().frames;
    wait_until("the other camera goes on", || door.status().frames > before + 20);
    let _server = Server::start(port, CAMERA, |_| {});
    let status = wait_for("it plays again", || Some(yard.status()).filter(plays));
    assert_eq!((status.error, status.attempts, status.retry_at), (None, 0, None));
    assert!(status.restarts > 0);
    assert_eq!(door.status().restarts, 0, "{:?}", door.status());
    program.stop();
    assert_eq!(yard.status().connection, Connection::Stopped);
}

#[test]
fn a_camera_that_stops_sending_is_opened_again() {
    // Silent after 20 frames, without an end of the stream.
    let server = Server::start(0, CAMERA, |media| {
        let eye = media.by_name("eye").expect("the element exists");
        let pad = eye.static_pad("src").expect("it has a pad");
        let count = std::sync::atomic::AtomicUsize::new(0);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0..20 => gst::PadProbeReturn::Ok,
                _ => gst::PadProbeReturn::Handled,
            }
        });
    });
    let folder = tempfile::tempdir().unwrap();
    let program = start(
        &format!("[yard]\nsource = {}\ntimeout = 3\n", server.uri()),
        folder.path(),
    );
    let yard = program.watch.camera("yard").unwrap().clone();
    let error = wait_for("the silence is noticed", || yard.status().error);
    assert_eq!(error, "no frame for 3 s");
    let before = yard.status().frames;
    wait_until("it plays again", || yard.status().frames > before);
    program.stop();
}

#[test]
fn a_camera_may_change_its_size() {
    let launch = "( videotestsrc is-live=true pattern=ball ! capsfilter name=size ! identity name=eye \
        ! x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 config-interval=-1 pt=96 )";
    let caps = |width: i32| {
        gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", width)
            .field("height", 64)
            .field("framerate", gst::Fraction::new(10, 1))
            .build()
    };
    let server = Server::start(0, launch, move |media| {
        let size = media.by_name("size").expect("the element exists");
        size.set_property("caps", caps(64));
        let pad = media
            .by_name("eye")
            .and_then(|eye| eye.static_pad("src"))
            .expect("a pad");
        let count = std::sync::atomic::AtomicUsize::new(0);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            if count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 20 {
                size.set_property("caps", caps(96));
            }
            gst::PadProbeReturn::Ok
        });
    });
    let folder = tempfile::tempdir().unwrap();
    let program = start(&format!("[yard]\nsource = {}\n", server.uri()), folder.path());
    let yard = program.watch.camera("yard").unwrap().clone();
    wait_until("the first size", || yard.status().width == 64);
    wait_until("the second size", || yard.status().width == 96);
    program.stop();
}

#[test]
fn a_file_that_is_not_there_yet_is_found_later() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("late.mp4");
    let program = start(
        &format!("[door]\nsource = {}\nrealtime = false\n", file.display()),
        folder.path(),
    );
    let door = program.watch.camera("door").unwrap().clone();
    wait_until("the failure is reported", || {
        door.status().connection == Connection::Failed
    });
    std::fs::copy(street(), folder.path().join("part")).unwrap();
    std::fs::rename(folder.path().join("part"), &file).unwrap();
    wait_until("it has played", || program.is_finished());
    assert!(door.status().frames > 100);
    program.stop();
}
