"""A wire that takes its time, between two network namespaces: a TUN device in each, and this program between them.

    python3 wan_delay.py SECONDS NAMESPACE NAMESPACE

Both devices are named wan. Packets arrive in their order SECONDS after they were sent, with all their segments still in one piece
(TSO), so that a connection of some ms is held up by its windows, not by this program. It prints a line when both devices are there.
"""

import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

CLONE_NEWNET = 0x40000000
TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
# Checksums and segments are left to whoever receives: nothing is lost or changed on this way.
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 = 0x01, 0x02, 0x04
HEADER, LONGEST = 10, 10 + 65535
# On the way, each way: what 144 ms at 20 Gbit/s hold. What is sent beyond that is lost, as at a router.
MOST = 360 << 20
# Packets between two looks at the clock.
BATCH = 64


def device(namespace):
    """The TUN device of a namespace, from now on this process's."""
    handle = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")
    os.close(handle)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"wan", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(tun, TUNSETVNETHDRSZ, struct.pack("i", HEADER))
    fcntl.ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)
    return tun


class Way:
    """From one device to the other."""

    def __init__(self, source, sink, delay):
        self.source, self.sink, self.delay = source, sink, delay
        self.waiting, self.held = deque(), 0

    def take(self):
        """Takes what was sent."""
        due = time.monotonic() + self.delay
        for _ in range(BATCH):
            try:
                packet = os.read(self.source, LONGEST)
            except BlockingIOError:
                return
            if self.held < MOST:
                self.waiting.append((due, packet))
                self.held += len(packet)

    def give(self):
        """Hands out what has arrived; returns when the next one does."""
        while self.waiting:
            due, packet = self.waiting[0]
            if due > time.monotonic():
                return due
            self.waiting.popleft()
            self.held -= len(packet)
            try:
                os.write(self.sink, packet)
            except OSError:
                # The device is down, or will not have it: lost on the way.
                pass
        return None


def main():
    delay, one, other = float(sys.argv[1]), device(sys.argv[2]), device(sys.argv[3])
    ways = [Way(one, other, delay), Way(other, one, delay)]
    print("up", flush=True)
    while True:
        dues = [due for way in ways if (due := way.give()) is not None]
        # To the microsecond, which a poll in ms would not be.
        patience = max(0, min(dues) - time.monotonic()) if dues else None
        readable = select.select([one, other], [], [], patience)[0]
        for way in ways:
            if way.source in readable:
                way.take()


if __name__ == "__main__":
    main()
