//! Messages for other programs: a real broker, lines on the standard output, the schema, metrics.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use watch::publish::metrics;
use watch::state::Connection;

use crate::common::{free_port, init, start, street, wait_until};

/// A broker on the loopback interface; it is stopped when dropped.
pub struct Broker(Child);

impl Broker {
    pub fn start(folder: &std::path::Path, port: u16) -> Self {
        let file = folder.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
             log_dest none\nuser root\n",
            folder.display()
        );
        std::fs::write(&file, text).unwrap();
        let broker = ["/usr/sbin/mosquitto", "mosquitto"].iter().find_map(|program| {
            Command::new(program)
                .arg("-c")
                .arg(&file)
                .stderr(Stdio::null())
                .spawn()
                .ok()
        });
        let broker = Self(broker.expect("mosquitto is installed"));
        wait_until("the broker listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        broker
    }
}

impl Drop for Broker {
    /// With SIGTERM it keeps its sessions.
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// `mosquitto_sub`, and all that it has received: topic and payload.
struct Subscriber(Child, Arc<Mutex<Vec<(String, String)>>>);

impl Subscriber {
    fn start(port: u16) -> Self {
        let mut child = Command::new("mosquitto_sub")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-t",
                "#",
                "-q",
                "1",
                "-c",
                "-i",
                "test",
                "-v",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto-clients is installed");
        let received = Arc::new(Mutex::new(Vec::new()));
        let (output, list) = (child.stdout.take().unwrap(), Arc::clone(&received));
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((topic, payload)) = line.split_once(' ') {
                    list.lock().unwrap().push((topic.to_owned(), payload.to_owned()));
                }
            }
        });
        Self(child, received)
    }

    fn received(&self) -> Vec<(String, String)> {
        self.1.lock().unwrap().clone()
    }

    fn has(&self, topic: &str, payload: &str) -> bool {
        self.received()
            .iter()
            .any(|(t, p)| t == topic && p.contains(payload))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_event_is_lost_while_the_broker_is_away() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let broker = Broker::start(folder.path(), port);
    let subscriber = Subscriber::start(port);
    let file = folder.path().join("late.mp4");
    let program = start(
        &format!(
            "[Front door]\nsource = {}\nrealtime = false\nthreshold = 1.3\n[mqtt]\nbroker = 127.0.0.1:{port}\ntopic = home\n",
            file.display()
        ),
        folder.path(),
    );
    wait_until("it is online", || subscriber.has("home/status", "online"));
    wait_until("its state is there", || {
        subscriber.has("home/front-door/state", "\"connection\":\"failed\"")
    });
    assert!(subscriber.has("home/front-door/availability", "offline"));
    for topic in [
        "binary_sensor/home_front-door/anomaly",
        "sensor/home_front-door/score",
    ] {
        let topic = format!("homeassistant/{topic}/config");
        wait_until("the discovery is there", || subscriber.has(&topic, "Front door"));
        let received = subscriber.received();
        let (_, document) = received.iter().find(|(t, _)| *t == topic).unwrap();
        let document: Value = serde_json::from_str(document).unwrap();
        assert_eq!(document["state_topic"], "home/front-door/state");
        assert_eq!(
            document["availability"][1]["topic"],
            "home/front-door/availability"
        );
        assert_eq!(document["device"]["identifiers"][0], "home_front-door");
        let entity = document["default_entity_id"].as_str().unwrap();
        assert!(
            entity == "binary_sensor.home_front-door_anomaly" || entity == "sensor.home_front-door_score",
            "{entity}"
        );
    }
    drop(broker);
    // The anomaly comes while there is no broker.
    std::fs::copy(street(), folder.path().join("part")).unwrap();
    std::fs::rename(folder.path().join("part"), &file).unwrap();
    let door = program.watch.camera("front-door").unwrap().clone();
    wait_until("the file ends", || {
        door.status().connection == Connection::Finished
    });
    let _broker = Broker::start(folder.path(), port);
    let events = |kind: &str| {
        let of_kind = format!("\"type\":\"{kind}\"");
        let received = subscriber.received();
        let is_one = |(topic, payload): &&(String, String)| {
            topic == "home/front-door/event" && payload.contains(&of_kind)
        };
        received.iter().filter(is_one).count()
    };
    let new = program.watch.new_events() as usize;
    assert!(new > 0, "the anomaly was not found");
    wait_until("all events arrive", || events("clip") >= new);
    let schema = Schema::read();
    let (mut open, mut ended) = (0, 0);
    for (topic, payload) in subscriber.received() {
        if topic.ends_with("/event") || topic.ends_with("/state") {
            let message: Value = serde_json::from_str(&payload).unwrap();
            schema.check(&message);
            open += u32::from(message["type"] == "begin");
            ended += u32::from(message["type"] == "end");
            assert!(ended <= open, "in order");
        }
    }
    program.stop();
    wait_until("it says goodbye", || {
        let received = subscriber.received();
        let last = received.iter().rfind(|(topic, _)| topic == "home/status");
        last.is_some_and(|(_, payload)| payload == "offline")
    });
}

#[test]
fn a_killed_program_is_offline() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let _broker = Broker::start(folder.path(), port);
    let subscriber = Subscriber::start(port);
    let config = folder.path().join("config.ini");
    let text = format!(
        "[storage]\nfolder = data\nmin-free = 0\n[web]\nlisten = off\n[mqtt]\nbroker = 127.0.0.1:{port}\n\
         [door]\nsource = none.mp4\n"
    );
    std::fs::write(&config, text).unwrap();
    let program = Command::new(env!("CARGO_BIN_EXE_watch"))
        .arg(config)
        .stdout(Stdio::null())
        .spawn();
    let mut program = program.unwrap();
    wait_until("it is online", || subscriber.has("vaeanomaly/status", "online"));
    program.kill().unwrap();
    program.wait().unwrap();
    wait_until("the broker sends the last will", || {
        subscriber.has("vaeanomaly/status", "offline")
    });
}

/// Runs the program over the street; its lines.
fn lines(options: &[&str]) -> Vec<String> {
    init();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.ini");
    let text = format!(
        "[storage]\nfolder = data\nmin-free = 0\n[web]\nlisten = off\n\
         [door]\nsource = {}\nrealtime = false\nthreshold = 1.3\n",
        street().display()
    );
    std::fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_watch"))
        .args(options)
        .arg(config)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        output.stderr.is_empty(),
        "no status line without a terminal: {output:?}"
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn json_lines_follow_the_schema() {
    let schema = Schema::read();
    let lines = lines(&["--json", "--every", "frame"]);
    let messages: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    messages.iter().for_each(|message| schema.check(message));
    let of_type = |kind: &str| messages.iter().filter(|message| message["type"] == kind).count();
    assert!(of_type("frame") > 200, "a line for every frame");
    assert!(of_type("begin") > 0 && of_type("begin") == of_type("end"));
    assert!(of_type("camera") > 0);
}

#[test]
fn text_lines_have_class_score_losses_and_source() {
    let lines = lines(&["--every", "second"]);
    let frames: Vec<_> = lines.iter().filter(|line| line.contains(" score ")).collect();
    assert!(
        (20..60).contains(&frames.len()),
        "a line a second: {}",
        frames.len()
    );
    for line in &frames {
        for part in [" door ", " loss ", " reconstruction ", " kl ", "street.mp4"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(
            [" normal ", " anomaly ", " unknown "]
                .iter()
                .any(|class| line.contains(class)),
            "{line}"
        );
    }
    assert!(lines.iter().any(|line| line.contains(" begins")));
    assert!(lines.iter().any(|line| line.contains(" clip ")));
}

#[test]
fn a_terminal_has_a_status_line_below_the_lines() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[storage]\nfolder = data\nmin-free = 0\n[web]\nlisten = 127.0.0.1:0\n[door]\nsource = {}\nrealtime = false\n",
        street().display()
    );
    std::fs::write(folder.path().join("config.ini"), text).unwrap();
    // A pseudo-terminal.
    let command = format!("stty cols 120; {} config.ini", env!("CARGO_BIN_EXE_watch"));
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("script is installed");
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = output.rsplit('\r').find(|line| line.contains("of 1 cameras"));
    let status = status.unwrap_or_else(|| panic!("no status line: {output}"));
    for part in ["frames/s", "events", "open", "http://127.0.0.1:"] {
        assert!(status.contains(part), "{status}");
    }
    assert!(output.contains(" door normal score "), "{output}");
}

#[test]
fn frames_can_be_written_as_dlstreamer_does() {
    let lines = lines(&["--format", "dlstreamer", "--every", "frame"]);
    let messages: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(messages.len() > 200);
    let with_objects = messages
        .iter()
        .filter(|message| !message["objects"].as_array().unwrap().is_empty());
    let mut count = 0;
    for message in with_objects {
        count += 1;
        assert_eq!(message["resolution"]["width"], 320);
        for object in message["objects"].as_array().unwrap() {
            let detection = &object["detection"];
            assert_eq!(detection["label"], "anomaly");
            let edge = |name: &str| detection["bounding_box"][name].as_f64().unwrap();
            assert!(0.0 <= edge("x_min") && edge("x_min") < edge("x_max") && edge("x_max") <= 1.0);
            assert!(0.0 <= edge("y_min") && edge("y_min") < edge("y_max") && edge("y_max") <= 1.0);
        }
    }
    assert!(count > 0);
}

#[test]
fn metrics_are_in_the_text_format_of_prometheus() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(
        "[door]\nsource = none.mp4\n[yard]\nsource = none.mp4\n",
        folder.path(),
    );
    let text = metrics::render(&program.watch);
    program.stop();
    assert!(text.contains("\nvaeanomaly_up{camera=\"door\"} 0\n"), "{text}");
    assert!(
        text.contains("\nvaeanomaly_frames_total{camera=\"yard\"} 0\n"),
        "{text}"
    );
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = name.split('{').next().unwrap();
        assert!(text.contains(&format!("# TYPE {name} ")), "{line}");
    }
}

/// The schema of all messages, and what of JSON Schema it uses.
pub struct Schema(Value);

impl Schema {
    pub fn read() -> Self {
        let text = include_str!("../../schema.json");
        Self(serde_json::from_str(text).expect("the schema is JSON"))
    }

    pub fn check(&self, message: &Value) {
        if let Err(reason) = self.matches(&self.0, message, "") {
            panic!("{reason}\n{message}");
        }
    }

    fn matches(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let fail = |what: String| Err(format!("{at}: {what}"));
        if let Some(reference) = schema["$ref"].as_str() {
            let target = self
                .0
                .pointer(reference.trim_start_matches('#'))
                .expect("the reference exists");
            return self.matches(target, value, at);
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            let results: Vec<_> = choices
                .iter()
                .map(|choice| self.matches(choice, value, at))
                .collect();
            let right = results.iter().filter(|result| result.is_ok()).count();
            return match right {
                1 => Ok(()),
                right => fail(format!("{right} of oneOf match: {results:?}")),
            };
        }
        if let Some(constant) = schema.get("const")
            && constant != value
        {
            return fail(format!("not {constant}"));
        }
        if let Some(choices) = schema["enum"].as_array()
            && !choices.contains(value)
        {
            return fail(format!("{value} is not in {choices:?}"));
        }
        let is = |kind: &Value| match kind.as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            Some("null") => value.is_null(),
            other => panic!("unknown type {other:?}"),
        };
        match &schema["type"] {
            Value::Null => {}
            Value::Array(kinds) if kinds.iter().any(is) => {}
            kind if kind.is_string() && is(kind) => {}
            kind => return fail(format!("{value} is not of type {kind}")),
        }
        for (limit, wrong) in [("minimum", true), ("maximum", false)] {
            if let (Some(limit), Some(number)) = (schema[limit].as_f64(), value.as_f64())
                && (number < limit) == wrong
                && number != limit
            {
                return fail(format!("{number} is beyond {limit}"));
            }
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            if value.get(name.as_str().expect("a name")).is_none() {
                return fail(format!("{name} is missing"));
            }
        }
        if let (Some(properties), Some(fields)) = (schema["properties"].as_object(), value.as_object()) {
            for (name, field) in fields {
                match properties.get(name) {
                    Some(schema) => self.matches(schema, field, &format!("{at}/{name}"))?,
                    None => return fail(format!("{name} is not in the schema")),
                }
            }
        }
        if let Some(items) = value.as_array() {
            for (number, item) in items.iter().enumerate() {
                self.matches(&schema["items"], item, &format!("{at}/{number}"))?;
            }
        }
        Ok(())
    }
}
