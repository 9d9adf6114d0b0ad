"""Bytes: rows e (idle connections) and m (idle workers, and what is installed)."""

import os
import re
import shutil
import statistics
import subprocess
import time

from . import contestants, machine
from . import processes as run

IDLE = 10_000


def row_e(servers, options):
    """Memory of idle connections that have been served once, above the server that has been busy but is empty."""
    rows = {}
    count = 500 if options.quick else IDLE
    for server in servers:
        with run.serving(server, run.SERVER_CPUS) as process:
            if not process:
                continue
            run.load(process.port, '-c', 64, '-d', 1)
            time.sleep(0.5)
            pids = process.pids()
            before, kernel = machine.memories(pids), machine.slab()
            with run.client(process.port, '-m', 'idle', '-c', count) as client:
                said = client.stdout.readline().split()
                if len(said) != 4:
                    continue
                time.sleep(1)
                after, kernel_after = machine.memories(process.pids()), machine.slab()
                spent = machine.cpu_ns(pids)
                time.sleep(1)
                spent = machine.cpu_ns(pids) - spent
        opened = max(1, int(said[1]))
        rows[server.name] = {
            'label': server.label, 'ours': server.ours, 'connections': opened, 'errors': int(said[3]),
            'empty': before['pss'], 'each': (after['pss'] - before['pss']) / opened,
            'kernel': (kernel_after - kernel) / opened, 'cpu': spent / 1e9}
    return rows


def row_m(servers, options):
    """Private memory of a worker that has answered once and does nothing; sizes of programs."""
    workers = {}
    for server in servers:
        with run.serving(server, run.SERVER_CPUS) as process:
            if not process:
                continue
            for _ in range(20):
                run.get(process.port)
            time.sleep(1)
            others = [pid for pid in process.pids() if pid != process.pid]
            workers[server.name] = {
                'label': server.label, 'ours': server.ours,
                'primary': machine.memory(process.pid)['private'],
                'worker': statistics.median(machine.memory(pid)['private'] for pid in others) if others else None}
    small = {} if options.quick else sizes()
    return {'workers': workers, 'release': os.path.getsize(contestants.MCLUSTER), 'hello': hello(options),
            'small': small.get('small'), 'rebuilt': next((small[folder] for folder in small if '/' in folder), None)}


def sizes():
    """What benches/size --small says: of each folder of builds the bytes of the command and of hello, stripped."""
    command = [os.path.join(contestants.PACKAGE, 'benches', 'size'), '--small']
    environment = os.environ | {'CARGO_TARGET_DIR': os.path.join(contestants.CACHE, 'hello')}
    found = {}
    try:
        said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        print(f'left out: sizes: {error}', flush=True)
        return found
    for path, size in re.findall(r'^(.*): (\d+) bytes, of', said.stdout, re.M):
        inside = os.path.relpath(path, environment['CARGO_TARGET_DIR'])
        name = os.path.basename(inside)
        found.setdefault(inside.removesuffix(name).removesuffix('examples/').rstrip('/'), {})[name] = int(size)
    return found


def hello(options):
    """The size of examples/hello.rs without default features, stripped; built now unless it is up to date."""
    if options.quick:
        return None
    target = os.path.join(contestants.CACHE, 'hello')
    command = ['cargo', 'build', '--release', '--quiet', '--locked', '--no-default-features', '--example', 'hello']
    try:
        subprocess.run(command, cwd=contestants.PACKAGE, env=os.environ | {'CARGO_TARGET_DIR': target}, check=True)
        program, stripped = os.path.join(target, 'release', 'examples', 'hello'), os.path.join(contestants.RUN, 'hello')
        shutil.copy(program, stripped)
        subprocess.run(['strip', stripped], check=True)
        return os.path.getsize(stripped)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f'left out: hello: {error}', flush=True)
        return None
