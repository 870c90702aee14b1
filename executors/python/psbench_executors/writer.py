"""The bridge's way back to psbench."""

from __future__ import annotations

import json
import socket
import threading
import time
import traceback
from collections import deque
from concurrent.futures import BrokenExecutor, CancelledError, Future
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

from . import frames
from .engines import one_line
from .worker import Ending, Reply

_INDEX: Final = Struct("<I")
_REPORT: Final = Struct("<5Q")

# So many parts leave together at most.
_MAX_PARTS: Final = 1024
# Answers wait for others at most so long, and only while the engine has this many times as many jobs that are not done.
_LINGER_SECONDS: Final = 0.001
_PATIENT: Final = 4


@dataclass(eq=False, slots=True)
class Batch:
    """Tasks that the engine runs as one."""

    ids: list[int]


@dataclass(eq=False, slots=True)
class Greeting:
    """A worker that the engine is asked for."""

    id: int


@dataclass(eq=False, slots=True)
class Pilot:
    """A program that the engine places on a worker."""

    id: int


Job = Batch | Greeting | Pilot


class Refused(Exception):
    """The engine did not take a job."""


class Lost(Exception):
    """A job went with the engine."""


class Writer:
    """Turns what an engine returned into frames: one answer to each task, always.

    Whichever thread of the engine's brings something sends it, with what others bring meanwhile. A thread that only writes would cost
    each task a change of threads, which is more than the sending. Where answers come thick and fast they wait for one another: a
    system call for each, and Python's lock after it, took a third of a process pool's time.
    """

    def __init__(self, peer: socket.socket) -> None:
        # Jobs that the engine has. The main thread adds them, whoever answers takes them away.
        self.pending: dict[Job, Future[Any]] = {}
        # Why the engine runs nothing any more, once a job has told.
        self.broken = ""
        self._peer = peer
        self._queue: deque[tuple[Job, Future[Any]] | list[bytes]] = deque()
        # Who holds it sends, and looks at the queue again after letting go of it.
        self._line = threading.Lock()
        self._workers: dict[tuple[str, int, int, int], int] = {}
        self._sent = 0.0
        self._lingers = threading.Event()
        threading.Thread(target=self._end_lingering, name="psbench-linger", daemon=True).start()

    def put(self, parts: list[bytes]) -> None:
        """Sends a frame."""
        self._queue.append(parts)
        self._send()

    def expect(self, job: Job, future: Future[Any]) -> None:
        """Answers for this job once the future is done."""
        self.pending[job] = future
        future.add_done_callback(lambda done: self._done(job, done))

    def finish(
        self, last: list[bytes], seconds: float, reason: str = "the engine was shut down before the task ended"
    ) -> None:
        """Sends the rest, for jobs that are not done that they are lost for this reason, and a last frame: as far as that goes in so
        many seconds."""
        thread = threading.Thread(target=self._finish, args=(last, reason), name="psbench-finish", daemon=True)
        thread.start()
        thread.join(seconds)

    def _finish(self, last: list[bytes], reason: str) -> None:
        # Who sends at the moment may be held up, or about to send what comes here.
        with self._line:
            self._drain()
            for job in list(self.pending):
                future: Future[Any] = Future()
                future.set_exception(Lost(reason))
                self._queue.append((job, future))
            self._queue.append(last)
            self._drain()

    def _done(self, job: Job, future: Future[Any]) -> None:
        self._queue.append((job, future))
        if len(self._queue) * _PATIENT >= len(self.pending) or time.monotonic() - self._sent >= _LINGER_SECONDS:
            self._send()
        else:
            self._lingers.set()

    def _end_lingering(self) -> None:
        while self._lingers.wait():
            self._lingers.clear()
            time.sleep(_LINGER_SECONDS)
            self._send()

    def _send(self) -> None:
        self._sent = time.monotonic()
        while self._queue and self._line.acquire(blocking=False):
            try:
                self._drain()
            finally:
                self._line.release()

    def _drain(self) -> None:
        """Sends what is queued, with the line held."""
        try:
            parts: list[bytes] = []
            while self._queue:
                item = self._queue.popleft()
                parts += item if isinstance(item, list) else self._answer(*item)
                if not self._queue or len(parts) >= _MAX_PARTS:
                    frames.send(self._peer, parts)
                    parts = []
        except OSError:
            # psbench is gone, which the bridge notices.
            self._queue.clear()
        except Exception:
            # Nothing would be answered any more: psbench has to know.
            traceback.print_exc()
            self._peer.shutdown(socket.SHUT_RDWR)

    def _answer(self, job: Job, future: Future[Any]) -> list[bytes]:
        if self.pending.pop(job, None) is None:
            return []
        result, flags, problem = self._outcome(future)
        if isinstance(job, Pilot):
            return self._answer_pilot(job, result, problem)
        if isinstance(job, Greeting):
            return self._answer_greeting(job, result, problem)
        if isinstance(result, Reply) and len(result.outcomes) == len(job.ids):
            return self._answer_batch(job, result)
        text = (problem or f"the engine returned a {type(result).__name__} in place of a reply").encode()
        return [part for id in job.ids for part in frames.pack(frames.OUTCOME, flags or frames.LOST, id, b"", text)]

    def _answer_batch(self, job: Batch, reply: Reply) -> list[bytes]:
        # The report comes first, since it tells how to read the times in the outcomes.
        heads, parts = self._introduce(reply, job.ids[0])
        for id, (child, flags, payload) in zip(job.ids, reply.outcomes):
            parts += frames.pack(frames.OUTCOME, flags, id, heads[child] if child >= 0 else b"", payload)
        return parts

    def _answer_greeting(self, job: Greeting, reply: Any, problem: str) -> list[bytes]:
        if not isinstance(reply, Reply):
            text = problem or f"the engine returned a {type(reply).__name__} in place of a reply"
            return frames.pack(frames.GREETED, frames.FAILED, job.id, b"", text.encode())
        heads, parts = self._introduce(reply, job.id)
        _, flags, payload = reply.outcomes[0]
        return parts + frames.pack(frames.GREETED, flags, job.id, b"" if flags else heads[0], payload)

    def _answer_pilot(self, job: Pilot, ending: Any, problem: str) -> list[bytes]:
        if not isinstance(ending, Ending):
            failure, printed = problem or f"the engine returned a {type(ending).__name__}", b""
        else:
            failure, printed = ending.failure or "", ending.printed
        flags, payload = (frames.FAILED, f"{failure}\n".encode() + printed) if failure else (0, printed)
        return frames.pack(frames.ENDED, flags, job.id, b"", payload)

    def _introduce(self, reply: Reply, first: int) -> tuple[list[bytes], list[bytes]]:
        """The index of each child of a reply, as the head of an outcome; and what psbench is told ahead of the outcomes: of children
        that are gone, of those that it does not know, what they printed, and the report."""
        heads: list[bytes] = []
        parts: list[bytes] = []
        for pid, started, end in reply.gone:
            # One of which nothing was told is nobody's worker.
            if (index := self._workers.get((reply.host, reply.engine_pid, pid, started))) is not None:
                parts += frames.pack(frames.GONE, 0, index, b"", end)
        for (pid, started), printed in zip(reply.children, reply.printed):
            key = (reply.host, reply.engine_pid, pid, started)
            index = self._workers.get(key)
            if index is None:
                index = self._workers[key] = len(self._workers)
                about = {"host": reply.host, "pid": pid, "engine_pid": reply.engine_pid, "clock": reply.clock}
                parts += frames.pack(frames.WORKER, 0, index, b"", json.dumps(about).encode())
            if printed:
                parts += frames.pack(frames.LOG, 0, index, b"", printed)
            heads.append(_INDEX.pack(index))
        # A batch that reached no child has none to tell of.
        if heads:
            head = _REPORT.pack(reply.received, reply.answered, reply.cpu_nanoseconds, reply.peak_memory, first)
            parts += frames.pack(frames.REPORT, 0, int.from_bytes(heads[-1], "little"), head, reply.report)
        return heads, parts

    def _outcome(self, future: Future[Any]) -> tuple[Any, int, str]:
        """The result of a future; else the flags of its tasks and why there is none."""
        try:
            return future.result(), 0, ""
        except CancelledError:
            return None, frames.NOT_RUN, "withdrawn before it began"
        except Refused as error:
            return None, frames.NOT_RUN, str(error)
        except Lost as error:
            return None, frames.LOST, str(error)
        except BaseException as error:
            if isinstance(error, BrokenExecutor):
                self.broken = one_line(error)
            return None, frames.LOST, one_line(error)
