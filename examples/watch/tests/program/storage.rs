//! The storage folder: its bounds, a full disk, and what a killed process leaves.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use watch::archive::clean;
use watch::config::{Config, StorageConfig};
use watch::state::{Event, Recording, Watch, now};
use watch::store::{Filter, Store};

use crate::common::{config, frames, init, record_street, start, street, wait_until};

fn event(id: i64, end: i64, clip: &str) -> Event {
    Event {
        id,
        camera: "door".to_owned(),
        number: 1,
        begin: end - 5000,
        end: Some(end),
        reason: Some("over".to_owned()),
        peak: 0.7,
        peak_time: end - 2000,
        cue: "motion".to_owned(),
        width: 320,
        height: 180,
        regions: Vec::new(),
        thumbnail: Some(format!("thumbnails/door/{id}.jpg")),
        clip: Some(clip.to_owned()),
        clip_begin: Some(end - 10_000),
        clip_done: true,
        accepted: false,
    }
}

/// Writes a file of this size that was changed this many seconds ago.
fn write(folder: &Path, path: &str, bytes: usize, age: u64) {
    let file = folder.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, vec![0; bytes]).unwrap();
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age))
        .unwrap();
}

fn open(folder: &Path, change: impl Fn(&mut StorageConfig)) -> std::sync::Arc<Watch> {
    let Config {
        cameras, mut storage, ..
    } = config("[door]\nsource = street\n", folder);
    change(&mut storage);
    Watch::new(cameras, storage).unwrap()
}

#[test]
fn old_events_are_removed_with_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let watch = open(folder.path(), |storage| {
        storage.max_age = Some(Duration::from_secs(3600))
    });
    let now = now();
    for (id, age, clip) in [
        (1, 7200, "clips/door/a.mp4"),
        (2, 7100, "clips/door/b.mp4"),
        (3, 60, "clips/door/b.mp4"),
    ] {
        write(folder.path(), clip, 10, age);
        write(folder.path(), &format!("thumbnails/door/{id}.jpg"), 10, age);
        watch
            .store
            .put(&event(id, now - 1000 * age as i64, clip))
            .unwrap();
    }
    clean(&watch, now).unwrap();
    let left = watch.store.events(&Filter::default()).unwrap();
    assert_eq!(left.iter().map(|event| event.id).collect::<Vec<_>>(), [3]);
    let exists = |path: &str| folder.path().join(path).exists();
    assert!(
        !exists("clips/door/a.mp4") && !exists("thumbnails/door/1.jpg") && !exists("thumbnails/door/2.jpg")
    );
    assert!(exists("clips/door/b.mp4"), "a later event is in it, too");
}

#[test]
fn the_oldest_clips_are_removed_when_all_are_too_large() {
    let folder = tempfile::tempdir().unwrap();
    let watch = open(folder.path(), |storage| storage.max_bytes = Some(2500));
    for id in 1..=4 {
        let clip = format!("clips/door/{id}.mp4");
        write(folder.path(), &clip, 1000, 1000 - 100 * id as u64);
        watch.store.put(&event(id, now(), &clip)).unwrap();
    }
    clean(&watch, now()).unwrap();
    let clips = |watch: &Watch| {
        let events = watch.store.events(&Filter::default()).unwrap();
        events
            .into_iter()
            .map(|event| (event.id, event.clip.is_some()))
            .collect::<Vec<_>>()
    };
    assert_eq!(clips(&watch), [(4, true), (3, true), (2, false), (1, false)]);
    assert_eq!(
        std::fs::read_dir(folder.path().join("clips/door"))
            .unwrap()
            .count(),
        2
    );
}

#[test]
fn without_free_space_there_are_events_but_no_clips() {
    let folder = tempfile::tempdir().unwrap();
    // No disk has as much.
    let mut config = config(
        &format!(
            "[door]\nsource = {}\nrealtime = false\nthreshold = 1.3\n",
            street().display()
        ),
        folder.path(),
    );
    config.storage.min_free = 1 << 60;
    let program = watch::program::Program::start(config, None).unwrap();
    wait_until("the file ends", || program.is_finished());
    let watch = std::sync::Arc::clone(&program.watch);
    let is_full = |reason: &str| reason.contains("the disk is full");
    let recording = watch.camera("door").unwrap().status().recording;
    assert!(
        matches!(&recording, Recording::Failed(reason) if is_full(reason)),
        "{recording:?}"
    );
    wait_until("the storage reports it", || {
        watch.storage_error().is_some_and(|error| is_full(&error))
    });
    program.stop();
    let events = watch.store.events(&Filter::default()).unwrap();
    assert!(!events.is_empty());
    assert!(
        events
            .iter()
            .all(|event| event.clip.is_none() && event.end.is_some())
    );
}

/// A command that runs the program, with its configuration in a folder.
fn program(folder: &Path, text: &str) -> Command {
    let file = folder.join("config.ini");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_watch"));
    command
        .args(["--json", "--every", "frame"])
        .arg(file)
        .stdout(Stdio::piped());
    command
}

#[test]
fn a_full_disk_stops_recording_until_there_is_space() {
    init();
    let folder = tempfile::tempdir().unwrap();
    record_street(&folder.path().join("street.mp4"), 4);
    let text = "[storage]\nfolder = disk\nmin-free = 0\nmax-bytes = never\n[web]\nlisten = off\n\
                [door]\nsource = street.mp4\nloop = true\nrealtime = false\nthreshold = 1.3\n";
    // A disk of 3 MB that only this process has. Something fills it, and makes room when the file `go` is there.
    std::fs::create_dir(folder.path().join("disk")).unwrap();
    let prepare = "mount -t tmpfs -o size=3m none disk || exit 77\n\
                   head -c 2900k /dev/zero > disk/ballast\n\
                   (while ! [ -e go ]; do sleep 0.1; done; rm disk/ballast) &\n\
                   exec \"$@\"";
    let program = program(folder.path(), text);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", prepare, "sh"]);
    command.arg(program.get_program()).args(program.get_args());
    command.current_dir(folder.path()).stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return eprintln!("SKIPPED: no namespaces: {error}"),
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = |what: &str| {
        let found = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains(what));
        found.is_some()
    };
    if !next("\"type\":\"frame\"") {
        let status = child.wait().unwrap();
        assert_ne!(status.code(), Some(0), "it printed nothing");
        return eprintln!("SKIPPED: no file system can be mounted: {status}");
    }
    assert!(next("is full"), "a failed clip or event is reported");
    std::fs::write(folder.path().join("go"), "").unwrap();
    assert!(next("\"clip_done\":true"), "a later clip is complete");
    let stop = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(stop.success());
    while next("\"type\"") {}
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_killed_process_leaves_a_whole_database_and_clips_that_play() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[storage]\nfolder = data\nmin-free = 0\n[web]\nlisten = off\n[door]\nsource = {}\nthreshold = 1.3\n",
        street().display()
    );
    let mut child = program(folder.path(), &text).spawn().unwrap();
    let data = folder.path().join("data");
    let clips = data.join("clips/door");
    let mut event = None;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        if line["type"] == "update" && line["event"]["clip"].is_string() {
            event = line["event"]["id"].as_i64();
        }
        // In mid-event, when the first fragment is in the file: the header of the second one follows it.
        let has_fragment = |entry: std::io::Result<std::fs::DirEntry>| {
            let content = std::fs::read(entry.unwrap().path()).unwrap();
            content.windows(4).any(|bytes| bytes == b"moof")
        };
        let written = std::fs::read_dir(&clips).is_ok_and(|mut files| files.any(has_fragment));
        if event.is_some() && written {
            break;
        }
        assert_ne!(line["type"], "clip", "the event ended too early");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let store = Store::open(&data).unwrap();
    let stored = store
        .event(event.expect("an event began"))
        .unwrap()
        .expect("its row is there");
    assert_eq!(stored.reason.as_deref(), Some("interrupted"));
    assert!(stored.end.is_some() && stored.clip_done);
    assert!(frames(&data.join(stored.clip.unwrap())) > 5);
    let database = rusqlite::Connection::open(data.join("events.sqlite")).unwrap();
    let check: String = database
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn a_clip_that_was_killed_before_its_first_fragment_is_not_offered() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let begun = Event {
        end: None,
        clip_done: false,
        ..event(1, now(), "clips/door/a.mp4")
    };
    let other = Event {
        id: 2,
        clip: Some("clips/door/b.mp4".to_owned()),
        ..begun.clone()
    };
    let store = Store::open(folder.path()).unwrap();
    store.put(&begun).unwrap();
    store.put(&other).unwrap();
    drop(store);
    let whole = std::fs::read(street()).unwrap();
    std::fs::create_dir_all(folder.path().join("clips/door")).unwrap();
    std::fs::write(folder.path().join("clips/door/a.mp4"), &whole[..40]).unwrap();
    std::fs::write(folder.path().join("clips/door/b.mp4"), &whole).unwrap();
    let store = Store::open(folder.path()).unwrap();
    let clip = |id| {
        let event = store.event(id).unwrap().unwrap();
        assert!(event.end.is_some());
        event.clip.filter(|_| event.clip_done)
    };
    assert_eq!(clip(1), None);
    assert!(!folder.path().join("clips/door/a.mp4").exists());
    assert_eq!(clip(2).as_deref(), Some("clips/door/b.mp4"));
}

#[test]
fn clips_stay_whole_however_often_the_process_is_killed() {
    init();
    let folder = tempfile::tempdir().unwrap();
    record_street(&folder.path().join("street.mp4"), 2);
    let text = "[storage]\nfolder = data\nmin-free = 0\n[web]\nlisten = off\n\
                [door]\nsource = street.mp4\nloop = true\nrealtime = false\nthreshold = 1.3\n\
                gate.pre-roll = 1s\ngate.post-roll = 1s\n";
    let data = folder.path().join("data");
    // Kills that hit an open event, after another one had its clip.
    let mut hits = 0;
    wait_until("events are interrupted", || {
        let mut child = program(folder.path(), text).spawn().unwrap();
        let (mut open, mut clip) = (false, false);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            match line["type"].as_str() {
                Some("begin") => open = true,
                Some("end") => open = false,
                Some("clip") => clip = true,
                _ => {}
            }
            if open && clip {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let database = rusqlite::Connection::open(data.join("events.sqlite")).unwrap();
        let check: String = database
            .query_row("PRAGMA integrity_check", (), |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
        let open = "SELECT EXISTS (SELECT 1 FROM events WHERE end IS NULL)";
        hits += u32::from(database.query_row(open, (), |row| row.get::<_, bool>(0)).unwrap());
        drop(database);
        let store = Store::open(&data).unwrap();
        let events = store.events(&Filter::default()).unwrap();
        assert!(events.iter().all(|event| event.end.is_some()));
        let clips: std::collections::BTreeSet<_> = events
            .into_iter()
            .filter_map(|event| event.clip.filter(|_| event.clip_done))
            .collect();
        assert!(!clips.is_empty());
        for clip in clips {
            assert!(frames(&data.join(&clip)) > 5, "{clip}");
        }
        hits >= 2
    });
}

#[test]
fn a_database_of_the_first_version_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let stored = event(7, now(), "clips/door/a.mp4");
    Store::open(folder.path()).unwrap().put(&stored).unwrap();
    let database = rusqlite::Connection::open(folder.path().join("events.sqlite")).unwrap();
    database
        .execute_batch("ALTER TABLE events DROP COLUMN clip_begin; PRAGMA user_version = 1;")
        .unwrap();
    drop(database);
    let store = Store::open(folder.path()).unwrap();
    let expected = Event {
        clip_begin: None,
        ..stored.clone()
    };
    assert_eq!(store.event(7).unwrap(), Some(expected));
    store.put(&stored).unwrap();
    assert_eq!(store.event(7).unwrap(), Some(stored));
}

#[test]
fn changed_settings_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[door]\nsource = {}\nloop = true\nthreshold = 2\n",
        street().display()
    );
    let program = start(&text, folder.path());
    let setting = |program: &watch::program::Program| {
        let settings = program.watch.camera("door").unwrap().settings();
        let found = settings
            .into_iter()
            .find(|setting| setting.name == "threshold")
            .unwrap();
        (found.value, found.default)
    };
    assert_eq!(setting(&program), ("2".to_owned(), "2".to_owned()));
    program
        .watch
        .set_property("door", "threshold", Some("3"))
        .unwrap();
    let wrong = program
        .watch
        .set_property("door", "threshold", Some("-300"))
        .unwrap_err()
        .to_string();
    assert!(wrong.contains("threshold must be"), "{wrong}");
    assert!(program.watch.set_property("door", "speed", Some("1")).is_err());
    assert!(
        program
            .watch
            .set_property("yard", "threshold", Some("1"))
            .is_err()
    );
    let together = program
        .watch
        .set_property("door", "net-arch", Some("[(8,3,3)]"))
        .unwrap_err()
        .to_string();
    assert!(together.contains("net-arch"), "{together}");
    let door = program.watch.camera("door").unwrap().clone();
    wait_until("it plays", || door.status().threshold == 3.0);
    // A value that needs a new pipeline.
    program
        .watch
        .set_property("door", "latent-dim", Some("8"))
        .unwrap();
    program.stop();
    let program = start(&text, folder.path());
    assert_eq!(setting(&program), ("3".to_owned(), "2".to_owned()));
    program.watch.set_property("door", "threshold", None).unwrap();
    assert_eq!(setting(&program), ("2".to_owned(), "2".to_owned()));
    program.stop();
}
