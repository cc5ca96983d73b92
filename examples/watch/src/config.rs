//! The configuration file: which cameras, how they are analysed, and where the results go.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gst::prelude::*;

use crate::ini::{self, Entry, Line, Section};
use crate::properties::{Element, Property, switch};

/// Everything that the file says.
#[derive(Clone, Debug)]
pub struct Config {
    pub cameras: Vec<CameraConfig>,
    pub storage: StorageConfig,
    pub web: WebConfig,
    pub mqtt: Option<MqttConfig>,
    pub kafka: Option<KafkaConfig>,
}

/// A source and how it is analysed.
#[derive(Clone, Debug)]
pub struct CameraConfig {
    /// The section's name, shown to people.
    pub name: String,
    /// The name in paths, topics and addresses: lower-case letters, digits, `-` and `_`. Unique.
    pub id: String,
    pub source: Source,
    /// Plays a file again from its start when it ends.
    pub repeat: bool,
    /// Plays files at the speed of their times, as a camera sends its frames.
    pub realtime: bool,
    /// At most this many frames a second are analysed.
    pub max_rate: Option<f64>,
    /// Without a frame for this long, the source has failed.
    pub timeout: Duration,
    /// How long an RTSP source waits for late packets.
    pub latency: Duration,
    /// Writes a clip of each event.
    pub record: bool,
    /// Live images: at most this many a second.
    pub live_rate: f64,
    /// Live images are scaled down to this width in pixels.
    pub live_width: u32,
    /// Properties of the elements, by names with prefix, in the order of the file.
    pub properties: Vec<(String, String)>,
}

/// Where the frames come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A Video4Linux device.
    Device(PathBuf),
    /// An `rtsp://` or `rtsps://` address.
    Rtsp(String),
    /// A file or any other address that GStreamer can read.
    Uri(String),
    /// A rendered street with anomalies; the same seed gives the same street.
    Street { seed: u64 },
}

impl fmt::Display for Source {
    /// The address without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Device(path) => write!(f, "{}", path.display()),
            Source::Rtsp(uri) | Source::Uri(uri) => match uri.split_once("://") {
                Some((scheme, rest)) => {
                    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
                    write!(f, "{scheme}://{host}{path}")
                }
                None => write!(f, "{uri}"),
            },
            Source::Street { seed } => write!(f, "street:{seed}"),
        }
    }
}

/// Where events and clips are kept, and for how long.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    pub folder: PathBuf,
    /// Older events are removed with their clips; `None` = never.
    pub max_age: Option<Duration>,
    /// The oldest clips are removed when all together are larger; their events stay. `None` = no bound.
    pub max_bytes: Option<u64>,
    /// Free space in bytes on the disk that clips must leave.
    pub min_free: u64,
}

/// The page.
#[derive(Clone, Debug)]
pub struct WebConfig {
    /// `None` = no page.
    pub listen: Option<SocketAddr>,
    /// Required from every client; without one, only this machine may be served.
    pub token: Option<String>,
}

/// The MQTT broker.
#[derive(Clone, Debug)]
pub struct MqttConfig {
    pub host: String,
    pub port: u16,
    pub user: Option<(String, String)>,
    pub client_id: String,
    /// First level of all topics.
    pub topic: String,
    /// Prefix of Home Assistant's discovery topics; `None` = no discovery.
    pub discovery: Option<String>,
    /// Events kept while there is no connection.
    pub queue: usize,
    /// Interval of the states of cameras.
    pub interval: Duration,
}

/// The Kafka cluster.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `HOST:PORT` of brokers to start from; the others are found.
    pub brokers: Vec<String>,
    pub client_id: String,
    /// First part of the topics' names.
    pub topic: String,
    /// Events kept while there is no connection.
    pub queue: usize,
    /// Interval of the states of cameras.
    pub interval: Duration,
}

/// What is wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
#[error("{}{}{reason}", .file.display(), .line.map_or(": ".to_owned(), |line| format!(":{line}: ")))]
pub struct ConfigError {
    pub file: PathBuf,
    pub line: Option<Line>,
    pub reason: String,
}

/// A reason with its line.
type Wrong = (Line, String);

impl Config {
    /// Reads and checks a file. GStreamer is initialised and the plugin registered.
    ///
    /// # Errors
    /// The file, the line, the key and the allowed values.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let wrong = |line, reason| ConfigError {
            file: file.to_owned(),
            line,
            reason,
        };
        let text = std::fs::read_to_string(file).map_err(|error| wrong(None, error.to_string()))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        Self::parse(&text, folder).map_err(|(line, reason)| wrong((line > 0).then_some(line), reason))
    }

    /// Two cameras at rendered streets, for a start without a file.
    pub fn street() -> Self {
        let text = "[north]\nsource = street:1\n[south]\nsource = street:2\n";
        Self::parse(text, Path::new("")).expect("the text is a configuration")
    }

    /// Reads and checks the text of a file in `folder`, which relative paths start from.
    ///
    /// # Errors
    /// The line, or 0 for the whole file, and the reason.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Wrong> {
        let mut sections = ini::parse(text)?;
        let classic = sections
            .iter()
            .any(|section| section.name == "sources" && section.get("sourceList").is_some());
        let mut defaults = Vec::new();
        let mut config = Config {
            cameras: Vec::new(),
            storage: StorageConfig {
                folder: folder.join("watch-data"),
                max_age: Some(Duration::from_secs(30 * 86_400)),
                max_bytes: Some(20_000_000_000),
                min_free: 500_000_000,
            },
            web: WebConfig {
                listen: Some(SocketAddr::from(([127, 0, 0, 1], 8080))),
                token: None,
            },
            mqtt: None,
            kafka: None,
        };
        // What applies to all cameras may stand behind them.
        let mut list = None;
        sections.retain(|section| {
            match section.name.as_str() {
                "defaults" | "DEFAULT" => defaults.extend(section.entries.iter().cloned()),
                "sources" if classic => list = section.get("sourceList").cloned(),
                name if classic && classic_key(name, "").is_some() => {
                    defaults.extend(section.entries.iter().map(|entry| Entry {
                        key: classic_key(name, &entry.key).map_or(entry.key.clone(), str::to_owned),
                        ..entry.clone()
                    }));
                }
                _ => return true,
            }
            false
        });
        if let Some(list) = list {
            for (number, source) in list.value.split(',').enumerate() {
                let entry = Entry {
                    key: "source".to_owned(),
                    value: source.trim().to_owned(),
                    line: list.line,
                };
                sections.push(Section {
                    name: format!("camera-{number}"),
                    line: list.line,
                    entries: vec![entry],
                });
            }
        }
        for section in &sections {
            match section.name.as_str() {
                "storage" => config.storage.read(section, folder)?,
                "web" => config.web.read(section)?,
                "mqtt" => config.mqtt = Some(MqttConfig::read(section)?),
                "kafka" => config.kafka = Some(KafkaConfig::read(section)?),
                _ => config
                    .cameras
                    .push(CameraConfig::read(section, &defaults, folder)?),
            }
        }
        if config.cameras.is_empty() {
            return Err((0, "no camera: add a [section] with source = ...".to_owned()));
        }
        for (number, camera) in config.cameras.iter().enumerate() {
            if let Some(other) = config.cameras[..number]
                .iter()
                .find(|other| other.id == camera.id)
            {
                let section = sections.iter().find(|section| section.name == camera.name);
                return Err((
                    section.map_or(0, |section| section.line),
                    format!("the names {} and {} are too similar", other.name, camera.name),
                ));
            }
        }
        Ok(config)
    }
}

/// The flat key for a key in a section of the classic layout; with an empty key whether there is such a section.
fn classic_key(section: &str, key: &str) -> Option<&'static str> {
    match (section, key) {
        ("img" | "queue" | "model" | "threshold" | "delay", "") => Some(""),
        ("img", "size") => Some("frame_size"),
        ("queue", "length") => Some("queue_size"),
        ("model", "initial_steps") => Some("num_steps"),
        ("delay", "seconds") => Some("delay"),
        _ => None,
    }
}

impl CameraConfig {
    fn read(section: &Section, defaults: &[Entry], folder: &Path) -> Result<Self, Wrong> {
        let mut camera = CameraConfig {
            name: section.name.clone(),
            id: identifier(&section.name),
            source: Source::Street { seed: 0 },
            repeat: false,
            realtime: true,
            max_rate: None,
            timeout: Duration::from_secs(10),
            latency: Duration::from_millis(200),
            record: true,
            live_rate: 5.0,
            live_width: 640,
            properties: Vec::new(),
        };
        if camera.id.chars().all(|c| c == '-') {
            return Err((
                section.line,
                format!("the name {} has no letter or digit", section.name),
            ));
        }
        let own = |entry: &Entry| section.get(&entry.key).is_none();
        let mut source = None;
        for entry in defaults.iter().filter(|entry| own(entry)).chain(&section.entries) {
            if entry.key == "source" {
                source = Some(read_source(entry, folder)?);
            } else {
                camera.set(entry)?;
            }
        }
        camera.source = source.ok_or((
            section.line,
            format!(
                "[{}] needs source = index, /dev/videoN, rtsp:// address, file or URI",
                section.name
            ),
        ))?;
        let has = |name: &str| camera.properties.iter().any(|(key, _)| key == name);
        let mut derived = Vec::new();
        // The classic rule, unless another is chosen.
        if (has("sigma") || has("window")) && !has("threshold-mode") {
            derived.push(("threshold-mode".to_owned(), "sigma".to_owned()));
        }
        // The page shows scores and state beside the image.
        if !has("overlay.show") {
            derived.push(("overlay.show".to_owned(), "boxes+map+ignored".to_owned()));
        }
        camera.properties.append(&mut derived);
        camera
            .start_detector(None)
            .map_err(|reason| (section.line, format!("[{}] {reason}", section.name)))?;
        Ok(camera)
    }

    fn set(&mut self, entry: &Entry) -> Result<(), Wrong> {
        let key = entry.key.as_str();
        match key {
            "loop" => self.repeat = boolean(entry)?,
            "realtime" => self.realtime = boolean(entry)?,
            "record" => self.record = boolean(entry)?,
            "max-rate" => self.max_rate = Some(number(entry, 0.01, 1000.0)?),
            "timeout" => self.timeout = Duration::from_secs_f64(number(entry, 0.5, 3600.0)?),
            "latency" => self.latency = Duration::from_secs_f64(number(entry, 0.0, 60.0)?),
            "live-rate" => self.live_rate = number(entry, 0.1, 60.0)?,
            "live-width" => self.live_width = number(entry, 64.0, 3840.0)? as u32,
            "delay" => {
                let seconds = number(entry, 0.0, 3600.0)?;
                self.max_rate = (seconds > 0.0).then_some(1.0 / seconds);
            }
            "frame_size" => self.property("model-width", entry)?,
            "queue_size" => self.property("window", entry)?,
            "num_steps" => self.property("warm-up", entry)?,
            _ => self.property(&key.replace('_', "-"), entry)?,
        }
        Ok(())
    }

    /// Takes over a property of an element.
    fn property(&mut self, name: &str, entry: &Entry) -> Result<(), Wrong> {
        let property =
            Property::find(name).ok_or_else(|| (entry.line, format!("unknown key {}", entry.key)))?;
        property.parse(&entry.value).map_err(|reason| {
            let reason = match entry.key == property.name() {
                true => reason,
                false => format!("{}: {reason}", entry.key),
            };
            (entry.line, reason)
        })?;
        self.properties.retain(|(key, _)| *key != property.name());
        self.properties.push((property.name(), entry.value.clone()));
        Ok(())
    }

    /// Checks a value of a property together with all others.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, name: &str, value: &str) -> Result<(), String> {
        self.start_detector(Some((name, value)))
    }

    /// Starts a detector with these properties: some values are only wrong together.
    fn start_detector(&self, change: Option<(&str, &str)>) -> Result<(), String> {
        let element = gst::ElementFactory::make(Element::Detector.factory())
            .build()
            .map_err(|error| error.to_string())?;
        let configured = self
            .properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in configured.chain(change) {
            if let Some(property) = Property::find(name)
                && property.element == Element::Detector
                && name != "model-location"
            {
                element.set_property_from_value(property.spec.name(), &property.parse(value)?);
            }
        }
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let started = element.set_state(gst::State::Paused);
        // A transform without peers can always be stopped.
        let _ = element.set_state(gst::State::Null);
        element.set_bus(None);
        if started.is_ok() {
            return Ok(());
        }
        let message = bus.pop_filtered(&[gst::MessageType::Error]);
        Err(match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(error)) => error.error().to_string(),
            _ => "the detector does not start".to_owned(),
        })
    }
}

/// Lower-case letters, digits, `-` and `_`; everything else becomes `-`.
fn identifier(name: &str) -> String {
    let part = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() || c == '_' => c,
        _ => '-',
    };
    name.chars().map(part).collect()
}

fn read_source(entry: &Entry, folder: &Path) -> Result<Source, Wrong> {
    let text = entry.value.as_str();
    let wrong = |reason: &str| Err((entry.line, format!("source {reason}, got {text}")));
    if text.is_empty() {
        return wrong("must be an index, /dev/videoN, an rtsp:// address, a file or a URI");
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Source::Device(format!("/dev/video{text}").into()));
    }
    if text.starts_with("/dev/") {
        return Ok(Source::Device(text.into()));
    }
    if text == "street" {
        return Ok(Source::Street { seed: 1 });
    }
    if let Some(seed) = text.strip_prefix("street:") {
        return match seed.parse() {
            Ok(seed) => Ok(Source::Street { seed }),
            Err(_) => wrong("street:SEED needs a whole number"),
        };
    }
    match text.split_once("://") {
        Some(("rtsp" | "rtsps" | "rtspt" | "rtspu", _)) => Ok(Source::Rtsp(text.to_owned())),
        Some((scheme, _)) if is_readable(scheme) => Ok(Source::Uri(text.to_owned())),
        Some((scheme, _)) => Err((
            entry.line,
            format!("source: no installed plugin reads {scheme}:// addresses, got {text}"),
        )),
        None => {
            let path = folder.join(text);
            let path = std::path::absolute(&path).unwrap_or(path);
            // A file that is not there yet is a source that has failed, and is tried again.
            match gst::glib::filename_to_uri(&path, None) {
                Ok(uri) => Ok(Source::Uri(uri.to_string())),
                Err(_) => wrong("is no path"),
            }
        }
    }
}

/// Whether GStreamer can read addresses of a scheme.
fn is_readable(scheme: &str) -> bool {
    gst::Element::make_from_uri(gst::URIType::Src, &format!("{scheme}://host/path"), None).is_ok()
}

fn boolean(entry: &Entry) -> Result<bool, Wrong> {
    switch(&entry.value).ok_or_else(|| {
        (
            entry.line,
            format!("{} must be true or false, got {}", entry.key, entry.value),
        )
    })
}

fn number(entry: &Entry, minimum: f64, maximum: f64) -> Result<f64, Wrong> {
    let found = entry
        .value
        .parse()
        .ok()
        .filter(|v| (minimum..=maximum).contains(v));
    found.ok_or_else(|| {
        let reason = format!(
            "{} must be {minimum} to {maximum}, got {}",
            entry.key, entry.value
        );
        (entry.line, reason)
    })
}

/// A time with its unit: `90s`, `15min`, `12h`, `30d`.
fn duration(entry: &Entry) -> Result<Duration, Wrong> {
    let units = [("min", 60.0), ("s", 1.0), ("h", 3600.0), ("d", 86_400.0)];
    let found = units.iter().find_map(|(unit, seconds)| {
        let number: f64 = entry.value.strip_suffix(unit)?.trim().parse().ok()?;
        Duration::try_from_secs_f64(number * seconds).ok()
    });
    found.ok_or_else(|| {
        let reason = format!(
            "{} must be a time such as 90s, 15min, 12h or 30d, got {}",
            entry.key, entry.value
        );
        (entry.line, reason)
    })
}

/// A number of bytes, also with the units kB, MB, GB and TB.
fn bytes(entry: &Entry) -> Result<u64, Wrong> {
    let units = [("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12)];
    let with_unit = units.iter().find_map(|(unit, factor)| {
        let number: f64 = entry.value.strip_suffix(unit)?.trim().parse().ok()?;
        (number >= 0.0 && number * factor < 1e18).then_some((number * factor) as u64)
    });
    with_unit.or_else(|| entry.value.parse().ok()).ok_or_else(|| {
        let reason = format!(
            "{} must be a size such as 500MB or 20GB, got {}",
            entry.key, entry.value
        );
        (entry.line, reason)
    })
}

fn unknown(section: &Section, entry: &Entry, known: &str) -> Wrong {
    let reason = format!(
        "unknown key {} in [{}]; there are {known}",
        entry.key, section.name
    );
    (entry.line, reason)
}

impl StorageConfig {
    fn read(&mut self, section: &Section, folder: &Path) -> Result<(), Wrong> {
        for entry in &section.entries {
            let never = entry.value == "never" || entry.value == "off";
            match entry.key.as_str() {
                "folder" => self.folder = folder.join(&entry.value),
                "max-age" => self.max_age = if never { None } else { Some(duration(entry)?) },
                "max-bytes" => self.max_bytes = if never { None } else { Some(bytes(entry)?) },
                "min-free" => self.min_free = bytes(entry)?,
                _ => return Err(unknown(section, entry, "folder, max-age, max-bytes, min-free")),
            }
        }
        Ok(())
    }
}

impl WebConfig {
    fn read(&mut self, section: &Section) -> Result<(), Wrong> {
        for entry in &section.entries {
            match entry.key.as_str() {
                "listen" if entry.value == "off" => self.listen = None,
                "listen" => {
                    let address = entry.value.parse().map_err(|_| {
                        let reason = format!("listen must be off or ADDRESS:PORT, got {}", entry.value);
                        (entry.line, reason)
                    })?;
                    self.listen = Some(address);
                }
                "token" if entry.value.len() < 8 => {
                    let reason = format!("token must have 8 characters or more, got {}", entry.value.len());
                    return Err((entry.line, reason));
                }
                "token" => self.token = Some(entry.value.clone()),
                _ => return Err(unknown(section, entry, "listen, token")),
            }
        }
        if let Some(listen) = self.listen
            && !listen.ip().is_loopback()
            && self.token.is_none()
        {
            let line = section.get("listen").map_or(section.line, |entry| entry.line);
            return Err((
                line,
                format!("listen = {listen} can be reached from other machines: set a token"),
            ));
        }
        Ok(())
    }
}

/// Host and port of `HOST` or `HOST:PORT`.
fn address(text: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, default),
    };
    (port > 0 && !host.is_empty()).then(|| (host.to_owned(), port))
}

impl MqttConfig {
    fn read(section: &Section) -> Result<Self, Wrong> {
        let mut config = MqttConfig {
            host: String::new(),
            port: 1883,
            user: None,
            client_id: format!("vaeanomaly-{}", std::process::id()),
            topic: "vaeanomaly".to_owned(),
            discovery: Some("homeassistant".to_owned()),
            queue: 10_000,
            interval: Duration::from_secs(1),
        };
        let (mut user, mut password) = (None, String::new());
        for entry in &section.entries {
            let text = entry.value.clone();
            match entry.key.as_str() {
                "broker" => {
                    let wrong = format!("broker must be HOST or HOST:PORT, got {text}");
                    (config.host, config.port) = address(&text, 1883).ok_or((entry.line, wrong))?;
                }
                "user" => user = Some(text),
                "password" => password = text,
                "client-id" => config.client_id = text,
                "topic" if text.is_empty() || text.contains(['+', '#']) => {
                    return Err((
                        entry.line,
                        format!("topic must be a text without + and #, got {text}"),
                    ));
                }
                "topic" => config.topic = text,
                "discovery" => config.discovery = Some(text).filter(|text| text != "off"),
                "queue" => config.queue = number(entry, 1.0, 1e6)? as usize,
                "interval" => config.interval = Duration::from_secs_f64(number(entry, 0.1, 3600.0)?),
                _ => {
                    let known = "broker, user, password, client-id, topic, discovery, queue, interval";
                    return Err(unknown(section, entry, known));
                }
            }
        }
        if config.host.is_empty() {
            return Err((section.line, "[mqtt] needs broker = HOST or HOST:PORT".to_owned()));
        }
        config.user = user.map(|user| (user, password));
        Ok(config)
    }
}

impl KafkaConfig {
    fn read(section: &Section) -> Result<Self, Wrong> {
        let mut config = KafkaConfig {
            brokers: Vec::new(),
            client_id: "vaeanomaly".to_owned(),
            topic: "vaeanomaly".to_owned(),
            queue: 10_000,
            interval: Duration::from_secs(10),
        };
        for entry in &section.entries {
            let text = entry.value.clone();
            match entry.key.as_str() {
                "brokers" => {
                    let broker = |text: &str| {
                        let (host, port) = address(text.trim(), 9092)?;
                        Some(format!("{host}:{port}"))
                    };
                    let brokers: Option<_> = text.split(',').map(broker).collect();
                    config.brokers = brokers.ok_or_else(|| {
                        let reason =
                            format!("brokers must be HOST or HOST:PORT, separated by commas, got {text}");
                        (entry.line, reason)
                    })?;
                }
                "client-id" => config.client_id = text,
                "topic" => {
                    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
                    if !(1..=200).contains(&text.len()) || !text.chars().all(is_allowed) {
                        let reason = format!(
                            "topic must be 1 to 200 characters of a-z, A-Z, 0-9, ., _ and -, got {text}"
                        );
                        return Err((entry.line, reason));
                    }
                    config.topic = text;
                }
                "queue" => config.queue = number(entry, 1.0, 1e6)? as usize,
                "interval" => config.interval = Duration::from_secs_f64(number(entry, 0.1, 3600.0)?),
                _ => {
                    let known = "brokers, client-id, topic, queue, interval";
                    return Err(unknown(section, entry, known));
                }
            }
        }
        if config.brokers.is_empty() {
            let reason = "[kafka] needs brokers = HOST or HOST:PORT, separated by commas";
            return Err((section.line, reason.to_owned()));
        }
        Ok(config)
    }
}
