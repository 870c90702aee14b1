"""`python -m psbench_executors`: the bridge, and the question whether an engine is there."""

from __future__ import annotations

import json
import platform
import sys
from typing import Any

from . import engines
from .engines import EngineError

_USAGE = f"""\
usage: python -m psbench_executors check ENGINE [MODULE:FUNCTION]   tells the version of an engine ({", ".join(engines.PACKAGES)})
       python -m psbench_executors check all                        tells those of all engines, and how to get what is missing
       python -m psbench_executors bridge                           is started by psbench"""


def _check(engine: str, factory: str | None) -> dict[str, Any]:
    if engine == "all":
        return engines.survey()
    version = engines.require(engine)
    if engine == "python" and factory is not None:
        from .engines import python

        python.find(factory)
    return {"python": platform.python_version(), "executable": sys.executable, "engine": engine, "version": version}


def main(arguments: list[str]) -> None:
    """Does what the command line says."""
    match arguments:
        case ["bridge"]:
            from . import bridge

            bridge.main()
        case ["check", engine, *factory] if len(factory) <= 1:
            try:
                print(json.dumps(_check(engine, factory[0] if factory else None)))
            except EngineError as error:
                sys.exit(str(error))
        case _:
            sys.exit(_USAGE)


# Engines that spawn their workers import this module in them.
if __name__ == "__main__":
    main(sys.argv[1:])
