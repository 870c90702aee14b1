"""Globus Compute: the endpoint of a facility, which runs tasks that a service of Globus brings it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from threading import Thread
from typing import Any, Final
from uuid import UUID

from . import EngineError, Options, one_line

# For all that is asked of the service. The SDK itself tries again for minutes.
_CONNECT_SECONDS: Final = 25


def make(options: Options, workers: int) -> Globus:
    """An executor of the endpoint `options["endpoint"]`, whose own configuration says how many workers there are."""
    try:
        endpoint = UUID(options["endpoint"])
    except ValueError:
        raise EngineError(f"{options['endpoint']} is no UUID: `globus-compute-endpoint list` shows an endpoint's") from None
    connected: Future[Any] = Future()
    # A thread that still waits for the network cannot hold up the end of this process.
    Thread(target=_connect, args=(endpoint, connected), name="psbench-globus", daemon=True).start()
    try:
        return Globus(connected.result(_CONNECT_SECONDS))
    except futures.TimeoutError:
        raise EngineError(
            f"the service of Globus Compute did not answer within {_CONNECT_SECONDS} s: is there a way to the internet?"
        ) from None


def _connect(endpoint: UUID, connected: Future[Any]) -> None:
    try:
        connected.set_result(_executor(endpoint))
    except BaseException as error:
        connected.set_exception(error)


def _executor(endpoint: UUID) -> Any:
    from globus_compute_sdk import Client, Executor
    from globus_sdk import GlobusAPIError, NetworkError

    try:
        client = Client(do_version_check=False)
        # The SDK would ask on standard input.
        if client.app is not None and client.app.login_required():
            raise EngineError(
                "not logged in to Globus: run `globus-compute-endpoint login`, or set GLOBUS_COMPUTE_CLIENT_ID and "
                "GLOBUS_COMPUTE_CLIENT_SECRET"
            )
        status = client.get_endpoint_status(str(endpoint)).get("status")
    except NetworkError as error:
        raise EngineError(f"cannot reach the service of Globus: {one_line(error)}") from error
    except GlobusAPIError as error:
        raise EngineError(f"Globus Compute refuses endpoint {endpoint}: {one_line(error)}") from error
    except EOFError as error:
        raise EngineError("not logged in to Globus: run `globus-compute-endpoint login`") from error
    if status != "online":
        raise EngineError(f"endpoint {endpoint} is {status}: run `globus-compute-endpoint start` where it is")
    return Executor(endpoint_id=endpoint, client=client)


class Globus:
    """Hands out futures that cannot be cancelled: the SDK's can while their tasks run."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Runs the function on a worker of the endpoint."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self._executor.submit(function, *args).add_done_callback(lambda done: _pass_on(done, future))
        return future

    def shutdown(self) -> None:
        """Waits for the tasks that were sent; those that were not are not run."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _pass_on(done: Future[Any], future: Future[Any]) -> None:
    try:
        future.set_result(done.result())
    except BaseException as error:
        future.set_exception(error)
