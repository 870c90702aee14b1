"""The bridge: holds the executor of an engine, and feeds it with what psbench sends.

The main thread reads and submits, the writer (`writer.py`) answers, the lifeline sees to the end should the engine keep
the others from it. Whatever happens, no process that belongs to this bridge outlives it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from contextlib import suppress
from typing import Any, Final, NoReturn

from . import engines, frames, processes, worker
from .child import Task, Work
from .engines import Engine, EngineError, Watched, one_line
from .frames import Frame, ProtocolError
from .writer import Batch, Greeting, Job, Pilot, Refused, Writer

# Seconds that the engine gets to shut down: when psbench asks for the end, and when psbench is gone.
_SHUTDOWN_SECONDS: Final = 10
_GONE_SECONDS: Final = 2
# Seconds that children get to end by themselves, that the last answers get to leave, and that killing may take.
_PATIENCE_SECONDS: Final = 2
_FLUSH_SECONDS: Final = 2
_KILL_SECONDS: Final = 5
# How often the engine's service is looked at.
_LOOK_SECONDS: Final = 0.5


def main() -> NoReturn:
    """Serves the psbench that started this process, until it wants the end or is gone."""
    processes.adopt_orphans()
    try:
        peer = _take_socket()
    except OSError:
        sys.exit("standard input is not psbench's socket: this program is to be started by psbench")
    # What the engine prints is not to wait for an end that is abrupt.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    bridge = _Bridge(peer)
    # A terminal's Ctrl-C is psbench's business, for the engine's workers, too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: bridge.exit(128 + signal.SIGTERM))
    os.register_at_fork(after_in_child=lambda: _after_fork(peer))
    threading.Thread(target=bridge.watch, name="psbench-lifeline", daemon=True).start()
    try:
        bridge.serve()
    except EngineError:
        # psbench was told.
        bridge.exit(1)
    except (OSError, ProtocolError) as error:
        _tell(f"psbench broke off: {one_line(error)}")
    except Exception:
        _tell(traceback.format_exc())
    bridge.end()


def _tell(text: str) -> None:
    # Who would read it may be gone.
    with suppress(OSError):
        print(text, file=sys.stderr)


def _take_socket() -> socket.socket:
    """Moves the socket to a descriptor of its own, which programs that this one starts do not get."""
    peer = socket.socket(fileno=os.dup(0))
    if peer.family != socket.AF_UNIX:
        raise OSError
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return peer


def _after_fork(peer: socket.socket) -> None:
    # A worker that the engine forked must not end what the bridge has to, nor keep its stream open.
    peer.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Bridge:
    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._reader = frames.Reader(peer)
        self._writer = Writer(peer)
        self._engine: Engine | None = None
        self._program: list[str] = []
        self._marker = ""
        self._work: Work | None = None
        self._tasks: list[Task] = []
        # psbench asked for the end, rather than being gone.
        self._asked = threading.Event()
        # The engine is being shut down: what it does from now on is no fault.
        self._ending = threading.Event()

    def serve(self) -> None:
        """Does what the frames say, until the stream ends."""
        setup = self._reader.next()
        if setup is None:
            return
        if setup.kind != frames.SETUP:
            raise ProtocolError(f"a frame of kind {setup.kind} in place of the setup")
        self._start(json.loads(setup.payload))
        while (frame := self._reader.next()) is not None:
            self._take(frame)

    def _start(self, setup: dict[str, Any]) -> None:
        self._marker = setup["marker"]
        self._program = setup["program"]
        try:
            options = {**setup["options"], "owner": self._marker}
            self._engine = engines.make(setup["engine"], options, setup["workers"])
        except EngineError as error:
            self._writer.finish(frames.pack(frames.READY, frames.FAILED, payload=str(error).encode()), _FLUSH_SECONDS)
            raise
        self._writer.put(frames.pack(frames.READY))
        threading.Thread(target=self._watch_engine, args=(self._engine,), name="psbench-engine", daemon=True).start()

    def _watch_engine(self, engine: Engine) -> None:
        """Ends this process once the engine runs nothing any more: what it was given would wait for ever."""
        while not self._ending.wait(_LOOK_SECONDS):
            try:
                failure = self._writer.broken or (engine.look() if isinstance(engine, Watched) else None)
            except Exception:
                # It may be gone, or changed in what is looked at: the time limits remain.
                _tell(traceback.format_exc())
                return
            if failure and not self._ending.is_set():
                last = frames.pack(frames.READY, frames.FAILED, payload=failure.encode())
                self._writer.finish(last, _FLUSH_SECONDS, failure)
                self.exit(1)

    def _take(self, frame: Frame) -> None:
        if frame.kind == frames.TASK:
            self._tasks.append((frame.id, frame.head, frame.payload))
            if not frame.flags & frames.MORE:
                tasks, self._tasks = self._tasks, []
                self._submit(Batch([id for id, _, _ in tasks]), worker.run, self._program, self._known_work(), tasks)
        elif frame.kind == frames.WORK:
            self._work = (frame.id, frame.head, frame.payload, self._marker)
        elif frame.kind == frames.GREET:
            milliseconds = int.from_bytes(frame.payload, "little")
            self._submit(Greeting(frame.id), worker.greet, self._program, self._known_work(), milliseconds)
        elif frame.kind == frames.PLACE:
            program = json.loads(frame.payload)
            self._submit(Pilot(frame.id), worker.pilot, program["argv"], program["env"])
        elif frame.kind == frames.WITHDRAW:
            self._withdraw()
        elif frame.kind == frames.FINISH:
            self._asked.set()
        else:
            raise ProtocolError(f"a frame of kind {frame.kind}, which is not for a bridge")

    def _known_work(self) -> Work:
        if self._work is None:
            raise ProtocolError("a task before its work")
        return self._work

    def _submit(self, job: Job, function: Callable[..., Any], *args: Any) -> None:
        assert self._engine is not None
        try:
            future = self._engine.submit(function, *args)
        except Exception as error:
            if isinstance(error, BrokenExecutor):
                self._writer.broken = one_line(error)
            future = Future()
            future.set_exception(Refused(one_line(error)))
        self._writer.expect(job, future)

    def _withdraw(self) -> None:
        for job, future in self._writer.pending.copy().items():
            if isinstance(job, Batch):
                # Parsl's cannot be cancelled and say so.
                with suppress(NotImplementedError):
                    future.cancel()

    def end(self) -> NoReturn:
        """Shuts the engine down and ends this process."""
        asked = self._asked.is_set()
        self._ending.set()
        self._withdraw()
        if self._engine is not None:
            shutdown = threading.Thread(target=self._engine.shutdown, name="psbench-shutdown", daemon=True)
            shutdown.start()
            shutdown.join(_SHUTDOWN_SECONDS if asked else _GONE_SECONDS)
        worker.close_children()
        if not asked:
            self.exit(1)
        used = {"cpu_seconds": time.process_time(), "peak_memory_bytes": worker.peak_memory()}
        self._writer.finish(frames.pack(frames.FINISH, payload=json.dumps(used).encode()), _FLUSH_SECONDS)
        self.exit(0, _PATIENCE_SECONDS)

    def watch(self) -> None:
        """Ends this process in time after the stream's end, should the main thread not come to it."""
        hang_up = select.poll()
        hang_up.register(self._peer, select.POLLRDHUP)
        hang_up.poll()
        if self._asked.wait(_GONE_SECONDS + 1):
            time.sleep(_SHUTDOWN_SECONDS + _PATIENCE_SECONDS + _FLUSH_SECONDS)
        self.exit(1)

    def exit(self, code: int, patience: float = 0) -> NoReturn:
        """Ends this process at once, and those that belong to it."""
        processes.end_all(self._marker, _KILL_SECONDS, self._program, patience)
        # No hook and no thread of the engine's can hold this up.
        os._exit(code)
