"""Every test is bounded in time: so that one that hangs is told of."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from dispatcher import ENGINE, HERE, PACKAGE, Gate

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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes share the tests, one has all those of an engine, which takes seconds to start."""
    from xdist.scheduler import LoadScopeScheduling

    class ByEngine(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            _, of_engine, engine = nodeid.rpartition(f"[{ENGINE}")
            return engine if of_engine else nodeid

    return ByEngine(config, log)
