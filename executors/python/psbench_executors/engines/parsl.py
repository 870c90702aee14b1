"""Parsl: threads, worker processes of this host or of the nodes of a job, or what a configuration of the user's says."""

from __future__ import annotations

import os
import runpy
import socket
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from ..child import how_it_ended
from . import EngineError, Options, Watched, one_line

_LOOPBACK: Final = "127.0.0.1"


def make(options: Options, workers: int) -> Parsl:
    """Parsl with the executor `options["executor"]`, or as the file `options["config"]` says."""
    from parsl.dataflow.dflow import DataFlowKernel

    # Parsl starts programs of its own by name.
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    if path := options.get("config"):
        config = _read_config(path, workers)
    else:
        config = _config(options, workers)
    return Parsl(DataFlowKernel(config))


def _config(options: Options, workers: int) -> Any:
    import parsl
    from parsl.executors import ThreadPoolExecutor

    name = options.get("executor") or "htex-local"
    executor: Any
    if name == "thread":
        executor = ThreadPoolExecutor(max_threads=workers)
    elif name == "htex-local":
        executor = _htex_local(workers)
    elif name == "htex-polaris-headless":
        executor = _htex_polaris(workers)
    else:
        raise EngineError(
            f"no executor of Parsl is called {name!r} here; there are thread, htex-local and htex-polaris-headless, and "
            "a configuration file for all others"
        )
    return parsl.Config(
        executors=[executor],
        run_dir=options["run_dir"],
        retries=0,
        strategy="none",
        usage_tracking=0,
        initialize_logging=False,
    )


def _htex(workers: int, **more: Any) -> Any:
    from parsl.executors import HighThroughputExecutor

    return HighThroughputExecutor(
        label="psbench",
        max_workers_per_node=workers,
        # Half of what divides the cores evenly: as many workers as asked for, also where there are fewer cores.
        cores_per_worker=0.5 / workers,
        # A lost node is noticed within half a minute, not two.
        heartbeat_period=5,
        heartbeat_threshold=30,
        **more,
    )


def _htex_local(workers: int) -> Any:
    from parsl.providers import LocalProvider

    return _htex(
        workers,
        # Without it Parsl tries all addresses of this host, and gives up where none works.
        address=_LOOPBACK,
        loopback_address=_LOOPBACK,
        provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
    )


def _htex_polaris(workers: int) -> Any:
    from parsl.launchers import MpiExecLauncher
    from parsl.providers import LocalProvider

    path = os.environ.get("PBS_NODEFILE")
    if not path:
        raise EngineError("htex-polaris-headless runs within a job of PBS: $PBS_NODEFILE is not set; submit it with qsub")
    try:
        with open(path) as file:
            nodes = list(dict.fromkeys(file.read().split()))
    except OSError as error:
        raise EngineError(f"cannot read $PBS_NODEFILE, {path}: {error.strerror}") from error
    if not nodes:
        raise EngineError(f"$PBS_NODEFILE, {path}, names no node")
    # Workers are spread evenly: some more than asked for if that is no multiple of the nodes.
    return _htex(
        -(-workers // len(nodes)),
        address=_address_on_polaris(),
        provider=LocalProvider(
            launcher=MpiExecLauncher(bind_cmd="--cpu-bind", overrides="--ppn 1"),
            # The launcher leaves files in the current directory.
            worker_init="trap 'rm -f \"$JOBNAME.nodes\" \"cmd_$JOBNAME.sh\"' EXIT",
            nodes_per_block=len(nodes),
            init_blocks=1,
            min_blocks=1,
            max_blocks=1,
        ),
    )


def _address_on_polaris() -> str:
    from parsl.addresses import address_by_interface

    try:
        # The one by which the nodes of Polaris reach each other.
        return str(address_by_interface("bond0"))
    except OSError:
        pass
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError as error:
        raise EngineError(
            f"no address for other nodes: there is no interface bond0, and {socket.gethostname()} has none ({error.strerror})"
        ) from error


def _read_config(path: str, workers: int) -> Any:
    import parsl

    from .python import _takes_workers

    if not os.path.isfile(path):
        raise EngineError(f"cannot read the Parsl configuration {path}: no such file")
    try:
        config = runpy.run_path(path).get("config")
    except Exception as error:
        raise EngineError(f"the Parsl configuration {path} raised {one_line(error)}") from error
    if not isinstance(config, parsl.Config) and callable(config):
        try:
            config = config(workers) if _takes_workers(config) else config()
        except Exception as error:
            raise EngineError(f"config() of the Parsl configuration {path} raised {one_line(error)}") from error
    if not isinstance(config, parsl.Config):
        raise EngineError(
            f"the Parsl configuration {path} must define `config`, a parsl.Config or a function that returns one, and "
            f"not a {type(config).__name__}"
        )
    return config


def _end(block: Any) -> str:
    """How a block ended, and what it said last."""
    last_words = (block.stderr_summary or "").strip().rpartition("\n")[2]
    code = "" if block.exit_code is None else f", exit code {block.exit_code}"
    return f"{block.status_name}{code}" + (f" ({last_words[:200]})" if last_words else "")


class Parsl(Watched):
    """Submits to Parsl's kernel, each task anew and once."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        # Without a strategy nobody starts another block in the place of one that ended.
        self._blocks_are_kept = kernel.config.strategy in (None, "none")

    def look(self) -> str | None:
        """What its executors say of themselves, and whether their processes are there."""
        for executor in list(self._kernel.executors.values()):
            # Of the executor with managers on nodes; tasks that it has had wait for ever.
            interchange = getattr(executor, "interchange_proc", None)
            if interchange is not None and (code := interchange.poll()) is not None:
                return f"its interchange ended, {how_it_ended(code)}"
            blocks = dict(getattr(executor, "status_facade", None) or {})
            if self._blocks_are_kept and blocks and all(block.terminal for block in blocks.values()):
                return f"the managers of its workers ended: {', '.join(_end(block) for block in blocks.values())}"
            if getattr(executor, "bad_state_is_set", False):
                return f"its executor {executor.label} failed: {one_line(executor.executor_exception)}"
        return None

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Runs the function on a worker."""
        future: Future[Any] = self._kernel.submit(function, args, "all", False, None, {})
        return future

    def shutdown(self) -> None:
        """Ends the executors and their blocks."""
        self._kernel.cleanup()
