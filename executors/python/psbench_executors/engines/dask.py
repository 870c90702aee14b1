"""Dask: a cluster on this host, or one whose scheduler is already there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, Final

from . import EngineError, Options, one_line

_CONNECT_SECONDS: Final = 8


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
            return Dask(Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False))
        except (OSError, ValueError) as error:
            raise EngineError(
                f"no Dask scheduler answers at {scheduler} within {_CONNECT_SECONDS} s: start `dask scheduler`, or leave "
                f"the address out for a cluster on this host ({type(error).__name__})"
            ) from error
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


class Dask:
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

    def shutdown(self) -> None:
        """Leaves the scheduler; ends the cluster if it is our own."""
        self._client.close(timeout=2)
        if self._cluster is not None:
            self._cluster.close(timeout=5)
