"""Objects in a store, which is the argument. Of each line of standard input it prints what came of it: `put HEX`, the key; `get KEY`, the
object as HEX; `exists KEY`."""

import sys

from proxystore.store import Store
from streams import connector

# Without a cache: what others do to objects shows.
store = Store("test", connector(sys.argv[1]), cache_size=0)
for line in sys.stdin:
    action, argument = line.split()
    if action == "put":
        told = store.put(bytes.fromhex(argument))[0]
    else:
        key = type(store.connector.new_key())(argument)
        told = store.get(key).hex() if action == "get" else store.exists(key)
    print(told, flush=True)
