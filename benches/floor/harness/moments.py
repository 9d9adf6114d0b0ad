"""Times rather than costs: rows f (`/` beside a busy `/heavy`) and g (from start, and from a worker's death, to an
answer). Servers and clients share all CPUs, as they do where this matters."""

import json
import os
import re
import signal
import statistics
import time

from . import machine
from . import processes as run

RATE = 500
PROBES = 16
START_ROUNDS = 9


def row_f(servers, options):
    """`/` at a fixed rate over 16 connections, from the planned time, alone and while four clients ask for `/heavy`."""
    cpus, rows = run.both_cpus(), {}
    rounds = max(1, options.rounds // 2)
    for server in servers:
        with run.serving(server, cpus) as process:
            if not process:
                continue
            probe = ('-m', 'rate', '-r', RATE, '-c', PROBES)
            beside = ('-u', '/heavy', '-c', 4)
            run.load(process.port, *beside, '-d', 0.5, cpus=cpus)
            found = {'quiet': [], 'loaded': [], 'heavy': []}
            for _ in range(rounds):
                machine.calm(cpus)
                found['quiet'].append(run.load(process.port, *probe, '-d', 2 * options.seconds, cpus=cpus, fifo=True))
                seconds = 3 * options.seconds
                with run.client(process.port, *beside, '-d', seconds + 0.6, cpus=cpus) as heavy:
                    time.sleep(0.3)
                    found['loaded'].append(run.load(process.port, *probe, '-d', seconds, cpus=cpus, fifo=True))
                    found['heavy'].append(json.loads(heavy.communicate()[0]))

        def median(key, what):
            return statistics.median(result[what] for result in found[key])
        rows[server.name] = {
            'label': server.label, 'ours': server.ours, 'rounds': rounds,
            **{f'{key}_{what}': median(key, what) / 1e3
               for key in ('quiet', 'loaded') for what in ('p50', 'p99', 'max')},
            'heavy': median('heavy', 'rps'),
            'errors': sum(result['errors'] for results in found.values() for result in results)}
    return rows


def who(port, timeout):
    """The process id that an answer names, by a field or in its body."""
    status, head, body = run.get(port, timeout=timeout)
    found = re.search(r'(?i)\r\nx-worker: (\d+)', head) or re.search(r'process (\d+)', body)
    return int(found.group(1)) if status == 200 and found else 0


def first_answer(process, others, patience=15, timeout=5.0):
    """Until somebody else than `others` answers, one connection after another: when, and how many were not answered."""
    end, lost = time.monotonic() + patience, 0
    while time.monotonic() < end:
        try:
            if who(process.port, timeout) not in others:
                return time.monotonic(), lost
        except OSError:
            lost += 1
            time.sleep(0.0002)
    return None, lost


def row_g(servers, options):
    """From the program's start to the first answer, and from SIGKILL of a worker to its successor's, in ms."""
    cpus, rows = run.both_cpus(), {}
    rounds = 2 if options.quick else START_ROUNDS
    for server in servers:
        starts, recoveries, lost = [], [], 0
        for _ in range(rounds):
            machine.calm(cpus)
            with run.started(server, cpus) as process:
                answered, _ = first_answer(process, ())
                if not answered:
                    continue
                starts.append((answered - process.started) * 1e3)
                # Until all are there, and what a start leaves to do is done.
                time.sleep(0.5)
                workers = [pid for pid in process.pids() if pid != process.pid]
                if len(workers) < server.workers:
                    continue
                killed = time.monotonic()
                os.kill(workers[0], signal.SIGKILL)
                # A connection that the dead one took is reset or times out: asked again soon.
                answered, failed = first_answer(process, set(workers) | {0}, timeout=0.1)
                lost += failed
                if answered:
                    recoveries.append((answered - killed) * 1e3)
        if starts:
            rows[server.name] = {'label': server.label, 'ours': server.ours, 'starts': starts,
                                 'recoveries': recoveries, 'lost': lost}
    return rows
