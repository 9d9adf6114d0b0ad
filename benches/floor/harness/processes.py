"""Starts servers and clients, and ends them, by id, whatever happens. All is on free ports of 127.0.0.1."""

import ctypes
import json
import os
import random
import re
import resource
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

from . import machine
from .contestants import CACHE, ROOT, RUN

# Set by the command line: who runs where, and how much sooner than others.
SERVER_CPUS, CLIENT_CPUS, NICE = {0}, {1}, -10

NO_LINGER = b'\1\0\0\0\0\0\0\0'
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def both_cpus():
    return SERVER_CPUS | CLIENT_CPUS


def prepared(cpus, fifo=False, death=signal.SIGKILL, stamp=None):
    """What a child does before it becomes its program; last it writes the time into `stamp`."""
    def prepare():
        os.setsid()
        LIBC.prctl(PR_SET_PDEATHSIG, death)
        os.sched_setaffinity(0, cpus)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        for many in (60000, limit):
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (many, max(many, limit)))
                break
            except (ValueError, OSError):
                pass
        try:
            # A session is a group of its own to the scheduler, and the group's nice value is the one that counts.
            with open('/proc/self/autogroup', 'w') as group:
                group.write(str(NICE))
        except OSError:
            pass  # Not every kernel has it, and only root may.
        try:
            os.setpriority(os.PRIO_PROCESS, 0, NICE)
            if fifo:
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
        except OSError:
            pass  # Only root may.
        if stamp is not None:
            os.write(stamp, str(time.monotonic_ns()).encode())
    return prepare


def free_port():
    """A port that nobody listens on, below those that the kernel gives to clients."""
    while True:
        port = random.randrange(18000, 28000)
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(('127.0.0.1', port))
                return port
            except OSError:
                pass


def get(port, path='/', timeout=5.0):
    """One request on a connection of its own: status, head and body."""
    with socket.create_connection(('127.0.0.1', port), timeout) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        connection.sendall(f'GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n'.encode())
        answer = b''
        while b'\r\n\r\n' not in answer:
            more = connection.recv(65536)
            if not more:
                raise OSError('closed')
            answer += more
        head, _, body = answer.partition(b'\r\n\r\n')
        length = re.search(rb'(?i)\r\ncontent-length:\s*(\d+)', head)
        while length and len(body) < int(length.group(1)):
            more = connection.recv(262144)
            if not more:
                break
            body += more
        return int(head.split()[1]), head.decode('latin-1'), body.decode('latin-1')


class Process:
    """A running server."""

    def __init__(self, server, cpus):
        self.server, self.port = server, free_port()
        os.makedirs(RUN, exist_ok=True)
        words = {'port': self.port, 'name': server.name, 'root': ROOT, 'run': RUN,
                 'conf': os.path.join(RUN, f'{server.name}.conf')}
        if server.config:
            with open(words['conf'], 'w') as file:
                file.write(server.config.format(**words))
        command = shlex.split(server.command.format(**words))
        # Settings of whoever measures are not to reach what is measured.
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith('MCLUSTER') and name not in ('HOST', 'PORT', 'WEB_CONCURRENCY')}
        self.log = os.path.join(RUN, f'{server.name}.log')
        read, write = os.pipe()
        with open(self.log, 'w') as log, open(read) as reader, open(write, 'w'):
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=RUN,
                env=environment | server.environment, preexec_fn=prepared(cpus, death=signal.SIGTERM, stamp=write))
            # Popen comes back once the program is executed, but not at once on a busy machine.
            self.started = int(os.read(reader.fileno(), 32)) / 1e9
        self.pid = self.child.pid

    def pids(self):
        return machine.family(self.pid)

    def answers(self, patience=15):
        """Waits for its first good answer."""
        end = time.monotonic() + patience
        while time.monotonic() < end and self.child.poll() is None:
            try:
                if get(self.port, self.server.probe)[0] == 200:
                    return True
            except OSError:
                pass
            time.sleep(0.005)
        return False

    def stop(self):
        family = set(self.pids()) | {self.pid}
        if self.child.poll() is None:
            self.child.terminate()
        self._wait(family, 1.0)
        family |= set(self.pids())
        for pid in family:
            # The id of one that is gone may be another's by now, but for the child, which has not been waited for.
            if machine.is_alive(pid) and (pid == self.pid or pid in self.pids()):
                os.kill(pid, signal.SIGKILL)
        self._wait(family, 2.0)
        self.child.wait()

    def _wait(self, family, patience):
        end = time.monotonic() + patience
        while time.monotonic() < end and any(machine.is_alive(pid) for pid in family):
            self.child.poll()
            time.sleep(0.01)


@contextmanager
def started(server, cpus):
    """A process of the server, ended at the end."""
    process = Process(server, cpus)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def serving(server, cpus):
    """The same once it answers; None, with a word on stderr, where it does not."""
    try:
        process = Process(server, cpus)
    except OSError as error:
        print(f'left out: {server.name}: {error}', file=sys.stderr)
        yield None
        return
    try:
        if process.answers():
            yield process
            return
        with open(process.log) as log:
            last = (log.read().strip().splitlines() or ['it says nothing'])[-1]
        print(f'left out: {server.name} does not answer: {last}', file=sys.stderr)
        yield None
    finally:
        process.stop()


@contextmanager
def client(port, *arguments, cpus=None, fifo=False):
    """The load client of anchors/c/ld.c, running; killed at the end if it still does."""
    command = [os.path.join(CACHE, 'ld'), str(port), *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          preexec_fn=prepared(cpus or CLIENT_CPUS, fifo)) as child:
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()


def load(port, *arguments, cpus=None, fifo=False):
    """One run of the load client: what it says at its end."""
    with client(port, *arguments, cpus=cpus, fifo=fifo) as child:
        return json.loads(child.communicate()[0])
