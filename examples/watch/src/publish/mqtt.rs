//! MQTT: events and states as JSON, and discovery by Home Assistant.
//!
//! | topic | content | |
//! |---|---|---|
//! | `TOPIC/status` | `online`, `offline` (also as last will) | retained |
//! | `TOPIC/CAMERA/event` | what happened to an event, in order | QoS 1 |
//! | `TOPIC/CAMERA/state` | the state of the camera | retained |
//! | `TOPIC/CAMERA/availability` | `online` while frames arrive, else `offline` | retained |
//! | `DISCOVERY/binary_sensor/...`, `DISCOVERY/sensor/...` | Home Assistant's configuration | retained |

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, LastWill, MqttOptions, Packet, QoS};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::config::MqttConfig;
use crate::publish;
use crate::publish::outbox::{Attempts, FAREWELL, Outbox};
use crate::state::{Camera, Connection, Watch};

/// Publishes until `stop` is set.
pub async fn run(watch: Arc<Watch>, config: MqttConfig, mut stop: watch::Receiver<bool>) {
    let (client, mut connection) = connect(&config, watch.cameras.len());
    let mut outbox = Outbox::new(&watch, "MQTT", config.queue);
    let mut attempts = Attempts::new(format!("MQTT broker {}:{}", config.host, config.port));
    let mut online = false;
    let mut states = interval(config.interval);
    states.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            notice = outbox.receive() => match notice {
                Some(notice) => if let (true, Some(camera)) = (online, publish::changed(&watch, &notice)) {
                    state(&client, &config, camera);
                },
                None => break,
            },
            _ = states.tick() => {
                if online {
                    watch.cameras.iter().for_each(|camera| state(&client, &config, camera));
                }
            }
            () = sleep_until(attempts.next()), if !attempts.is_due() => {}
            event = connection.poll(), if attempts.is_due() => match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    online = true;
                    attempts.succeed();
                    welcome(&client, &config, &watch);
                }
                Ok(Event::Incoming(Packet::PubAck(_))) => outbox.confirm(),
                Ok(_) => {}
                Err(error) => {
                    online = false;
                    attempts.fail(&error);
                    outbox.resend();
                }
            },
        }
        if online {
            send(&client, &config, &mut outbox);
        }
    }
    outbox.drain();
    if online {
        farewell(&client, &mut connection, &config, &mut outbox).await;
    }
}

fn connect(config: &MqttConfig, cameras: usize) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(&config.client_id, &config.host, config.port);
    options.set_keep_alive(Duration::from_secs(15));
    options.set_clean_session(true);
    options.set_max_packet_size(1 << 20, 1 << 20);
    if let Some((user, password)) = &config.user {
        options.set_credentials(user, password);
    }
    let topic = format!("{}/status", config.topic);
    options.set_last_will(LastWill::new(topic, "offline", QoS::AtLeastOnce, true));
    // Twice what a new connection is sent.
    AsyncClient::new(options, 64 + 8 * cameras)
}

/// Sends the next event, if it is time.
fn send(client: &AsyncClient, config: &MqttConfig, outbox: &mut Outbox) {
    if let Some(message) = outbox.send() {
        let topic = format!("{}/{}/event", config.topic, message.camera);
        if client
            .try_publish(topic, QoS::AtLeastOnce, false, message.payload)
            .is_err()
        {
            // The channel is full.
            outbox.resend();
        }
    }
}

/// Sends the last events and goes offline properly.
async fn farewell(
    client: &AsyncClient,
    connection: &mut EventLoop,
    config: &MqttConfig,
    outbox: &mut Outbox,
) {
    let until = Instant::now() + FAREWELL;
    let mut leaving = false;
    loop {
        send(client, config, outbox);
        if outbox.is_empty() && !leaving {
            retained(client, &format!("{}/status", config.topic), "offline");
            leaving = client.try_disconnect().is_ok();
        }
        match tokio::time::timeout_at(until, connection.poll()).await {
            Ok(Ok(Event::Incoming(Packet::PubAck(_)))) => outbox.confirm(),
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
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
    let entity = |component: &str, object: &str, name: &str, template: &str| {
        json!({
            "name": name,
            "unique_id": format!("{node}_{object}"),
            "default_entity_id": format!("{component}.{node}_{object}"),
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
        "binary_sensor",
        "anomaly",
        "Anomaly",
        "{{ 'ON' if value_json.status.event else 'OFF' }}",
    );
    anomaly["device_class"] = "problem".into();
    let mut score = entity(
        "sensor",
        "score",
        "Anomaly score",
        "{{ value_json.status.score | round(3) }}",
    );
    score["state_class"] = "measurement".into();
    score["icon"] = "mdi:chart-line".into();
    vec![("binary_sensor", "anomaly", anomaly), ("sensor", "score", score)]
}
