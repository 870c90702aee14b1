"""Executors that tests have the bridge use."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

not_callable = 5


class nested:
    pool = ThreadPoolExecutor


def pool(workers: int) -> Executor:
    return ProcessPoolExecutor(workers)


def one() -> Executor:
    """Takes no number of workers."""
    return ThreadPoolExecutor(1)


def raising() -> Executor:
    raise ValueError("no licence\nfor this host")


def nothing() -> None:
    pass


def hanging() -> Executor:
    Path(os.environ["PSBENCH_TEST_STARTING"]).touch()
    time.sleep(600)
    raise AssertionError


class Inline:
    """Runs nothing elsewhere; what is done to a future is up to those below."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.do(future, function, args)
        return future

    def do(self, future: Future[Any], function: Callable[..., Any], args: Any) -> None:
        future.set_result(function(*args))

    def shutdown(self) -> None:
        pass


class Refusing(Inline):
    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        raise RuntimeError("the queue\nis full")


class Failing(Inline):
    def do(self, future: Future[Any], function: Callable[..., Any], args: Any) -> None:
        future.set_exception(ValueError("cannot serialise\nthis"))


class Exiting(Inline):
    def do(self, future: Future[Any], function: Callable[..., Any], args: Any) -> None:
        future.set_exception(SystemExit(3))


class Fooling(Inline):
    def do(self, future: Future[Any], function: Callable[..., Any], args: Any) -> None:
        future.set_result({"a": 1})


class Printing(Inline):
    def do(self, future: Future[Any], function: Callable[..., Any], args: Any) -> None:
        print("chatter on stdout", flush=True)
        os.write(1, b"and on its descriptor\n")
        super().do(future, function, args)


class Silent(Inline):
    """Never ends a task, and does not let itself be shut down."""

    def do(self, future: Future[Any], function: Callable[..., Any], args: Any) -> None:
        future.set_running_or_notify_cancel()

    def shutdown(self) -> None:
        time.sleep(600)


class Queueing(Inline):
    """Runs the first task for as long as others wait."""

    def __init__(self) -> None:
        self._waiting: set[Future[Any]] = set()
        self._end: Callable[[], None] | None = None

    def do(self, future: Future[Any], function: Callable[..., Any], args: Any) -> None:
        if self._end is None:
            future.set_running_or_notify_cancel()
            self._end = lambda: future.set_result(function(*args))
        else:
            self._waiting.add(future)
            future.add_done_callback(self._withdrawn)

    def _withdrawn(self, future: Future[Any]) -> None:
        self._waiting.remove(future)
        if not self._waiting and self._end is not None:
            threading.Thread(target=self._end).start()


class Uncancellable(Inline):
    """As Parsl is."""

    class _Future(Future[Any]):
        def cancel(self) -> bool:
            raise NotImplementedError

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future = self._Future()
        threading.Timer(0.3, lambda: future.set_result(function(*args))).start()
        return future


class Shut(Inline):
    """Ends by itself after the first task."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future = self._pool.submit(function, *args)
        self._pool.shutdown(wait=False)
        return future


def littering(workers: int) -> Executor:
    """Starts processes that do not end with the bridge: one in a session of its own, one that hides its parent, one
    that has forgotten its environment."""
    sleep = "import time; time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", sleep], start_new_session=True)
    subprocess.Popen(["sh", "-c", f"setsid {sys.executable} -c '{sleep}' & exit"])
    subprocess.Popen(["sleep", "600"], env={"PATH": os.environ["PATH"]})
    return ThreadPoolExecutor(workers)


def stubborn(workers: int) -> Executor:
    """Leaves a thread that keeps Python from exiting."""
    threading.Thread(target=time.sleep, args=(600,)).start()
    return ThreadPoolExecutor(workers)
