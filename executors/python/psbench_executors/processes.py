"""The processes that a bridge is answerable for."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Sequence
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36
_POLL_SECONDS: Final = 0.02


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose own parent ends, where the system can."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (OSError, AttributeError):
        # The environment of a process still tells whose it is.
        pass


def end_all(marker: str, seconds: float, program: Sequence[str] = (), patience: float = 0) -> None:
    """Kills all processes that descend from this one or were started with the variable `marker`, until there is none.

    Those that run `program` first get some seconds to end by themselves, since they have things to put in order.
    """
    command = "".join(f"{argument}\0" for argument in program).encode()
    patience += time.monotonic()
    while time.monotonic() < patience and any(_read(pid, "cmdline") == command for pid in _ours(marker)):
        time.sleep(_POLL_SECONDS)
    seconds += time.monotonic()
    while time.monotonic() < seconds and (pids := _ours(marker)):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        _reap()
        time.sleep(_POLL_SECONDS)
    _reap()


def _ours(marker: str) -> list[int]:
    """Not only the descendants: where orphans are not adopted, the variable tells. Not only those that have it: a process
    may overwrite its environment with its title."""
    found = set()
    parents = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        pid = int(name)
        # The name of the program, in parentheses, may hold anything.
        state, _, rest = _read(pid, "stat").rpartition(b") ")[2].partition(b" ")
        if state in (b"", b"Z", b"X"):
            continue
        parents[pid] = int(rest.split()[0])
        # An environment that cannot be read, or a process that has none, is one empty variable: nobody's.
        if marker and marker.encode() in _read(pid, "environ").split(b"\0"):
            found.add(pid)
    this = os.getpid()
    for pid in parents:
        line = [pid]
        while (parent := parents.get(line[-1], 0)) > 1 and line[-1] not in found and line[-1] != this:
            line.append(parent)
        if line[-1] == this or line[-1] in found:
            found.update(line)
    found.discard(this)
    return list(found)


def _read(pid: int, file: str) -> bytes:
    """A file of a process, empty if it is gone or another user's."""
    try:
        with open(f"/proc/{pid}/{file}", "rb") as opened:
            return opened.read()
    except OSError:
        return b""


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
