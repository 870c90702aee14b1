"""A user client that keeps to the calls, times and output of SciStream's own (1.2.1), over gRPC's own library.

Arguments: a folder with the modules that protoc made of scistream.proto, then those of SciStream's client.
"""

import argparse
import sys
import threading
import time
import uuid

import grpc

sys.path.insert(0, sys.argv[1])
import scistream_pb2 as messages  # noqa: E402
import scistream_pb2_grpc as services  # noqa: E402

TIME_LIMIT = 5
HELLO_DELAY = 0.5
HELLO_TRIES, HELLO_PAUSE = 5, 0.1
# What it sends where it has no scope to have a token for.
NO_TOKEN = "INVALID_TOKEN"


def connect(options):
    if options.server_cert:
        with open(options.server_cert, "rb") as certificate:
            credentials = grpc.ssl_channel_credentials(certificate.read())
        return grpc.secure_channel(options.s2cs, credentials)
    return grpc.insecure_channel(options.s2cs)


class Client:
    def __init__(self, channel, token):
        self.stub = services.ControlStub(channel)
        self.metadata = (("authorization", token),)

    def call(self, name, message):
        return getattr(self.stub, name)(message, metadata=self.metadata, timeout=TIME_LIMIT)

    def request(self, uid, role, options, listeners):
        """req on a thread; hello a while later, as a producer whichever role it is."""
        answers = {}

        def req():
            message = messages.Request(uid=uid, role=role, num_conn=options.num_conn, rate=options.rate)
            try:
                answers["req"] = self.call("req", message)
            except grpc.RpcError as error:
                answers["error"] = error

        thread = threading.Thread(target=req)
        thread.start()
        if listeners is not None:
            time.sleep(HELLO_DELAY)
            self.call("hello", messages.Hello(uid=uid, prod_listeners=listeners, role="PROD"))
        thread.join()
        if "error" in answers:
            raise answers["error"]
        return answers["req"]

    def update(self, uid, role, targets):
        return self.call("update", messages.UpdateTargets(uid=uid, remote_listeners=targets, role=role))


def introduce(uid, options, role):
    print("uid; s2cs; access_token; role")
    print(f"{uid} {options.s2cs} {options.token} {role}", flush=True)


def inbound_request(client, options):
    uid = str(uuid.uuid1())
    introduce(uid, options, "PROD")
    listeners = [f"{options.remote_ip}:{port}" for port in options.receiver_ports.split(",")]
    answer = client.request(uid, "PROD", options, listeners)
    client.update(uid, "PROD", answer.prod_listeners)
    print(f"Listeners: {list(answer.listeners)}")


def outbound_request(client, options):
    introduce(options.uid, options, "PROD")
    listeners = [f"{options.remote_ip}:{port}" for port in options.receiver_ports.split(",")]
    answer = client.request(options.uid, "CONS", options, listeners)
    print(f"Listeners: {list(answer.listeners)}")
    client.update(options.uid, "CONS", options.prod_lstn.split(","))


def prod_req(client, options):
    uid = str(uuid.uuid1())
    introduce(uid, options, "PROD")
    answer = client.request(uid, "PROD", options, None)
    client.update(uid, "PROD", answer.prod_listeners)
    print(f"Listeners: {list(answer.listeners)}")


def hello(client, options):
    """The application of a prod-req."""
    message = messages.Hello(uid=options.uid, prod_listeners=options.prod_lstn.split(","), role="PROD")
    for left in reversed(range(HELLO_TRIES)):
        try:
            print(client.call("hello", message).message)
            return
        except grpc.RpcError:
            if left == 0:
                raise
            time.sleep(HELLO_PAUSE)


def release(client, options):
    client.call("release", messages.Release(uid=options.uid))
    print("Release completed")


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)

    def command(run, *positional):
        added = commands.add_parser(run.__name__.replace("_", "-"))
        for name in positional:
            added.add_argument(name)
        added.add_argument("--s2cs", required=True)
        added.add_argument("--server_cert")
        added.add_argument("--token", default=NO_TOKEN)
        added.add_argument("--num_conn", type=int, default=5)
        added.add_argument("--rate", type=int, default=10000)
        added.add_argument("--remote_ip", default="127.0.0.1")
        added.add_argument("--receiver_ports", default="5074,5075,5076,5077,5078")
        added.set_defaults(run=run)

    command(inbound_request)
    command(outbound_request, "uid", "prod_lstn")
    command(prod_req)
    command(hello, "uid", "prod_lstn")
    command(release, "uid")
    options = parser.parse_args(sys.argv[2:])
    with connect(options) as channel:
        try:
            options.run(Client(channel, options.token), options)
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
