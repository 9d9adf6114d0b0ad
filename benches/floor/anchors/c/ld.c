/* Small single-threaded HTTP/1.1 load client; prints one JSON line.
 * usage: ld PORT [-u PATH] [-c CONNS] [-d SECONDS] [-m closed|conn|rate|idle] [-P DEPTH] [-r REQ_PER_S] [-n MAXREQ] [-t] [-i SECONDS -A PID,PID,...]
 *   closed  keep-alive connections, next request as soon as the response is in
 *   conn    new connection per request ("Connection: close"; waits for the server's FIN when it announces close)
 *   rate    fixed rate over CONNS keep-alive connections; latency from the intended send time (no coordinated omission)
 *   idle    opens CONNS connections, one request on each, prints "ready", holds them until stdin closes
 *   -P      pipelining in closed mode: DEPTH requests per send (the answers must all have the same length)
 *   -i -A   every SECONDS note the requests done and the CPU time of these processes (by their CPU clocks), printed as
 *           "slices": [requests, CPU ns, elapsed ns, stolen ticks of the whole machine]
 *   -t      tally responses per "x-worker:" header
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct conn { int fd, busy, got, hdr; int64_t need; int until_eof, srv_close; int64_t t0; char *b; int cap; int64_t one, left; } *c;
static int port, nc = 64, tally; static double secs = 5, rate; static long maxreq;
static const char *path = "/"; static char *req, *other; static int reqlen, depth = 1, differ; static double every; static clockid_t clocks[256]; static int nclocks;
static struct { int64_t t; uint64_t n, cpu, steal; } sl[4096]; static int nsl;
static enum { CLOSED, CONN, RATE, IDLE } mode;
static int ep; static uint32_t *lat; static size_t nl, capl; static uint64_t done, errs, bytes, opened;
static struct { long id; uint64_t n; } tl[256]; static int ntl;

static int64_t now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }
static void rec(int64_t ns) { if (nl == capl) { capl = capl ? capl * 2 : 65536; lat = realloc(lat, capl * 4); } int64_t v = ns / 100; lat[nl++] = v > 0xffffffff ? 0xffffffff : v; }
static int cmp(const void *a, const void *b) { uint32_t x = *(uint32_t *)a, y = *(uint32_t *)b; return x < y ? -1 : x > y; }
static double pct(double p) { if (!nl) return 0; size_t i = p * nl; if (i >= nl) i = nl - 1; return lat[i] / 10.0; }

static void slice(int64_t t) {
    uint64_t cpu = 0; struct timespec spent;
    for (int i = 0; i < nclocks; i++) if (!clock_gettime(clocks[i], &spent)) cpu += spent.tv_sec * 1000000000ULL + spent.tv_nsec;
    static int st = -1; static char big[16384]; uint64_t steal = 0;
    if (st < 0) st = open("/proc/stat", O_RDONLY);
    int n = st < 0 ? 0 : pread(st, big, sizeof big - 1, 0);
    if (n > 0) { big[n] = 0; unsigned long long v[8]; if (sscanf(big, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", v, v + 1, v + 2, v + 3, v + 4, v + 5, v + 6, v + 7) == 8) steal = v[7]; }
    if (nsl < 4096) { sl[nsl].t = t; sl[nsl].n = done; sl[nsl].steal = steal; sl[nsl++].cpu = cpu; }
}
static int open_(struct conn *k) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    k->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (k->fd < 0 || connect(k->fd, (void *)&a, sizeof a)) { if (k->fd >= 0) close(k->fd); k->fd = -1; errs++; return -1; }
    fcntl(k->fd, F_SETFL, O_NONBLOCK);
    setsockopt(k->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = k};
    epoll_ctl(ep, EPOLL_CTL_ADD, k->fd, &e);
    opened++;
    return 0;
}
static void send_(struct conn *k, int64_t t) {
    k->t0 = t; k->busy = 1; k->got = 0; k->hdr = 0; k->need = -1; k->until_eof = k->srv_close = 0; k->left = depth;
    if (send(k->fd, req, reqlen, MSG_NOSIGNAL) != reqlen) errs++;
    if (differ && depth % 2) { char *was = req; req = other; other = was; }
}
static void head(struct conn *k) {                 /* header block is complete in k->b */
    char *p = k->b, *e = k->b + k->hdr; long len = -1; int code = atoi(p + 9);
    if (code != 200) errs++;
    while ((p = memchr(p, '\n', e - p)) && ++p < e) {
        if ((*p | 32) == 'c') {
            if (!strncasecmp(p, "content-length:", 15)) len = atol(p + 15);
            else if (!strncasecmp(p, "connection:", 11)) { p += 11; while (*p == ' ') p++; if (!strncasecmp(p, "close", 5)) k->srv_close = 1; }
        } else if (tally && !strncasecmp(p, "x-worker:", 9)) {
            long id = atol(p + 9); int i; for (i = 0; i < ntl && tl[i].id != id; i++);
            if (i == ntl && ntl < 256) tl[ntl++].id = id;
            if (i < 256) tl[i].n++;
        }
    }
    if (len < 0) { k->until_eof = 1; k->need = INT64_MAX; } else k->need = len;
}
/* 1: response complete, 0: not yet, -1: connection gone */
static int feed(struct conn *k) {
    for (;;) {
        if (!k->hdr) {
            if (k->got == k->cap) { if (k->cap > 65536) return -1; k->cap = k->cap ? k->cap * 2 : 1024; k->b = realloc(k->b, k->cap); }
            ssize_t n = recv(k->fd, k->b + k->got, k->cap - k->got, 0);
            if (n < 0) return errno == EAGAIN ? 0 : -1;
            if (!n) return -1;
            bytes += n; k->got += n;
            char *e = memmem(k->b, k->got, "\r\n\r\n", 4);
            if (!e) continue;
            k->hdr = e + 4 - k->b; head(k);
            if (depth > 1) { k->one = k->hdr + k->need; k->need += k->one * (depth - 1); }
            k->need -= k->got - k->hdr;
        } else {
            static char sink[262144];
            if (k->need <= 0 && !k->srv_close) return 1;
            ssize_t n = recv(k->fd, sink, sizeof sink, 0);
            if (n < 0) return errno == EAGAIN ? 0 : k->need <= 0 ? 1 : -1;
            if (!n) return k->until_eof || k->need <= 0 ? 1 : -1;
            bytes += n; k->need -= n;
        }
    }
}
int main(int ac, char **av) {
    signal(SIGPIPE, SIG_IGN);
    struct rlimit rl = {65536, 65536}; if (setrlimit(RLIMIT_NOFILE, &rl)) { getrlimit(RLIMIT_NOFILE, &rl); rl.rlim_cur = rl.rlim_max; setrlimit(RLIMIT_NOFILE, &rl); }
    if (ac < 2) return 2;
    port = atoi(av[1]); optind = 2; int o;
    while ((o = getopt(ac, av, "u:c:d:m:r:n:tP:i:A:D")) != -1) switch (o) {
        case 'u': path = optarg; break; case 'c': nc = atoi(optarg); break; case 'd': secs = atof(optarg); break;
        case 'm': mode = !strcmp(optarg, "conn") ? CONN : !strcmp(optarg, "rate") ? RATE : !strcmp(optarg, "idle") ? IDLE : CLOSED; break;
        case 'r': rate = atof(optarg); break; case 'n': maxreq = atol(optarg); break; case 't': tally = 1; break; case 'D': differ = 1; break;
        case 'P': depth = atoi(optarg); break; case 'i': every = atof(optarg); break; case 'A': for (char *p = strtok(optarg, ","); p && nclocks < 256; p = strtok(0, ",")) if (!clock_getcpuclockid(atoi(p), &clocks[nclocks])) nclocks++; break; default: return 2; }
    char one_[512]; int ol = snprintf(one_, sizeof one_, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\n", path, port, mode == CONN ? "Connection: close\r\n" : "");
    reqlen = ol * depth; req = malloc(reqlen); for (int i = 0; i < depth; i++) memcpy(req + i * ol, one_, ol);
    /* -D: no head is the same as the one before; every second one writes Host without a capital. */
    other = malloc(reqlen); memcpy(other, req, reqlen);
    for (int i = 0; differ && i < depth; i++) *strstr((i % 2 ? req : other) + i * ol, "Host") = 'h';
    c = calloc(nc, sizeof *c); ep = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < nc; i++) { c[i].fd = -1; if (mode != CONN && open_(&c[i])) { fprintf(stderr, "connect: %s\n", strerror(errno)); if (mode != IDLE) return 1; }
        if (mode == IDLE && c[i].fd >= 0) { send_(&c[i], now()); struct pollfd p = {c[i].fd, POLLIN, 0}; int r; while (poll(&p, 1, 5000) > 0 && !(r = feed(&c[i]))) {} if (c[i].need > 0 || !c[i].hdr) errs++; free(c[i].b); c[i].b = 0; c[i].cap = 0; } }
    if (mode == IDLE) { printf("ready %llu errors %llu\n", (unsigned long long)opened, (unsigned long long)errs); fflush(stdout); char x; while (read(0, &x, 1) > 0) {} return 0; }
    int64_t start = now(), end = start + (int64_t)(secs * 1e9), issued = 0, gap = rate ? (int64_t)(1e9 / rate) : 0;
    int *freec = malloc(sizeof(int) * nc), nf = 0;
    if (mode == RATE) for (int i = 0; i < nc; i++) freec[nf++] = i;
    else for (int i = 0; i < nc; i++) { if (mode == CONN) { int64_t t = now(); if (open_(&c[i])) continue; send_(&c[i], t); } else send_(&c[i], now()); issued++; }
    int64_t next = every ? start : INT64_MAX;
    struct epoll_event ev[512]; int64_t t = start, inflight = mode == RATE ? 0 : nc;
    for (;;) {
        t = now();
        if (t >= next) { slice(t); next = t + (int64_t)(every * 1e9); }
        if (t >= end && (mode != RATE || !inflight || t > end + 2000000000LL)) break;
        if (maxreq && (long)done >= maxreq) break;
        struct timespec ts = {0, 50000000};
        if (mode == RATE && t < end) {
            while (nf && start + issued * gap <= t) { int i = freec[--nf]; if (c[i].fd < 0 && open_(&c[i])) { nf++; break; } send_(&c[i], start + issued * gap); issued++; inflight++; }
            int64_t w = start + issued * gap - t; if (nf && w < ts.tv_nsec) ts.tv_nsec = w > 0 ? w : 0;
        }
        int n = epoll_pwait2(ep, ev, 512, &ts, 0);
        for (int i = 0; i < n; i++) {
            struct conn *k = ev[i].data.ptr; int r = feed(k); if (!r) continue;
            int64_t f = now();
            if (k->busy) { inflight--; k->busy = 0; if (r > 0) { rec(f - k->t0); done += depth; } else errs++; } else r = -1;
            if (mode == CONN) { close(k->fd); k->fd = -1; if (f < end) { int64_t s = now(); if (!open_(k)) { send_(k, s); inflight++; } } }
            else {
                if (r < 0 || k->srv_close) { close(k->fd); k->fd = -1; }
                if (mode == RATE) { if (k->fd < 0) open_(k); freec[nf++] = k - c; }
                else { if (k->fd < 0 && open_(k)) continue; send_(k, f); inflight++; }
            }
        }
    }
    double el = (t - start) / 1e9; qsort(lat, nl, 4, cmp); double sum = 0; for (size_t i = 0; i < nl; i++) sum += lat[i] / 10.0;
    printf("{\"requests\":%llu,\"seconds\":%.4f,\"rps\":%.1f,\"errors\":%llu,\"bytes\":%llu,\"opened\":%llu,\"issued\":%lld,\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f",
        (unsigned long long)done, el, done / el, (unsigned long long)errs, (unsigned long long)bytes, (unsigned long long)opened, (long long)issued, nl ? sum / nl : 0, pct(.5), pct(.9), pct(.99), pct(.999), pct(1));
    struct rusage own; getrusage(RUSAGE_SELF, &own);
    printf(",\"cpu\":%.3f", own.ru_utime.tv_sec + own.ru_stime.tv_sec + (own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6);
    if (tally) { printf(",\"tally\":{"); for (int i = 0; i < ntl; i++) printf("%s\"%ld\":%llu", i ? "," : "", tl[i].id, (unsigned long long)tl[i].n); printf("}"); }
    if (nsl) { printf(",\"slices\":["); for (int i = 1; i < nsl; i++) printf("%s[%llu,%llu,%lld,%llu]", i > 1 ? "," : "", (unsigned long long)(sl[i].n - sl[i - 1].n), (unsigned long long)(sl[i].cpu - sl[i - 1].cpu), (long long)(sl[i].t - sl[i - 1].t), (unsigned long long)(sl[i].steal - sl[i - 1].steal)); printf("]"); }
    printf("}\n");
    return 0;
}
