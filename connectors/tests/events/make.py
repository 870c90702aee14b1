"""Writes the files beside it: batches of events as the real proxystore (0.8.3, with pydantic 2) pickles them, without the mark ahead."""

import pathlib

from proxystore.store.config import ConnectorConfig, StoreConfig
from proxystore.stream.events import (
    EndOfStreamEvent,
    EventBatch,
    NewObjectEvent,
    NewObjectKeyEvent,
    event_to_bytes,
)

REDIS = "proxystore.connectors.redis"
FILE = "proxystore.connectors.file"
ID = "2b41ae9d-8ff0-4f4f-92a5-84cc9b1ab5a7"


def store(kind, **options):
    return StoreConfig(name="s", connector=ConnectorConfig(kind=kind, options=options))


redis = store(f"{REDIS}.RedisConnector", hostname="localhost", port=6379, clear=False)
file = store(f"{FILE}.FileConnector", store_dir="/tmp/objects", clear=True, buffering=-1)
end = EndOfStreamEvent("t")
batches = {
    "redis_key": [NewObjectKeyEvent("t", f"{REDIS}.RedisKey", [ID], True, {"n": 1}, redis)],
    "file_key": [NewObjectKeyEvent("t", f"{FILE}.FileKey", [ID], False, {}, file)],
    "batch": [NewObjectKeyEvent("t", f"{REDIS}.RedisKey", [ID], True, {"n": n}, redis) for n in range(3)] + [end],
    "inline": [
        NewObjectEvent("t", b"abc", {}),
        NewObjectEvent("t", "text", {"x": 1.5}),
        NewObjectEvent("t", {"a": [1, (2,)], "s": {1}}, {}),
    ],
    "end": [end],
}
for name, events in batches.items():
    marked = event_to_bytes(EventBatch("t", events))
    (pathlib.Path(__file__).parent / name).write_bytes(marked.removeprefix(b"PK\n"))
