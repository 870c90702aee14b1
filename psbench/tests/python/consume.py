"""Consumes a stream to its end: BROKER PORT TOPIC OUTPUT {objects,proxies}.

Writes the items to OUTPUT, one after the other, and prints what came with them as JSON.
"""

import json
import sys

from proxystore.proxy import Proxy, extract
from proxystore.stream import StreamConsumer
from streams import SUBSCRIBERS

broker, port, topic, output, form = sys.argv[1:]


class Counting(SUBSCRIBERS[broker]):
    messages = 0

    def next_message(self):
        message = super().next_message()
        self.messages += 1
        return message


subscriber = Counting("127.0.0.1", int(port), topic)
consumer = StreamConsumer(subscriber)
metadata = []
resolved = 0
with open(output, "wb") as file:
    items = consumer.iter_with_metadata() if form == "proxies" else consumer.iter_objects_with_metadata()
    for told, item in items:
        if isinstance(item, Proxy):
            item = extract(item)
            resolved += 1
        metadata.append(told)
        file.write(item)
print(json.dumps({"metadata": metadata, "messages": subscriber.messages, "resolved": resolved}))
consumer.close()
