"""The far side of Globus Compute without its service in between: tasks are packed as the SDK packs them, and run by an
engine of the endpoint's."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any
from uuid import uuid4


class Endpoint:
    def __init__(self, engine: Any) -> None:
        from globus_compute_sdk.serialize import ComputeSerializer

        self._engine = engine
        self._serializer = ComputeSerializer()
        self._directory = tempfile.TemporaryDirectory()
        engine.start(endpoint_id=uuid4(), run_dir=self._directory.name)

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        from globus_compute_common import messagepack
        from globus_compute_common.messagepack.message_types import Task
        from globus_compute_endpoint.engines.base import GCFuture

        pack, serialize = self._serializer.pack_buffers, self._serializer.serialize
        buffer = pack([serialize(function)]) + pack([serialize(args), serialize({})])
        id = uuid4()
        future: Future[Any] = Future()
        done = GCFuture(id)
        done.add_done_callback(lambda done: self._pass_on(done, future))
        self._engine.submit(done, messagepack.pack(Task(task_id=id, task_buffer=buffer)), {})
        return future

    def _pass_on(self, done: Future[bytes], future: Future[Any]) -> None:
        from globus_compute_common import messagepack

        try:
            result = messagepack.unpack(done.result())
            if result.error_details is not None:
                raise RuntimeError(result.data)
            future.set_result(self._serializer.deserialize(result.data))
        except BaseException as error:
            future.set_exception(error)

    def shutdown(self) -> None:
        self._engine.shutdown()
        self._directory.cleanup()


def process_pool(workers: int) -> Endpoint:
    from globus_compute_endpoint.engines import ProcessPoolEngine

    return Endpoint(ProcessPoolEngine(max_workers=workers))


def thread_pool(workers: int) -> Endpoint:
    from globus_compute_endpoint.engines import ThreadPoolEngine

    return Endpoint(ThreadPoolEngine(max_workers=workers))


def compute(workers: int) -> Endpoint:
    """The engine that endpoints use, as a rule: Parsl's executor."""
    from globus_compute_endpoint.engines import GlobusComputeEngine
    from parsl.providers import LocalProvider

    # It starts programs by name.
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    return Endpoint(
        GlobusComputeEngine(
            address="127.0.0.1",
            max_workers_per_node=workers,
            cores_per_worker=0.01,
            encrypted=False,
            provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
        )
    )
