"""Produces what no single StreamProducer does: BROKER PORT TOPIC {mixed,values,raw,code,garbage}."""

import os
import pickle
import sys

from proxystore.connectors.local import LocalConnector
from proxystore.store import Store
from proxystore.store.config import ConnectorConfig, StoreConfig
from proxystore.stream.events import EndOfStreamEvent, EventBatch, NewObjectEvent, NewObjectKeyEvent, event_to_bytes
from streams import PUBLISHERS, store

broker, port, topic, what = sys.argv[1:]
publisher = PUBLISHERS[broker]("127.0.0.1", int(port))


def key_event(store, key, evict=True):
    return NewObjectKeyEvent.from_key(key, evict=evict, metadata={}, store_config=store.config(), topic=topic)


def unusable(**fields):
    event = key_event(kept, kept.put(b"left behind"))
    for name, value in fields.items():
        setattr(event, name, value)
    return event


if what == "mixed":
    kept = store(f"redis:{port}")
    local = Store("local", LocalConnector(), register=True)
    events = [
        NewObjectEvent(topic, b"in full", {}),
        NewObjectEvent(topic, "as text", {}),
        key_event(kept, kept.put(b"by proxy")),
        # A dictionary is stored pickled: opaque bytes to others.
        key_event(kept, kept.put({"a": 1})),
        NewObjectEvent(topic, {"a": 1}, {}),
        unusable(raw_key=["no-uuid"]),
        unusable(store_config=StoreConfig(name="m", connector=ConnectorConfig(kind="a.b.MargoConnector"))),
        key_event(local, local.put(b"elsewhere")),
        EndOfStreamEvent(topic),
    ]
    publisher.send_message(topic, event_to_bytes(EventBatch(topic, events)))
elif what == "values":
    import collections
    import datetime

    import numpy

    values = [
        {"a": [1, (2.5, None)]},
        7,
        None,
        numpy.arange(1000.0),
        numpy.float32(1.5),
        collections.OrderedDict(a=1),
        collections.deque([1, 2]),
        {1, 2},
        datetime.datetime(2025, 1, 1),
        lambda: 1,
    ]
    # Where one can only be pickled by cloudpickle, the whole batch is.
    for batch in (values[:-1], values[-1:] + values[:1]):
        events = [NewObjectEvent(topic, value, {"n": numpy.int64(1)}) for value in batch]
        publisher.send_message(topic, event_to_bytes(EventBatch(topic, events)))
    publisher.send_message(topic, event_to_bytes(EventBatch(topic, [EndOfStreamEvent(topic)])))
elif what == "raw":
    for n in range(5):
        publisher.send_message(topic, bytes([n]) * 1000)
    publisher.send_message(topic, b"<publisher-close-topic-sentinal>")
elif what == "code":

    class Code:
        def __reduce__(self):
            return os.system, ("touch executed",)

    publisher.send_message(topic, b"PK\n" + pickle.dumps({"events": [Code()], "event_type": "EVENT_BATCH"}))
publisher.close()
