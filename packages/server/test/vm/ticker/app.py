"""A workload that notes a random value and the time each millisecond, whether it is asked or not."""

import collections
import http.server
import json
import os
import threading
import time

ticks = collections.deque(maxlen=20_000)


def tick():
    count = 0
    while True:
        count += 1
        ticks.append((count, os.urandom(8).hex(), time.time()))
        time.sleep(0.001)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps(list(ticks.copy())).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


threading.Thread(target=tick, daemon=True).start()
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
