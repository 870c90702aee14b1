"""A test double of `psbench worker`: answers each task with its payload, or does what the task's head says."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

from psbench_executors import frames

SETUP_FAILS = b"setup fails"
SETUP_EXITS = b"setup exits"


def obey(command: str, id: int, payload: bytes) -> tuple[int, bytes]:
    """Runs a task: returns flags and payload of its outcome."""
    word, _, argument = command.partition(" ")
    if word == "sleep":
        time.sleep(float(argument))
    elif word == "hold":
        gate = Path(argument)
        (gate / str(id)).touch()
        while not (gate / "open").exists():
            time.sleep(0.005)
    elif word == "fail":
        return frames.FAILED, argument.encode()
    elif word == "exit":
        os._exit(int(argument))
    elif word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif word == "print":
        print(argument, flush=True)
    elif word == "flood":
        print("x" * int(argument), flush=True)
    elif word == "pid":
        return 0, str(os.getpid()).encode()
    elif word == "make":
        return 0, bytes(int(argument))
    elif word:
        raise ValueError(command)
    return 0, payload


def main() -> None:
    peer = socket.socket(fileno=0)
    reader = frames.Reader(peer)
    setup = reader.next()
    if setup is None:
        return
    assert setup.kind == frames.SETUP
    if setup.payload == SETUP_FAILS:
        frames.send(peer, frames.pack(frames.READY, frames.FAILED, payload=b"no broker at example:1"))
        return
    if setup.payload == SETUP_EXITS:
        print("no such option\n", file=sys.stderr)
        sys.exit(7)
    frames.send(peer, frames.pack(frames.READY))
    done = 0
    while (frame := reader.next()) is not None:
        if frame.kind == frames.REPORT:
            frames.send(peer, frames.pack(frames.FINISH, payload=b"%d done" % done))
        elif frame.head == b"overdue":
            ids = frame.id.to_bytes(8, "little")
            frames.send(peer, frames.pack(frames.OVERDUE, id=frame.id, payload=ids))
            time.sleep(600)
        elif frame.head == b"nonsense":
            frames.send(peer, frames.pack(frames.GREETED, id=frame.id))
        elif frame.head == b"stranger":
            frames.send(peer, frames.pack(frames.OUTCOME, id=frame.id + 1))
        else:
            flags, payload = obey(frame.head.decode(), frame.id, frame.payload)
            frames.send(peer, frames.pack(frames.OUTCOME, flags, frame.id, b"", payload))
            done += 1


if __name__ == "__main__":
    main()
