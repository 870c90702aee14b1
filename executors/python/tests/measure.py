"""Measures what a task costs: `python tests/measure.py ENGINE [CHILD]`. No test: figures of a machine are not asserted."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from typing import Any

from dispatcher import CHILD, HERE, PACKAGE, Dispatcher
from psbench_executors import frames

ENGINES: dict[str, tuple[str, dict[str, Any]]] = {
    "parsl-thread": ("parsl", {"executor": "thread"}),
    "parsl-htex": ("parsl", {"executor": "htex-local"}),
    "dask": ("dask", {}),
    "dask-threads": ("dask", {"use_threads": True}),
    "pool": ("python", {"factory": "concurrent.futures:ProcessPoolExecutor"}),
    "threads": ("python", {"factory": "concurrent.futures:ThreadPoolExecutor"}),
    "loky": ("python", {"factory": "loky:ProcessPoolExecutor"}),
}


def rate(dispatcher: Dispatcher, seconds: float, batch: int, size: int, window: int) -> float:
    """Tasks a second, with `window` batches at a time."""
    payload = bytes(size)
    sent = 0
    dispatcher.outcomes.clear()
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        parts: list[bytes] = []
        while sent - len(dispatcher.outcomes) < window * batch:
            for place in range(batch):
                more = frames.MORE if place + 1 < batch else 0
                parts += frames.pack(frames.TASK, more, sent, b"", payload)
                sent += 1
        frames.send(dispatcher.socket, parts)
        dispatcher.take()
    dispatcher.until(lambda: len(dispatcher.outcomes) == sent)
    return sent / (time.monotonic() - started)


def main(name: str, *program: str) -> None:
    engine, options = ENGINES[name]
    with tempfile.TemporaryDirectory() as run_dir:
        before = time.monotonic()
        with Dispatcher(engine, {**options, "run_dir": run_dir}, 4, program or CHILD) as dispatcher:
            dispatcher.start()
            dispatcher.greet(4, 500)
            print(f"{name}: {time.monotonic() - before:.1f} s to start {len(dispatcher.workers)} workers", flush=True)
            for batch, size in [(1, 1000), (16, 1000), (1, 100_000), (1, 10_000_000)]:
                window = 8 if size > 1_000_000 else 32
                figure = rate(dispatcher, 4, batch, size, window)
                print(f"{name}: {figure:.0f} tasks/s of {size} bytes in batches of {batch}", flush=True)
            print(f"{name}: {dispatcher.end()}", flush=True)


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join([str(PACKAGE), str(HERE)])
    main(*sys.argv[1:])
