"""Prints how many tasks a second an engine of Python runs by itself, in several rounds: a function that does nothing with 1 kB.

    bare_engine.py ENGINE OPTIONS WORKERS OUTSTANDING ROUNDS SECONDS
"""

import json
import os
import sys
import threading
import time

from psbench_executors import engines


def main() -> None:
    engine, options, workers, outstanding, rounds, seconds = sys.argv[1:]
    pool = engines.make(engine, json.loads(options), int(workers))
    room = threading.Semaphore(int(outstanding))
    payload = bytes(1000)
    done = 0
    ending = False

    def ended(_: object) -> None:
        nonlocal done
        done += 1
        room.release()

    def submit() -> None:
        while not ending:
            room.acquire()
            pool.submit(len, payload).add_done_callback(ended)

    threading.Thread(target=submit, daemon=True).start()
    # Until its workers have started.
    while done < int(outstanding):
        time.sleep(0.01)
    rates = []
    for _ in range(int(rounds)):
        before, begun = done, time.perf_counter()
        time.sleep(float(seconds))
        rates.append((done - before) / (time.perf_counter() - begun))
    ending = True
    print(*rates, flush=True)
    pool.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
