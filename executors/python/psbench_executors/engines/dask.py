"""Dask: a cluster on this host, or one whose scheduler is already there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Final

from .. import worker
from . import EngineError, Options, Watched, one_line

_CONNECT_SECONDS: Final = 8
# How often workers are looked for that have come later.
_SURVEY_SECONDS: Final = 2
# What workers and the scheduler have to be able to import.
_PACKAGE: Final = __name__.partition(".")[0]
_HAS_PACKAGE: Final = f"__import__('importlib.util').util.find_spec({_PACKAGE!r}) is not None"


def make(options: Options, workers: int) -> Dask:
    """A client of the scheduler at `options["scheduler"]`, or of a cluster of its own with so many workers."""
    import dask
    from distributed import Client, LocalCluster

    dask.config.set(
        {
            # A task whose worker ends is lost, not tried on another worker.
            "distributed.scheduler.allowed-failures": 0,
            # Items are bulk data on purpose.
            "distributed.admin.large-graph-warning-threshold": "1TB",
            # No task waits behind another while a worker is idle.
            "distributed.scheduler.worker-saturation": 1.0,
        }
    )
    if scheduler := options.get("scheduler"):
        try:
            client = Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise EngineError(
                f"no Dask scheduler answers at {scheduler} within {_CONNECT_SECONDS} s: start `dask scheduler`, or leave "
                f"the address out for a cluster on this host ({type(error).__name__})"
            ) from error
        _require_package(client, scheduler)
        return Shared(client, options["owner"])
    threads = bool(options.get("use_threads"))
    cluster = LocalCluster(
        n_workers=1 if threads else workers,
        threads_per_worker=workers if threads else 1,
        processes=not threads,
        # Threads need no socket.
        host=None if threads else "127.0.0.1",
        # Scheduler and workers serve HTTP all the same: on any free port of the loopback interface.
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        memory_limit=0,
    )
    return Dask(Client(cluster, set_as_default=False), cluster)


def _require_package(client: Any, scheduler: str) -> None:
    """An error where a cluster that runs already could not read psbench's tasks."""
    lacking = [address for address, found in client.run(eval, _HAS_PACKAGE).items() if not found]
    if not client.run_on_scheduler(eval, _HAS_PACKAGE):
        lacking.insert(0, f"the scheduler at {scheduler}")
    if lacking:
        raise EngineError(
            f"Dask's processes have no package {_PACKAGE}, without which they can't read psbench's tasks: run `pip install "
            f"executors/python` from a checkout of psbench for the Python of each, and start them anew ({', '.join(lacking)})"
        )


class Dask(Watched):
    """Gives a client's futures the shape of Python's own.

    Theirs cannot be cancelled: Dask does not say whether a task has begun.
    """

    def __init__(self, client: Any, cluster: Any = None) -> None:
        self._client = client
        self._cluster = cluster

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Runs the function on a worker: anew each time, also with equal arguments."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        task = self._client.submit(function, *args, pure=False, retries=0)
        self._client.loop.add_callback(self._pass_on, task, future)
        return future

    @staticmethod
    async def _pass_on(task: Any, future: Future[Any]) -> None:
        # On the client's own loop: a thread that waits would cost a change of threads for each task.
        try:
            result = await task._result()
        except (CancelledError, asyncio.CancelledError) as error:
            # Nobody here cancelled it: it may well have begun.
            future.set_exception(RuntimeError(f"the scheduler gave the task up: {one_line(error)}"))
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def look(self) -> str | None:
        """Whether the scheduler is there. A connection that is lost takes all tasks with it, also where another one is made."""
        if self._client.status != "running":
            return f"the connection to its scheduler at {self._client.scheduler.address} ended"
        return None

    def shutdown(self) -> None:
        """Leaves the scheduler; ends the cluster if it is our own."""
        self._client.close(timeout=2)
        if self._cluster is not None:
            self._cluster.close(timeout=5)


class Shared(Dask):
    """A cluster that was there before and stays: psbench's processes on its workers end with the client.

    They are tied to a result that each worker keeps for the client, until the client lets go of it or the scheduler finds it gone:
    after `kill -9` of this process, too.
    """

    def __init__(self, client: Any, owner: str) -> None:
        super().__init__(client)
        self._owner = owner
        self._tethers: dict[str, Any] = {}
        self._surveyed = 0.0
        self._tie()

    def _tie(self) -> None:
        self._surveyed = time.monotonic()
        workers = self._client.nthreads()
        self._tethers = {address: tether for address, tether in self._tethers.items() if address in workers}
        for address in workers.keys() - self._tethers.keys():
            self._tethers[address] = self._client.submit(
                worker.tether, self._owner, workers=[address], pure=False, retries=0, priority=1
            )

    def look(self) -> str | None:
        """As any cluster's, and ties what runs on workers that have come later."""
        failure = super().look()
        # One that was given up: the client lost the scheduler and found it again.
        if failure is None and any(tether.status == "cancelled" for tether in self._tethers.values()):
            failure = f"the connection to its scheduler at {self._client.scheduler.address} broke"
        if failure is None and time.monotonic() - self._surveyed >= _SURVEY_SECONDS:
            # Where that fails it is the scheduler that is gone, which shows next time.
            with suppress(OSError):
                self._tie()
        return failure
