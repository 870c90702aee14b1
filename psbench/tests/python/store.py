"""Objects in a store: STORE put HEX, prints the key; STORE get KEY, prints the object as HEX; STORE exists KEY."""

import sys

from streams import store

place, action, argument = sys.argv[1:]
store = store(place)
if action == "put":
    print(store.put(bytes.fromhex(argument))[0])
elif action == "get":
    key = type(store.connector.new_key())(argument)
    print(store.get(key).hex())
else:
    key = type(store.connector.new_key())(argument)
    print(store.exists(key))
