"""Answers at once, and dirties as much memory as it is asked to: the workload of the benchmarks.

GET /           says that it is there
GET /fill?mb=N  holds N MB of random bytes from now on, instead of what it held
GET /touch?mb=N changes a byte in each page of the first N MB that it holds
GET /sum        tells the digest of what it holds
"""

import hashlib
import http.server
import os
import urllib.parse

MB = 1 << 20
PAGE = 4096
block = bytearray()


def fill(size):
    """Piece by piece: a second copy of all would dirty as much again."""
    global block
    block = bytearray(size)
    for at in range(0, size, MB):
        block[at : at + MB] = os.urandom(MB)


def touch(size):
    size = min(size, len(block))
    block[0:size:PAGE] = os.urandom(len(range(0, size, PAGE)))


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        size = int(urllib.parse.parse_qs(url.query).get("mb", ["0"])[0]) * MB
        if url.path == "/fill":
            fill(size)
        elif url.path == "/touch":
            touch(size)
        text = hashlib.sha256(block).hexdigest() if url.path == "/sum" else f"{len(block) // MB} MB"
        body = (text + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Answer).serve_forever()
