"""`pip install .` in a fresh virtual environment, and `cargo install --path psbench`, as their users type them."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Built apart: what other tests run must not be replaced meanwhile. Unoptimised, since this is about what goes where.
BUILD = {"CARGO_TARGET_DIR": str(ROOT / "target" / "install"), "MATURIN_PEP517_ARGS": "--profile dev"}
# What a shell has that knows of no other psbench and no other Python than the system's.
SHELL = {name: value for name, value in os.environ.items() if not name.startswith(("PSBENCH_", "PYTHON", "VIRTUAL_ENV"))}


def run(*command: str | Path, cwd: Path, env: Mapping[str, str] = SHELL) -> str:
    ended = subprocess.run([str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True)
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with Parsl, and psbench by pip."""
    made = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", made, cwd=made)
    pinned = re.search(r"^parsl==.*$", (ROOT / "tests/python/requirements.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    pip = [made / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, ".", pinned.group(), cwd=ROOT, env={**SHELL, **BUILD})
    return made


def rows(directory: Path) -> list[dict[str, str]]:
    [results] = directory.glob("runs/*/results.csv")
    with results.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_of_the_python_tool_runs_psbench(environment: Path, tmp_path: Path) -> None:
    command = """-m psbench.run.stream_scaling --executor thread --max-workers 3 --stream-method default proxy
        --data-size-bytes 1000 10000 --task-count 5 --task-sleep 0.001 --ps-connector memory --stream memory"""
    run(environment / "bin" / "python", *command.split(), cwd=tmp_path)
    found = {(row["method"], row["data_size_bytes"], row["completed_tasks"]) for row in rows(tmp_path)}
    assert found == {(method, size, "5") for method in ("default", "proxy") for size in ("1000", "10000")}


def test_what_psbench_answers_is_what_the_module_answers(environment: Path, tmp_path: Path) -> None:
    bad = [environment / "bin" / "python", "-m", "psbench.run.stream_scaling", "--max-workers", "none"]
    ended = subprocess.run(bad, cwd=tmp_path, env=SHELL, capture_output=True, text=True)
    assert ended.returncode == 2 and "--max-workers" in ended.stderr, ended


@pytest.mark.parametrize("engine", ["thread", "htex-local"])
def test_parsl_of_the_same_environment_runs_the_tasks(environment: Path, tmp_path: Path, engine: str) -> None:
    command = f"""stream-scaling --executor parsl --parsl-executor {engine} --max-workers 2 --stream-method default proxy
        --data-size-bytes 1000 --task-count 4"""
    # Not activated: a script calls the program by its path.
    run(environment / "bin" / "psbench", *command.split(), cwd=tmp_path)
    assert [(row["executor"], row["completed_tasks"]) for row in rows(tmp_path)] == [("parsl", "4")] * 2


def test_the_workers_side_is_a_package_of_the_environment(environment: Path, tmp_path: Path) -> None:
    where = run(environment / "bin" / "python", "-c", "import psbench_executors as p; print(p.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(environment)


def test_cargo_installs_it_from_any_folder(tmp_path: Path) -> None:
    install = ["cargo", "install", "--quiet", "--debug", "--locked", "--path", ROOT / "psbench", "--root", tmp_path]
    run(*install, cwd=tmp_path, env={**SHELL, **BUILD})
    assert run(tmp_path / "bin" / "psbench", "--version", cwd=tmp_path).startswith("psbench ")
