"""Prints every record of the topics as a line of JSON: consumer.py HOST:PORT TOPIC ..."""

import json
import sys

from kafka import KafkaConsumer

broker, *topics = sys.argv[1:]
for record in KafkaConsumer(*topics, bootstrap_servers=broker, auto_offset_reset="earliest", metadata_max_age_ms=500):
    fields = {"topic": record.topic, "partition": record.partition, "time": record.timestamp}
    print(json.dumps(fields | {"key": record.key.decode(), "value": json.loads(record.value)}), flush=True)
