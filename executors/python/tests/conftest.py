"""Every test is bounded in time: so that one that hangs is told of."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from dispatcher import HERE, PACKAGE, Gate

_SECONDS = 300

# For the processes that tests start.
os.environ["PYTHONPATH"] = os.pathsep.join([str(PACKAGE), str(HERE)])


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    def expire(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"the test took more than {_SECONDS} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    directory = tmp_path / "gate"
    directory.mkdir()
    return Gate(directory)
