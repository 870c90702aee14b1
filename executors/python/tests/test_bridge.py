"""The bridge, between a dispatcher and executors that behave and misbehave."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import echo_child
import pytest
from dispatcher import PATIENCE, Dispatcher, Gate, Outcome, until

from psbench_executors import frames

THREADS = "concurrent.futures:ThreadPoolExecutor"


def bridge(factory: str = THREADS, workers: int = 2, **more: Any) -> Dispatcher:
    return Dispatcher("python", {"factory": factory}, workers, **more)


def descendants(pid: int) -> list[int]:
    children = [int(it) for path in Path(f"/proc/{pid}/task").glob("*/children") for it in path.read_text().split()]
    return [it for child in children for it in (child, *descendants(child))]


def test_a_run_from_start_to_end() -> None:
    with bridge() as dispatcher:
        dispatcher.start()
        outcomes = dispatcher.run([(7, "", b"seven")], [(8, "", b"eight"), (9, "fail of course", b"")])
        assert [outcomes[id][::2] for id in (7, 8, 9)] == [
            (0, b"seven"),
            (0, b"eight"),
            (frames.FAILED, b"of course"),
        ]
        dispatcher.until(lambda: len(dispatcher.reports) == 2)
        for worker, report, cumulative in dispatcher.reports:
            assert report.received < report.answered
            assert report.cpu_nanoseconds > 0
            assert report.peak_memory > 1_000_000
            assert report.first in (7, 8)
            assert outcomes[report.first].worker == worker
            assert cumulative.endswith(b" done")
        about = dispatcher.workers[0]
        assert set(about) == {"host", "pid", "engine_pid", "clock"}
        # Its workers are the bridge's own threads.
        assert about["engine_pid"] == dispatcher.process.pid
        used = dispatcher.end()
        assert used["cpu_seconds"] > 0
        assert used["peak_memory_bytes"] > 1_000_000


def test_greetings_reach_different_workers() -> None:
    with bridge(workers=3) as dispatcher:
        dispatcher.start()
        rounds = dispatcher.meet(3)
        assert set(dispatcher.workers) == set(range(3))
        dispatcher.until(lambda: len(dispatcher.reports) == 3 * rounds)
        assert {report.first for _, report, _ in dispatcher.reports} == {0, 1, 2}
        assert {payload for _, _, payload in dispatcher.reports} == {b"0 done"}
        dispatcher.end()


def test_work_that_cannot_be_set_up() -> None:
    with bridge() as dispatcher:
        dispatcher.start()
        dispatcher.work(1, echo_child.SETUP_FAILS)
        dispatcher.greet(1, 0)
        assert dispatcher.greeted == {0: (frames.FAILED, b"", b"no broker at example:1")}
        assert dispatcher.run([(1, "", b"")]) == {1: Outcome(frames.LOST, None, b"no broker at example:1")}
        dispatcher.work(2)
        assert dispatcher.run([(2, "", b"x")])[2] == Outcome(0, 0, b"x")
        dispatcher.end()


def test_new_work_has_new_workers() -> None:
    with bridge(workers=1) as dispatcher:
        dispatcher.start()
        assert dispatcher.run([(1, "", b"")])[1].worker == 0
        assert dispatcher.run([(2, "", b"")])[2].worker == 0
        dispatcher.work(1)
        assert dispatcher.run([(3, "", b"")])[3].worker == 1
        assert dispatcher.workers[0]["pid"] != dispatcher.workers[1]["pid"]
        dispatcher.end()


def test_a_child_that_is_killed_while_it_is_idle_is_told_of_ahead_of_the_next() -> None:
    with bridge(workers=1) as dispatcher:
        dispatcher.start()
        dispatcher.run([(1, "", b"")])
        pid = dispatcher.workers[0]["pid"]
        os.kill(pid, signal.SIGKILL)
        # Nobody has waited for it yet.
        until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z"))
        assert dispatcher.run([(2, "", b"")]) == {2: Outcome(0, 1, b"")}
        assert dispatcher.gone == {0: b"signal 9 (SIGKILL)"}
        dispatcher.end()


def test_what_children_print_is_told() -> None:
    with bridge(workers=1) as dispatcher:
        dispatcher.start()
        dispatcher.run([(1, "print hello", b""), (2, "exit 5", b"")], [(3, "print again", b"")])
        dispatcher.until(lambda: len(dispatcher.reports) == 2)
        assert dispatcher.printed == {0: b"hello\n", 1: b"again\n"}
        dispatcher.end()


def test_programs_are_placed_and_their_end_is_told() -> None:
    python = sys.executable
    with bridge(workers=4) as dispatcher:
        dispatcher.start()
        for id, argv in enumerate(
            [
                [python, "-c", "import os; print(os.environ['PILOT'])"],
                [python, "-c", "raise SystemExit('no way to host:1')"],
                [python, "-c", "import os; os.kill(os.getpid(), 15)"],
                ["/no/such/program"],
            ]
        ):
            dispatcher.send(frames.PLACE, id=id, payload=json.dumps({"argv": argv, "env": {"PILOT": "p"}}).encode())
        dispatcher.until(lambda: len(dispatcher.ended) == 4)
        assert dispatcher.ended == {
            0: (0, b"p\n"),
            1: (frames.FAILED, b"exit code 1\nno way to host:1\n"),
            2: (frames.FAILED, b"signal 15 (SIGTERM)\n"),
            3: (frames.FAILED, b"cannot start /no/such/program: No such file or directory\n"),
        }
        dispatcher.end()


@pytest.mark.parametrize(
    ("factory", "flags", "text"),
    [
        ("factories:Refusing", frames.NOT_RUN, b"RuntimeError: the queue is full"),
        ("factories:Failing", frames.LOST, b"ValueError: cannot serialise this"),
        ("factories:Exiting", frames.LOST, b"SystemExit: 3"),
        ("factories:Fooling", frames.LOST, b"the engine returned a dict in place of a reply"),
    ],
)
def test_an_engine_that_fails_is_told_of_each_task(factory: str, flags: int, text: bytes) -> None:
    with bridge(factory) as dispatcher:
        dispatcher.start()
        outcomes = dispatcher.run([(1, "", b""), (2, "", b"")], [(3, "", b"")])
        assert outcomes == {id: Outcome(flags, None, text) for id in (1, 2, 3)}
        dispatcher.greet(1, 0)
        assert dispatcher.greeted == {0: (frames.FAILED, b"", text)}
        dispatcher.send(frames.PLACE, id=1, payload=json.dumps({"argv": ["true"], "env": {}}).encode())
        dispatcher.until(lambda: len(dispatcher.ended) == 1)
        assert dispatcher.ended[1][0] == frames.FAILED
        dispatcher.end()


def test_an_engine_that_prints_does_not_disturb_the_frames() -> None:
    with bridge("factories:Printing") as dispatcher:
        dispatcher.start()
        assert dispatcher.run(*([(id, "", b"x")] for id in range(20))) == {id: Outcome(0, 0, b"x") for id in range(20)}
        dispatcher.end()
        dispatcher.log.seek(0)
        assert dispatcher.log.read().count(b"chatter on stdout\nand on its descriptor\n") == 20


def test_an_engine_that_shuts_down_early_runs_no_more() -> None:
    with bridge("factories:Shut") as dispatcher:
        dispatcher.start()
        assert dispatcher.run([(1, "", b"x")])[1] == Outcome(0, 0, b"x")
        lost = dispatcher.run([(2, "", b"x")])[2]
        assert lost == Outcome(frames.NOT_RUN, None, b"RuntimeError: cannot schedule new futures after shutdown")
        dispatcher.end()


def test_tasks_that_have_not_begun_are_withdrawn() -> None:
    with bridge("factories:Queueing") as dispatcher:
        dispatcher.start()
        for id in range(0, 6, 2):
            dispatcher.batch([(id, "", b"x"), (id + 1, "", b"x")])
        dispatcher.send(frames.WITHDRAW)
        dispatcher.until(lambda: len(dispatcher.outcomes) == 6)
        withdrawn = Outcome(frames.NOT_RUN, None, b"withdrawn before it began")
        assert dispatcher.outcomes == {id: withdrawn if id > 1 else Outcome(0, 0, b"x") for id in range(6)}
        dispatcher.end()


def test_tasks_that_cannot_be_withdrawn_run() -> None:
    with bridge("factories:Uncancellable") as dispatcher:
        dispatcher.start()
        dispatcher.batch([(1, "", b"x")])
        dispatcher.send(frames.WITHDRAW)
        dispatcher.until(lambda: len(dispatcher.outcomes) == 1)
        assert dispatcher.outcomes[1] == Outcome(0, 0, b"x")
        dispatcher.end()


def test_an_ordinary_end_lets_tasks_end_that_have_begun(gate: Gate) -> None:
    with bridge(workers=1) as dispatcher:
        dispatcher.start()
        dispatcher.batch([(1, gate.hold, b"held")])
        dispatcher.batch([(2, "", b"")])
        gate.wait_for(1)
        dispatcher.ask_for_the_end()
        # It has begun.
        dispatcher.until(lambda: 2 in dispatcher.outcomes)
        gate.open()
        dispatcher.until(lambda: 1 in dispatcher.outcomes)
        assert dispatcher.outcomes == {
            1: Outcome(0, 0, b"held"),
            2: Outcome(frames.NOT_RUN, None, b"withdrawn before it began"),
        }
        dispatcher.see_the_end()


@pytest.mark.slow
def test_the_end_does_not_wait_for_an_engine_that_hangs() -> None:
    with bridge("factories:Silent") as dispatcher:
        dispatcher.start()
        dispatcher.batch([(1, "", b""), (2, "", b"")])
        before = time.monotonic()
        dispatcher.end()
        assert time.monotonic() - before > 9
        lost = Outcome(frames.LOST, None, b"the engine was shut down before the task ended")
        assert dispatcher.outcomes == {1: lost, 2: lost}


@pytest.mark.parametrize("factory", ["factories:littering", "factories:stubborn"])
def test_nothing_outlives_the_bridge(factory: str) -> None:
    with bridge(factory) as dispatcher:
        dispatcher.start()
        dispatcher.run([(1, "", b"")])
        before = descendants(dispatcher.process.pid)
        assert len(before) >= 1
        dispatcher.end()
        assert not any(Path(f"/proc/{pid}").exists() for pid in before)


@pytest.mark.parametrize("factory", [THREADS, "factories:pool", "factories:Silent", "factories:littering"])
def test_a_dispatcher_that_vanishes_leaves_nothing(factory: str) -> None:
    with bridge(factory) as dispatcher:
        dispatcher.start()
        dispatcher.batch([(1, "sleep 600", b"")])
        dispatcher.batch([(2, "sleep 600", b"")])
        if factory != "factories:Silent":
            until(lambda: len(descendants(dispatcher.process.pid)) >= 2)
        before = descendants(dispatcher.process.pid)
        dispatcher.socket.close()
        dispatcher.process.wait(PATIENCE)
        assert dispatcher.left() == []
        assert not any(Path(f"/proc/{pid}").exists() for pid in before)


def test_a_dispatcher_that_vanishes_with_its_log() -> None:
    reading, writing = os.pipe()
    with bridge("factories:Printing", output=writing) as dispatcher:
        os.close(writing)
        dispatcher.start()
        os.close(reading)
        dispatcher.batch([(1, "", b"")])
        dispatcher.socket.close()
        dispatcher.process.wait(PATIENCE)
        assert dispatcher.left() == []


def test_a_dispatcher_that_vanishes_while_the_engine_starts(tmp_path: Path) -> None:
    starting = tmp_path / "starting"
    with bridge("factories:hanging", environment={"PSBENCH_TEST_STARTING": str(starting)}) as dispatcher:
        until(starting.exists)
        dispatcher.socket.close()
        dispatcher.process.wait(PATIENCE)
        assert dispatcher.left() == []


def test_a_bridge_that_is_told_to_terminate_leaves_nothing() -> None:
    with bridge("factories:pool") as dispatcher:
        dispatcher.start()
        dispatcher.batch([(1, "sleep 600", b"")])
        until(lambda: len(descendants(dispatcher.process.pid)) >= 2)
        dispatcher.process.terminate()
        assert dispatcher.process.wait(PATIENCE) == 128 + signal.SIGTERM
        assert dispatcher.left() == []


def test_an_interrupt_is_not_the_bridges_business() -> None:
    with bridge("factories:pool") as dispatcher:
        dispatcher.start()
        dispatcher.run([(1, "", b"")])
        os.killpg(dispatcher.process.pid, signal.SIGINT)
        time.sleep(0.2)
        assert dispatcher.run([(2, "", b"x")])[2][::2] == (0, b"x")
        dispatcher.end()


def test_a_forked_worker_can_be_terminated() -> None:
    with bridge("factories:pool", workers=1) as dispatcher:
        dispatcher.start()
        dispatcher.run([(1, "", b"")])
        os.kill(dispatcher.workers[0]["engine_pid"], signal.SIGTERM)
        dispatcher.batch([(2, "", b"")])
        dispatcher.until(lambda: 2 in dispatcher.outcomes)
        assert b"BrokenProcessPool" in dispatcher.outcomes[2].payload
        dispatcher.end()


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (bytes(24), "psbench broke off: ProtocolError: a frame of unknown kind 0"),
        (b"".join(frames.pack(frames.TASK)), "psbench broke off: ProtocolError: a task before its work"),
        (b"".join(frames.pack(frames.GREETED)), "ProtocolError: a frame of kind 16, which is not for a bridge"),
        (b"".join(frames.pack(frames.TASK))[:9], "ProtocolError: the stream ended within a frame"),
    ],
)
def test_a_stream_that_makes_no_sense_ends_the_bridge(stream: bytes, message: str) -> None:
    with bridge() as dispatcher:
        dispatcher.until(lambda: dispatcher.ready is not None)
        dispatcher.socket.sendall(stream)
        if len(stream) < 24:
            dispatcher.socket.shutdown(socket.SHUT_WR)
        assert dispatcher.process.wait(PATIENCE) == 1
        dispatcher.log.seek(0)
        assert message in dispatcher.log.read().decode()


def test_a_bridge_is_not_for_the_command_line() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "psbench_executors", "bridge"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
    )
    assert run.returncode == 1
    assert run.stderr == "standard input is not psbench's socket: this program is to be started by psbench\n"


def test_programs_that_the_engine_starts_do_not_get_the_stream() -> None:
    with bridge("factories:pool") as dispatcher:
        dispatcher.start()
        dispatcher.run([(1, "", b"")])
        theirs = f"socket:[{os.stat(f'/proc/{dispatcher.process.pid}/fd/3').st_ino}]"
        assert any(os.readlink(fd) == theirs for fd in Path(f"/proc/{dispatcher.process.pid}/fd").iterdir())
        for pid in descendants(dispatcher.process.pid):
            assert not any(os.readlink(fd) == theirs for fd in Path(f"/proc/{pid}/fd").iterdir())
        dispatcher.end()


def test_many_tasks_are_each_answered_once() -> None:
    with bridge(workers=4) as dispatcher:
        dispatcher.start()
        batches = [[(16 * batch + place, "", b"%d" % place) for place in range(16)] for batch in range(250)]
        outcomes = dispatcher.run(*batches)
        assert {id: outcome.payload for id, outcome in outcomes.items()} == {id: b"%d" % (id % 16) for id in range(4000)}
        dispatcher.end()


def test_large_payloads_pass() -> None:
    payload = os.urandom(10_000_000)
    with bridge(workers=2) as dispatcher:
        dispatcher.start()
        outcomes = dispatcher.run(*([(id, "", payload)] for id in range(4)))
        assert all(outcome.payload == payload for outcome in outcomes.values())
        dispatcher.end()


