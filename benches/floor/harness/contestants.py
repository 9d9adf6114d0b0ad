"""Who is measured: mcluster's flags, row by row, and everybody that stands beside it."""

import os
import tempfile
from dataclasses import dataclass, field, replace

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGE = os.path.dirname(os.path.dirname(HERE))
CACHE = os.environ.get('FLOOR_CACHE') or os.path.join(tempfile.gettempdir(), 'mcluster-floor')
ROOT = os.path.join(CACHE, 'root')
RUN = os.path.join(CACHE, 'run')
TARGET = os.environ.get('CARGO_TARGET_DIR') or os.path.join(PACKAGE, 'target')
MCLUSTER = os.path.abspath(os.environ.get('MCLUSTER') or os.path.join(TARGET, 'release', 'mcluster'))

# All of mcluster's flags. Each: the name for --servers, what the tables call it, its flags, and its rows.
FILES = f'--root {ROOT}'
CACHED = f'{FILES} --file-cache 60s'
OURS = [
    ('mc', 'mcluster', '-w 1 --schedule shared', 'a b c s v'),
    ('mc-reuseport', 'mcluster, `reuseport`', '-w 1 --schedule reuseport', 'c s'),
    ('mc-rr', 'mcluster, `rr`, two workers', '-w 2 --schedule rr', 'c s g m'),
    ('mc-files-cache', 'mcluster, `--file-cache`', f'-w 1 --schedule shared {CACHED}', 'd'),
    ('mc-files', 'mcluster', f'-w 1 --schedule shared {FILES}', 'd'),
    ('mc-idle', 'mcluster', '-w 1 --schedule shared --max-connections 30000', 'e'),
    ('mc-pool', 'mcluster, processes, `--pool 1`', '-w 2 --pool 1', 'f'),
    ('mc-pool-threads', 'mcluster, threads, `--pool 1`', '-w 2 --pool 1 --mode threads', 'f'),
    ('mc-nopool', 'mcluster, processes, `--pool 0`', '-w 2 --pool 0', 'f'),
    ('mc-shared2', 'mcluster, `shared`, two workers', '-w 2 --schedule shared', 'g'),
    ('mc-reuseport2', 'mcluster, `reuseport`, two workers', '-w 2 --schedule reuseport', 'g'),
    ('mc-threads2', 'mcluster, threads, two workers', '-w 2 --mode threads', 'g m'),
]
# The pairs of row t by workers, with `{mode}`: flags for new and kept connections, and for files.
MODES = {
    1: ('--mode {mode} -w 1 --schedule shared', f'--mode {{mode}} -w 1 --schedule shared {CACHED}'),
    2: ('--mode {mode} -w 2 --schedule rr', f'--mode {{mode}} -w 2 --schedule rr {CACHED}'),
}
# Row w, with `{workers}`.
SCALING = [
    ('mcluster, processes', '--pool 0 -w {workers} --schedule rr'),
    ('mcluster, threads', '--pool 0 -w {workers} --schedule rr --mode threads'),
]


@dataclass
class Server:
    """A server to be started: `{port}`, `{conf}` and `{name}` in its command are filled in then."""
    name: str
    label: str
    command: str
    rows: str
    environment: dict = field(default_factory=dict)
    config: str = ''
    note: str = ''
    workers: int = 1
    ours: bool = False
    probe: str = '/'


def ours(name, label, flags, rows='', workers=1):
    """The built-in application, or files, with everything that a user gets: nothing is turned off."""
    control = os.path.join(RUN, 'mc-{port}.sock')
    command = f'{MCLUSTER} serve -l 127.0.0.1:{{port}} --name floor-{{port}} --control {control} {flags}'
    probe = '/static/1k.txt' if '--root' in flags else '/'
    return Server(name, label, command, rows, workers=workers, ours=True, probe=probe)


NGINX = '''daemon off; master_process on; worker_processes %(workers)d; user root;
pid {run}/{name}.pid; error_log {run}/{name}.err; worker_rlimit_nofile 40000;
events {{ worker_connections 30000; accept_mutex off; }}
http {{
  access_log off; server_tokens off; default_type text/plain;
  keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {run}/{name}.b; proxy_temp_path {run}/{name}.p; fastcgi_temp_path {run}/{name}.f;
  uwsgi_temp_path {run}/{name}.u; scgi_temp_path {run}/{name}.s;
  sendfile on; tcp_nopush on; tcp_nodelay on; %(cache)s
  server {{
    listen 127.0.0.1:{port} backlog=4096 %(listen)s; root {root};
    location = / {{ %(tag)s return 200 "Hello, World!"; }}
    location /static/ {{ }}
  }}
}}
'''
OPEN_FILES = 'open_file_cache max=100; open_file_cache_valid 60s;'

H2O = '''user: root
listen: {{host: 127.0.0.1, port: {port}}}
num-threads: 1
max-connections: 30000
http1-request-timeout: 600
pid-file: {run}/{name}.pid
error-log: {run}/{name}.err
hosts: {{default: {{paths: {{/: {{file.dir: {root}, file.index: [index.txt]}}}}}}}}
'''
LIGHTTPD = '''server.document-root = "{root}"
server.bind = "127.0.0.1"
server.port = {port}
server.max-connections = 30000
server.max-fds = 65535
server.max-keep-alive-requests = 1000000000
server.max-keep-alive-idle = 600
server.listen-backlog = 4096
index-file.names = ("index.txt")
mimetype.assign = (".txt" => "text/plain")
'''
HAPROXY = '''global
 nbthread 1
 maxconn 9900
defaults
 mode http
 timeout client 600s
 timeout server 600s
 timeout connect 5s
frontend f
 bind 127.0.0.1:{port} backlog 4096
 http-request return status 200 content-type text/plain string "Hello, World!"
'''


def nginx(name, label, rows, workers=1, cache=OPEN_FILES, listen='', tag=''):
    config = NGINX % {'workers': workers, 'cache': cache, 'listen': listen, 'tag': tag}
    return Server(name, label, 'nginx -c {conf}', rows, config=config, workers=workers)


def catalogue():
    """Everybody by name, in the order of the tables. Rows in capitals are only measured when named by --servers."""
    floor = f'{CACHE}/floor {{port}} -n'
    files = f'{floor} -s {ROOT}/static'
    rust = f'{CACHE}/target/release/anchor-'
    node = f'node {HERE}/anchors/node/'
    static = f'{ROOT}/static'
    tagged = {'TAG': '1'}
    servers = [
        Server('floor', 'raw loop', floor, 'a b c e s v x', note='epoll, recv and send; nothing is parsed'),
        Server('floor-opt', 'raw loop, read right after accept', f'{floor} -o', 'c s x'),
        Server('floor-rr', 'raw loop behind a primary that passes each socket, two workers',
               f'{floor} -o -w 2 -m rr', 'c s', workers=2),
        Server('floor-sendfile', 'raw loop, sendfile', f'{files} -f sendfile', 'd x'),
        Server('floor-mem', 'raw loop, writev from memory', f'{files} -f mem', 'd x'),
        Server('mio', 'bare mio loop', f'{rust}mio {{port}}', 'a b c s'),
        *(ours(name, label, flags, rows, 2 if '-w 2' in flags else 1) for name, label, flags, rows in OURS),
        Server('may', 'may_minihttp', f'{rust}may {{port}} 1', 'a b c e s v'),
        Server('hyper', 'hyper', f'{rust}hyper {{port}}', 'a b c e s'),
        Server('actix', 'actix', f'{rust}actix {{port}} 1 {static}', 'a b c d e s'),
        Server('actix2', 'actix, two workers, on the loop', f'{rust}actix {{port}} 2 {static}', 'f', workers=2),
        Server('actix2-block', 'actix, two workers, `web::block`', f'{rust}actix {{port}} 2 {static}', 'f',
               environment={'HEAVY_POOL': '1'}, workers=2),
        nginx('nginx', 'nginx', 'a b c d e s v'),
        nginx('nginx-nocache', 'nginx without its cache', 'd', cache=''),
        nginx('nginx2', 'nginx, two workers', 'g m', workers=2, tag='add_header X-Worker $pid;'),
        Server('h2o', 'h2o', 'h2o -c {conf}', 'A B C D E S', config=H2O, note='`/` is a file'),
        Server('lighttpd', 'lighttpd', 'lighttpd -D -f {conf}', 'A B C D E S', config=LIGHTTPD, note='`/` is a file'),
        Server('haproxy', 'haproxy', 'haproxy -db -f {conf}', 'A B C S', config=HAPROXY),
        Server('node', 'node', f'{node}app.js {{port}} {static}', 'a b c d e f s'),
        Server('node2', 'node cluster, `rr`, two workers', f'{node}cluster.js {{port}} 2 rr {static}', 'a c f g m s',
               environment=tagged, workers=2),
    ]
    return {server.name: server for server in servers}


def with_builds(server, builds):
    """A server, and if it is ours the same by each of these programs."""
    others = [replace(server, name=f'{server.name}-{name}', label=f'{server.label} ({name})',
                      command=server.command.replace(MCLUSTER, os.path.abspath(path), 1))
              for name, path in builds.items()]
    return [server, *others] if server.ours else [server]


# Row x: what was tried on the raw loop. By load: who is compared with the first, and with which flags.
EXPERIMENTS = [
    ('a', 'keep-alive', [
        ('recv and send', ''), ('read and write', '-r'), ('level-triggered', '-l'), ('reads until EAGAIN', '-d'),
        ('spins epoll_wait(0) for 50 µs', '-T 50'), ('read buffer of 4 KB', '-b 4096'),
        ('read buffer of 256 KB', '-b 262144')]),
    ('rate', '5,000 requests a second over 16 connections', [
        ('sleeps in epoll_wait', ''), ('spins epoll_wait(0) for 50 µs', '-T 50'),
        ('spins it for 1 ms', '-T 1000')]),
    ('b', 'pipelined by 16', [
        ('read buffer of 64 KB', ''), ('of 4 KB', '-b 4096'), ('of 256 KB', '-b 262144')]),
    ('c', 'new connection each', [
        ('one accept a wake-up', ''), ('reads right after accept', '-o'), ('the same, TCP_DEFER_ACCEPT', '-o -D'),
        ('accepts until EAGAIN', '-o -k 64')]),
    ('c', 'new connection each, two workers', [
        ('one listener, EPOLLEXCLUSIVE', '-o -w 2 -m shared'), ('one listener without it', '-o -w 2 -m herd'),
        ('SO_REUSEPORT', '-o -w 2 -m reuseport'), ('passed one by one', '-o -w 2 -m rr'),
        ('passed in hands of up to 4', '-o -w 2 -m rrb -H 4'), ('of up to 16', '-o -w 2 -m rrb -H 16'),
        ('of up to 64', '-o -w 2 -m rrb -H 64')]),
    *((f'd{size}', f'file of {words}', [
        ('writev from memory', '-s {static} -f mem'), ('sendmsg with MSG_ZEROCOPY', '-s {static} -f zerocopy'),
        ('sendfile', '-s {static} -f sendfile')]) for size, words in (('1k', '1 KB'), ('100k', '100 KB'))),
]


def experiments():
    """Row x as servers: (load, title, servers), the first of each the one that the others are compared with."""
    for number, (load, title, variants) in enumerate(EXPERIMENTS):
        yield load, title, [
            Server(f'x{number}-{at}', label,
                   f'{CACHE}/floor {{port}} -n {flags}'.replace('{static}', f'{ROOT}/static'), 'x')
            for at, (label, flags) in enumerate(variants)]
