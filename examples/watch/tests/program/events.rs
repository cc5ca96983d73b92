//! Events with their clips, thumbnails and rows.

use watch::state::{Connection, Event, Notice};
use watch::store::Filter;

use crate::common::{Notices, frames, start, street, wait_until};

/// Runs a street to its end.
fn run(keys: &str) -> (tempfile::TempDir, Vec<Event>, Vec<std::sync::Arc<Notice>>) {
    let folder = tempfile::tempdir().unwrap();
    let street = street().display();
    let program = start(
        &format!("[door]\nsource = {street}\nrealtime = false\nthreshold = 1.3\n{keys}\n"),
        folder.path(),
    );
    let mut notices = Notices::of(&program);
    wait_until("the file ends", || program.is_finished());
    let watch = std::sync::Arc::clone(&program.watch);
    program.stop();
    let camera = watch.camera("door").unwrap();
    assert_eq!(camera.status().connection, Connection::Finished);
    let events = watch.store.events(&Filter::default()).unwrap();
    (folder, events, notices.take())
}

#[test]
fn an_event_has_a_row_a_thumbnail_and_a_clip_of_the_original_bits() {
    let (folder, events, notices) = run("gate.pre-roll = 2s");
    assert!(!events.is_empty(), "the anomaly was not found");
    let event = events.last().unwrap();
    assert_eq!(event.camera, "door");
    assert!(event.end.unwrap() > event.begin);
    assert!(event.peak > 0.5, "{}", event.peak);
    assert!((event.begin..=event.end.unwrap()).contains(&event.peak_time));
    assert_eq!((event.width, event.height), (320, 180));
    assert!(!event.regions.is_empty());
    let thumbnail = std::fs::read(folder.path().join(event.thumbnail.as_ref().unwrap())).unwrap();
    assert_eq!(thumbnail[..2], [0xff, 0xd8], "JPEG");
    assert!(event.clip_done);
    let clip = folder.path().join(event.clip.as_ref().unwrap());
    let count = frames(&clip) as i64;
    let seconds = (event.end.unwrap() - event.begin) / 1000;
    assert!(
        count > 10 * seconds,
        "{count} frames in a clip of an event of {seconds} s"
    );
    assert!(count < frames(street()) as i64, "the clip is a part of the video");
    let kinds = |wanted: fn(&Notice) -> bool| notices.iter().filter(|notice| wanted(notice)).count();
    assert_eq!(
        kinds(|notice| matches!(notice, Notice::Begin { .. })),
        events.len()
    );
    assert_eq!(kinds(|notice| matches!(notice, Notice::End { .. })), events.len());
    assert_eq!(
        kinds(|notice| matches!(notice, Notice::Clip { .. })),
        events.len()
    );
    let files = std::fs::read_dir(folder.path().join("clips/door"))
        .unwrap()
        .count();
    assert!(files <= events.len(), "no clip without an event");
}

#[test]
fn a_raw_source_is_encoded_for_its_clips() {
    // Motion JPEG is decoded for the analysis, and what was analysed is encoded.
    let folder = tempfile::tempdir().unwrap();
    let jpeg = folder.path().join("street.avi");
    crate::common::transcode(street(), &jpeg);
    let program = start(
        &format!(
            "[door]\nsource = {}\nrealtime = false\nthreshold = 1.3\n",
            jpeg.display()
        ),
        folder.path(),
    );
    wait_until("the file ends", || program.is_finished());
    let watch = std::sync::Arc::clone(&program.watch);
    program.stop();
    let events = watch.store.events(&Filter::default()).unwrap();
    let event = events.last().expect("an event");
    assert!(frames(&watch.file(event.clip.as_ref().unwrap())) > 10);
}

#[test]
fn without_recording_there_is_an_event_but_no_clip() {
    let (folder, events, _) = run("record = false");
    assert!(!events.is_empty());
    assert!(
        events
            .iter()
            .all(|event| event.clip.is_none() && event.thumbnail.is_some())
    );
    assert!(!folder.path().join("clips").exists());
}
