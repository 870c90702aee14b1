"""`python -m psbench_executors`, and the package itself."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest
from dispatcher import PACKAGE, PATIENCE


def command(*arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, "-m", "psbench_executors", *arguments], capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("engine", "package"), [("parsl", "parsl"), ("dask", "distributed"), ("globus", "globus-compute-sdk")]
)
def test_an_engine_that_is_there(engine: str, package: str) -> None:
    run = command("check", engine)
    assert run.returncode == 0
    assert run.stdout.count("\n") == 1
    assert json.loads(run.stdout) == {
        "python": platform.python_version(),
        "executable": sys.executable,
        "engine": engine,
        "version": version(package),
    }


def test_a_check_does_not_import_the_engine() -> None:
    script = (
        "import sys; from psbench_executors.__main__ import main; main(['check', 'all']); "
        "assert not {'parsl', 'distributed', 'globus_compute_sdk'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr
    packages = {"parsl": "parsl", "dask": "distributed", "globus": "globus-compute-sdk"}
    found = [{"name": name, "package": package, "version": version(package)} for name, package in packages.items()]
    survey = json.loads(run.stdout)
    assert survey["engines"] == [*found, {"name": "python", "package": None, "version": platform.python_version()}]
    assert survey["installs"] in ("here", "environment", "nowhere")


@pytest.mark.parametrize(
    ("engine", "package"), [("parsl", "parsl"), ("dask", "distributed"), ("globus", "globus-compute-sdk")]
)
def test_an_engine_that_is_missing(engine: str, package: str, tmp_path: Path) -> None:
    python = bare(tmp_path)
    run = command("check", engine, python=python)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"{package} is not installed for {python}; run: {python} -m pip install {package}\n"


def bare(path: Path) -> str:
    venv.create(path, symlinks=True)
    return str(path / "bin" / "python")


def test_all_engines_are_missing(tmp_path: Path) -> None:
    python = bare(tmp_path)
    survey = json.loads(command("check", "all", python=python).stdout)
    assert (survey["python"], survey["executable"]) == (platform.python_version(), python)
    versions = {engine["name"]: engine["version"] for engine in survey["engines"]}
    assert versions == {"parsl": None, "dask": None, "globus": None, "python": platform.python_version()}
    # It has no pip, but could make an environment that has.
    assert survey["installs"] == "environment"


@pytest.mark.parametrize("factory", ["concurrent.futures:ProcessPoolExecutor", "factories:nested.pool"])
def test_a_factory_that_is_there(factory: str) -> None:
    run = command("check", "python", factory)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["engine"] == "python"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["python", "factories:none"], "factories:none: factories has no none"),
        (["python", "no.such:none"], f"no.such:none: no module is called no.such, neither in {os.getcwd()} nor on PYTHONPATH"),
        (["python", "pool"], "pool: a factory is given as MODULE:FUNCTION"),
        (["ray"], "no engine is called 'ray'; there are parsl, dask, globus, python"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(arguments: list[str], reason: str) -> None:
    run = command("check", *arguments)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(reason)
    assert run.stderr.count("\n") == 1


def test_a_module_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("import no_such_dependency\n")
    (tmp_path / "raising.py").write_text("raise OSError('no scratch\\nhere')\n")
    monkeypatch.chdir(tmp_path)
    run = command("check", "python", "broken:make")
    assert run.stderr == (
        "broken:make: broken cannot be imported: ModuleNotFoundError: No module named 'no_such_dependency'\n"
    )
    run = command("check", "python", "raising:make")
    assert run.stderr == "raising:make: raising cannot be imported: OSError: no scratch here\n"


@pytest.mark.parametrize("arguments", [[], ["check"], ["check", "python", "a:b", "c"], ["serve"]])
def test_how_it_is_used(arguments: list[str]) -> None:
    run = command(*arguments)
    assert run.returncode == 1
    assert run.stderr.startswith("usage: python -m psbench_executors check ENGINE")


def test_the_package_installs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into an environment without anything else, as on the hosts of an engine's workers."""
    source, environment = tmp_path / "source", tmp_path / "environment"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info", "tests"))
    python = bare(environment)
    packages = next((environment / "lib").glob("python3*")) / "site-packages"
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--quiet"]
    subprocess.run([*pip, "--target", str(packages), str(source)], check=True, timeout=PATIENCE)
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.chdir(tmp_path)
    run = command("check", "python", "concurrent.futures:ProcessPoolExecutor", python=python)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["executable"] == python
    installed = packages / "psbench_executors"
    assert {it.name for it in (PACKAGE / "psbench_executors").rglob("*.py")} == {it.name for it in installed.rglob("*.py")}
    assert (installed / "py.typed").exists()


def test_the_types_are_right() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml"], cwd=PACKAGE, capture_output=True, text=True, timeout=PATIENCE
    )
    assert run.returncode == 0, run.stdout + run.stderr
