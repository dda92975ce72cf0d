"""Root in a guest who wants out: connects where it is told, sends frames as they are given, takes other addresses."""

import fcntl
import http.server
import json
import socket
import struct
import threading

SIOCSIFADDR = 0x8916
SIOCSIFNETMASK = 0x891C
SIOCSIFFLAGS = 0x8914
SIOCGIFFLAGS = 0x8913
SIOCSIFHWADDR = 0x8924
SIOCADDRT = 0x890B
UP = 1
ETHERNET = 1
GATEWAY_ROUTE = 3
OWN = ("169.254.0.2", "255.255.255.252", "52:54:00:00:00:01")
DEVICE = next(name for _, name in socket.if_nameindex() if name != "lo")
control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def reach(address, port):
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            return connection.recv(100).decode().strip()
    except OSError as error:
        return f"closed: {error}"


def reach_all(targets):
    results = {}
    threads = [
        threading.Thread(target=lambda t=t: results.__setitem__(t, reach(t.rsplit(":", 1)[0], int(t.rsplit(":", 1)[1]))))
        for t in targets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def address_of(ip):
    return struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(ip))


def become(ip, netmask, mac):
    """The default route goes with an address, and comes back here."""
    name = DEVICE.encode()
    flags = struct.unpack("16sh", fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sh14x", name, 0))[:18])[1]
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", name, flags & ~UP))
    hardware = bytes.fromhex(mac.replace(":", ""))
    fcntl.ioctl(control, SIOCSIFHWADDR, struct.pack("16sH6s8x", name, ETHERNET, hardware))
    fcntl.ioctl(control, SIOCSIFADDR, struct.pack("16s", name) + address_of(ip))
    fcntl.ioctl(control, SIOCSIFNETMASK, struct.pack("16s", name) + address_of(netmask))
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", name, flags | UP))
    parts = [address_of("0.0.0.0"), address_of("169.254.0.1"), address_of("0.0.0.0")]
    route = struct.pack("L", 0) + parts[0] + parts[1] + parts[2] + struct.pack("H", GATEWAY_ROUTE)
    try:
        fcntl.ioctl(control, SIOCADDRT, route.ljust(120, b"\0"))
    except OSError:
        pass  # the gateway is on no network of this address


def disguised(ip, netmask, mac, targets):
    become(ip, netmask, mac)
    try:
        return reach_all(targets)
    finally:
        become(*OWN)


def send(frames):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((DEVICE, 0))
        for frame in frames:
            wire.send(bytes.fromhex(frame))
    return {"sent": len(frames)}


def resolve(names):
    results = {}
    for name in names:
        try:
            results[name] = sorted({info[4][0] for info in socket.getaddrinfo(name, 443)})
        except OSError as error:
            results[name] = f"failed: {error}"
    return results


CALLS = {"reach": reach_all, "disguised": disguised, "send": send, "resolve": resolve}
last = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        """Answers at once, since a disguise cuts the connection too; GET has the result."""
        order = json.loads(self.rfile.read(int(self.headers["content-length"])))

        def work():
            try:
                last["result"] = CALLS[order["call"]](*order["args"])
            except Exception as error:  # whoever asks is to know
                last["result"] = {"error": repr(error)}

        last.clear()
        threading.Thread(target=work).start()
        self.answer({})

    def do_GET(self):
        self.answer(last)

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64


Server(("0.0.0.0", 8080), Handler).serve_forever()
