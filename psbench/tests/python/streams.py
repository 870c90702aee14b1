"""ProxyStore's ends of a stream on Redis and Kafka, as the tests' programs use them."""

import signal

import confluent_kafka
from proxystore.connectors.endpoint import EndpointConnector
from proxystore.connectors.file import FileConnector
from proxystore.connectors.multi import MultiConnector, Policy
from proxystore.connectors.redis import RedisConnector
from proxystore.store import Store
from proxystore.stream.shims.kafka import KafkaPublisher, KafkaSubscriber
from proxystore.stream.shims.redis import (
    RedisPublisher,
    RedisQueuePublisher,
    RedisQueueSubscriber,
    RedisSubscriber,
)

# Ends a program whose other side never comes, seconds.
signal.alarm(300)



class ToKafka(KafkaPublisher):
    def __init__(self, host, port):
        super().__init__(confluent_kafka.Producer({"bootstrap.servers": f"{host}:{port}"}))


class FromKafka(KafkaSubscriber):
    """From the topic's beginning."""

    def __init__(self, host, port, topic):
        servers = f"{host}:{port}"
        client = confluent_kafka.Consumer(
            {"bootstrap.servers": servers, "group.id": "tests", "auto.offset.reset": "earliest"}
        )
        client.subscribe([topic])
        super().__init__(client)


PUBLISHERS = {"redis": RedisPublisher, "redis-queue": RedisQueuePublisher, "kafka": ToKafka}
SUBSCRIBERS = {"redis": RedisSubscriber, "redis-queue": RedisQueueSubscriber, "kafka": FromKafka}


def connector(place):
    """`redis:PORT`, `file:DIRECTORY`, `endpoint:UUID`, or `multi:PORT:DIRECTORY`: small objects in Redis, others in files."""
    kind, _, where = place.partition(":")
    if kind == "endpoint":
        return EndpointConnector([where])
    if kind == "multi":
        port, _, directory = where.partition(":")
        return MultiConnector(
            {
                "small": (connector(f"redis:{port}"), Policy(max_size_bytes=6000)),
                "large": (connector(f"file:{directory}"), Policy(min_size_bytes=6001)),
            }
        )
    if kind == "redis":
        return RedisConnector("127.0.0.1", int(where))
    return FileConnector(where, clear=False)


def store(place):
    return Store("test", connector(place), register=True)
