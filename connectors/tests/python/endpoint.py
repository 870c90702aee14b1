"""Gets the object called OBJECT_ID with ProxyStore's own connector, prints it, and stores another, whose name it prints.

Arguments: the endpoint's UUID, OBJECT_ID.
"""

import sys

from proxystore.connectors.endpoint import EndpointConnector, EndpointKey
from proxystore.serialize import deserialize, serialize

endpoint, object_id = sys.argv[1:]
with EndpointConnector([endpoint]) as connector:
    print(deserialize(connector.get(EndpointKey(object_id, endpoint))).decode())
    print(connector.put(serialize(b"from Python")).object_id)
