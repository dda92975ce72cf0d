"""A workload that can be told what to do with its memory and its disk, and says who it is."""

import hashlib
import http.server
import json
import os
import random
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

MIB = 1 << 20
memory = {}


def pattern(seed, mib):
    return random.Random(seed).randbytes(mib * MIB)


def fill(name, seed, mib):
    """Memory of a pattern that the seed gives; nothing of it stays when mib is 0."""
    memory.pop(name, None)
    if mib:
        memory[name] = bytearray(pattern(seed, mib))


def touch(name, seed):
    """Changes one byte in each page of what is there."""
    block = memory[name]
    for at in range(0, len(block), 4096):
        block[at] = (block[at] + 1 + seed) % 256


def write(name, seed, mib):
    path = f"/var/tmp/{name}"
    if not mib:
        os.unlink(path)
        return
    with open(path, "wb") as file:
        file.write(pattern(seed, mib))
        file.flush()
        os.fsync(file.fileno())


def digests():
    files = sorted(os.listdir("/var/tmp"))
    return {
        "memory": {name: hashlib.sha256(block).hexdigest() for name, block in sorted(memory.items())},
        "disk": {name: hashlib.sha256(open(f"/var/tmp/{name}", "rb").read()).hexdigest() for name in files},
    }


def read(path):
    with open(path) as file:
        return file.read().strip()


def who():
    return {
        "random": os.urandom(16).hex(),
        "uuid": str(uuid.uuid4()),
        "machineId": read("/etc/machine-id"),
        "bootId": read("/proc/sys/kernel/random/boot_id"),
        "hostname": socket.gethostname(),
        "time": time.time(),
        "free": os.statvfs("/").f_bavail * os.statvfs("/").f_bsize,
    }


def credentials():
    """As an SDK without any other configuration looks for them."""
    base = "http://169.254.169.254/latest/"

    def ask(method, path, **headers):
        request = urllib.request.Request(base + path, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as reply:
                return reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code

    token = ask("PUT", "api/token", **{"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    roles = "meta-data/iam/security-credentials/"
    role = ask("GET", roles, **{"X-aws-ec2-metadata-token": token})
    return {
        "withoutToken": ask("GET", roles),
        "role": role,
        "document": ask("GET", f"{roles}{role}", **{"X-aws-ec2-metadata-token": token}),
    }


def answer(path, q):
    name, seed, mib = q.get("name", "block"), int(q.get("seed", 0)), int(q.get("mib", 0))
    if path == "/fill":
        fill(name, seed, mib)
    elif path == "/touch":
        touch(name, seed)
    elif path == "/write":
        write(name, seed, mib)
    elif path == "/credentials":
        return credentials()
    elif path == "/digests":
        return digests()
    return who()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        body = json.dumps(answer(url.path, dict(urllib.parse.parse_qsl(url.query)))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
