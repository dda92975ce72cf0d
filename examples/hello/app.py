"""Counts its requests in memory and in a file, beside a second process that counts time.

Each of the three goes on where it was when the microvm wakes: that is what a suspension promises.
"""

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time

COUNT_FILE = "/var/lib/hello/count"
BACKGROUND_SOCKET = "/tmp/hello-background.sock"

requests = 0
one_at_a_time = threading.Lock()


def count_on_disk():
    """One more in the file, on the disk before this returns."""
    os.makedirs(os.path.dirname(COUNT_FILE), exist_ok=True)
    with open(COUNT_FILE, "a+") as file:
        file.seek(0)
        count = int(file.read() or 0) + 1
        file.truncate(0)
        file.write(str(count))
        file.flush()
        os.fsync(file.fileno())
    return count


def ask_background():
    """What the other process says of itself."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(BACKGROUND_SOCKET)
        return json.loads(connection.makefile().read())


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        global requests
        with one_at_a_time:
            requests += 1
            answer = {
                "memory": requests,
                "disk": count_on_disk(),
                "background": ask_background(),
                "pid": os.getpid(),
                "hostname": socket.gethostname(),
                "time": time.time(),
            }
        body = (json.dumps(answer) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print(f"request {answer['memory']}: {self.path}")

    def log_message(self, *_):
        pass  # do_GET prints a line of its own


def serve():
    subprocess.Popen([sys.executable, "-u", __file__, "background"])
    while not os.path.exists(BACKGROUND_SOCKET):
        time.sleep(0.05)
    print("listening on port 8080")
    http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Answer).serve_forever()


def background():
    """A process of its own, with a count that only its memory holds."""
    state = {"pid": os.getpid(), "startedAt": time.time(), "count": 0}

    def count():
        while True:
            time.sleep(0.1)
            state["count"] += 1

    threading.Thread(target=count, daemon=True).start()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(BACKGROUND_SOCKET)
    listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(json.dumps(state).encode())


background() if sys.argv[1:] == ["background"] else serve()
