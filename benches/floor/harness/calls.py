"""Row s: system calls a request, by perf or else by strace, and time in user space, by perf's samples."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

from . import machine
from . import processes as run
from .contestants import RUN
from .throughput import LOADS

EVENTS = '/sys/kernel/tracing/events/syscalls'
ALL = 'raw_syscalls:sys_enter'
SAMPLES_A_SECOND = 4999
# With fewer requests the connections of the client, which are counted too, would be in the way.
FEWEST = 1000
# So long with each counter: with strace a server answers a tenth as many.
PERF_SECONDS, STRACE_SECONDS = 1.5, 8


def row_s(servers, options):
    """By load, a, b and c, and by server: what it called how often for each request."""
    rows = {load: {} for load in 'abc'}
    for load, found in rows.items():
        for server in servers:
            if load in server.rows.lower():
                found[server.name] = calls_of(server, LOADS[load], with_user=load == 'a')
    return {load: {name: row for name, row in found.items() if row} for load, found in rows.items()}


def calls_of(server, arguments, with_user):
    with run.serving(server, run.SERVER_CPUS) as process:
        if not process:
            return None
        run.load(process.port, *arguments, '-d', 0.4)
        found = (counted(process, arguments, perf_stat, perf_counts, PERF_SECONDS)
                 or counted(process, arguments, strace, strace_counts, STRACE_SECONDS))
        if not found:
            return None
        requests, counts = found
        return {'label': server.label, 'ours': server.ours, 'all': sum(counts.values()) / requests,
                'calls': {name: count / requests for name, count in counts.items() if count / requests >= 0.005},
                'user': user_time(process, arguments) if with_user else None}


@contextmanager
def attached(command):
    """Looks at a server by a program that writes down what it saw when it is interrupted, which is at the end of the
    block. False where it cannot be started, or `command` says so by an OSError."""
    try:
        program = subprocess.Popen(command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   preexec_fn=run.prepared(run.CLIENT_CPUS, death=signal.SIGINT))
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        if program.poll() is None:
            program.send_signal(signal.SIGINT)
        try:
            program.wait(10)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def counted(process, arguments, start, read, seconds):
    """Requests, and system calls by name, of one run with a counter attached."""
    out = os.path.join(RUN, f'{process.server.name}.calls')
    with attached(lambda: start(process.pids(), out)) as is_attached:
        if not is_attached:
            return None
        # Attaching takes a while; whoever attaches later counts less, by what two runs cannot differ in.
        time.sleep(0.6)
        result = run.load(process.port, *arguments, '-d', seconds)
        time.sleep(0.1)
    try:
        with open(out) as file:
            counts = read(file.read())
        os.remove(out)
    except OSError:
        return None
    if result['requests'] < FEWEST:
        print(f'{process.server.name}: too few requests while its calls were counted', file=sys.stderr)
        return None
    return (result['requests'], counts) if counts else None


def perf_stat(pids, out):
    names = sorted(name for name in os.listdir(EVENTS) if name.startswith('sys_enter_'))
    wanted = [name for name in names if name[len('sys_enter_'):] in CALLS]
    if not wanted:
        raise OSError('no tracepoints')
    return ['perf', 'stat', '-x,', '-o', out, '-e', ','.join([ALL, *(f'syscalls:{name}' for name in wanted)]),
            '-p', ','.join(map(str, pids))]


def perf_counts(text):
    found = re.findall(r'^(\d+),[^,]*,syscalls:sys_enter_(\w+),', text, re.M)
    counts = {name: int(count) for count, name in found if int(count)}
    everything = re.search(rf'^(\d+),[^,]*,{ALL},', text, re.M)
    others = int(everything.group(1)) - sum(counts.values()) if everything else 0
    return counts | ({'others': others} if others > 0 else {})


def strace(pids, out):
    return ['strace', '-f', '-c', '-o', out, *(word for pid in pids for word in ('-p', str(pid)))]


def strace_counts(text):
    """Of its table the fourth column and the last; a column of errors may stand between."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) in (5, 6) and words[3].isdigit() and words[-1] != 'total':
            found[words[-1]] = int(words[3])
    return found


def user_time(process, arguments):
    """Microseconds in user space a request: perf's samples divide the CPU time, which the CPU clocks give."""
    data = os.path.join(RUN, f'{process.server.name}.samples')
    pids = process.pids()
    command = ['perf', 'record', '-q', '-o', data, '-e', 'cpu-clock', '-F', str(SAMPLES_A_SECOND),
               '-p', ','.join(map(str, pids))]
    with attached(lambda: command) as is_attached:
        if not is_attached:
            return None
        time.sleep(0.4)
        before = machine.cpu_ns(pids)
        result = run.load(process.port, *arguments, '-d', 1)
        spent = machine.cpu_ns(pids) - before
    script = subprocess.run(['perf', 'script', '-i', data, '-F', 'ip'], capture_output=True, text=True)
    if os.path.exists(data):
        os.remove(data)
    addresses = [int(word, 16) for word in script.stdout.split()]
    if len(addresses) < 500:
        return None
    # The kernel is in the upper half of the address space.
    user = sum(address < 1 << 63 for address in addresses)
    return spent / 1e3 / max(1, result['requests']) * user / len(addresses)


# What a server may call in its loop: each is an event of its own, and perf has no room for all there are.
CALLS = set('''
epoll_wait epoll_pwait epoll_pwait2 epoll_ctl read readv recvfrom recvmsg write writev sendto sendmsg sendmmsg
sendfile64 accept accept4 close shutdown setsockopt getsockopt getpeername getsockname fcntl ioctl futex
openat newfstat newfstatat newlstat newstat statx pread64 mmap munmap brk madvise clone3 clock_gettime
gettimeofday poll ppoll io_uring_enter sched_yield timerfd_settime eventfd2 splice lseek getpid gettid exit
mprotect rt_sigprocmask
'''.split())
