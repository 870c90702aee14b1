"""Globus Compute where there is no login, no network or no such endpoint. What endpoints do is in `test_engines.py`."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import globus_compute_sdk
import globus_sdk
import pytest
from dispatcher import PATIENCE, Dispatcher

from psbench_executors.engines import EngineError, globus

ENDPOINT = "11111111-2222-4444-8888-000000000000"


class App:
    def __init__(self, login_required: bool) -> None:
        self._login_required = login_required

    def login_required(self) -> bool:
        return self._login_required


class Client:
    """A client of a service that answers `status`, or raises it."""

    status: object = {"status": "online"}
    app: App | None = App(False)

    def __init__(self, do_version_check: bool) -> None:
        assert not do_version_check, "a version check asks the service"

    def get_endpoint_status(self, endpoint: str) -> Any:
        assert endpoint == ENDPOINT
        if isinstance(self.status, Exception):
            raise self.status
        if callable(self.status):
            self.status()
        return self.status


class Executor:
    def __init__(self, endpoint_id: object, client: Client) -> None:
        assert str(endpoint_id) == ENDPOINT
        self.futures: list[Future[Any]] = []

    def submit(self, function: Any, *args: Any) -> Future[Any]:
        self.futures.append(Future())
        return self.futures[-1]

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        assert wait and cancel_futures
        for future in self.futures:
            future.cancel()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    class Mine(Client):
        pass

    monkeypatch.setattr(globus_compute_sdk, "Client", Mine)
    monkeypatch.setattr(globus_compute_sdk, "Executor", Executor)
    monkeypatch.setattr(globus, "_CONNECT_SECONDS", PATIENCE)
    return Mine


def make() -> globus.Globus:
    return globus.make({"endpoint": ENDPOINT}, 1)


def test_without_a_login_nothing_is_asked(tmp_path: Path) -> None:
    """With the SDK itself, in the bridge."""
    with Dispatcher("globus", {"endpoint": ENDPOINT}, environment={"HOME": str(tmp_path)}) as dispatcher:
        assert dispatcher.refusal() == (
            "not logged in to Globus: run `globus-compute-endpoint login`, or set GLOBUS_COMPUTE_CLIENT_ID and "
            "GLOBUS_COMPUTE_CLIENT_SECRET"
        )
        assert dispatcher.process.wait(PATIENCE) == 1


def test_half_a_login(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "GLOBUS_COMPUTE_CLIENT_SECRET": "secret"}
    with Dispatcher("globus", {"endpoint": ENDPOINT}, environment=environment) as dispatcher:
        text = dispatcher.refusal()
        assert "Both GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET must be set" in text


def test_an_endpoint_that_is_no_uuid() -> None:
    with pytest.raises(EngineError, match="polaris is no UUID: `globus-compute-endpoint list` shows an endpoint's"):
        globus.make({"endpoint": "polaris"}, 1)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"status": "offline"}, f"endpoint {ENDPOINT} is offline: run `globus-compute-endpoint start` where it is"),
        (
            globus_sdk.GlobusConnectionError("no route", OSError()),
            "cannot reach the service of Globus: GlobusConnectionError: no route",
        ),
        (EOFError(), "not logged in to Globus: run `globus-compute-endpoint login`"),
    ],
)
def test_an_endpoint_that_cannot_be_used(service: type[Client], status: object, reason: str) -> None:
    service.status = status
    with pytest.raises(EngineError) as error:
        make()
    assert str(error.value) == reason


def test_a_service_that_does_not_answer(service: type[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(globus, "_CONNECT_SECONDS", 0.2)
    service.status = staticmethod(lambda: time.sleep(600))
    with pytest.raises(EngineError) as error:
        make()
    assert str(error.value) == "the service of Globus Compute did not answer within 0.2 s: is there a way to the internet?"


def test_an_endpoint_that_is_unknown(service: type[Client]) -> None:
    import requests

    response = requests.Response()
    response.status_code = 404
    response.headers["Content-Type"] = "application/json"
    response._content = b'{"code": "ENDPOINT_NOT_FOUND", "message": "no such endpoint"}'
    response.request = requests.Request("GET", "https://example").prepare()
    service.status = globus_sdk.GlobusAPIError(response)
    with pytest.raises(EngineError, match=f"Globus Compute refuses endpoint {ENDPOINT}: .*no such endpoint"):
        make()


def test_a_login_that_ran_out(service: type[Client]) -> None:
    service.app = App(True)
    with pytest.raises(EngineError, match="not logged in to Globus"):
        make()


def test_futures_of_tasks_that_may_run_cannot_be_cancelled(service: type[Client]) -> None:
    engine = make()
    futures = [engine.submit(print) for _ in range(3)]
    assert not any(future.cancel() for future in futures)
    engine._executor.futures[0].set_result(5)
    engine._executor.futures[1].set_exception(ValueError("no"))
    engine.shutdown()
    assert futures[0].result(0) == 5
    with pytest.raises(ValueError, match="no"):
        futures[1].result(0)
    with pytest.raises(CancelledError):
        futures[2].result(0)
