"""Real engines, all held to the same."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dispatcher import ENGINE, PATIENCE, Dispatcher, Gate, Outcome

from psbench_executors import frames

WORKERS = 3

ENGINES: dict[str, tuple[str, dict[str, Any]]] = {
    "process-pool": ("python", {"factory": "concurrent.futures:ProcessPoolExecutor"}),
    "loky": ("python", {"factory": "loky:ProcessPoolExecutor"}),
    "parsl-threads": ("parsl", {"executor": "thread"}),
    "parsl-htex": ("parsl", {"executor": "htex-local"}),
    "dask": ("dask", {}),
    "dask-threads": ("dask", {"use_threads": True}),
    "globus-pool": ("python", {"factory": "globus_endpoint:process_pool"}),
    "globus": ("python", {"factory": "globus_endpoint:compute"}),
}
# What the others have in common with all is held by these.
QUICK = {"process-pool", "parsl-htex", "dask", "globus-pool"}
# Their workers are threads of the bridge.
THREADS = {"parsl-threads", "dask-threads"}
# Their workers are replaced when they die.
RECOVERING = {"parsl-htex", "dask"}


def named(name: str) -> Any:
    """As a parameter of tests, all of which one process runs: see `conftest.py`."""
    return pytest.param(name, id=f"{ENGINE}{name}", marks=() if name in QUICK else pytest.mark.slow)


def started(name: str, run_dir: Path, cwd: Path | None = None) -> Dispatcher:
    engine, options = ENGINES[name]
    return Dispatcher(engine, {**options, "run_dir": str(run_dir)}, WORKERS, cwd=cwd)


@pytest.fixture(scope="module", params=map(named, ENGINES))
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Dispatcher]]:
    """One bridge for all tests of an engine, since some take long to start. Its end is a test, too."""
    name = request.param
    cwd = tmp_path_factory.mktemp("cwd")
    with started(name, tmp_path_factory.mktemp("run"), cwd) as dispatcher:
        dispatcher.start()
        dispatcher.meet(WORKERS)
        yield name, dispatcher
        dispatcher.end()
    assert os.listdir(cwd) == [], "the engine left something in the current directory"


Engine = tuple[str, Dispatcher]


def test_there_are_as_many_workers_as_asked_for(engine: Engine) -> None:
    name, dispatcher = engine
    assert len(dispatcher.workers) == WORKERS
    processes = {about["engine_pid"] for about in dispatcher.workers.values()}
    if name in THREADS:
        assert processes == {dispatcher.process.pid}
    else:
        assert len(processes) == WORKERS
        assert dispatcher.process.pid not in processes
    assert {about["host"] for about in dispatcher.workers.values()} == {socket.gethostname()}
    assert len({about["clock"] for about in dispatcher.workers.values()}) == 1


def test_equal_tasks_are_each_run(engine: Engine) -> None:
    """The children count them."""
    _, dispatcher = engine
    dispatcher.reports.clear()
    outcomes = dispatcher.run(*([(id, "", b"same")] for id in range(50)))
    assert {outcome[::2] for outcome in outcomes.values()} == {(0, b"same")}
    dispatcher.until(lambda: len(dispatcher.reports) == 50)
    counts: dict[int, set[bytes]] = {}
    for worker, _, report in dispatcher.reports:
        counts.setdefault(worker, set()).add(report)
    assert sum(map(len, counts.values())) == 50


def test_batches_run_on_one_worker_in_order(engine: Engine) -> None:
    _, dispatcher = engine
    outcomes = dispatcher.run([(id, "fail no" if id == 3 else "", b"%d" % id) for id in range(16)])
    assert list(outcomes) == list(range(16))
    assert len({outcome.worker for outcome in outcomes.values()}) == 1
    assert outcomes.pop(3)[::2] == (frames.FAILED, b"no")
    assert all(outcome[::2] == (0, b"%d" % id) for id, outcome in outcomes.items())


def test_a_child_that_dies_loses_no_more_than_its_batch(engine: Engine) -> None:
    _, dispatcher = engine
    lost = (frames.LOST, b"signal 9 (SIGKILL)")
    outcomes = dispatcher.run([(1, "", b"a"), (2, "kill", b"b"), (3, "", b"c")], [(4, "", b"d")])
    assert [outcomes[id][::2] for id in (1, 2, 3, 4)] == [(0, b"a"), lost, lost, (0, b"d")]
    assert outcomes[4].worker != outcomes[1].worker


def test_a_task_that_runs_for_too_long(engine: Engine) -> None:
    _, dispatcher = engine
    outcomes = dispatcher.run([(1, "overdue", b"")], [(2, "", b"x")])
    assert outcomes[1][::2] == (frames.TIMED_OUT, b"ran for too long")
    assert outcomes[2][::2] == (0, b"x")


def test_large_payloads_pass(engine: Engine) -> None:
    name, dispatcher = engine
    # Globus Compute carries no more than 10 MB, and these as base64.
    payload = os.urandom(1_000_000 if name.startswith("globus") else 10_000_000)
    outcomes = dispatcher.run(*([(id, "", payload)] for id in range(2)))
    assert all(outcome[::2] == (0, payload) for outcome in outcomes.values())


def test_a_program_is_placed(engine: Engine) -> None:
    _, dispatcher = engine
    dispatcher.ended.clear()
    dispatcher.send(frames.PLACE, id=5, payload=b'{"argv": ["sh", "-c", "echo $GREETING; exit 3"], "env": {"GREETING": "hi"}}')
    dispatcher.until(lambda: 5 in dispatcher.ended)
    assert dispatcher.ended == {5: (frames.FAILED, b"exit code 3\nhi\n")}


@pytest.mark.parametrize("name", ["process-pool", *(pytest.param(name, marks=pytest.mark.slow) for name in ("loky", "dask", "parsl-htex"))])
def test_a_worker_that_dies_loses_its_tasks(name: str, tmp_path: Path, gate: Gate) -> None:
    with started(name, tmp_path) as dispatcher:
        dispatcher.start()
        pid_task = dispatcher.run([(0, "pid", b"")])[0]
        assert pid_task.worker is not None
        # The next batch tells which worker has it by the child it starts or uses: all of them wait, so all are hit.
        dispatcher.meet(WORKERS)
        for id in range(1, WORKERS + 1):
            dispatcher.batch([(id, gate.hold, b"")])
        gate.wait_for(WORKERS)
        victim = dispatcher.workers[pid_task.worker]["engine_pid"]
        os.kill(victim, signal.SIGKILL)
        # An engine may give up all its workers for one.
        dispatcher.until(lambda: len(dispatcher.outcomes) >= 1 + (1 if name in RECOVERING else WORKERS))
        lost = [outcome for id, outcome in dispatcher.outcomes.items() if id]
        for outcome in lost:
            assert outcome[:2] == (frames.LOST, None)
            text = outcome.payload.decode()
            assert "\n" not in text
            assert any(word in text for word in ("BrokenProcessPool", "TerminatedWorkerError", "KilledWorker", "WorkerLost")), text
        dispatcher.batch([(100, "", b"x")])
        dispatcher.until(lambda: 100 in dispatcher.outcomes)
        after = dispatcher.outcomes[100]
        if name in RECOVERING:
            assert after[::2] == (0, b"x")
        else:
            assert after[:2] == (frames.NOT_RUN, None)
            assert b"\n" not in after.payload
        # Those that live still wait, and the dispatcher vanishes.
        dispatcher.socket.close()
        dispatcher.process.wait(PATIENCE)
        assert dispatcher.left() == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["parsl-threads", "dask-threads"])
def test_a_dispatcher_that_vanishes_leaves_nothing(name: str, tmp_path: Path) -> None:
    with started(name, tmp_path) as dispatcher:
        dispatcher.start()
        dispatcher.run([(1, "", b"")])
        dispatcher.batch([(2, "sleep 600", b"")])
        dispatcher.socket.close()
        dispatcher.process.wait(PATIENCE)
        assert dispatcher.left() == []


def test_a_dask_scheduler_that_is_already_there(tmp_path: Path) -> None:
    script = (
        "from distributed import LocalCluster\n"
        "if __name__ == '__main__':\n"
        "    cluster = LocalCluster(n_workers=1, threads_per_worker=2, host='127.0.0.1', dashboard_address=None)\n"
        "    print(cluster.scheduler_address, flush=True)\n"
        "    input()\n"
    )
    (tmp_path / "cluster.py").write_text(script)
    cluster = subprocess.Popen(
        [sys.executable, str(tmp_path / "cluster.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert cluster.stdout is not None and cluster.stdin is not None
        address = cluster.stdout.readline().strip()
        for _ in range(2):
            with Dispatcher("dask", {"scheduler": address}, 2) as dispatcher:
                dispatcher.start()
                assert dispatcher.run([(1, "", b"x")])[1] == Outcome(0, 0, b"x")
                dispatcher.end()
    finally:
        cluster.communicate("\n", timeout=PATIENCE)


@pytest.mark.slow
def test_a_dask_scheduler_that_is_not_there() -> None:
    with Dispatcher("dask", {"scheduler": "tcp://127.0.0.1:1"}) as dispatcher:
        assert "no Dask scheduler answers at tcp://127.0.0.1:1 within 8 s: start `dask scheduler`" in dispatcher.refusal()
        assert dispatcher.process.wait(PATIENCE) == 1


CONFIG = "import parsl\nfrom parsl.executors import ThreadPoolExecutor\n"


@pytest.mark.parametrize(
    "text",
    [
        "config = parsl.Config([ThreadPoolExecutor(max_threads=3)], run_dir={dir!r}, initialize_logging=False)",
        "def config():\n    return parsl.Config([ThreadPoolExecutor(max_threads=3)], run_dir={dir!r})",
        "def config(workers):\n    return parsl.Config([ThreadPoolExecutor(max_threads=workers)], run_dir={dir!r})",
    ],
)
def test_a_parsl_configuration_of_the_users(text: str, tmp_path: Path) -> None:
    path = tmp_path / "parsl.py"
    path.write_text(CONFIG + text.format(dir=str(tmp_path / "mine")))
    with Dispatcher("parsl", {"config": str(path), "run_dir": "/nowhere"}, 3) as dispatcher:
        dispatcher.start()
        dispatcher.meet(3)
        assert len(dispatcher.workers) == 3
        assert (tmp_path / "mine").is_dir()
        dispatcher.end()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot read the Parsl configuration {path}: no such file"),
        ("config = 5", "the Parsl configuration {path} must define `config`, a parsl.Config or a function that returns one, and not a int"),
        ("", "the Parsl configuration {path} must define `config`, a parsl.Config or a function that returns one, and not a NoneType"),
        ("def config(): raise KeyError('queue')", "config() of the Parsl configuration {path} raised KeyError: 'queue'"),
        ("import no_such_module", "the Parsl configuration {path} raised ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_parsl_configuration_that_is_none(text: str | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "parsl.py"
    if text is not None:
        path.write_text(text)
    with Dispatcher("parsl", {"config": str(path), "run_dir": str(tmp_path)}) as dispatcher:
        assert dispatcher.refusal() == reason.format(path=path)


def test_an_executor_of_parsl_that_is_unknown(tmp_path: Path) -> None:
    with Dispatcher("parsl", {"executor": "htex", "run_dir": str(tmp_path)}) as dispatcher:
        assert dispatcher.refusal().startswith("no executor of Parsl is called 'htex' here; there are thread, htex-local")


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (None, "htex-polaris-headless runs within a job of PBS: $PBS_NODEFILE is not set; submit it with qsub"),
        ("/no/such/nodes", "cannot read $PBS_NODEFILE, /no/such/nodes: No such file or directory"),
        ("/dev/null", "$PBS_NODEFILE, /dev/null, names no node"),
    ],
)
def test_polaris_is_no_place_of_its_own(nodes: str | None, reason: str, tmp_path: Path) -> None:
    environment = {"PBS_NODEFILE": nodes} if nodes else {}
    options = {"executor": "htex-polaris-headless", "run_dir": str(tmp_path)}
    with Dispatcher("parsl", options, environment=environment) as dispatcher:
        assert dispatcher.refusal() == reason


MPIEXEC = """\
#!/bin/sh
echo "$@" > {arguments}
while [ "$1" != -n ]; do shift; done
count=$2
while [ "$1" != /usr/bin/sh ]; do shift; done
while [ "$count" -gt 0 ]; do "$@" & count=$((count - 1)); done
wait
"""


@pytest.mark.slow
def test_polaris_spreads_workers_over_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an `mpiexec` that runs what is for other nodes on this one."""
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    nodes, mpiexec, arguments = tmp_path / "nodes", tmp_path / "mpiexec", tmp_path / "arguments"
    nodes.write_text("x3001\nx3001\nx3002\n")
    mpiexec.write_text(MPIEXEC.format(arguments=arguments))
    mpiexec.chmod(0o755)
    environment = {"PBS_NODEFILE": str(nodes), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    options = {"executor": "htex-polaris-headless", "run_dir": str(tmp_path / "run")}
    with Dispatcher("parsl", options, 4, environment=environment) as dispatcher:
        dispatcher.start()
        dispatcher.meet(4)
        assert len({about["engine_pid"] for about in dispatcher.workers.values()}) == 4
        dispatcher.end()
    assert arguments.read_text().startswith("--cpu-bind none --ppn 1 -n 2 --hostfile ")
    assert os.listdir(cwd) == []


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("factories", "factories: a factory is given as MODULE:FUNCTION, as in concurrent.futures:ProcessPoolExecutor"),
        ("no_such_module:f", "no_such_module:f: no module is called no_such_module, neither in"),
        ("factories:no_such", "factories:no_such: factories has no no_such"),
        ("factories:not_callable", "factories:not_callable: not a function but a int"),
        ("factories:raising", "factories:raising: raised ValueError: no licence for this host"),
        ("factories:nothing", "factories:nothing: returned a NoneType, which is no executor: it has no submit"),
    ],
)
def test_a_factory_that_makes_no_executor(factory: str, reason: str) -> None:
    with Dispatcher("python", {"factory": factory}) as dispatcher:
        assert dispatcher.refusal().startswith(reason)
        assert dispatcher.process.wait(PATIENCE) == 1


@pytest.mark.parametrize("factory", ["factories:one", "factories:nested.pool", "factories:pool"])
def test_a_factory_that_makes_one(factory: str) -> None:
    with Dispatcher("python", {"factory": factory}) as dispatcher:
        dispatcher.start()
        assert dispatcher.run([(1, "", b"x")])[1] == Outcome(0, 0, b"x")
        dispatcher.end()


def test_a_factory_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_cluster.py").write_text("from concurrent.futures import ThreadPoolExecutor as pool\n")
    monkeypatch.chdir(tmp_path)
    with Dispatcher("python", {"factory": "my_cluster:pool"}) as dispatcher:
        dispatcher.start()
        dispatcher.end()


def test_an_engine_that_is_unknown() -> None:
    with Dispatcher("ray", {}) as dispatcher:
        assert dispatcher.refusal() == "no engine is called 'ray'; there are parsl, dask, globus, python"
