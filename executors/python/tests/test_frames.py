"""Frames survive every way in which a stream may be cut."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator

import pytest

from psbench_executors import frames
from psbench_executors.frames import Frame, ProtocolError, Reader

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def packed(frame: Frame) -> bytes:
    return b"".join(frames.pack(*frame))


def test_the_layout_of_a_header() -> None:
    packed = frames.pack(frames.TASK, frames.MORE, 0x0102, b"he", b"payload")
    assert b"".join(packed) == (
        bytes([2, 4, 0, 0]) + (2).to_bytes(4, "little") + (7).to_bytes(8, "little") + bytes([2, 1]) + bytes(6) + b"hepayload"
    )


@pytest.mark.parametrize("seed", range(8))
def test_frames_arrive_as_they_were_sent(pair: Pair, seed: int) -> None:
    """Of all sizes around the limits of buffers, sent in pieces of any length."""
    random.seed(seed)
    sizes = [0, 1, 23, 24, 25, frames.LARGE - 1, frames.LARGE, 65_535, 65_536, 300_000]
    sent = [
        Frame(
            random.randint(frames.SETUP, frames.GREETED),
            random.randrange(64),
            random.getrandbits(64),
            random.randbytes(random.choice([0, 4, 12, 100, 70_000])),
            random.randbytes(random.choice(sizes)),
        )
        for _ in range(120)
    ]
    stream = b"".join(map(packed, sent))
    if seed == 0:
        pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)

    def write() -> None:
        at = 0
        while seed and at < len(stream):
            length = random.choice([1, 24, 1000, 100_000, len(stream)])
            pair[0].sendall(stream[at : at + length])
            at += length
        if not seed:
            frames.send(pair[0], [part for frame in sent for part in frames.pack(*frame)])
        pair[0].shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=write)
    thread.start()
    reader = Reader(pair[1])
    assert [reader.next() for _ in sent] == sent
    assert reader.next() is None
    thread.join()


def test_many_small_frames_leave_in_one_call(pair: Pair) -> None:
    calls = []

    class Counting:
        def sendmsg(self, parts: list[bytes]) -> int:
            calls.append(len(parts))
            return pair[0].sendmsg(parts)

    frames.send(Counting(), [part for id in range(500) for part in frames.pack(frames.OUTCOME, id=id)])  # type: ignore[arg-type]
    assert calls == [500]
    reader = Reader(pair[1])
    assert [frame.id for _ in range(500) if (frame := reader.next())] == list(range(500))


def test_a_send_that_is_cut_short_goes_on(pair: Pair) -> None:
    class Hasty:
        def sendmsg(self, parts: list[bytes]) -> int:
            return pair[0].send(b"".join(parts)[:10])

        def sendall(self, part: memoryview) -> None:
            pair[0].sendall(part)

    parts = [b"abc", b"defgh", b"ijklmn", b"opq"]
    frames.send(Hasty(), parts)  # type: ignore[arg-type]
    assert pair[1].recv(100) == b"".join(parts)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ((0, 0, 0, 0, 0, 0), "a frame of unknown kind 0"),
        ((18, 0, 0, 0, 0, 0), "a frame of unknown kind 18"),
        ((frames.TASK, 0, 0, (16 << 20) + 1, 0, 0), "a head of 16777217 bytes, more than 16777216"),
        ((frames.TASK, 0, 0, 0, (4 << 30) + 1, 0), "a payload of 4294967297 bytes, more than 4294967296"),
        ((frames.OUTCOME, 0, 0, 0, (256 << 20) + 1, 0), "a payload of 268435457 bytes, more than 268435456"),
    ],
)
def test_what_no_peer_sends_is_an_error(pair: Pair, header: tuple[int, ...], message: str) -> None:
    pair[0].sendall(frames.HEADER.pack(*header))
    with pytest.raises(ProtocolError, match=message):
        Reader(pair[1]).next()


@pytest.mark.parametrize("length", [1, 23, 24, 25, 27, 40_000])
def test_a_stream_that_ends_within_a_frame_is_an_error(pair: Pair, length: int) -> None:
    pair[0].sendall(packed(Frame(frames.TASK, 0, 1, b"head", bytes(50_000)))[:length])
    pair[0].close()
    with pytest.raises(ProtocolError, match="the stream ended within a frame"):
        Reader(pair[1]).next()
