"""The engines: each module makes a `concurrent.futures.Executor`, or what is used like one."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final, Protocol, cast

# Where each engine's package is found: the module to import, and the name to install.
PACKAGES: Final[Mapping[str, tuple[str, str] | None]] = {
    "parsl": ("parsl", "parsl"),
    "dask": ("distributed", "distributed"),
    "globus": ("globus_compute_sdk", "globus-compute-sdk"),
    "python": None,
}

Options = Mapping[str, Any]


class EngineError(Exception):
    """Why an engine cannot be used: one line that says what to do."""


class Engine(Protocol):
    """What the bridge uses of an executor."""

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Runs `function(*args)` on a worker."""

    def shutdown(self) -> None:
        """Ends the workers once they have done what they began. The bridge gives up waiting for it after a time."""


class Watched(ABC):
    """An engine with a service of its own, which may be gone while the engine's object is still there."""

    @abstractmethod
    def look(self) -> str | None:
        """Why the service is gone, `None` while it is there. Called every half second, by a thread of its own."""


def one_line(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text[:1000]}" if text else name


def version(engine: str) -> str | None:
    """The version of the engine's package, `None` if it is not installed. Does not import it."""
    package = PACKAGES[engine]
    if package is None:
        return sys.version.split()[0]
    module, distribution = package
    if importlib.util.find_spec(module) is None:
        return None
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def survey() -> dict[str, Any]:
    """What this Python has of each engine, and how packages that it lacks are to be installed."""
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "installs": _installs(),
        "engines": [
            {"name": name, "package": package and package[1], "version": version(name)}
            for name, package in PACKAGES.items()
        ],
    }


def _installs() -> str:
    """Where pip may install: "here", or in an "environment" made from this Python; "nowhere" if it can't make one either."""
    # https://packaging.python.org/en/latest/specifications/externally-managed-environments/
    marker = os.path.join(sysconfig.get_path("stdlib", sysconfig.get_default_scheme()), "EXTERNALLY-MANAGED")
    managed = sys.prefix == sys.base_prefix and os.path.exists(marker)
    if not managed and importlib.util.find_spec("pip"):
        return "here"
    return "environment" if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip") else "nowhere"


def require(engine: str) -> str:
    """The version of the engine's package; an error if there is none."""
    if engine not in PACKAGES:
        raise EngineError(f"no engine is called {engine!r}; there are {', '.join(PACKAGES)}")
    found = version(engine)
    if found is None and (package := PACKAGES[engine]):
        name = package[1]
        raise EngineError(f"{name} is not installed for {sys.executable}; run: {sys.executable} -m pip install {name}")
    return cast(str, found)


def make(engine: str, options: Options, workers: int) -> Engine:
    """The engine with so many workers."""
    require(engine)
    # The package of an engine takes a second to import, and may not be there: only the one that is asked for is.
    module = importlib.import_module(f"{__name__}.{engine}")
    try:
        return cast(Engine, module.make(options, workers))
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(f"{engine} did not start: {one_line(error)}") from error
