//! Kafka: events and states as JSON, with the camera's id as key.
//!
//! | topic | content |
//! |---|---|
//! | `TOPIC.events` | what happened to an event, in order for each camera |
//! | `TOPIC.states` | the state of a camera |
//!
//! A topic that is missing is created if the broker is configured to do so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use futures_util::FutureExt;
use futures_util::future::{Fuse, FusedFuture};
use rskafka::BackoffConfig;
use rskafka::chrono::DateTime;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::config::KafkaConfig;
use crate::publish;
use crate::publish::outbox::{Attempts, FAREWELL, Message, Outbox};
use crate::state::{Watch, now};

/// A broker that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Publishes until `stop` is set.
pub async fn run(watch: Arc<Watch>, config: KafkaConfig, mut stop: watch::Receiver<bool>) {
    let mut outbox = Outbox::new(&watch, "Kafka", config.queue);
    let mut attempts = Attempts::new(format!("Kafka broker {}", config.brokers.join(", ")));
    let all: BTreeSet<&str> = watch.cameras.iter().map(|camera| camera.id()).collect();
    // Cameras whose state is to be sent.
    let mut due = all.clone();
    let mut states = interval(config.interval);
    states.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut producer = None;
    // What is being sent; it is not interrupted by what happens meanwhile.
    let mut delivery = pin!(Fuse::terminated());
    let mut deadline = None;
    loop {
        if delivery.is_terminated() && attempts.is_due() {
            let event = outbox.send();
            if event.is_some() || !due.is_empty() {
                let due = std::mem::take(&mut due);
                let states = due.into_iter().filter_map(|id| state(&watch, id)).collect();
                delivery.set(deliver(producer.take(), &config, event, states).fuse());
            }
        }
        if deadline.is_some() && delivery.is_terminated() {
            break;
        }
        tokio::select! {
            _ = stop.changed(), if deadline.is_none() => {
                outbox.drain();
                due = all.clone();
                deadline = Some(Instant::now() + FAREWELL);
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => break,
            notice = outbox.receive() => match notice {
                Some(notice) => due.extend(publish::changed(&watch, &notice).map(|camera| camera.id())),
                None => break,
            },
            _ = states.tick() => due = all.clone(),
            () = sleep_until(attempts.next()), if !attempts.is_due() => {}
            delivered = &mut delivery, if !delivery.is_terminated() => match delivered {
                Ok(connected) => {
                    attempts.succeed();
                    outbox.confirm();
                    producer = Some(connected);
                }
                Err(error) => {
                    attempts.fail(error.root_cause());
                    outbox.resend();
                    due = all.clone();
                }
            },
        }
    }
}

/// The state of a camera, by its id.
fn state(watch: &Watch, id: &str) -> Option<Message> {
    let camera = watch.camera(id)?;
    Some(Message {
        camera: id.to_owned(),
        payload: publish::camera(camera, &camera.status()).to_string(),
    })
}

/// Sends an event and states, over a new connection if there is none. Returns the connection.
///
/// # Errors
/// Something is not known to have arrived; the connection is closed.
async fn deliver(
    producer: Option<Producer>,
    config: &KafkaConfig,
    event: Option<Message>,
    states: Vec<Message>,
) -> Result<Producer> {
    let send = async {
        let mut producer = match producer {
            Some(producer) => producer,
            None => Producer::connect(config).await?,
        };
        producer.send(&format!("{}.events", config.topic), event).await?;
        producer.send(&format!("{}.states", config.topic), states).await?;
        Ok(producer)
    };
    timeout(PATIENCE, send)
        .await
        .map_err(|_| anyhow!("no answer within {} s", PATIENCE.as_secs()))?
}

/// A connection to a cluster.
struct Producer {
    client: Client,
    /// The partitions of each topic.
    topics: HashMap<String, Vec<i32>>,
    partitions: HashMap<(String, i32), PartitionClient>,
}

impl Producer {
    async fn connect(config: &KafkaConfig) -> Result<Self> {
        // A new topic takes a moment; longer failures are retried with a new connection.
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(1),
            base: 2.0,
            deadline: Some(Duration::from_secs(2)),
        };
        let client = ClientBuilder::new(config.brokers.clone())
            .client_id(config.client_id.as_str())
            .backoff_config(backoff)
            .build();
        Ok(Self {
            client: client.await?,
            topics: HashMap::new(),
            partitions: HashMap::new(),
        })
    }

    /// Sends messages; those of a camera stay in their order. Returns when all replicas in sync have them.
    async fn send(&mut self, topic: &str, messages: impl IntoIterator<Item = Message>) -> Result<()> {
        let mut records: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
        for Message { camera, payload } in messages {
            let partitions = self.partitions(topic).await?;
            let partition = partitions[murmur2(camera.as_bytes()) as usize % partitions.len()];
            records.entry(partition).or_default().push(Record {
                key: Some(camera.into_bytes()),
                value: Some(payload.into_bytes()),
                headers: BTreeMap::new(),
                timestamp: DateTime::from_timestamp_millis(now()).unwrap_or_default(),
            });
        }
        for (partition, records) in records {
            let key = (topic.to_owned(), partition);
            if !self.partitions.contains_key(&key) {
                let handling = UnknownTopicHandling::Retry;
                let new = self.client.partition_client(topic, partition, handling).await?;
                self.partitions.insert(key.clone(), new);
            }
            self.partitions[&key]
                .produce(records, Compression::NoCompression)
                .await?;
        }
        Ok(())
    }

    /// The partitions of a topic, at least one.
    async fn partitions(&mut self, topic: &str) -> Result<&[i32]> {
        if !self.topics.contains_key(topic) {
            // Asking for a partition creates the topic where that is allowed.
            self.client
                .partition_client(topic, 0, UnknownTopicHandling::Retry)
                .await?;
            let mut topics = self.client.list_topics().await?.into_iter();
            let found = topics.find(|found| found.name == topic);
            let partitions: Vec<_> = found.into_iter().flat_map(|found| found.partitions).collect();
            if partitions.is_empty() {
                bail!("the topic {topic} has no partition");
            }
            self.topics.insert(topic.to_owned(), partitions);
        }
        Ok(&self.topics[topic])
    }
}

/// The hash that Kafka's own producer finds the partition of a key with: `MurmurHash2` of Austin Appleby with its seed, without
/// the sign bit.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_hashes_of_the_java_client() {
        // From its own test of murmur2.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), (hash as u32) & 0x7fff_ffff, "{key}");
        }
    }
}
