"""A server that inherits its socket as descriptor 3, and behaves as its first argument says.

    loop      accepts in a plain loop, which needs a socket that blocks
    epoll     waits by epoll(7), and makes the socket non-blocking
    finishes  as epoll, and ends at SIGTERM when it has answered
    notify    as loop, but says READY=1 when it hears SIGUSR1
    stubborn  as loop, does not heed SIGTERM, and has a child that does not either
    stops     as loop, and says STOPPING=1 at SIGUSR1; it ends when it has
    fails     never accepts, and says nothing
    unless    as loop, but where a file exists that a second argument names, it ends at once
    late      as loop, but where a file exists that a second argument names, not before SIGUSR1
"""

import os
import select
import signal
import socket
import sys
import time

mode = sys.argv[1]
listener = socket.socket(fileno=3)
assert os.environ["LISTEN_FDS"] == os.environ["EINHORN_FD_COUNT"] == "1"
assert os.environ["LISTEN_PID"] == str(os.getpid()) and os.environ["EINHORN_FD_0"] == "3"
assert "EINHORN_MASTER_PID" not in os.environ


def say(state):
    place = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
        speaker.sendto(state, "\0" + place[1:])


def answer(connection):
    with connection:
        connection.settimeout(5)
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(4096)
            if not piece:
                return
            head += piece
        body = b"Handled by process %d\n" % os.getpid()
        fields = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(fields + body)


def stop(*_):
    say(b"STATUS=about to go\nSTOPPING=1")
    # Its successor is there first.
    time.sleep(0.2)
    os._exit(0)


if mode == "notify":
    signal.signal(signal.SIGUSR1, lambda *_: say(b"STATUS=serving\nREADY=1"))
    print("waits", flush=True)
elif mode == "unless" and os.path.exists(sys.argv[2]):
    sys.exit("it is there")
elif mode == "late" and os.path.exists(sys.argv[2]):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    print("waits", flush=True)
    signal.sigwait([signal.SIGUSR1])
elif mode == "stops":
    signal.signal(signal.SIGUSR1, stop)
elif mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        listener.close()
        print("child", os.getpid(), flush=True)
        while True:
            signal.pause()
elif mode == "fails":
    while True:
        signal.pause()
elif mode in ("epoll", "finishes"):
    listener.setblocking(False)
    waits = select.epoll()
    waits.register(listener, select.EPOLLIN)
    going = []
    if mode == "finishes":
        told, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(tell)
        signal.signal(signal.SIGTERM, lambda *_: going.append(True))
        waits.register(told, select.EPOLLIN)
    while not going:
        waits.poll()
        try:
            answer(listener.accept()[0])
        except BlockingIOError:
            pass
    sys.exit()
while True:
    answer(listener.accept()[0])
