"""What travels between psbench and the bridge, and between an engine's worker and its child.

A frame is a little-endian header of 24 bytes, then a head, then a payload:

    0       kind
    1       flags
    2-3     0
    4-7     length of the head
    8-15    length of the payload
    16-23   id
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from itertools import islice
from struct import Struct
from typing import Final, NamedTuple

SETUP: Final = 1
TASK: Final = 2
CANCEL: Final = 3
READY: Final = 4
OUTCOME: Final = 5
OVERDUE: Final = 6
FINISH: Final = 7
REPORT: Final = 8
WORK: Final = 9
GREET: Final = 10
PLACE: Final = 11
WITHDRAW: Final = 12
WORKER: Final = 13
ENDED: Final = 14
LOG: Final = 15
GREETED: Final = 16
GONE: Final = 17

EXCLUSIVE: Final = 1
FAILED: Final = 2
MORE: Final = 4
LOST: Final = 8
NOT_RUN: Final = 16
TIMED_OUT: Final = 32

MAX_HEAD: Final = 16 << 20
MAX_PAYLOAD: Final = 4 << 30
# Outcomes are small by nature, and many wait in memory at a time.
MAX_OUTCOME: Final = 256 << 20

HEADER: Final = Struct("<BBHIQQ")

# Payloads from this size on travel without a copy; below it, one system call less is worth more than one copy less.
LARGE: Final = 32 << 10
# More than this at a time, and malloc would map and unmap memory for each `recv`.
_READ_AHEAD: Final = 64 << 10
# Linux moves no more than 2 GiB in one call.
_MAX_RECV: Final = 1 << 30
# Linux's IOV_MAX.
_MAX_PARTS: Final = 1024


class ProtocolError(Exception):
    """The peer sent something that makes no sense."""


class Frame(NamedTuple):
    """One message."""

    kind: int
    flags: int
    id: int
    head: bytes
    payload: bytes

    @property
    def text(self) -> str:
        """The payload of a frame that tells of a failure."""
        return self.payload.decode(errors="replace")


def pack(kind: int, flags: int = 0, id: int = 0, head: bytes = b"", payload: bytes = b"") -> list[bytes]:
    """The parts in which a frame travels; a large payload is one of them, not copied."""
    header = HEADER.pack(kind, flags, 0, len(head), len(payload), id)
    return [header + head, payload] if len(payload) >= LARGE else [header + head + payload]


def send(peer: socket.socket, parts: Iterable[bytes]) -> None:
    """Sends all the parts, in as few system calls as they need."""
    left = iter(parts)
    while batch := list(islice(left, _MAX_PARTS)):
        sent = peer.sendmsg(batch)
        # A signal may interrupt a send halfway.
        for part in batch:
            if sent < len(part):
                peer.sendall(memoryview(part)[sent:])
            sent = max(0, sent - len(part))


class Reader:
    """Reads frames: many small ones with one system call, large payloads straight into memory of their own."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._buffer = b""
        self._at = 0
        self._large = False

    def next(self) -> Frame | None:
        """The next frame, `None` at the end of the stream."""
        if not self._read_header():
            return None
        buffer, at = self._buffer, self._at
        kind, flags, _, head, payload, id = HEADER.unpack_from(buffer, at)
        if not SETUP <= kind <= GONE:
            raise ProtocolError(f"a frame of unknown kind {kind}")
        if head > MAX_HEAD:
            raise ProtocolError(f"a frame of kind {kind} with a head of {head} bytes, more than {MAX_HEAD}")
        if payload > (limit := MAX_OUTCOME if kind == OUTCOME else MAX_PAYLOAD):
            raise ProtocolError(f"a frame of kind {kind} with a payload of {payload} bytes, more than {limit}")
        start = at + HEADER.size
        middle, end = start + head, start + head + payload
        self._large = payload >= LARGE
        if end <= len(buffer):
            self._at = end
            return Frame(kind, flags, id, buffer[start:middle], buffer[middle:end])
        self._at = start
        return Frame(kind, flags, id, self._take(head), self._take(payload))

    def _read_header(self) -> bool:
        """Makes sure that the buffer holds a header; says whether there is one."""
        while len(self._buffer) - self._at < HEADER.size:
            rest = self._buffer[self._at :]
            # After a large payload comes another, as a rule: what is read ahead of it would have to be copied.
            more = self._peer.recv(HEADER.size - len(rest) if self._large else _READ_AHEAD)
            if not more:
                if rest:
                    raise ProtocolError("the stream ended within a frame")
                return False
            self._buffer, self._at = rest + more, 0
        return True

    def _take(self, length: int) -> bytes:
        parts = [self._buffer[self._at : self._at + length]]
        self._at += len(parts[0])
        left = length - len(parts[0])
        while left:
            part = self._peer.recv(min(left, _MAX_RECV), socket.MSG_WAITALL)
            if not part:
                raise ProtocolError("the stream ended within a frame")
            parts.append(part)
            left -= len(part)
        # Joining copies: most large payloads are one part behind an empty one.
        return parts[-1] if len(parts[-1]) == length else b"".join(parts)
