"""A server of Python's standard library that takes a socket which is open already.

    mcluster start examples/programs/server.py --interpreter python3 --listen 127.0.0.1:3000

It says by itself when it serves and when it goes (sd_notify(3)), as `--wait-ready` has it. Told to go,
it no longer accepts, answers what has come, and closes each connection behind its next answer.
"""

import http.server
import os
import signal
import socket
import threading

FIRST = 3


def notify(state):
    """Says something to the primary, if that wants to hear it."""
    place = os.environ.get("NOTIFY_SOCKET")
    if place:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
            speaker.sendto(state.encode(), "\0" + place[1:] if place[0] == "@" else place)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Nobody waits for a connection that says nothing any more.
    timeout = 5

    def do_GET(self):
        body = f"Handled by process {os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if self.server.going:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    going = False
    daemon_threads = False

    def __init__(self):
        super().__init__(None, Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = socket.socket(fileno=FIRST)
        # Others accept from it as well: whoever comes too late must not wait.
        self.socket.setblocking(False)
        self.server_address = self.socket.getsockname()

    def go(self, *_):
        self.going = True
        notify("STOPPING=1")
        # From another thread, since it waits for this one.
        threading.Thread(target=self.shutdown).start()


if int(os.environ.get("LISTEN_PID", 0)) != os.getpid():
    raise SystemExit("there is no socket: start this by mcluster, with --listen")
server = Server()
signal.signal(signal.SIGTERM, server.go)
notify("READY=1")
server.serve_forever(poll_interval=0.1)
server.server_close()
