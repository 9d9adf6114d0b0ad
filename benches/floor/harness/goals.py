"""The goals, and whether what was measured meets them. Pure: results in, rows out."""

import statistics

MB = 1_000_000
KB = 1_000


def times(value):
    return f'{value:.2f}'


def in_units(unit, one=1, digits=0):
    """Shows a value in a unit that is `one` of it."""
    return lambda value: f'{value / one:.{digits}f} {unit}'


def at_most(value, limit, show=times):
    """A goal's measured value as text, and whether it is met; None where it was not measured. A multiple is what it is
    shown as: what lies behind the second digit is noise."""
    if value is None:
        return None, None
    return show(value), (round(value, 2) if show is times else value) <= limit


def pick(results, *path):
    for key in path:
        if not isinstance(results, dict) or results.get(key) is None:
            return None
        results = results[key]
    return results


def ratio(over, under):
    return over / under if over is not None and under else None


def calls(results):
    """System calls of a keep-alive request: a read, a write, few epoll_wait, and next to nothing else."""
    found = pick(results, 's', 'a', 'mc')
    if not found:
        return None, None
    kinds = found['calls']
    waits = sum(count for name, count in kinds.items() if name.startswith('epoll_'))
    work = sum(kinds.get(name, 0) for name in ('read', 'recvfrom', 'readv', 'write', 'sendto', 'writev', 'sendmsg'))
    others = found['all'] - waits - work
    text = f'{work:.2f} to read and write, {waits:.2f} to wait, {max(0, others):.3f} others'
    return text, work <= 2.02 and waits < 0.5 and others < 0.02


def user(results):
    found = pick(results, 's', 'a', 'mc', 'user')
    return found if found is not None else pick(results, 'a', 'mc', 'user')


def slowed(results, name):
    row = pick(results, 'f', name)
    return row['loaded_p99'] - row['quiet_p99'] if row else None


def middle(values):
    return statistics.median(values) if values else None


def worst_pair(results):
    cells = results.get('t')
    return max(cell['times'] for cell in cells) if cells else None


def scaling(results):
    rows = results.get('w')
    return rows[0]['wall'] if rows else None


def goals(results):
    """Every goal: its words, what was measured, and whether it is met (None: not measured)."""
    milliseconds, microseconds = in_units('ms', digits=1), in_units('µs', digits=2)
    bytes_, kilobytes, megabytes = in_units('B'), in_units('KB', KB), in_units('MB', MB, digits=2)
    percent = in_units('%', 0.01)

    def file(load, goal):
        ours, nginx = (pick(results, 'd', load, name, 'p20') for name in ('mc-files-cache', 'nginx'))
        return (goal, *at_most(ratio(ours, nginx), 0.99))
    two = 'mc-rr'
    return [
        ('keep-alive: at most 1.10 of the raw loop', *at_most(pick(results, 'a', 'mc', 'times'), 1.10)),
        ('keep-alive: at most 0.7 µs in user space', *at_most(user(results), 0.7, microseconds)),
        ('keep-alive: a read, a write, waiting amortised, nothing else', *calls(results)),
        ('pipelined by 16: at most 1.4', *at_most(pick(results, 'b', 'mc', 'times'), 1.4)),
        ('keep-alive with heads that differ: at most 1.10',
         *at_most(pick(results, 'v', 'a-differ', 'mc', 'times'), 1.10)),
        ('pipelined with heads that differ: at most 1.4',
         *at_most(pick(results, 'v', 'b-differ', 'mc', 'times'), 1.4)),
        ('new connection each, `shared`: at most 1.0', *at_most(pick(results, 'c', 'mc', 'times'), 1.0)),
        ('the same, `reuseport`: at most 1.0', *at_most(pick(results, 'c', 'mc-reuseport', 'times'), 1.0)),
        ('the same, `rr`, two workers: at most 1.15', *at_most(pick(results, 'c', two, 'times'), 1.15)),
        ('of that the primary: at most 25 %', *at_most(pick(results, 'c', two, 'primary'), 0.25, percent)),
        file('d1k', 'file of 1 KB: below nginx (1.00)'),
        file('d100k', 'file of 100 KB: below nginx (1.00)'),
        ('an idle connection: under 1024 B', *at_most(pick(results, 'e', 'mc-idle', 'each'), 1023, bytes_)),
        ('p99 of `/` beside `/heavy`, processes: at most 2 ms more',
         *at_most(slowed(results, 'mc-pool'), 2, milliseconds)),
        ('the same, threads', *at_most(slowed(results, 'mc-pool-threads'), 2, milliseconds)),
        ('start to first answer, two workers: under 10 ms',
         *at_most(middle(pick(results, 'g', two, 'starts')), 10, milliseconds)),
        ('SIGKILL of a worker to its successor\'s answer: under 10 ms',
         *at_most(middle(pick(results, 'g', two, 'recoveries')), 10, milliseconds)),
        ('private memory of an idle worker: at most 1 MB',
         *at_most(pick(results, 'm', 'workers', two, 'worker'), MB, kilobytes)),
        ('release binary: at most 3 MB', *at_most(pick(results, 'm', 'release'), 3 * MB, megabytes)),
        ('hello without default features, stripped: under 600 KB',
         *at_most(pick(results, 'm', 'hello'), 600 * KB, kilobytes)),
        ('the command, profile `small`, standard library compiled with it: at most 3 MB',
         *at_most(pick(results, 'm', 'rebuilt', 'mcluster'), 3 * MB, megabytes)),
        ('hello, the same: under 600 KB', *at_most(pick(results, 'm', 'rebuilt', 'hello'), 600 * KB, kilobytes)),
        ('threads beside processes, worst row: at most 1.03', *at_most(worst_pair(results), 1.03)),
        ('two workers on a busy handler: at least 1.9 times one', *at_least(scaling(results), 1.9)),
    ]


def at_least(value, limit):
    return (None, None) if value is None else (times(value), value >= limit)
