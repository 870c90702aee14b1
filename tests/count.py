"""Counts the tests of JUnit files: python tests/count.py FILE…, whose last line is "N passed, N failed, N skipped".

A Rust test that can't run on this machine passes after printing "skipped: why"; it counts as skipped, and its reason is printed.
A report that is missing, since what writes it ended early, counts as a failed test. Exits with 1 where a test failed, or where none ran.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path


def cases(files: list[str]) -> Iterator[tuple[str, str, str]]:
    """Each test's name, how it ended, and why."""
    for file in files:
        if not Path(file).exists():
            yield f"all those of {file}, which was not written", "failed", ""
            continue
        for case in ElementTree.parse(file).iter("testcase"):
            name = f"{case.get('classname')} {case.get('name')}"
            printed = [part.text or "" for tag in ("system-out", "system-err") for part in case.iter(tag)]
            told = [line for text in printed for line in text.splitlines() if line.startswith("skipped: ")]
            if case.find("failure") is not None or case.find("error") is not None:
                yield name, "failed", ""
            elif (skipped := case.find("skipped")) is not None:
                yield name, "skipped", f"skipped: {skipped.get('message')}"
            elif told:
                yield name, "skipped", told[0]
            else:
                yield name, "passed", ""


def main() -> int:
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for name, end, why in cases(sys.argv[1:]):
        counts[end] += 1
        if end != "passed":
            print(f"{end}: {name}" if end == "failed" else f"{name}: {why}")
    print(", ".join(f"{count} {end}" for end, count in counts.items()))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
