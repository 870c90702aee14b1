"""A test double of psbench's dispatcher: starts a bridge and talks to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Any, NamedTuple

from psbench_executors import frames
from psbench_executors.frames import Frame

HERE = Path(__file__).parent
CHILD = [sys.executable, str(HERE / "echo_child.py")]
PACKAGE = HERE.parent
_REPORT = Struct("<5Q")
# Begins the names of parameters that are engines.
ENGINE = "engine-"

# For what takes no time unless it hangs, on a machine that has other things to do.
PATIENCE = 120


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Gate:
    """A directory in which tasks leave a file when they begin, and wait for another one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def hold(self) -> str:
        """What a task does that waits here."""
        return f"hold {self._directory}"

    def wait_for(self, tasks: int) -> None:
        """Waits until so many tasks have begun."""
        until(lambda: len(os.listdir(self._directory)) >= tasks)

    def open(self) -> None:
        (self._directory / "open").touch()


class Outcome(NamedTuple):
    flags: int
    worker: int | None
    payload: bytes


class Report(NamedTuple):
    received: int
    answered: int
    cpu_nanoseconds: int
    peak_memory: int
    first: int


class Dispatcher:
    """One bridge and what it told."""

    def __init__(
        self,
        engine: str,
        options: dict[str, Any],
        workers: int = 2,
        program: Sequence[str] = CHILD,
        environment: dict[str, str] | None = None,
        output: int | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.marker = f"PSBENCH_RUN={uuid.uuid4()}"
        name, _, value = self.marker.partition("=")
        self.socket, theirs = socket.socketpair()
        self.log = open(os.path.join("/tmp", f"psbench-test-{value}.log"), "w+b")
        os.unlink(self.log.name)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "psbench_executors", "bridge"],
                stdin=theirs,
                stdout=output or self.log,
                stderr=output or self.log,
                env={**os.environ, name: value, **(environment or {})},
                start_new_session=True,
                cwd=cwd,
            )
        self.socket.settimeout(PATIENCE)
        self._reader = frames.Reader(self.socket)
        self.outcomes: dict[int, Outcome] = {}
        self.workers: dict[int, dict[str, Any]] = {}
        self.reports: list[tuple[int, Report, bytes]] = []
        self.greeted: dict[int, tuple[int, bytes, bytes]] = {}
        self.ended: dict[int, tuple[int, bytes]] = {}
        self.gone: dict[int, bytes] = {}
        self.printed: dict[int, bytes] = {}
        self.ready: Frame | None = None
        self.finish: dict[str, Any] | None = None
        setup = {"engine": engine, "options": options, "workers": workers, "program": program, "marker": self.marker}
        self.send(frames.SETUP, payload=json.dumps(setup).encode())

    def __enter__(self) -> Dispatcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self.log.seek(0)
            sys.stderr.write(self.log.read().decode(errors="replace"))
            self.log.close()

    def send(self, kind: int, flags: int = 0, id: int = 0, head: bytes = b"", payload: bytes = b"") -> None:
        frames.send(self.socket, frames.pack(kind, flags, id, head, payload))

    def work(self, generation: int = 0, setup: bytes = b"setup") -> None:
        self.send(frames.WORK, id=generation, head=bytes(12), payload=setup)

    def batch(self, tasks: Iterable[tuple[int, str, bytes]]) -> None:
        tasks = list(tasks)
        for place, (id, command, payload) in enumerate(tasks, 1):
            more = frames.MORE if place < len(tasks) else 0
            self.send(frames.TASK, more, id, command.encode(), payload)

    def take(self) -> Frame | None:
        """Reads one frame."""
        frame = self._reader.next()
        if frame is None:
            return None
        worker = int.from_bytes(frame.head, "little") if frame.head else None
        match frame.kind:
            case frames.READY:
                self.ready = frame
            case frames.WORKER:
                assert frame.id == len(self.workers)
                self.workers[frame.id] = json.loads(frame.payload)
            case frames.OUTCOME:
                assert frame.id not in self.outcomes, "a second outcome"
                assert worker is None or worker in self.workers, "a worker that was not introduced"
                self.outcomes[frame.id] = Outcome(frame.flags, worker, frame.payload)
            case frames.REPORT:
                assert frame.id in self.workers
                self.reports.append((frame.id, Report(*_REPORT.unpack(frame.head)), frame.payload))
            case frames.GREETED:
                self.greeted[frame.id] = (frame.flags, frame.head, frame.payload)
            case frames.ENDED:
                self.ended[frame.id] = (frame.flags, frame.payload)
            case frames.GONE:
                assert frame.id in self.workers and frame.id not in self.gone
                self.gone[frame.id] = frame.payload
            case frames.LOG:
                self.printed[frame.id] = self.printed.get(frame.id, b"") + frame.payload
            case frames.FINISH:
                self.finish = json.loads(frame.payload)
            case _:
                raise AssertionError(f"a frame of kind {frame.kind}")
        return frame

    def until(self, condition: Callable[[], bool]) -> None:
        """Reads until the condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            assert self.take() is not None, "the bridge ended"
        self.socket.settimeout(PATIENCE)

    def start(self) -> Dispatcher:
        """Waits until the engine is there, and announces work."""
        self.until(lambda: self.ready is not None)
        assert self.ready is not None
        assert not self.ready.flags, self.ready.text
        self.work()
        return self

    def refusal(self) -> str:
        """Waits for the line that says why the engine is not there."""
        self.until(lambda: self.ready is not None)
        assert self.ready is not None
        assert self.ready.flags == frames.FAILED
        text = self.ready.text
        assert text and "\n" not in text
        return text

    def run(self, *batches: Iterable[tuple[int, str, bytes]]) -> dict[int, Outcome]:
        """Sends batches and waits for the outcomes of all."""
        self.outcomes.clear()
        count = 0
        for tasks in batches:
            tasks = list(tasks)
            count += len(tasks)
            self.batch(tasks)
        self.until(lambda: len(self.outcomes) == count)
        return dict(self.outcomes)

    def greet(self, count: int, milliseconds: int) -> None:
        self.greeted.clear()
        for id in range(count):
            self.send(frames.GREET, id=id, payload=milliseconds.to_bytes(4, "little"))
        self.until(lambda: len(self.greeted) == count)

    def meet(self, count: int) -> int:
        """Greets until so many workers were met, each time for longer: a busy machine may have one do for two. Returns how often."""
        met: set[bytes] = set()
        rounds, stay = 0, 250
        while len(met) < count:
            self.greet(count, stay)
            assert all(flags == 0 for flags, _, _ in self.greeted.values()), self.greeted
            met.update(head for _, head, _ in self.greeted.values())
            rounds, stay = rounds + 1, min(2 * stay, 4000)
        assert len(met) == count
        return rounds

    def end(self) -> dict[str, Any]:
        """Asks for the end and waits for it: returns what the bridge used."""
        self.ask_for_the_end()
        return self.see_the_end()

    def ask_for_the_end(self) -> None:
        self.send(frames.FINISH)
        self.socket.shutdown(socket.SHUT_WR)

    def see_the_end(self) -> dict[str, Any]:
        """Waits for the end that was asked for."""
        while self.take() is not None:
            pass
        assert self.process.wait(PATIENCE) == 0
        assert self.finish is not None
        assert self.left() == []
        return self.finish

    def left(self) -> list[int]:
        """Processes of this bridge that still run."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                environment = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if self.marker.encode() in environment.split(b"\0"):
                found.append(int(name))
        return found
