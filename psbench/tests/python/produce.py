"""Produces a stream: BROKER PORT TOPIC COUNT SIZE BATCH STORE, where STORE is `none` or what `streams.store` takes."""

import sys

from proxystore.stream import StreamProducer
from streams import PUBLISHERS, store

broker, port, topic, count, size, batch, place = sys.argv[1:]
producer = StreamProducer(
    PUBLISHERS[broker]("127.0.0.1", int(port)),
    batch_size=int(batch),
    default_store=None if place == "none" else store(place),
)
for n in range(int(count)):
    producer.send(topic, bytes([n % 256]) * int(size), evict=True, metadata={"n": n, "nested": {"a": [1.5, None]}})
producer.close_topics(topic)
producer.close()
