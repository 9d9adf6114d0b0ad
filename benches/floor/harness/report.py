"""Results as Markdown: what a run prints, and the tables of ../../README.md between their markers."""

import statistics
import sys

from .goals import goals

BEGIN, END = '<!-- measured: begin -->', '<!-- measured: end -->'
TITLES = {
    'a': 'Keep-alive, 64 connections',
    'b': 'Pipelined by 16, 64 connections',
    'c': 'A new connection for each request, 32 at a time',
    'a-differ': 'Keep-alive with heads that differ, 64 connections',
    'b-differ': 'Pipelined by 16 with heads that differ, 64 connections',
    'd1k': 'A file of 1 KB, 32 connections',
    'd100k': 'A file of 100 KB, 32 connections',
}


def short(load):
    words = TITLES[load].split(',')[0]
    return words[0].lower() + words[1:]


def table(head, rows):
    if not rows:
        return ''
    lines = ['| ' + ' | '.join(head) + ' |', '|---|' + '--:|' * (len(head) - 1)]
    return '\n'.join(lines + ['| ' + ' | '.join(row) + ' |' for row in rows]) + '\n'


def number(value, digits=2, unit=''):
    return '' if value is None else f'{value:.{digits}f}{unit}'


def name_of(row):
    wrong = f' ({row["errors"]} errors)' if row.get('errors') else ''
    return (f'**{row["label"]}**' if row.get('ours') else row['label']) + wrong


def median(values):
    return statistics.median(values) if values else None


def spread(values, digits=1):
    return f'{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})' if values else ''


def load_table(load, rows):
    """One load of rows a to d, with everything that was measured."""
    ordered = sorted(rows.values(), key=lambda row: row['p20'])
    head = ['', '× raw loop', 'of medians', 'CPU a request, µs', 'median', 'user, µs', 'primary\'s share',
            'requests a second', 'p50, ms', 'p99, ms']
    body = [[name_of(row), number(row['times']), number(row['times_median']), number(row['p20']), number(row['p50']),
             number(row['user']), '' if row['primary'] is None else number(100 * row['primary'], 0, ' %'),
             number(row['rps'], 0), number(row['p50_ms']), number(row['p99_ms'])] for row in ordered]
    quiet, rounds = (sum(row[key] for row in rows.values()) for key in ('quiet', 'rounds'))
    return (f'{TITLES[load]}\n\n' + table(head, body) + f'\n{quiet} of {rounds} rounds undisturbed; errors: '
            f'{sum(row["errors"] for row in rows.values())}.\n')


def multiples(results):
    """Rows a, b and c in one table."""
    loads = [load for load in 'abc' if results.get(load)]
    labels = {}
    for load in loads:
        for name, row in results[load].items():
            labels.setdefault(name, row)
    floors = {load: results[load].get('floor', {}).get('p20') for load in loads}
    head = ['CPU a request, × raw loop'] + [
        f'{short(load)} ({number(floors[load], 2, " µs")})' for load in loads]

    def cell(load, name):
        row = results[load].get(name)
        share = f' (primary {100 * row["primary"]:.0f} %)' if row and row['primary'] is not None else ''
        return number(row['times']) + share if row else ''
    order = sorted(labels, key=lambda name: [results[load][name]['p20'] if name in results[load] else 1e9
                                             for load in loads])
    return table(head, [[name_of(labels[name]), *(cell(load, name) for load in loads)] for name in order])


def files(results):
    loads = results.get('d', {})
    names = {name: row for rows in loads.values() for name, row in rows.items()}
    order = sorted(names, key=lambda name: min(rows[name]['p20'] for rows in loads.values() if name in rows))
    body = []
    for name in order:
        cells = []
        for load in ('d1k', 'd100k'):
            row, nginx = loads[load].get(name), loads[load].get('nginx')
            cells += [number(row['times']), number(row['p20'] / nginx['p20'])] if row and nginx else \
                [number(row['times']) if row else '', '']
        body.append([name_of(names[name]), *cells])
    head = ['static files, CPU a request', '1 KB, × raw loop with sendfile', '× nginx', '100 KB, × raw loop', '× nginx']
    return table(head, body)


def system_calls(results):
    parts = []
    for load in 'abc':
        rows = results.get('s', {}).get(load, {})
        ordered = sorted(rows.values(), key=lambda row: row['all'])
        head = [short(load) + ', system calls a request', 'all', 'user, µs', 'which']
        parts.append(table(head, [[name_of(row), number(row['all']), number(row['user']), kinds(row['calls'])]
                                  for row in ordered]))
    return '\n'.join(part for part in parts if part)


def kinds(calls):
    return ', '.join(f'{name} {count:.2f}' for name, count in sorted(calls.items(), key=lambda kind: -kind[1]))


def idle(results):
    rows = sorted(results.get('e', {}).values(), key=lambda row: row['each'])
    count = max((row['connections'] for row in rows), default=0)
    head = [f'{count:,} idle connections', 'memory when empty, MB', 'bytes each', 'kernel, both ends', 'CPU']
    return table(head, [
        [name_of(row), number(row['empty'] / 1e6, 1), number(row['each'], 0), number(row['kernel'], 0),
         number(100 * row['cpu'], 2, ' %')] for row in rows])


def beside_heavy(results):
    rows = sorted(results.get('f', {}).values(), key=lambda row: row['loaded_p99'])
    head = ['`/` in ms, 500 a second', 'p50 alone', 'p99 alone', 'p50 beside `/heavy`', 'p99 beside it', 'p99 more',
            '`/heavy` a second']
    return table(head, [
        [name_of(row), *(number(row[key]) for key in ('quiet_p50', 'quiet_p99', 'loaded_p50', 'loaded_p99')),
         number(row['loaded_p99'] - row['quiet_p99']), number(row['heavy'], 0)] for row in rows])


def moments(results):
    rows = sorted(results.get('g', {}).values(), key=lambda row: median(row['starts']))
    head = ['median ms (least to most)', 'start to first answer', 'SIGKILL to successor\'s answer', 'unanswered']
    return table(head, [
        [name_of(row), spread(row['starts']), spread(row['recoveries']),
         str(row['lost']) if row['recoveries'] else ''] for row in rows])


def sizes(results):
    found = results.get('m')
    if not found:
        return ''
    rows = [[name_of(row), number(row['worker'] and row['worker'] / 1e3, 0), number(row['primary'] / 1e3, 0)]
            for row in found['workers'].values()]
    builds = [('`--release`', {'mcluster': found['release'], 'hello': found['hello']}),
              ('`--profile small`', found.get('small')),
              ('`--profile small`, the standard library with it', found.get('rebuilt'))]
    installed = [[name, *(number(build.get(program) and build[program] / 1e6) for program in ('mcluster', 'hello'))]
                 for name, build in builds if build]
    head = ['installed, MB, stripped', 'the command', '`examples/hello.rs` without default features']
    return '\n'.join([table(['private memory, idle, KB', 'a worker', 'primary, or the whole with threads'], rows),
                      table(head, installed)])


def modes(results):
    cells = results.get('t') or []
    head = ['threads ÷ processes, CPU a request', 'workers', 'processes, µs', 'threads, µs', 'threads ÷ processes',
            'round by round (least to most)']
    return table(head, [
        [short(cell['load']), str(cell['workers']), number(cell['processes']),
         number(cell['threads']), number(cell['times']),
         f'{cell["paired"]:.2f} ({cell["least"]:.2f} to {cell["most"]:.2f})'] for cell in cells])


def scaling(results):
    head = ['two workers ÷ one, busy handler', 'requests a second', 'best round', 'by CPU time of the busiest',
            'by all CPU time']
    return table(head, [[row['label'], *(number(row[key]) for key in ('wall', 'best', 'busiest', 'cpu'))]
                        for row in results.get('w') or []])


def experiments(results):
    head = ['CPU a request, µs', '× the first', 'of medians', 'p50, ms', 'p99, ms']
    return '\n'.join(table([f'raw loop, {group["title"]}', *head], [
        [row['label'], number(row['p20']), number(row['times']), number(row['times_median']),
         number(row['p50_ms']), number(row['p99_ms'])]
        for row in group['rows'].values()]) for group in results.get('x') or [])


def differing(results):
    return '\n'.join(load_table(load, rows) for load, rows in (results.get('v') or {}).items())


def verdicts(results):
    words = {True: 'yes', False: '**no**', None: 'not measured'}
    return table(['goal', 'measured', 'met'], [[goal, text or '', words[met]] for goal, text, met in goals(results)])


# What a run prints for each row, as soon as it has it.
ROWS = {
    'a': lambda results: load_table('a', results['a']),
    'b': lambda results: load_table('b', results['b']),
    'c': lambda results: load_table('c', results['c']),
    'v': lambda results: differing(results),
    'd': lambda results: '\n'.join(load_table(load, rows) for load, rows in results['d'].items()),
    's': system_calls, 'e': idle, 'f': beside_heavy, 'g': moments, 'm': sizes, 't': modes, 'w': scaling,
    'x': experiments,
}


def readme(results):
    """The section between the markers."""
    parts = [heading(results), verdicts(results), multiples(results), differing(results),
             files(results), system_calls(results), idle(results), beside_heavy(results), moments(results),
             sizes(results), modes(results), scaling(results)]
    return '\n'.join(part for part in parts if part)


def notes(results):
    """The same for what was tried."""
    return '\n'.join([heading(results), experiments(results)])


def heading(results):
    about = results['about']
    return (f'{about["date"]}, {about["machine"]}; {about["rounds"]} alternating rounds of {about["seconds"]} s, one '
            'core for the servers and one for the client where nothing else is said.\n')


def check(path):
    """Ends the program now, not after the measuring, where a document has no place for the tables."""
    with open(path) as file:
        text = file.read()
    if BEGIN not in text or END not in text:
        sys.exit(f'{path} has no {BEGIN} and {END}')


def write(path, section):
    """Writes this between the markers of a document."""
    with open(path) as file:
        text = file.read()
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    with open(path, 'w') as file:
        file.write(f'{text[:start]}\n{section}{text[end:]}')
