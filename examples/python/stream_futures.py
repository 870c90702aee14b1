"""A workflow on a stream of proxies, with nothing but the standard library's executor and ProxyStore.

Start this first, then the stream (in another terminal, with a Redis server at localhost:6379):

    python stream_futures.py

    psbench generate --interop proxystore --stream redis --stream-topic frames \
        --ps-connector redis --stream-method proxy --data-size-bytes 1MB --task-count 100 --rate 50/s

The dispatcher below never touches a frame: it hands proxies of a few hundred bytes to the workers, and the worker that uses
a frame fetches it from where psbench stored it, and deletes it there.
"""

import argparse
import hashlib
from concurrent.futures import ProcessPoolExecutor, as_completed

from proxystore.proxy import extract
from proxystore.stream import StreamConsumer
from proxystore.stream.shims.redis import RedisSubscriber


def analyse(frame):
    """A task. `frame` is a proxy, which is resolved here, on the worker."""
    # Most uses of a proxy resolve it by themselves, as `len(frame)` would. hashlib insists on true bytes.
    frame = extract(frame)
    return len(frame), hashlib.sha256(frame).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--topic", default="frames")
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()

    # From here on the generator has a subscriber, for which it waits.
    consumer = StreamConsumer(RedisSubscriber(options.host, options.port, options.topic))
    with ProcessPoolExecutor(options.workers) as executor:
        # One future for each item, in the order of the stream, until psbench says that it ends.
        futures = [executor.submit(analyse, frame) for frame in consumer]
        results = [future.result() for future in as_completed(futures)]
    consumer.close()

    distinct = len({digest for _, digest in results})
    print(f"{len(results)} frames, {sum(size for size, _ in results)} bytes, {distinct} different")


if __name__ == "__main__":
    main()
