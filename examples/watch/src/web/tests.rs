//! Requests against the running server.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::config::Config;
use crate::state::{Event, Image, Notice, Score};

const TOKEN: &str = "a token; with \"odd\" letters & spaces";

/// A server with the cameras `north` and `south`, which do not run.
struct Served {
    watch: Arc<Watch>,
    address: SocketAddr,
    folder: TempDir,
    server: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn watch(folder: &std::path::Path) -> Arc<Watch> {
    gst::init().unwrap();
    gstvaeanomaly::plugin_register_static().unwrap();
    let text = format!(
        "[north]\nsource = street:1\nthreshold = 1.8\n[south]\nsource = rtsp://user:secret@host/path\n[storage]\nfolder = {}\n",
        folder.join("data").display()
    );
    let config = Config::parse(&text, folder).unwrap();
    Watch::new(config.cameras, config.storage).unwrap()
}

async fn serve(token: Option<&str>) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let watch = watch(folder.path());
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(Arc::clone(&watch), any_port, token).await.unwrap();
    Served {
        address: server.address().unwrap(),
        server: tokio::spawn(server.run()),
        watch,
        folder,
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let end = bytes
            .windows(4)
            .position(|part| part == b"\r\n\r\n")
            .expect("an answer has headers");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = bytes[end + 4..].to_vec();
        Self { status, head, body }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The sentence of a refusal.
    fn refusal(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl Served {
    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may refuse before it has read everything.
        let _ = stream.write_all(bytes).await;
        stream
    }

    async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.send(bytes).await;
        let mut answer = Vec::new();
        // What arrived before the server closed the connection counts.
        let _ = stream.read_to_end(&mut answer).await;
        Answer::read(&answer)
    }

    /// A request with further header lines and a body.
    async fn ask(&self, request: &str, headers: &str, body: &str) -> Answer {
        let length = match body {
            "" => String::new(),
            body => format!("Content-Length: {}\r\n", body.len()),
        };
        let text = format!(
            "{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}{length}\r\n{body}",
            self.address
        );
        self.raw(text.as_bytes()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "", "").await
    }

    async fn send_json(&self, request: &str, body: &str) -> Answer {
        self.ask(request, "Content-Type: application/json\r\n", body)
            .await
    }

    /// Stores an event whose clip has this content.
    fn event(&self, id: i64, clip: &[u8]) -> Event {
        let event = Event {
            id,
            camera: "north".to_owned(),
            number: 1,
            begin: id,
            end: Some(id + 2000),
            reason: Some("over".to_owned()),
            peak: 0.8,
            peak_time: id + 1000,
            cue: "motion".to_owned(),
            width: 640,
            height: 360,
            regions: Vec::new(),
            thumbnail: Some(format!("thumbnails/{id}.jpg")),
            clip: Some(format!("clips/{id}.mp4")),
            clip_begin: Some(id - 5000),
            clip_done: true,
            accepted: false,
        };
        for (path, content) in [(&event.thumbnail, &b"image"[..]), (&event.clip, clip)] {
            let file = self.watch.file(path.as_ref().unwrap());
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
        self.watch.store.put(&event).unwrap();
        event
    }
}

/// Reads until the text arrives, returns everything so far.
async fn read_until(stream: &mut TcpStream, expected: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "closed after {} bytes", bytes.len());
        let searched = bytes.len().saturating_sub(expected.len());
        bytes.extend(&chunk[..read]);
        if bytes[searched..]
            .windows(expected.len())
            .any(|part| part == expected)
        {
            return bytes;
        }
    }
}

/// Waits for a condition.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} has not happened within 30 s");
}

fn image(content: &[u8]) -> Arc<Image> {
    Arc::new(Image {
        time: 1,
        jpeg: content.to_vec(),
    })
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let served = serve(None).await;
    let page = served.get("/").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("cross-origin-resource-policy"), Some("same-origin"));
    for (path, kind, content) in assets::FILES {
        let answer = served.get(path).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some(kind)),
            "{path}"
        );
        assert_eq!(answer.text(), content);
        let other = content.replace("http://www.w3.org/2000/svg", "");
        assert!(!other.contains("://"), "{path} names another address");
    }
}

#[tokio::test]
async fn without_a_token_only_this_machine_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let any_machine = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = Server::bind(watch(folder.path()), any_machine, None)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("set a token"), "{refused}");

    let served = serve(None).await;
    let status = async |hosts: &str| {
        served
            .raw(format!("GET / HTTP/1.1\r\nConnection: close\r\n{hosts}\r\n").as_bytes())
            .await
            .status
    };
    assert_eq!(status("Host: localhost:8080\r\n").await, 200);
    assert_eq!(status("Host: [::1]:8080\r\n").await, 200);
    assert_eq!(status("Host: rebound.example.org\r\n").await, 421);
    assert_eq!(status("Host: 10.0.0.7\r\n").await, 421);
    assert_eq!(status("Host: \u{e9}\r\n").await, 421);
    assert_eq!(status("").await, 400);
    assert_eq!(status("Host: localhost\r\nHost: localhost\r\n").await, 400);
}

#[tokio::test]
async fn pages_of_other_sites_can_change_and_load_nothing() {
    let served = serve(None).await;
    let own = format!("Origin: http://{}\r\n", served.address);
    let body = r#"{"polygons": []}"#;
    let put = async |headers: &str| {
        let headers = format!("{headers}Content-Type: application/json\r\n");
        served
            .ask("PUT /api/cameras/north/masks", &headers, body)
            .await
            .status
    };
    assert_eq!(put("").await, 200);
    assert_eq!(put(&own).await, 200);
    assert_eq!(put(&format!("{own}Sec-Fetch-Site: same-origin\r\n")).await, 200);
    assert_eq!(put("Origin: http://example.org\r\n").await, 403);
    assert_eq!(put("Origin: null\r\n").await, 403);
    assert_eq!(
        put(&format!("Origin: http://{}:1\r\n", served.address.ip())).await,
        403
    );
    assert_eq!(put("Sec-Fetch-Site: cross-site\r\n").await, 403);
    assert_eq!(put("Sec-Fetch-Site: same-site\r\n").await, 403);

    let get = async |headers: &str| served.ask("GET /api/cameras", headers, "").await.status;
    assert_eq!(
        get("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n").await,
        403
    );
    assert_eq!(
        get("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n").await,
        200
    );
    assert_eq!(
        served
            .get("/api/cameras")
            .await
            .header("access-control-allow-origin"),
        None
    );
}

#[tokio::test]
async fn with_a_token_every_request_must_present_it() {
    let served = serve(Some(TOKEN)).await;
    served.event(1000, b"clip");
    let with = async |path: &str, header: &str| served.ask(&format!("GET {path}"), header, "").await;
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    for path in [
        "/",
        "/app.js",
        "/api/cameras",
        "/api/stream",
        "/api/events/1000/clip",
        "/api/live?cameras=north",
        "/nothing",
    ] {
        assert_eq!(with(path, "").await.status, 401, "{path}");
        assert_eq!(
            with(path, "Authorization: Bearer something else\r\n")
                .await
                .status,
            401,
            "{path}"
        );
        assert_eq!(
            with(path, "Authorization: Basic Og==\r\n").await.status,
            401,
            "{path}"
        );
        assert_eq!(
            with(path, "Cookie: watch-token=00\r\n").await.status,
            401,
            "{path}"
        );
        assert_eq!(with(path, "Cookie: watch-token=\r\n").await.status, 401, "{path}");
        assert_eq!(
            with(&format!("{path}?token=wrong"), "").await.status,
            401,
            "{path}"
        );
    }
    assert_eq!(
        served
            .send_json("PUT /api/cameras/north/masks", "{}")
            .await
            .status,
        401
    );
    assert_eq!(with("/api/cameras", &bearer).await.status, 200);
    assert_eq!(with("/api/events/1000/clip", &bearer).await.status, 200);

    let form = with("/", "").await;
    assert!(form.text().contains("name=token"), "{form:?}");
    let entered = with("/?token=a+token;+with+%22odd%22+letters+%26+spaces", "").await;
    assert_eq!(entered.status, 200);
    assert!(!entered.text().contains("odd"), "the token is not repeated");
    let cookie = entered.header("set-cookie").unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap();
    let header = format!("Cookie: other=1; {cookie}\r\n");
    assert_eq!(with("/", &header).await.status, 200);
    assert_eq!(with("/api/cameras", &header).await.status, 200);
    // The cookie is sent by the browser, so other pages are kept out here, too.
    let other = format!("{header}Origin: http://example.org\r\nContent-Type: application/json\r\n");
    assert_eq!(
        served
            .ask("PUT /api/cameras/north/masks", &other, r#"{"polygons": []}"#)
            .await
            .status,
        403
    );
}

#[tokio::test]
async fn malformed_and_oversized_requests_are_refused() {
    let served = serve(None).await;
    assert_eq!(served.raw(b"nonsense\r\n\r\n").await.status, 400);
    assert_eq!(
        served
            .raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nBroken\r\n\r\n")
            .await
            .status,
        400
    );
    let long = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    assert_eq!(served.raw(long.as_bytes()).await.status, 431);
    let path = format!("/{}", "x".repeat(70_000));
    assert!(matches!(served.get(&path).await.status, 404 | 414 | 431));

    assert_eq!(served.get("/nothing").await.status, 404);
    assert_eq!(served.ask("DELETE /api/cameras", "", "").await.status, 405);
    assert_eq!(served.ask("POST /", "", "").await.status, 405);

    let put =
        async |headers: &str, body: &str| served.ask("PUT /api/cameras/north/masks", headers, body).await;
    let json = "Content-Type: application/json\r\n";
    assert_eq!(put(json, r#"{"polygons": ["#).await.status, 400);
    assert_eq!(put(json, r#"{"polygons": 7}"#).await.status, 422);
    assert_eq!(put(json, r#"{"polygons": [], "more": 1}"#).await.status, 422);
    assert_eq!(put(json, "\u{0}").await.status, 400);
    assert_eq!(put("", r#"{"polygons": []}"#).await.status, 415);
    assert_eq!(
        put("Content-Type: text/plain\r\n", r#"{"polygons": []}"#)
            .await
            .status,
        415
    );
    assert_eq!(put(json, &" ".repeat(LARGEST_BODY + 1)).await.status, 413);
    let nested = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(matches!(put(json, &nested).await.status, 400 | 422));

    for path in [
        "?limit=many",
        "?from=yesterday",
        "?unknown=1",
        "?limit=-1",
        "?limit=1&limit=2",
    ] {
        assert_eq!(
            served.get(&format!("/api/events{path}")).await.status,
            400,
            "{path}"
        );
    }
    assert_eq!(served.get("/api/events?camera=west").await.status, 404);
    assert_eq!(served.get("/api/live").await.status, 400);
    assert_eq!(served.get("/api/live?cameras=north,west").await.status, 404);
    for path in ["live", "image", "masks", "settings"] {
        assert_eq!(
            served.get(&format!("/api/cameras/west/{path}")).await.status,
            404,
            "{path}"
        );
    }
    // And it still answers.
    assert_eq!(served.get("/api/cameras").await.status, 200);
}

#[tokio::test]
async fn states_hide_passwords_of_sources() {
    let served = serve(None).await;
    let cameras = served.get("/api/cameras").await;
    assert!(!cameras.text().contains("secret"), "{}", cameras.text());
    let cameras = cameras.json();
    let names: Vec<_> = cameras["cameras"]
        .as_array()
        .unwrap()
        .iter()
        .map(|camera| camera["id"].as_str())
        .collect();
    assert_eq!(names, [Some("north"), Some("south")]);
    assert_eq!(cameras["cameras"][0]["state"], "connecting");
}

#[tokio::test]
async fn clips_are_served_with_ranges() {
    let served = serve(None).await;
    served.event(1000, b"0123456789");
    let range = async |range: &str| {
        served
            .ask("GET /api/events/1000/clip", &format!("Range: {range}\r\n"), "")
            .await
    };
    let whole = served.get("/api/events/1000/clip").await;
    assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"));
    assert_eq!(whole.header("content-type"), Some("video/mp4"));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let part = range("bytes=2-4").await;
    assert_eq!((part.status, part.text().as_str()), (206, "234"));
    assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
    assert_eq!(range("bytes=7-").await.text(), "789");
    assert_eq!(range("bytes=-2").await.text(), "89");
    assert_eq!(range("bytes=10-").await.status, 416);
    assert_eq!(range("bytes=4-2").await.status, 416);
    let head = served.ask("HEAD /api/events/1000/clip", "", "").await;
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (200, Some("10"), 0)
    );
    let thumbnail = served.get("/api/events/1000/thumbnail?peak=1").await;
    assert_eq!(
        (thumbnail.text().as_str(), thumbnail.header("content-type")),
        ("image", Some("image/jpeg"))
    );
}

#[tokio::test]
async fn files_are_found_by_events_only() {
    let served = serve(None).await;
    let mut event = served.event(1000, b"clip");
    let secret: PathBuf = served.folder.path().join("secret");
    std::fs::write(&secret, "not for others").unwrap();
    for path in [
        "/../secret",
        "/..%2fsecret",
        "/api/events/../../../secret",
        "/api/events/..%2f..%2fsecret/clip",
        "/api/events/1000/clip/../../../secret",
        "/api/events/1000%2f..%2f..%2fsecret/clip",
        "/api/events/1001/clip",
        "/api/events/-1/clip",
        "/api/events/1e3/clip",
        "/api/events/99999999999999999999/clip",
        "/api/events/%00/clip",
        "/api/events/%ff/clip",
    ] {
        let answer = served.get(path).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
        assert!(!answer.text().contains("not for others"), "{path}");
    }
    // Not even if the database says so.
    for path in ["../secret", secret.to_str().unwrap(), "clips/../../secret", ""] {
        event.clip = Some(path.to_owned());
        served.watch.store.put(&event).unwrap();
        assert_eq!(served.get("/api/events/1000/clip").await.status, 404, "{path}");
    }
    // A clip that is being written, one that was removed, and none.
    event.clip = Some("clips/1000.mp4".to_owned());
    event.clip_done = false;
    served.watch.store.put(&event).unwrap();
    assert_eq!(served.get("/api/events/1000/clip").await.status, 404);
    event.clip_done = true;
    served.watch.store.put(&event).unwrap();
    assert_eq!(served.get("/api/events/1000/clip").await.status, 200);
    std::fs::remove_file(served.watch.file("clips/1000.mp4")).unwrap();
    assert_eq!(served.get("/api/events/1000/clip").await.status, 404);
    event.thumbnail = None;
    served.watch.store.put(&event).unwrap();
    assert_eq!(served.get("/api/events/1000/thumbnail").await.status, 404);
}

#[tokio::test]
async fn events_are_listed_by_camera_time_and_page() {
    let served = serve(None).await;
    for id in [1000, 5000, 9000] {
        served.event(id, b"clip");
    }
    let ids = async |query: &str| {
        let listed = served.get(&format!("/api/events{query}")).await.json();
        let events = listed["events"].as_array().unwrap().iter();
        events
            .map(|event| event["id"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("").await, [9000, 5000, 1000]);
    assert_eq!(ids("?camera=north&limit=2").await, [9000, 5000]);
    assert_eq!(ids("?before=5000").await, [1000]);
    assert_eq!(ids("?camera=south").await, [] as [i64; 0]);
    assert_eq!(ids("?from=4000&to=6000").await, [5000]);
    let one = served.get("/api/events/5000").await.json();
    assert_eq!(
        (one["clip"].as_bool(), one["camera"].as_str()),
        (Some(true), Some("north"))
    );
}

#[tokio::test]
async fn masks_are_kept_and_wrong_ones_change_nothing() {
    let served = serve(None).await;
    let path = "/api/cameras/north/masks";
    assert_eq!(served.get(path).await.json(), json!({"polygons": []}));
    let masks = json!({"polygons": [[[0.1, 0.2], [0.5, 0.2], [0.5, 0.75]], [[0.0, 0.0], [1.0, 0.0], [1.0, 0.1], [0.0, 0.1]]]});
    let put = async |masks: &Value| served.send_json(&format!("PUT {path}"), &masks.to_string()).await;
    assert_eq!(put(&masks).await.json(), masks);
    for wrong in [
        json!({"polygons": [[[0.1, 0.2], [0.5, 0.2]]]}),
        json!({"polygons": [[[0.1, 0.2], [0.5, 0.2], [0.5, 1.01]]]}),
        json!({"polygons": [[[0.1, 0.2], [0.5, 0.2], [0.5, "; 0"]]]}),
        json!({"polygons": vec![[[0.1, 0.2], [0.5, 0.2], [0.5, 0.75]]; 65]}),
    ] {
        let answer = put(&wrong).await;
        assert_eq!(answer.status, 422, "{wrong}");
        assert!(!answer.refusal().is_empty());
    }
    assert_eq!(
        served
            .send_json("PUT /api/cameras/west/masks", &masks.to_string())
            .await
            .status,
        404
    );
    assert_eq!(served.get(path).await.json(), masks);
    // Also after a restart.
    let again = watch(served.folder.path());
    let regions = again.cameras[0]
        .settings()
        .into_iter()
        .find(|setting| setting.name == "ignore-regions");
    assert_eq!(
        regions.unwrap().value,
        "0.1,0.2 0.5,0.2 0.5,0.75; 0,0 1,0 1,0.1 0,0.1"
    );
    assert_eq!(
        put(&json!({"polygons": []})).await.json(),
        json!({"polygons": []})
    );
}

#[tokio::test]
async fn settings_are_kept_and_wrong_ones_change_nothing() {
    let served = serve(None).await;
    let path = "/api/cameras/north/settings";
    let value = |settings: &Value, name: &str| {
        let mut fields = settings["settings"].as_array().unwrap().iter();
        fields
            .find(|field| field["name"] == name)
            .unwrap_or_else(|| panic!("no {name} in {settings}"))
            .clone()
    };
    let before = served.get(path).await.json();
    let threshold = value(&before, "threshold");
    assert_eq!(
        (&threshold["type"], &threshold["value"], &threshold["max"]),
        (&json!("double"), &json!(1.8), &json!(100.0))
    );
    assert_eq!(value(&before, "min-anomaly")["type"], "time");
    assert_eq!(
        value(&before, "threshold-mode")["choices"][0]["value"],
        "calibrated"
    );
    let names = before["settings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["name"].as_str().unwrap());
    for name in names {
        assert!(
            !name.contains("location") && name != "net-arch",
            "{name} cannot be changed on the page"
        );
    }

    let patch = async |body: Value| {
        served
            .send_json(&format!("PATCH {path}"), &body.to_string())
            .await
    };
    let after = patch(
        json!({"threshold": 2.25, "learn": false, "min-anomaly": 1_500_000_000u64, "threshold-mode": "evt"}),
    )
    .await;
    assert_eq!(after.status, 200, "{after:?}");
    let after = after.json();
    assert_eq!(value(&after, "threshold")["value"], 2.25);
    assert_eq!(value(&after, "learn")["value"], false);
    assert_eq!(value(&after, "min-anomaly")["value"], 1_500_000_000u64);
    for (status, wrong, part) in [
        (422, json!({"learn": true, "threshold": 1e9}), "-100 to 100"),
        (422, json!({"threshold": "high"}), "threshold"),
        (422, json!({"threshold": [1]}), "threshold"),
        (422, json!({"threshold-mode": "guess"}), "calibrated"),
        (422, json!({"min-anomaly": -1}), "min-anomaly"),
        (404, json!({"learn": true, "nonsense": 1}), "nonsense"),
        (404, json!({"model-location": "/tmp/model"}), "model-location"),
        (404, json!({"mask-location": "/etc/passwd"}), "mask-location"),
        (404, json!({"ignore-regions": "0,0 1,0 1,1"}), "ignore-regions"),
        (404, json!({"post-messages": "none"}), "post-messages"),
    ] {
        let answer = patch(wrong.clone()).await;
        assert_eq!(answer.status, status, "{wrong}: {answer:?}");
        assert!(answer.refusal().contains(part), "{wrong}: {}", answer.refusal());
    }
    assert_eq!(patch(json!([])).await.status, 422);
    assert_eq!(served.get(path).await.json(), after);
    let again = watch(served.folder.path());
    let kept = again.cameras[0]
        .settings()
        .into_iter()
        .find(|setting| setting.name == "threshold");
    assert_eq!(kept.unwrap().value, "2.25");
    let reset = patch(json!({"threshold": null})).await.json();
    assert_eq!(value(&reset, "threshold")["value"], 1.8);
}

#[tokio::test]
async fn events_that_the_detector_does_not_know_cannot_be_accepted() {
    let served = serve(None).await;
    served.event(1000, b"clip");
    assert_eq!(served.ask("POST /api/events/1/accept", "", "").await.status, 404);
    assert_eq!(served.ask("POST /api/events/x/accept", "", "").await.status, 400);
    let answer = served.ask("POST /api/events/1000/accept", "", "").await;
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(served.get("/api/events/1000").await.json()["accepted"], false);
}

#[tokio::test]
async fn live_images_of_several_cameras_share_a_connection() {
    let served = serve(None).await;
    let [north, south] = &served.watch.cameras[..] else {
        panic!("two cameras")
    };
    let mut stream = served
        .send(b"GET /api/live?cameras=south,north HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    until("the client is seen", || north.is_viewed() && south.is_viewed()).await;
    north.show(image(b"north"));
    read_until(&mut stream, b"\0\0\0\0\0\0\0\x05north").await;
    south.show(image(b"to the south"));
    read_until(&mut stream, b"\0\0\0\x01\0\0\0\x0cto the south").await;
    drop(stream);
    until("the client has gone", || {
        north.show(image(b"more"));
        !north.is_viewed() && !south.is_viewed()
    })
    .await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_no_camera_up() {
    let served = serve(None).await;
    let camera = &served.watch.cameras[0];
    let large = vec![7; 1 << 20];
    let mut slow = served
        .send(b"GET /api/cameras/north/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    until("the client is seen", || camera.is_viewed()).await;
    // Far more than the buffers of a connection hold: most are left out.
    for _ in 0..200 {
        camera.show(image(&large));
        tokio::task::yield_now().await;
    }
    camera.show(image(b"the newest"));
    read_until(&mut slow, b"Content-Length: 10\r\n\r\nthe newest\r\n--frame\r\n").await;
    let single = served.get("/api/cameras/north/image").await;
    assert_eq!((single.status, single.text().as_str()), (200, "the newest"));
}

#[tokio::test]
async fn more_streams_than_there_is_room_for_are_refused() {
    let served = serve(None).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = served
            .send(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        read_until(&mut stream, b"event: hello").await;
        streams.push(stream);
    }
    for path in [
        "/api/stream",
        "/api/live?cameras=north",
        "/api/cameras/north/live",
        "/api/cameras/north/image",
    ] {
        let refused = served.get(path).await;
        assert_eq!(
            (refused.status, refused.header("retry-after")),
            (503, Some("5")),
            "{path}"
        );
    }
    assert_eq!(served.get("/api/cameras").await.status, 200);
    drop(streams);
    for attempt in 0.. {
        let mut stream = served
            .send(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        if &start == b"HTTP/1.1 200" {
            break;
        }
        assert!(attempt < 3000, "there is room again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn changes_are_sent_as_server_sent_events() {
    let served = serve(None).await;
    let camera = &served.watch.cameras[0];
    let score = |time, anomaly| Score {
        time,
        score: 0.25,
        anomaly,
    };
    camera.push_score(score(1, false));
    let mut stream = served
        .send(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let hello = String::from_utf8(read_until(&mut stream, b"\n\n").await).unwrap();
    assert!(hello.contains("content-type: text/event-stream"), "{hello}");
    assert!(
        hello.contains(r#""scores":{"north":[[1,0.25,false]]}"#),
        "{hello}"
    );
    camera.push_score(score(2, true));
    read_until(&mut stream, br#""scores":{"north":[[2,0.25,true]]}"#).await;
    camera.update(|status| status.event = Some(77));
    let cameras = String::from_utf8(read_until(&mut stream, b"\"event\":77").await).unwrap();
    assert!(cameras.contains("event: cameras\n"), "{cameras}");
    let event = served.event(1000, b"clip");
    served.watch.notify(Notice::End { event });
    let sent = String::from_utf8(read_until(&mut stream, b"\"accepted\":false").await).unwrap();
    assert!(
        sent.contains("event: event\n") && !sent.contains("clips/"),
        "{sent}"
    );
}
