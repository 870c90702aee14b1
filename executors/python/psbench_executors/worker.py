"""What the bridge has an engine run on its workers."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from . import frames
from .child import Child, ChildError, Task, Work, how_it_ended

_TAIL: Final = 4 << 10


class Reply(NamedTuple):
    """What came of a batch. Of plain types, so that it travels quickly."""

    host: str
    # Two processes whose clocks can be compared have the same text here.
    clock: str
    engine_pid: int
    # Process id and start of each child that took part.
    children: list[tuple[int, int]]
    # Process id and start of each child that was found to have ended without a batch, and how.
    gone: list[tuple[int, int, bytes]]
    # In the order of the tasks: place in `children` or -1, flags, payload.
    outcomes: list[tuple[int, int, bytes]]
    # What the last child reported, and what each printed.
    report: bytes
    printed: list[bytes]
    # `time.monotonic_ns()` when the batch was received and when it was answered.
    received: int
    answered: int
    # What this process used until now.
    cpu_nanoseconds: int
    peak_memory: int


class Ending(NamedTuple):
    """How a pilot ended."""

    # `None` if it exited with 0.
    failure: str | None
    printed: bytes


def run(program: Sequence[str], work: Work, tasks: Sequence[Task]) -> Reply:
    """Runs a batch of tasks in a child, or in several if one ends with a task."""
    batch = _Batch(program, work)
    outcomes: dict[int, tuple[int, int, bytes]] = {}
    left = tasks
    while left:
        child = batch.take_child()
        if child is None:
            outcomes |= {id: (-1, frames.LOST, batch.problem) for id, _, _ in left}
            break
        number = len(batch.children) - 1
        answers, report = child.run(left)
        batch.give_back(child, report)
        outcomes |= {id: (number, flags, payload) for id, (flags, payload) in answers.items()}
        left = [task for task in left if task[0] not in outcomes]
    return batch.reply([outcomes[id] for id, _, _ in tasks])


def greet(program: Sequence[str], work: Work, milliseconds: int) -> Reply:
    """Makes sure that this worker has a child, and keeps the worker for a time: other greetings go to others."""
    batch = _Batch(program, work)
    child = batch.take_child()
    if child is None:
        return batch.reply([(-1, frames.FAILED, batch.problem)])
    time.sleep(milliseconds / 1000)
    # What it has used by now is not the first batch's.
    _, report = child.run([])
    batch.give_back(child, report)
    return batch.reply([(0, 0, b"")])


def pilot(argv: Sequence[str], env: Mapping[str, str]) -> Ending:
    """Runs a program to its end."""
    # Nothing is raised: engines log the arguments of a task that fails, and one here is a secret.
    try:
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                argv, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            code = process.wait()
            size = output.seek(0, os.SEEK_END)
            output.seek(max(0, size - _TAIL))
            return Ending(how_it_ended(code) if code else None, output.read())
    except OSError as error:
        return Ending(f"cannot start {argv[0]}: {error.strerror}", b"")


class Tether:
    """Kept by an engine for as long as it has its client: with it the children end that run the client's tasks.

    One that the engine copies to another place, or to a disk, ties nothing any more: its end tells nothing of the client's.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._copied = False

    def __reduce__(self) -> tuple[type[Tether], tuple[str]]:
        self._copied = True
        return Tether, (self._owner,)

    def __del__(self) -> None:
        if not self._copied:
            _pool.release(self._owner)


class _Batch:
    """Makes the reply to a batch."""

    def __init__(self, program: Sequence[str], work: Work) -> None:
        self._received = time.monotonic_ns()
        self._program = program
        self._work = work
        self.children: list[tuple[int, int]] = []
        self._gone: list[tuple[int, int, bytes]] = []
        self._printed: list[bytes] = []
        self._report = b""
        # Why there is no child.
        self.problem = b""

    def take_child(self) -> Child | None:
        try:
            child = _pool.take(self._program, self._work, self._gone)
        except ChildError as error:
            self.problem = str(error).encode()
            return None
        self.children.append(child.identity)
        return child

    def give_back(self, child: Child, report: bytes | None) -> None:
        self._printed.append(child.output())
        if report is None:
            _pool.forget(child)
        else:
            self._report = report
            _pool.give_back(child)

    def reply(self, outcomes: list[tuple[int, int, bytes]]) -> Reply:
        return Reply(
            _host,
            _clock,
            os.getpid(),
            self.children,
            self._gone,
            outcomes,
            self._report,
            self._printed,
            self._received,
            time.monotonic_ns(),
            time.process_time_ns(),
            peak_memory(),
        )


class _Pool:
    """The children of this process. An engine whose workers are threads runs several batches at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # The one that was last used is last.
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        # Those that were ended since they were idle for long, and whoever takes a child next is to tell of.
        self._gone: list[tuple[int, int, bytes]] = []
        # Whose run has ended.
        self._released: set[str] = set()
        self._watched = False

    def take(self, program: Sequence[str], work: Work, gone: list[tuple[int, int, bytes]]) -> Child:
        """An idle child of this work, or a new one. Adds to `gone` those that have ended meanwhile, so that it is not one more."""
        if work[3] in self._released:
            raise ChildError("the run that it is of has ended")
        while True:
            with self._lock:
                child = self._idle.pop() if self._idle else None
                gone += self._gone
                self._gone.clear()
            if child is None:
                child = Child(program, work)
                with self._lock:
                    self._all.add(child)
                    if not self._watched:
                        self._watched = True
                        threading.Thread(target=self._watch, name="psbench-watch", daemon=True).start()
                return child
            if child.work == work and child.program == list(program) and child.alive:
                return child
            # That of an older work, or it ended while it was idle.
            self.forget(child)
            if not child.alive:
                gone.append((*child.identity, child.end.encode()))
            child.close(_CLOSE_SECONDS)

    def give_back(self, child: Child) -> None:
        child.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(child)

    def _watch(self) -> None:
        """Ends children that stay stopped, and those that have been idle for long: workers of an engine may outlive psbench by days."""
        while True:
            time.sleep(_LOOK_SECONDS)
            for child in self.children():
                child.end_if_stopped()
            with self._lock:
                since = time.monotonic() - _IDLE_SECONDS
                old = [child for child in self._idle if child.idle_since < since]
                self._idle = self._idle[len(old) :]
                self._gone += [(*child.identity, b"idle for %d s" % _IDLE_SECONDS) for child in old]
                released = [child for child in self._idle if child.work[3] in self._released]
                self._idle = [child for child in self._idle if child not in released]
                old += released
            for child in old:
                self.forget(child)
                child.close(_CLOSE_SECONDS)

    def release(self, owner: str) -> None:
        """Asks the children of an owner whose run has ended to end, and has no others. Takes no lock: whoever drops the last
        reference to a tether may hold it."""
        self._released.add(owner)
        for child in self.children():
            if child.work[3] == owner:
                child.hang_up()

    def forget(self, child: Child) -> None:
        with self._lock:
            self._all.discard(child)

    def children(self) -> list[Child]:
        """All of them, also those that run a batch."""
        # Without the lock, which a fork may have left held. Copying a set is one step of the interpreter's.
        return list(self._all)


def tether(owner: str) -> Tether:
    """Ties the children of an owner on this worker to what is returned."""
    return Tether(owner)


def close_children() -> None:
    """Asks the children of this process to end."""
    for child in _pool.children():
        child.hang_up()


def peak_memory() -> int:
    """The most memory that this process had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _after_fork() -> None:
    # The children are those of the process that was forked: a copy of a socket here would keep them from ending.
    global _pool
    for child in _pool.children():
        child.disown()
    _pool = _Pool()


def _read_clock() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
    except OSError:
        boot = "unknown"
    try:
        # In a time namespace CLOCK_MONOTONIC is another.
        namespace = os.stat("/proc/self/ns/time").st_ino
    except OSError:
        namespace = 0
    return f"{boot}:{namespace}"


_CLOSE_SECONDS: Final = 2
_IDLE_SECONDS: Final = 60
# How often children are looked at.
_LOOK_SECONDS: Final = 2
_host: Final = socket.gethostname()
_clock: Final = _read_clock()
_pool = _Pool()
os.register_at_fork(after_in_child=_after_fork)
