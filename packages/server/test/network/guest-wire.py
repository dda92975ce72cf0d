"""Joins the guest's side of a slot's tap with a tap in another network namespace: frames pass as they are.

usage: guest-wire.py SLOT_NAMESPACE GUEST_NAMESPACE
"""
import ctypes
import fcntl
import os
import select
import struct
import sys

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TAP_NO_PI = 0x0002 | 0x1000

libc = ctypes.CDLL(None, use_errno=True)


def tap(namespace, name):
    fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    os.close(fd)
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP_NO_PI))
    return device


slot, guest = tap(sys.argv[1], "tap0"), tap(sys.argv[2], "eth0")
other = {slot: guest, guest: slot}
print("joined", flush=True)
while True:
    for device in select.select([slot, guest], [], [])[0]:
        frame = os.read(device, 65536)
        try:
            os.write(other[device], frame)
        except OSError:
            pass  # the other side is down
