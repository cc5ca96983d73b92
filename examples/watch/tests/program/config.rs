//! The configuration file: what is read, and what is wrong with it.

use std::time::Duration;

use watch::config::{Config, Source};

use crate::common::init;

fn parse(text: &str) -> Result<Config, (usize, String)> {
    init();
    Config::parse(text, "/cameras".as_ref())
}

fn value<'a>(config: &'a Config, camera: usize, name: &str) -> Option<&'a str> {
    let properties = &config.cameras[camera].properties;
    properties
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

#[test]
fn sources_are_recognised() {
    for (text, source) in [
        ("0", Source::Device("/dev/video0".into())),
        ("/dev/video3", Source::Device("/dev/video3".into())),
        (
            "rtsp://user:pw@host/a",
            Source::Rtsp("rtsp://user:pw@host/a".to_owned()),
        ),
        ("http://host/a.mjpg", Source::Uri("http://host/a.mjpg".to_owned())),
        ("door.mp4", Source::Uri("file:///cameras/door.mp4".to_owned())),
        ("/v/door.mp4", Source::Uri("file:///v/door.mp4".to_owned())),
        ("street:7", Source::Street { seed: 7 }),
    ] {
        let config = parse(&format!("[a]\nsource = {text}\n")).unwrap();
        assert_eq!(config.cameras[0].source, source);
    }
    let config = parse("[a]\nsource = rtsp://user:pw@host/a\n").unwrap();
    assert_eq!(
        config.cameras[0].source.to_string(),
        "rtsp://host/a",
        "no password is shown"
    );
}

#[test]
fn defaults_apply_where_a_section_says_nothing() {
    let text = "[a]\nsource = 0\n[b]\nsource = 1\nthreshold = 2.5\n[defaults]\nthreshold = 2\ngate.pre-roll = 3s\nloop = true\n";
    let config = parse(text).unwrap();
    assert_eq!(value(&config, 0, "threshold"), Some("2"));
    assert_eq!(value(&config, 1, "threshold"), Some("2.5"));
    assert_eq!(value(&config, 1, "gate.pre-roll"), Some("3s"));
    assert!(config.cameras.iter().all(|camera| camera.repeat));
}

#[test]
fn classic_keys_mean_what_they_meant() {
    let flat = "[DEFAULT]\nframe_size = 64\nqueue_size = 500\nsigma = 5\nnum_steps = 120\nlearning_rate = 0.001\n\
                net_arch = [(32,5,2),(8,3,2)]\ndelay = 0.2\n[cam]\nsource = 0\n";
    let classic = "[sources]\nsourceList = /dev/video0,rtsp://host/a\n[img]\nsize = 64\n[queue]\nlength = 500\n\
                   [model]\ninitial_steps = 120\nlearning_rate = 0.001\nnet_arch = [(32,5,2),(8,3,2)]\n\
                   [threshold]\nsigma = 5\n[delay]\nseconds = 0.2\n";
    for (text, cameras) in [(flat, 1), (classic, 2)] {
        let config = parse(text).unwrap();
        assert_eq!(config.cameras.len(), cameras);
        for (name, expected) in [
            ("model-width", "64"),
            ("window", "500"),
            ("sigma", "5"),
            ("threshold-mode", "sigma"),
            ("warm-up", "120"),
            ("learning-rate", "0.001"),
            ("net-arch", "[(32,5,2),(8,3,2)]"),
        ] {
            assert_eq!(value(&config, cameras - 1, name), Some(expected), "{name}");
        }
        assert_eq!(config.cameras[0].max_rate, Some(5.0));
    }
    let other = parse("[a]\nsource = 0\nsigma = 4\nthreshold-mode = evt\n").unwrap();
    assert_eq!(
        value(&other, 0, "threshold-mode"),
        Some("evt"),
        "what is set stays"
    );
}

#[test]
fn wrong_values_are_reported_with_line_key_and_range() {
    for (text, line, parts) in [
        (
            "[a]\nsource = 0\nthreshold = high\n",
            3,
            vec!["threshold", "-100 to 100", "got high"],
        ),
        (
            "[a]\nsource = 0\n\nlatent-dim = 900\n",
            4,
            vec!["latent-dim", "1 to 512", "got 900"],
        ),
        (
            "[a]\nsource = 0\nframe_size = 8\n",
            3,
            vec!["frame_size", "16 to 256", "got 8"],
        ),
        (
            "[a]\nsource = 0\nthreshold-mode = best\n",
            3,
            vec!["one of calibrated, sigma", "got best"],
        ),
        (
            "[a]\nsource = 0\nlearn = maybe\n",
            3,
            vec!["learn", "true or false", "got maybe"],
        ),
        ("[a]\nsource = 0\nspeed = 3\n", 3, vec!["unknown key speed"]),
        (
            "[a]\nsource = 0\ngate.follow = x\n",
            3,
            vec!["unknown key gate.follow"],
        ),
        (
            "[a]\nsource = 0\ndelay = -1\n",
            3,
            vec!["delay", "0 to 3600", "got -1"],
        ),
        ("[a]\nsource = 0\nloop = 2\n", 3, vec!["loop", "true or false"]),
        (
            "[a]\nsource = gopher://a\n",
            2,
            vec!["gopher", "no installed plugin"],
        ),
        ("[a]\nsource =\n", 2, vec!["source must be"]),
        ("[a]\nthreshold = 2\n", 1, vec!["[a] needs source"]),
        (
            "[a]\nsource = 0\n[A]\nsource = 1\n",
            3,
            vec!["a and A are too similar"],
        ),
        (
            "[a]\nsource = 0\n[mqtt]\nbroker = host:99999\n",
            4,
            vec!["HOST:PORT", "host:99999"],
        ),
        (
            "[a]\nsource = 0\n[mqtt]\ntopic = a\n",
            3,
            vec!["[mqtt] needs broker"],
        ),
        (
            "[a]\nsource = 0\n[kafka]\nbrokers = one,two:x\n",
            4,
            vec!["brokers", "HOST:PORT", "one,two:x"],
        ),
        (
            "[a]\nsource = 0\n[kafka]\nbrokers = one\ntopic = a b\n",
            5,
            vec!["topic", "1 to 200 characters of a-z", "got a b"],
        ),
        (
            "[a]\nsource = 0\n[kafka]\nbrokers = one\nqueue = 0\n",
            5,
            vec!["queue must be 1 to 1000000", "got 0"],
        ),
        (
            "[a]\nsource = 0\n[kafka]\ntopic = a\n",
            3,
            vec!["[kafka] needs brokers"],
        ),
        (
            "[a]\nsource = 0\n[web]\nlisten = 0.0.0.0:80\n",
            4,
            vec!["other machines", "token"],
        ),
        ("[a]\nsource = 0\n[web]\ntoken = short\n", 4, vec!["8 characters"]),
        (
            "[a]\nsource = 0\n[storage]\nmax-age = 3 weeks\n",
            4,
            vec!["max-age", "30d", "3 weeks"],
        ),
        (
            "[a]\nsource = 0\n[storage]\nmax-bytes = much\n",
            4,
            vec!["max-bytes", "20GB"],
        ),
        (
            "[a]\nsource = 0\n[storage]\nsize = 3\n",
            4,
            vec!["unknown key size in [storage]"],
        ),
        // Only wrong together with the default width of 64.
        (
            "[a]\nsource = 0\nnet-arch = [(8,3,3)]\n",
            1,
            vec!["[a]", "net-arch", "3"],
        ),
        ("", 0, vec!["no camera"]),
    ] {
        let (at, reason) = parse(text).unwrap_err();
        assert_eq!(at, line, "{text}: {reason}");
        for part in parts {
            assert!(reason.contains(part), "{text}: {reason}");
        }
    }
}

#[test]
fn brokers_have_a_port_by_default() {
    let config = parse("[a]\nsource = 0\n[mqtt]\nbroker = one\n[kafka]\nbrokers = one, two:9093\n").unwrap();
    let mqtt = config.mqtt.unwrap();
    assert_eq!((mqtt.host.as_str(), mqtt.port), ("one", 1883));
    let kafka = config.kafka.unwrap();
    assert_eq!(kafka.brokers, ["one:9092", "two:9093"]);
}

#[test]
fn an_error_names_file_and_line() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.ini");
    std::fs::write(&file, "[door]\nsource = 0\nthreshold = -200\n").unwrap();
    let error = Config::read(&file).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{}:3: threshold must be", file.display())),
        "{error}"
    );
    let missing = Config::read(&folder.path().join("none.ini"))
        .unwrap_err()
        .to_string();
    assert!(missing.contains("none.ini: "), "{missing}");
}

#[test]
fn the_sample_configuration_is_right() {
    init();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/config.ini");
    let config = Config::read(sample.as_ref()).unwrap();
    assert!(config.cameras.len() >= 2);
    assert!(config.storage.max_age > Some(Duration::ZERO));
}
