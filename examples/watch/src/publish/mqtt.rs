//! MQTT: events and states as JSON, and discovery by Home Assistant.
//!
//! | topic | content | |
//! |---|---|---|
//! | `TOPIC/status` | `online`, `offline` (also as last will) | retained |
//! | `TOPIC/CAMERA/event` | what happened to an event, in order | QoS 1 |
//! | `TOPIC/CAMERA/state` | the state of the camera | retained |
//! | `TOPIC/CAMERA/availability` | `online` while frames arrive, else `offline` | retained |
//! | `DISCOVERY/binary_sensor/...`, `DISCOVERY/sensor/...` | Home Assistant's configuration | retained |
//!
//! Events wait in a queue until the broker has confirmed them, one after the other, so that none is lost and none overtakes
//! another; after a lost connection the last one may come twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, LastWill, MqttOptions, Packet, QoS};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::config::MqttConfig;
use crate::publish;
use crate::state::{Camera, Connection, Notice, Watch};

/// The first and the longest pause before the broker is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Events that the broker has not confirmed.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(String, String)>,
    /// The first one was sent.
    sent: bool,
    /// Events discarded because too many waited.
    lost: u64,
}

impl Queue {
    fn push(&mut self, topic: String, payload: String, bound: usize) {
        if self.waiting.len() >= bound {
            // The first one may be on its way.
            let oldest = usize::from(self.sent);
            self.waiting.remove(oldest);
            self.lost += 1;
        }
        self.waiting.push_back((topic, payload));
    }

    /// The broker has confirmed the first one.
    fn confirm(&mut self) {
        if std::mem::take(&mut self.sent) {
            self.waiting.pop_front();
        }
    }
}

/// Publishes until `stop` is set.
pub async fn run(watch: Arc<Watch>, config: MqttConfig, mut stop: watch::Receiver<bool>) {
    let (client, mut connection) = connect(&config);
    let mut notices = watch.notices();
    let mut queue = Queue::default();
    let mut online = false;
    let mut attempts = 0;
    let mut retry = Instant::now();
    let mut states = interval(config.interval);
    states.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            notice = notices.recv() => match notice {
                Ok(notice) => {
                    if let (Some(event), Some(payload)) = (notice.event(), publish::event(&notice)) {
                        let topic = format!("{}/{}/event", config.topic, event.camera);
                        queue.push(topic, payload.to_string(), config.queue);
                    }
                    if let (true, Some(camera)) = (online, changed(&watch, &notice)) {
                        state(&client, &config, camera);
                    }
                }
                Err(RecvError::Lagged(lost)) => queue.lost += lost,
                Err(RecvError::Closed) => break,
            },
            _ = states.tick() => {
                if online {
                    watch.cameras.iter().for_each(|camera| state(&client, &config, camera));
                }
            }
            () = sleep_until(retry), if retry > Instant::now() => {}
            event = connection.poll(), if retry <= Instant::now() => match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    (online, attempts, queue.sent) = (true, 0, false);
                    welcome(&client, &config, &watch);
                }
                Ok(Event::Incoming(Packet::PubAck(_))) => queue.confirm(),
                Ok(_) => {}
                Err(error) => {
                    if attempts == 0 {
                        eprintln!("watch: MQTT broker {}:{}: {error}", config.host, config.port);
                    }
                    online = false;
                    retry = Instant::now() + BACKOFF.0.saturating_mul(1 << attempts.min(16_u32)).min(BACKOFF.1);
                    attempts += 1;
                }
            },
        }
        if online
            && !queue.sent
            && let Some((topic, payload)) = queue.waiting.front()
        {
            queue.sent = client
                .try_publish(topic, QoS::AtLeastOnce, false, payload.as_bytes())
                .is_ok();
        }
        if queue.lost > 0 {
            eprintln!(
                "watch: {} events were not sent over MQTT: more than {} waited",
                queue.lost, config.queue
            );
            queue.lost = 0;
        }
    }
    if online {
        farewell(&client, &mut connection, &config, &mut queue).await;
    }
}

fn connect(config: &MqttConfig) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(&config.client_id, &config.host, config.port);
    options.set_keep_alive(Duration::from_secs(15));
    options.set_clean_session(true);
    options.set_max_packet_size(1 << 20, 1 << 20);
    if let Some((user, password)) = &config.user {
        options.set_credentials(user, password);
    }
    let topic = format!("{}/status", config.topic);
    options.set_last_will(LastWill::new(topic, "offline", QoS::AtLeastOnce, true));
    AsyncClient::new(options, 256)
}

/// Sends the last events and goes offline properly; waits two seconds at most.
async fn farewell(client: &AsyncClient, connection: &mut EventLoop, config: &MqttConfig, queue: &mut Queue) {
    let until = Instant::now() + Duration::from_secs(2);
    let mut leaving = false;
    loop {
        if !queue.sent
            && let Some((topic, payload)) = queue.waiting.front()
        {
            queue.sent = client
                .try_publish(topic, QoS::AtLeastOnce, false, payload.as_bytes())
                .is_ok();
        } else if queue.waiting.is_empty() && !leaving {
            retained(client, &format!("{}/status", config.topic), "offline");
            leaving = client.try_disconnect().is_ok();
        }
        match tokio::time::timeout_at(until, connection.poll()).await {
            Ok(Ok(Event::Incoming(Packet::PubAck(_)))) => queue.confirm(),
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// The camera that a notice is about, if its state may have changed.
fn changed<'a>(watch: &'a Watch, notice: &Notice) -> Option<&'a Camera> {
    match notice {
        Notice::Begin { event } | Notice::End { event } => watch.camera(&event.camera),
        Notice::Camera { camera } => watch.camera(camera),
        _ => None,
    }
    .map(AsRef::as_ref)
}

/// Publishes a retained message. If the channel is full, the next state replaces it.
fn retained(client: &AsyncClient, topic: &str, payload: impl Into<Vec<u8>>) {
    let _ = client.try_publish(topic, QoS::AtMostOnce, true, payload);
}

fn state(client: &AsyncClient, config: &MqttConfig, camera: &Camera) {
    let status = camera.status();
    let topic = format!("{}/{}", config.topic, camera.id());
    let available = match status.connection {
        Connection::Playing => "online",
        _ => "offline",
    };
    retained(client, &format!("{topic}/availability"), available);
    retained(
        client,
        &format!("{topic}/state"),
        publish::camera(camera, &status).to_string(),
    );
}

/// What a new connection needs: that this program is there, discovery, and all states.
fn welcome(client: &AsyncClient, config: &MqttConfig, watch: &Watch) {
    retained(client, &format!("{}/status", config.topic), "online");
    for camera in &watch.cameras {
        if let Some(prefix) = &config.discovery {
            for (component, object, document) in discovery(config, camera) {
                let node = format!("{}_{}", identifier(&config.topic), camera.id());
                retained(
                    client,
                    &format!("{prefix}/{component}/{node}/{object}/config"),
                    document.to_string(),
                );
            }
        }
        state(client, config, camera);
    }
}

/// The topic as a part of an identifier.
fn identifier(topic: &str) -> String {
    topic.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

/// Home Assistant's configuration of a camera: component, object and document of each entity.
pub fn discovery(
    config: &MqttConfig,
    camera: &Camera,
) -> Vec<(&'static str, &'static str, serde_json::Value)> {
    let topic = format!("{}/{}", config.topic, camera.id());
    let node = format!("{}_{}", identifier(&config.topic), camera.id());
    let entity = |object: &str, name: &str, template: &str| {
        json!({
            "name": name,
            "unique_id": format!("{node}_{object}"),
            "object_id": format!("{node}_{object}"),
            "state_topic": format!("{topic}/state"),
            "value_template": template,
            "availability_mode": "all",
            "availability": [
                { "topic": format!("{}/status", config.topic) },
                { "topic": format!("{topic}/availability") },
            ],
            "device": {
                "identifiers": [node],
                "name": camera.config.name,
                "manufacturer": "vaeanomaly",
                "model": "Camera with anomaly detection",
                "sw_version": env!("CARGO_PKG_VERSION"),
            },
        })
    };
    let mut anomaly = entity(
        "anomaly",
        "Anomaly",
        "{{ 'ON' if value_json.status.event else 'OFF' }}",
    );
    anomaly["device_class"] = "problem".into();
    let mut score = entity(
        "score",
        "Anomaly score",
        "{{ value_json.status.score | round(3) }}",
    );
    score["state_class"] = "measurement".into();
    score["icon"] = "mdi:chart-line".into();
    vec![("binary_sensor", "anomaly", anomaly), ("sensor", "score", score)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_gives_up_the_oldest_that_was_not_sent() {
        let mut queue = Queue::default();
        for number in 0..3 {
            queue.push(number.to_string(), String::new(), 3);
        }
        queue.sent = true;
        queue.push("3".to_owned(), String::new(), 3);
        let topics = |queue: &Queue| {
            queue
                .waiting
                .iter()
                .map(|(topic, _)| topic.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(topics(&queue), ["0", "2", "3"]);
        assert_eq!(queue.lost, 1);
        queue.confirm();
        queue.confirm();
        assert_eq!(topics(&queue), ["2", "3"], "only what was sent is confirmed");
    }
}
