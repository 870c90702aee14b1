"""Any executor that a function of the user's makes."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, cast

from . import Engine, EngineError, Options, one_line


def find(path: str) -> Callable[..., Any]:
    """The factory at `module:name`."""
    name, _, attribute = path.partition(":")
    if not name or not attribute:
        raise EngineError(f"{path}: a factory is given as MODULE:FUNCTION, as in concurrent.futures:ProcessPoolExecutor")
    if sys.path[:1] != [os.getcwd()]:
        sys.path.insert(0, os.getcwd())
    try:
        factory: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise EngineError(f"{path}: {name} cannot be imported: {one_line(error)}") from error
        raise EngineError(
            f"{path}: no module is called {name}, neither in {os.getcwd()} nor on PYTHONPATH ({sys.executable})"
        ) from None
    except Exception as error:
        raise EngineError(f"{path}: {name} cannot be imported: {one_line(error)}") from error
    for part in attribute.split("."):
        if not hasattr(factory, part):
            raise EngineError(f"{path}: {name} has no {attribute}")
        factory = getattr(factory, part)
    if not callable(factory):
        raise EngineError(f"{path}: not a function but a {type(factory).__name__}")
    return cast(Callable[..., Any], factory)


def make(options: Options, workers: int) -> Engine:
    """The executor that the factory makes: of so many workers if the factory takes a number."""
    path = options["factory"]
    factory = find(path)
    try:
        made = factory(workers) if _takes_workers(factory) else factory()
    except Exception as error:
        raise EngineError(f"{path}: raised {one_line(error)}") from error
    for method in ("submit", "shutdown"):
        if not callable(getattr(made, method, None)):
            raise EngineError(f"{path}: returned a {type(made).__name__}, which is no executor: it has no {method}")
    return cast(Engine, made)


def _takes_workers(factory: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:
        # Written in C, without a signature.
        return False
    return any(it.kind in (it.POSITIONAL_ONLY, it.POSITIONAL_OR_KEYWORD, it.VAR_POSITIONAL) for it in parameters)
