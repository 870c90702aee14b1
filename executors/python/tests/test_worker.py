"""What an engine's worker does, without an engine."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import echo_child
import pytest
from dispatcher import CHILD, Gate, until

from psbench_executors import child, frames, processes, worker
from psbench_executors.worker import Reply

WORK = (0, bytes(12), b"setup", "owner")


@pytest.fixture(autouse=True)
def no_children() -> Iterator[None]:
    yield
    for idle in worker._pool._idle:
        idle.close(2)
    worker._pool = worker._Pool()


def run(*commands: str, work: child.Work = WORK, payload: bytes = b"") -> Reply:
    return worker.run(CHILD, work, [(id, command.encode(), payload) for id, command in enumerate(commands)])


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_batch_is_answered_in_order() -> None:
    before = time.monotonic_ns()
    reply = worker.run(CHILD, WORK, [(id, b"", b"%d" % id) for id in range(9, 0, -1)])
    assert reply.outcomes == [(0, 0, b"%d" % id) for id in range(9, 0, -1)]
    assert reply.report == b"9 done"
    assert before < reply.received < reply.answered < time.monotonic_ns()
    assert (reply.host, reply.engine_pid) == (socket.gethostname(), os.getpid())
    boot, _, namespace = reply.clock.partition(":")
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert int(namespace) == os.stat("/proc/self/ns/time").st_ino
    assert reply.cpu_nanoseconds > 0
    assert reply.peak_memory > 1_000_000


def test_a_child_lives_from_batch_to_batch() -> None:
    first, second = run("pid"), run("pid", "pid")
    assert first.children == second.children
    assert first.outcomes[0] == second.outcomes[0] == second.outcomes[1]
    assert second.report == b"3 done"


def test_a_failure_is_the_tasks_alone() -> None:
    reply = run("", "fail no such key: é", "")
    assert reply.outcomes == [(0, 0, b""), (0, frames.FAILED, "no such key: é".encode()), (0, 0, b"")]


@pytest.mark.parametrize(
    ("command", "reason"), [("exit 3", b"exit code 3"), ("exit 0", b"exit code 0"), ("kill", b"signal 9 (SIGKILL)")]
)
def test_a_child_that_ends_takes_those_it_was_given_with_it(command: str, reason: bytes) -> None:
    large = bytes(100_000)
    tasks = [(1, b"", b""), (2, command.encode(), b""), (3, b"", b""), (4, b"", large), (5, b"", b"")]
    reply = worker.run(CHILD, WORK, tasks)
    # Nobody can tell whether the third had begun; the others were still here, since the fourth is large.
    assert reply.outcomes == [
        (0, 0, b""),
        (0, frames.LOST, reason),
        (0, frames.LOST, reason),
        (1, 0, large),
        (1, 0, b""),
    ]
    assert len(set(reply.children)) == 2
    assert reply.report == b"2 done"


def test_a_task_that_runs_for_too_long_is_told_from_those_that_do_not_begin() -> None:
    reply = run("", "overdue", "")
    assert reply.outcomes == [(0, 0, b""), (0, frames.TIMED_OUT, b"ran for too long"), (1, 0, b"")]
    assert not running(reply.children[0][0])


def test_other_tasks_that_had_begun_are_lost_with_an_overdue_one(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(
        "import socket, struct, time\n"
        "from psbench_executors import frames\n"
        "peer = socket.socket(fileno=0)\n"
        "reader = frames.Reader(peer)\n"
        "reader.next()\n"
        "frames.send(peer, frames.pack(frames.READY))\n"
        "first, second = reader.next(), reader.next()\n"
        "if second.kind == frames.TASK:\n"
        "    begun = struct.pack('<2Q', first.id, second.id)\n"
        "    frames.send(peer, frames.pack(frames.OVERDUE, id=second.id, payload=begun))\n"
        "    time.sleep(60)\n"
        "frames.send(peer, frames.pack(frames.OUTCOME, id=first.id) + frames.pack(frames.FINISH))\n"
        "reader.next()\n"
    )
    reply = worker.run([sys.executable, str(script)], WORK, [(5, b"", b""), (6, b"", b""), (7, b"", b"")])
    assert reply.outcomes == [
        (0, frames.LOST, b"ended with a task that ran for too long"),
        (0, frames.TIMED_OUT, b"ran for too long"),
        (1, 0, b""),
    ]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("nonsense", b"the worker broke the protocol: a frame of kind 16 in place of an outcome"),
        ("stranger", b"the worker broke the protocol: an outcome of task 1, which it does not run"),
    ],
)
def test_a_child_that_talks_nonsense_is_replaced(command: str, reason: bytes) -> None:
    reply = run(command)
    assert reply.outcomes == [(0, frames.LOST, reason)]
    assert not running(reply.children[0][0])
    assert run("").outcomes == [(0, 0, b"")]


@pytest.mark.parametrize(
    ("program", "setup", "reason"),
    [
        (["/no/such/psbench"], b"", "cannot start /no/such/psbench: No such file or directory"),
        (CHILD, echo_child.SETUP_FAILS, "no broker at example:1"),
        (CHILD, echo_child.SETUP_EXITS, "the worker ended before it was ready, exit code 7: no such option"),
        (["/bin/true"], b"", "the worker ended before it was ready, exit code 0"),
    ],
)
def test_without_a_child_all_tasks_are_lost(program: list[str], setup: bytes, reason: str) -> None:
    reply = worker.run(program, (0, bytes(12), setup, "owner"), [(1, b"", b""), (2, b"", b"")])
    assert reply.outcomes == 2 * [(-1, frames.LOST, reason.encode())]
    assert reply.children == []
    assert worker.greet(program, (0, bytes(12), setup, "owner"), 0).outcomes == [(-1, frames.FAILED, reason.encode())]


def test_a_child_that_does_not_become_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_READY_SECONDS", 0.3)
    reply = worker.run(["sleep", "60"], WORK, [(1, b"", b"")])
    assert reply.outcomes == [(-1, frames.LOST, b"the worker was not ready within 0.3 s")]


def test_children_of_older_work_are_replaced() -> None:
    old = run("pid").children[0][0]
    new = run("pid", work=(1, bytes(12), b"other", "owner"))
    assert new.children[0][0] != old
    assert not running(old)
    assert new.gone == [], "it did not end by itself"
    assert new.report == b"1 done"


def test_a_child_that_ended_while_it_was_idle_is_replaced_and_told_of() -> None:
    before = run("")
    (identity,) = before.children
    pid = identity[0]
    assert before.gone == []
    os.kill(pid, 9)
    until(lambda: not worker._pool._idle[0].alive)
    reply = run("")
    assert reply.outcomes == [(0, 0, b"")]
    assert reply.children[0][0] != pid
    assert reply.gone == [(*identity, b"signal 9 (SIGKILL)")]
    assert run("").gone == [], "once"


def test_a_child_that_is_idle_for_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    # A thread that already watches looks as often as before.
    monkeypatch.setattr(worker, "_pool", worker._Pool())
    monkeypatch.setattr(worker, "_IDLE_SECONDS", 3600)
    monkeypatch.setattr(worker, "_LOOK_SECONDS", 0.05)
    first = run("").children
    time.sleep(0.1)
    assert run("").children == first
    monkeypatch.setattr(worker, "_IDLE_SECONDS", 0.05)
    until(lambda: not running(first[0][0]))
    reply = run("")
    assert reply.outcomes == [(0, 0, b"")]
    assert reply.children != first
    assert [(pid, started) for pid, started, _ in reply.gone] == first
    assert reply.gone[0][2].startswith(b"idle for ")


def test_a_child_of_another_program_is_not_used() -> None:
    first = run("").children[0]
    other = worker.run([CHILD[0], "-u", *CHILD[1:]], WORK, [(1, b"", b"")])
    assert other.outcomes == [(0, 0, b"")] and other.children[0] != first


def test_without_a_variable_nobody_is_found_by_it() -> None:
    theirs = subprocess.Popen(["sleep", "60"])
    try:
        ours = processes._ours("")
        assert theirs.pid in ours, "it descends from here"
        assert os.getppid() not in ours and 1 not in ours
    finally:
        theirs.kill()
        theirs.wait()


def test_a_child_that_stays_stopped_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_pool", worker._Pool())
    monkeypatch.setattr(worker, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(child, "_STOPPED_SECONDS", 1)
    begun = time.monotonic()
    reply = run("stop")
    assert reply.outcomes == [(0, frames.LOST, b"stopped (SIGSTOP) for 1 s")]
    assert time.monotonic() - begun >= 1
    assert run("").outcomes == [(0, 0, b"")]


def test_what_a_child_prints_is_told_once() -> None:
    assert run("print one", "print two").printed == [b"one\ntwo\n"]
    assert run("").printed == [b""]
    assert run("print three").printed == [b"three\n"]


def test_what_a_child_prints_is_bounded() -> None:
    printed = run("flood 2000000").printed[0]
    assert printed.startswith(b"(1934465 bytes left out)\nxxx")
    assert printed.endswith(b"x\n")
    assert len(printed) == (64 << 10) + len(b"(1934465 bytes left out)\n")
    # The file began again.
    assert run("print after").printed == [b"after\n"]


@pytest.mark.parametrize("count", [1, 3])
def test_large_payloads_pass_both_ways(count: int) -> None:
    payload = os.urandom(10_000_000)
    reply = run(*count * [""], payload=payload)
    assert reply.outcomes == count * [(0, 0, payload)]


def test_small_tasks_may_have_large_outcomes() -> None:
    reply = run(*20 * ["make 8000000"])
    assert [len(payload) for _, _, payload in reply.outcomes] == 20 * [8_000_000]


def test_more_small_tasks_than_a_socket_holds() -> None:
    reply = worker.run(CHILD, WORK, [(id, b"", bytes(1000)) for id in range(3000)])
    assert reply.outcomes == 3000 * [(0, 0, bytes(1000))]


def test_concurrent_batches_have_a_child_each(gate: Gate) -> None:
    replies: list[Reply] = []

    def hold(id: int) -> None:
        replies.append(worker.run(CHILD, WORK, [(id, gate.hold.encode(), b"")]))

    threads = [threading.Thread(target=hold, args=(id,)) for id in range(3)]
    for thread in threads:
        thread.start()
    gate.wait_for(3)
    gate.open()
    for thread in threads:
        thread.join()
    assert len({reply.children[0] for reply in replies}) == 3
    assert run("").children[0] in {reply.children[0] for reply in replies}


def test_a_greeting_makes_a_child_and_keeps_the_worker() -> None:
    before = time.monotonic()
    reply = worker.greet(CHILD, WORK, 200)
    assert time.monotonic() - before >= 0.2
    assert reply.outcomes == [(0, 0, b"")]
    assert run("").children == reply.children


def test_a_forked_process_has_children_of_its_own() -> None:
    ours = run("pid").outcomes[0]
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            reply = run("pid")
            os.write(writing, repr(reply.outcomes[0] != ours).encode())
            worker.close_children()
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        assert answer.read() == "True"
    os.waitpid(pid, 0)
    assert run("pid").outcomes[0] == ours


def test_children_end_with_their_process() -> None:
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writing, run("pid").outcomes[0][2])
        os.kill(os.getpid(), 9)
    os.close(writing)
    with open(reading) as answer:
        child_pid = int(answer.read())
    os.waitpid(pid, 0)
    until(lambda: not running(child_pid) or b"Z" in Path(f"/proc/{child_pid}/stat").read_bytes().rpartition(b")")[2][:3])


def test_a_pilot_runs_to_its_end() -> None:
    script = "import os, sys; print(os.environ['ADDED'], sys.stdin.read() == '')"
    assert worker.pilot([sys.executable, "-c", script], {"ADDED": "x"}) == worker.Ending(None, b"x True\n")


@pytest.mark.parametrize(
    ("script", "failure", "printed"),
    [
        ("import sys; sys.exit('went wrong')", "exit code 1", b"went wrong\n"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9 (SIGKILL)", b""),
        ("print('x' * 10000, end='y'); raise SystemExit(4)", "exit code 4", 4095 * b"x" + b"y"),
    ],
)
def test_the_end_of_a_pilot_is_told(script: str, failure: str, printed: bytes) -> None:
    assert worker.pilot([sys.executable, "-c", script], {}) == worker.Ending(failure, printed)


def test_a_pilot_that_cannot_start() -> None:
    ending = worker.pilot(["/no/such/psbench"], {})
    assert ending.failure == "cannot start /no/such/psbench: No such file or directory"


def test_children_end_with_what_ties_them() -> None:
    ours, theirs = (0, bytes(12), b"setup", "ours"), (0, bytes(12), b"setup", "theirs")
    tie, moved = worker.tether("ours"), worker.tether("theirs")
    pids = [int(run("pid", work=work).outcomes[0][2]) for work in (ours, theirs)]
    # What was copied elsewhere is not the last one.
    pickle.dumps(moved)
    del moved
    del tie
    until(lambda: not running(pids[0]))
    assert running(pids[1])
    assert run("", work=ours).outcomes == [(-1, frames.LOST, b"the run that it is of has ended")]
    assert run("pid", work=theirs).outcomes[0][2] == b"%d" % pids[1]
