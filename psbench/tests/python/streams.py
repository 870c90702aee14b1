"""ProxyStore's ends of a stream on Redis, as the tests' programs use them."""

from proxystore.connectors.file import FileConnector
from proxystore.connectors.redis import RedisConnector
from proxystore.store import Store
from proxystore.stream.shims.redis import (
    RedisPublisher,
    RedisQueuePublisher,
    RedisQueueSubscriber,
    RedisSubscriber,
)

PUBLISHERS = {"redis": RedisPublisher, "redis-queue": RedisQueuePublisher}
SUBSCRIBERS = {"redis": RedisSubscriber, "redis-queue": RedisQueueSubscriber}


def connector(place):
    """`redis:PORT` or `file:DIRECTORY`."""
    kind, _, where = place.partition(":")
    if kind == "redis":
        return RedisConnector("127.0.0.1", int(where))
    return FileConnector(where, clear=False)


def store(place):
    return Store("test", connector(place), register=True)
