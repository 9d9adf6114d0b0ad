"""What the kernel says of processes and of the machine: CPU time, memory, who else is busy. It starts nothing."""

import os
import platform
import re
import time

TICK = os.sysconf('SC_CLK_TCK')


def family(pid):
    """The process, its descendants, and whoever else is in its session (those whose parent has gone)."""
    children, found = {}, []
    for name in os.listdir('/proc'):
        if not name.isdigit():
            continue
        try:
            with open(f'/proc/{name}/stat') as file:
                _, parent, _, session = file.read().rpartition(')')[2].split()[:4]
        except (OSError, ValueError):
            continue
        children.setdefault(int(parent), []).append(int(name))
        if int(session) == pid:
            found.append(int(name))
    todo = [pid]
    while todo:
        one = todo.pop()
        todo += children.get(one, [])
        if one not in found and os.path.exists(f'/proc/{one}'):
            found.append(one)
    return found


def is_alive(pid):
    """Whether it runs: a zombie does not."""
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def cpu_ns(pids):
    """CPU time of all threads of these processes, by their CPU clocks: exact, unlike /proc/PID/stat."""
    total = 0
    for pid in pids:
        try:
            # What clock_getcpuclockid(3) gives.
            total += time.clock_gettime_ns((~pid << 3) | 2)
        except OSError:
            pass
    return total


def threads(pids):
    """All threads of these processes, by their folders in /proc."""
    found = []
    for pid in pids:
        try:
            found += [f'/proc/{pid}/task/{thread}' for thread in os.listdir(f'/proc/{pid}/task')]
        except OSError:
            pass
    return found


def thread_ns(thread):
    """CPU time of one of these, up to the last tick."""
    try:
        with open(f'{thread}/schedstat') as file:
            return int(file.read().split()[0])
    except OSError:
        return 0


def ticks(pids):
    """User and system time of these processes in ticks: sampled, so only long sums mean something."""
    user = system = 0
    for pid in pids:
        try:
            with open(f'/proc/{pid}/stat') as file:
                fields = file.read().rpartition(')')[2].split()
        except OSError:
            continue
        user += int(fields[11])
        system += int(fields[12])
    return user, system


def memory(pid):
    """A process's proportional and private memory in bytes."""
    with open(f'/proc/{pid}/smaps_rollup') as file:
        text = file.read()

    def field(name):
        return int(re.search(rf'^{name}:\s+(\d+)', text, re.M).group(1)) * 1024
    return {'pss': field('Pss'), 'private': field('Private_Clean') + field('Private_Dirty')}


def memories(pids):
    """The sum of `memory` over those that are still there."""
    total = {'pss': 0, 'private': 0}
    for pid in pids:
        try:
            for key, value in memory(pid).items():
                total[key] += value
        except (OSError, AttributeError):
            pass
    return total


def slab():
    """Bytes of the kernel's own memory."""
    with open('/proc/meminfo') as file:
        return int(re.search(r'^Slab:\s+(\d+)', file.read(), re.M).group(1)) * 1024


def cpu_use(cpus):
    """Of these CPUs together, in ticks: busy with anything, taken by the host, and all there were."""
    busy = steal = everything = 0
    names = {f'cpu{cpu}' for cpu in cpus}
    with open('/proc/stat') as file:
        for line in file:
            name, *values = line.split()
            if name in names:
                user, nice, system, idle, wait, irq, softirq, stolen = map(int, values[:8])
                busy += user + nice + system + irq + softirq
                steal += stolen
                everything += user + nice + system + idle + wait + irq + softirq + stolen
    return busy, steal, max(1, everything)


def calm(cpus, patience=0.6):
    """Waits, but not for long, for a moment in which nobody else keeps these CPUs busy."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before = cpu_use(cpus)
        time.sleep(0.08)
        after = cpu_use(cpus)
        if after[0] + after[1] - before[0] - before[1] <= 0.25 * (after[2] - before[2]):
            return


def describe():
    """The machine in a line, as a table's heading has it."""
    model = 'unknown processor'
    with open('/proc/cpuinfo') as file:
        found = re.search(r'^model name\s*:\s*(.+)$', file.read(), re.M)
        model = found.group(1) if found else model
    return f'{os.cpu_count()} CPUs ({model}), Linux {platform.release().split("-")[0]}'
