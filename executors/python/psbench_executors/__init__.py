"""Runs the tasks of psbench on the workers of Python's workflow engines.

psbench starts one *bridge* (`bridge.py`) for an engine and sends it tasks over a socket. The bridge submits them to the
engine (`engines/`), on whose workers `worker.run` hands them to a *child*, a psbench worker process that lives as long
as the engine's worker does (`child.py`). A task is bytes to all of this.
"""
