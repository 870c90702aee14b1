"""The psbench worker process that runs the tasks of one worker of an engine.

Its standard input is a socket over which frames travel. It gets a SETUP and answers READY; then it gets TASKs, which it
runs one after the other, each answered by an OUTCOME, and a REPORT, answered by a FINISH. It ends with the stream.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

from . import frames
from .frames import ProtocolError

# Generation, settings and setup of the work that tasks are for, and whose it is; and a task: id, head and payload.
Work = tuple[int, bytes, bytes, str]
Task = tuple[int, bytes, bytes]
# Flags and payload of an outcome frame.
Answer = tuple[int, bytes]

# So many seconds may pass until a child is ready: it may have to connect to servers first.
_READY_SECONDS: Final = 60
_END_SECONDS: Final = 2
_STOPPED_SECONDS: Final = 10
# A batch of at most so many bytes fits a socket's buffer, so that it can be sent while the child runs its tasks.
_CHUNK: Final = 64 << 10
_MAX_LOG: Final = 64 << 10
# A file of a child's output that is longer than this begins again.
_MAX_FILE: Final = 1 << 20


class ChildError(Exception):
    """Why there is no child."""


def how_it_ended(code: int) -> str:
    """In words, how a process with this return code of `subprocess` ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


class Child:
    """A worker process and the socket to it. One thread at a time uses it."""

    def __init__(self, program: Sequence[str], work: Work) -> None:
        """Starts a child and waits until it is ready."""
        self.work = work
        self.program = list(program)
        self._stopped_since: float | None = None
        # Why it was ended by force.
        self._verdict = ""
        self._output = tempfile.TemporaryFile(buffering=0)
        # The child and all that it starts write at the end, wherever that is after this side cut the file.
        fcntl.fcntl(self._output, fcntl.F_SETFL, fcntl.fcntl(self._output, fcntl.F_GETFL) | os.O_APPEND)
        self._output_read = 0
        self._socket, theirs = socket.socketpair()
        self._reader = frames.Reader(self._socket)
        with theirs:
            try:
                output = self._output.fileno()
                self._process = subprocess.Popen(program, stdin=theirs.fileno(), stdout=output, stderr=output)
            except OSError as error:
                self._socket.close()
                raise ChildError(f"cannot start {program[0]}: {error.strerror}") from None
        self.idle_since = 0.0
        # A process id may be used again, these two together are not.
        self.identity = (self._process.pid, time.monotonic_ns())
        try:
            self._set_up(work)
        except BaseException:
            self.close(0)
            raise

    def _set_up(self, work: Work) -> None:
        _, settings, setup, _ = work
        self._socket.settimeout(_READY_SECONDS)
        try:
            frames.send(self._socket, frames.pack(frames.SETUP, head=settings, payload=setup))
            answer = self._reader.next()
        except TimeoutError:
            raise ChildError(f"the worker was not ready within {_READY_SECONDS} s") from None
        except (OSError, ProtocolError):
            answer = None
        if answer is None:
            self.close(_END_SECONDS)
            last_words = self.output().decode(errors="replace").split("\n")
            printed = next((f": {line.strip()}" for line in reversed(last_words) if line.strip()), "")
            raise ChildError(f"the worker ended before it was ready, {self.end}{printed}")
        if answer.kind != frames.READY:
            raise ChildError(f"the worker sent a frame of kind {answer.kind} before it was ready")
        if answer.flags & frames.FAILED:
            raise ChildError(answer.text)
        self._socket.settimeout(None)

    @property
    def alive(self) -> bool:
        """Whether the child can be given tasks."""
        return self._process.poll() is None

    @property
    def end(self) -> str:
        """In words, how the child ended."""
        return self._verdict or how_it_ended(self._process.returncode)

    def end_if_stopped(self) -> None:
        """Ends the child if it stays stopped, as by SIGSTOP: its tasks would wait for ever. Called now and then, by another thread."""
        try:
            with open(f"/proc/{self._process.pid}/stat") as file:
                # The name of the program, in parentheses, may hold anything.
                stopped = file.read().rpartition(") ")[2].startswith("T")
        except OSError:
            return
        if not stopped:
            self._stopped_since = None
        elif self._stopped_since is None:
            self._stopped_since = time.monotonic()
        elif time.monotonic() - self._stopped_since >= _STOPPED_SECONDS:
            self._verdict = f"stopped (SIGSTOP) for {_STOPPED_SECONDS} s"
            self._process.kill()

    def run(self, tasks: Sequence[Task]) -> tuple[dict[int, Answer], bytes | None]:
        """Runs tasks; returns the answers to those that began, and what the child reported, `None` if it ended."""
        answers: dict[int, Answer] = {}
        sent = 0
        try:
            for chunk in _chunks(tasks):
                sent += len(chunk)
                parts = [part for id, head, payload in chunk for part in frames.pack(frames.TASK, 0, id, head, payload)]
                if sent == len(tasks):
                    parts += frames.pack(frames.REPORT)
                frames.send(self._socket, parts)
                waiting = {id for id, _, _ in chunk}
                while waiting:
                    if not self._read_answer(waiting, answers):
                        return answers, None
            if not tasks:
                frames.send(self._socket, frames.pack(frames.REPORT))
            report = self._reader.next()
            if report is not None and report.kind != frames.FINISH:
                raise ProtocolError(f"a frame of kind {report.kind} in place of a report")
            if report is not None:
                return answers, report.payload
            broken = None
        except (OSError, ProtocolError) as error:
            broken = error
        self.close(0 if isinstance(broken, ProtocolError) else _END_SECONDS)
        # It may have held back what it had to tell of tasks before the one with which it ended. Run again, they might find gone what
        # they had used up.
        reason = f"the worker broke the protocol: {broken}" if isinstance(broken, ProtocolError) else self.end
        for id, _, _ in tasks[:sent]:
            answers.setdefault(id, (frames.LOST, reason.encode()))
        return answers, None

    def _read_answer(self, waiting: set[int], answers: dict[int, Answer]) -> bool:
        """Moves a task from those that wait to those with an answer; says whether the child goes on."""
        frame = self._reader.next()
        if frame is None:
            raise ConnectionError
        if frame.kind not in (frames.OUTCOME, frames.OVERDUE) or len(frame.payload) % 8 and frame.kind == frames.OVERDUE:
            raise ProtocolError(f"a frame of kind {frame.kind} in place of an outcome")
        if frame.id not in waiting:
            raise ProtocolError(f"an outcome of task {frame.id}, which it does not run")
        waiting.remove(frame.id)
        if frame.kind == frames.OUTCOME:
            answers[frame.id] = (frame.flags & frames.FAILED, frame.payload)
            return True
        self.close(0)
        for (begun,) in struct.iter_unpack("<Q", frame.payload):
            answers.setdefault(begun, (frames.LOST, b"ended with a task that ran for too long"))
        answers[frame.id] = (frames.TIMED_OUT, b"ran for too long")
        return False

    def output(self) -> bytes:
        """What the child printed since this was last asked for."""
        size = os.fstat(self._output.fileno()).st_size
        left_out = size - self._output_read - _MAX_LOG
        if left_out == -_MAX_LOG:
            return b""
        text = os.pread(self._output.fileno(), _MAX_LOG, max(self._output_read, size - _MAX_LOG))
        self._output_read = size
        if size > _MAX_FILE:
            os.ftruncate(self._output.fileno(), 0)
            self._output_read = 0
        return b"(%d bytes left out)\n%b" % (left_out, text) if left_out > 0 else text

    def hang_up(self) -> None:
        """Asks the child to end, without waiting for it."""
        # It fails if the child has ended.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self, seconds: float) -> None:
        """Ends the child, which gets so long to do it by itself."""
        self.hang_up()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()

    def disown(self) -> None:
        """In a process that was forked: leaves the child to the process it came from."""
        self._socket.close()


def _chunks(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """The tasks in lots that can be sent without waiting for answers in between.

    A child that cannot send a large outcome reads no further task. One that has all its tasks, or is just reading the
    only one, does not keep the sender waiting for ever.
    """
    chunk: list[Task] = []
    size = 0
    for task in tasks:
        length = frames.HEADER.size + len(task[1]) + len(task[2])
        if chunk and size + length > _CHUNK:
            yield chunk
            chunk, size = [], 0
        chunk.append(task)
        size += length
    if chunk:
        yield chunk
