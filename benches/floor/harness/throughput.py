"""CPU time a request: rows a, b, c, d, t, w and x. Servers run side by side and are loaded one at a time, in rounds
whose order alternates, so that what disturbs the machine disturbs all of them."""

import json
import statistics
import time
from contextlib import ExitStack

from . import contestants, machine
from . import processes as run

SLICE = 0.2

LOADS = {
    'a': ('-c', 64),
    'b': ('-c', 64, '-P', 16),
    'c': ('-m', 'conn', '-c', 32),
    # What repeats the head before it is recognized by some; these repeat none.
    'a-differ': ('-c', 64, '-D'),
    'b-differ': ('-c', 64, '-P', 16, '-D'),
    'd1k': ('-c', 32, '-u', '/static/1k.txt'),
    'd100k': ('-c', 32, '-u', '/static/100k.txt'),
}
# What only row x has: a server that mostly sleeps.
SLOW = {'rate': ('-m', 'rate', '-r', 5000, '-c', 16)}
# How many iterations the handler of row w does: some milliseconds, beside which the client is nothing.
SCALING_N = 5_000_000


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def few(arguments):
    """Requests below which a slice says little: what is under way at its ends belongs to it only in part."""
    options = dict(zip(arguments[::2], arguments[1::2]))
    return 10 * options['-c'] * options.get('-P', 1)


def once(process, arguments, seconds):
    """One run of the client, with the server's CPU time around it, in slices and by ticks."""
    pids = process.pids()
    user, system = machine.ticks(pids)
    primary, everybody = machine.cpu_ns([process.pid]), machine.cpu_ns(pids)
    use, start = machine.cpu_use(run.both_cpus()), time.monotonic()
    result = run.load(process.port, *arguments, '-d', seconds, '-i', SLICE, '-A', ','.join(map(str, pids)))
    wall = time.monotonic() - start
    spent = machine.cpu_ns(pids) - everybody
    after = machine.cpu_use(run.both_cpus())
    user_after, system_after = machine.ticks(pids)
    requests = max(1, result['requests'])
    slices = [one for one in result.get('slices', []) if one[0] >= few(arguments) and one[1] > 0]
    stolen = (after[1] - use[1]) / (after[2] - use[2])
    # Both CPUs are ours while the client runs: what is busy beyond server and client is somebody else.
    other = max(0.0, (after[0] - use[0]) / machine.TICK - spent / 1e9 - result['cpu']) / (2 * wall)
    return {
        'clean': [cpu / 1e3 / count for count, cpu, _, steal in slices if not steal],
        'stolen': [cpu / 1e3 / count for count, cpu, _, steal in slices if steal],
        'whole': spent / 1e3 / requests,
        'ticks': (user_after - user, system_after - system),
        'primary': (machine.cpu_ns([process.pid]) - primary) / max(1, spent),
        'noise': other + 3 * stolen,
        'errors': result['errors'],
        'rps': result['rps'], 'p50_ms': result['p50'] / 1e3, 'p99_ms': result['p99'] / 1e3,
    }


def measured(process, arguments, options):
    """The least disturbed of a few attempts."""
    best = None
    for _ in range(options.tries):
        machine.calm(run.both_cpus())
        result = once(process, arguments, options.seconds)
        if best is None or result['noise'] < best['noise']:
            best = result
        if best['noise'] < 0.15:
            break
    return best


def slices_of(results):
    """Slices in which the host took nothing, where there are enough of them."""
    clean = [one for result in results for one in result['clean']]
    stolen = [one for result in results for one in result['stolen']]
    everything = clean if len(clean) >= 8 else clean + stolen
    return everything or [result['whole'] for result in results]


def alternate(servers, arguments, options, rounds=None):
    """The rounds of one load: by server what `once` gives, a result a round."""
    found = {}
    with ExitStack() as stack:
        live = [stack.enter_context(run.serving(server, run.SERVER_CPUS)) for server in servers]
        live = [process for process in live if process]
        for process in live:
            run.load(process.port, *arguments, '-d', 0.4)
            found[process.server.name] = []
        for number in range(rounds or options.rounds):
            for process in live if number % 2 == 0 else live[::-1]:
                found[process.server.name].append(measured(process, arguments, options))
    return found


def summary(server, results):
    """What is kept of a server's rounds."""
    slices = slices_of(results)
    user, system = (sum(result['ticks'][at] for result in results) for at in (0, 1))
    best = percentile(slices, 0.2)
    return {
        'label': server.label, 'ours': server.ours,
        'p20': best, 'p50': percentile(slices, 0.5),
        'user': best * user / max(1, user + system),
        'primary': statistics.median(result['primary'] for result in results) if server.workers > 1 else None,
        'errors': sum(result['errors'] for result in results),
        **{key: statistics.median(result[key] for result in results) for key in ('rps', 'p50_ms', 'p99_ms')},
        'slices': len(slices), 'quiet': sum(result['noise'] < 0.15 for result in results), 'rounds': len(results),
    }


def compared(servers, load, options, base=None, rounds=None):
    """A load's servers as multiples of the first, or of `base`."""
    found = alternate(servers, (LOADS | SLOW)[load], options, rounds)
    rows = {server.name: summary(server, found[server.name]) for server in servers if found.get(server.name)}
    first = rows.get(base or servers[0].name) if servers else None
    for row in rows.values():
        row['times'] = row['p20'] / first['p20'] if first else None
        row['times_median'] = row['p50'] / first['p50'] if first else None
    return rows


def row_a(servers, options):
    """Keep-alive, 64 connections."""
    return compared(servers, 'a', options, 'floor')


def row_b(servers, options):
    """Pipelined by 16, 64 connections."""
    return compared(servers, 'b', options, 'floor')


def row_v(servers, options):
    """Rows a and b with heads that differ, each from the one before."""
    return {load: compared(servers, load, options, 'floor') for load in ('a-differ', 'b-differ')}


def row_c(servers, options):
    """A new connection for each request, 32 at a time."""
    return compared(servers, 'c', options, 'floor')


def row_d(servers, options):
    """Static files of 1 KB and 100 KB, 32 connections that are kept."""
    rounds = min(options.rounds, 5)
    return {load: compared(servers, load, options, 'floor-sendfile', rounds) for load in ('d1k', 'd100k')}


def row_t(_, options):
    """Threads mode against processes mode, in pairs."""
    cells = []
    for load in (load for load in LOADS if 'differ' not in load):
        pairs = {}
        for workers, flags in contestants.MODES.items():
            flags = flags[load.startswith('d')]
            for mode in ('processes', 'threads'):
                server = contestants.ours(f'mc-{mode}-{workers}', mode, flags.format(mode=mode), workers=workers)
                pairs[workers, mode] = server
        found = alternate(list(pairs.values()), LOADS[load], options)
        for workers in contestants.MODES:
            both = [found.get(pairs[workers, mode].name) for mode in ('processes', 'threads')]
            if not all(both):
                continue
            processes, threads = (percentile(slices_of(results), 0.2) for results in both)
            rounds = [percentile(slices_of([thread]), 0.5) / percentile(slices_of([process]), 0.5)
                      for process, thread in zip(*both)]
            cells.append({'load': load, 'workers': workers, 'processes': processes, 'threads': threads,
                          'times': threads / processes, 'paired': statistics.median(rounds),
                          'least': min(rounds), 'most': max(rounds)})
    return cells


def row_w(_, options):
    """Two workers against one while the handler keeps the CPU busy on the loop, both CPUs. What the machine itself
    gives is in the row of two clusters that have nothing in common."""
    node = contestants.catalogue()
    rows = [scaling(label, [[contestants.ours(f'mc-scaling-{workers}', label, flags.format(workers=workers))]
                            for workers in (1, 2)], options) for label, flags in contestants.SCALING]
    label, flags = contestants.SCALING[0]
    alone = [contestants.ours(f'mc-alone-{at}', label, flags.format(workers=1)) for at in (1, 2)]
    rows.append(scaling('two separate clusters of one worker', [alone[:1], alone], options))
    rows.append(scaling('node, node cluster', [[node['node']], [node['node2']]], options))
    return [row for row in rows if row]


def scaling(label, sides, options):
    """One row: by the rounds, the second side's requests as a multiple of the first's."""
    cpus, rounds = run.both_cpus(), []
    with ExitStack() as stack:
        live = {}
        for server in {server.name: server for side in sides for server in side}.values():
            live[server.name] = stack.enter_context(run.serving(server, cpus))
        if not all(live.values()):
            return None
        sides = [[live[server.name] for server in side] for side in sides]
        for number in range(min(options.rounds, 5)):
            both = {}
            for at in (0, 1) if number % 2 == 0 else (1, 0):
                machine.calm(cpus)
                both[at] = heavy(sides[at], options)
            rounds.append({key: both[1][key] / both[0][key] for key in both[0]})
    medians = {key: statistics.median(one[key] for one in rounds) for key in ('wall', 'cpu', 'busiest')}
    return {'label': label, **medians, 'best': max(one['wall'] for one in rounds), 'rounds': len(rounds)}


def heavy(servers, options):
    """Requests by the second, by all CPU time of the servers, and by that of the busiest process or thread."""
    threads = machine.threads(pid for server in servers for pid in server.pids())
    before = {one: machine.thread_ns(one) for one in threads}
    with ExitStack() as stack:
        # First served on a busy machine: what is measured is not how long the client waits for a CPU.
        clients = [stack.enter_context(run.client(
            server.port, '-c', 8 // len(servers), '-u', f'/heavy?n={SCALING_N}', '-d', max(2, options.seconds),
            cpus=run.both_cpus(), fifo=True)) for server in servers]
        results = [json.loads(client.communicate()[0]) for client in clients]
    spent = [machine.thread_ns(one) - before[one] for one in threads]
    requests = sum(result['requests'] for result in results)
    return {'wall': sum(result['rps'] for result in results), 'cpu': requests / max(1, sum(spent)),
            'busiest': requests / max(1, *spent)}


def row_x(_, options):
    """What was tried on the raw loop; the first of each load is what the others are compared with."""
    return [{'load': load, 'title': title, 'rows': compared(servers, load, options)}
            for load, title, servers in contestants.experiments()]
