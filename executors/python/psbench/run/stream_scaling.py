"""`python -m psbench.run.stream_scaling …` is `psbench stream-scaling …`."""

from __future__ import annotations

import importlib.metadata
import os
import sys


def program() -> str:
    """The `psbench` that was installed together with this module."""
    for file in importlib.metadata.files("psbench") or []:
        if file.name == "psbench" and os.access(file.locate(), os.X_OK):
            return str(file.locate())
    sys.exit("psbench: the program is missing from this environment: pip install . in psbench's source installs it")


def main() -> None:
    """Becomes the program, whose engines run in this environment unless another one is named."""
    os.environ.setdefault("PSBENCH_PYTHON", sys.executable)
    os.execv(program(), ["psbench", "stream-scaling", *sys.argv[1:]])


if __name__ == "__main__":
    main()
