/* Syscall floor: raw epoll loop, canned response, no HTTP parsing (the request length is learned once per
 * connection and responses are counted by bytes, so pipelining is answered correctly for identical requests).
 *
 * usage: floor PORT [-w N] [-m single|reuseport|shared|herd|rr|rrb] [-H N] [-l] [-d] [-r] [-o] [-D] [-n] [-k N] [-b BYTES] [-x] [-T us]
 *              [-s DIR] [-f mem|zerocopy|sendfile]
 *   -w N   worker processes          -m   how they share connections:
 *          reuseport: one SO_REUSEPORT listener each;  shared: one listener, EPOLLEXCLUSIVE;  herd: one listener, no flag
 *          rr: parent accepts and passes each fd over a unix socket (SCM_RIGHTS), one per message;  rrb: batched
 *   -H N   with rrb: the most fds in one message (default and most: 64)
 *   -l     level-triggered (default: edge-triggered, registered once)
 *   -d     drain: read again until EAGAIN (what a naive edge-triggered loop does)
 *   -r     read()/write() instead of recv()/send()
 *   -o     optimistic: read directly after accept, before epoll_ctl
 *   -D     TCP_DEFER_ACCEPT          -n  TCP_NODELAY per accepted socket
 *   -k N   accept up to N connections per wake-up (default 1; more than one ends with a costly EAGAIN)
 *   -b N   bytes of the read buffer (default 65536)
 *   -x     add "x-worker: PID" to the response
 *   -T us  after a wake-up spin epoll_wait(0) for us microseconds before blocking (busy poll)
 *   -s DIR serve DIR/1k.txt and DIR/100k.txt for /static/1k.txt and /static/100k.txt; -f how: writev from memory, the same by
 *          sendmsg(MSG_ZEROCOPY) whose completions are taken from the error queue, or sendfile from an open file (the default)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAXFD 65536
#define COPIES 64
static struct conn { uint32_t reqlen, pend_bytes; uint64_t in; uint8_t pend, closing; int64_t off; } *cs;
static char *resp; static int resplen;                 /* COPIES keep-alive copies */
static char cresp[512]; static int cresplen;           /* Connection: close */
static struct file { int fd; off_t len; char *mem; char hdr[256]; int hdrlen; } files[2];
static int port, workers = 1, lt, drain, rw, optim, defer_, tag, nodelay, use_static, f_mem, zerocopy, spin, maxacc = 1, hand = 64;
static char *buf; static size_t bufsize = 65536;
static enum { SINGLE, REUSEPORT, SHARED, HERD, RR, RRB } mode = SINGLE;
static int ep;

static int listener(int reuseport) {
    int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (reuseport) setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    if (defer_) setsockopt(s, IPPROTO_TCP, TCP_DEFER_ACCEPT, &one, sizeof one);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(s, (void *)&a, sizeof a) || listen(s, 4096)) { perror("bind/listen"); exit(1); }
    return s;
}
static void build(void) {
    char one[512], t[64] = "";
    if (tag) snprintf(t, sizeof t, "x-worker: %d\r\n", getpid());
    resplen = snprintf(one, sizeof one, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n"
        "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n%s\r\nHello, World!", t);
    resp = malloc((size_t)resplen * COPIES);
    for (int i = 0; i < COPIES; i++) memcpy(resp + (size_t)i * resplen, one, resplen);
    cresplen = snprintf(cresp, sizeof cresp, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n"
        "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nConnection: close\r\n%s\r\nHello, World!", t);
}
static void load(const char *dir) {
    const char *n[2] = {"1k.txt", "100k.txt"}; char p[512]; struct stat st;
    for (int i = 0; i < 2; i++) {
        snprintf(p, sizeof p, "%s/%s", dir, n[i]);
        files[i].fd = open(p, O_RDONLY | O_CLOEXEC);
        if (files[i].fd < 0 || fstat(files[i].fd, &st)) { perror(p); exit(1); }
        files[i].len = st.st_size; files[i].mem = malloc(st.st_size);
        if (pread(files[i].fd, files[i].mem, st.st_size, 0) != st.st_size) exit(1);
        files[i].hdrlen = snprintf(files[i].hdr, 256, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %ld\r\n"
            "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n", (long)st.st_size);
    }
}
static void fin(int fd) { close(fd); }
/* takes the notices of sends that the kernel has done with: the memory never changes, so nobody waits for them */
static void reap(int fd) {
    char control[128]; struct msghdr m = {0};
    do { m.msg_control = control; m.msg_controllen = sizeof control; } while (recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0);
}
static ssize_t send_zerocopy(int fd, struct iovec *v, int k) {
    struct msghdr m = {.msg_iov = v, .msg_iovlen = k};
    ssize_t n = sendmsg(fd, &m, MSG_ZEROCOPY | MSG_NOSIGNAL);
    if (n >= 0 || errno != ENOBUFS) return n;
    reap(fd);                                              /* too many notices are waiting: this once by copying */
    return sendmsg(fd, &m, MSG_NOSIGNAL);
}
static inline ssize_t rd(int fd, void *b, size_t n) { return rw ? read(fd, b, n) : recv(fd, b, n, 0); }
static inline ssize_t wr(int fd, const void *b, size_t n, int fl) { return rw && !fl ? write(fd, b, n) : send(fd, b, n, fl | MSG_NOSIGNAL); }

/* continue a static transfer; 1 done, 0 would block, -1 dead */
static int cont(int fd, struct conn *c) {
    struct file *f = &files[c->pend - 1]; int64_t total = f->hdrlen + f->len;
    while (c->off < total) {
        ssize_t n;
        if (f_mem) {
            struct iovec v[2]; int k = 0; int64_t bo = c->off - f->hdrlen;
            if (bo < 0) { v[k].iov_base = f->hdr + c->off; v[k++].iov_len = -bo; bo = 0; }
            v[k].iov_base = f->mem + bo; v[k++].iov_len = f->len - bo;
            n = zerocopy ? send_zerocopy(fd, v, k) : writev(fd, v, k);
        } else if (c->off < f->hdrlen) n = wr(fd, f->hdr + c->off, f->hdrlen - c->off, MSG_MORE);
        else { off_t o = c->off - f->hdrlen; n = sendfile(fd, f->fd, &o, f->len - o); }
        if (n < 0) return errno == EAGAIN ? 0 : -1;
        c->off += n;
    }
    c->pend = 0; c->off = 0;
    return 1;
}
/* 1 still open, 0 closed */
static int serve(int fd, struct conn *c) {
    for (;;) {
        if (c->pend) { int k = cont(fd, c); if (k < 0) { fin(fd); return 0; } if (!k) return 1; if (c->closing) { fin(fd); return 0; } }
        ssize_t n = rd(fd, buf, bufsize);
        if (n <= 0) { if (n < 0 && errno == EAGAIN) return 1; fin(fd); return 0; }
        if (!c->reqlen) {
            char *e = memmem(buf, n, "\r\n\r\n", 4);
            if (!e) { fin(fd); return 0; }
            c->reqlen = e + 4 - buf;
        }
        uint64_t before = c->in / c->reqlen; c->in += n;
        uint32_t k = c->in / c->reqlen - before;
        int close_ = n >= 9 && !memcmp(buf + n - 9, "close\r\n\r\n", 9);
        if (use_static && buf[5] == 's' && k) {
            c->pend = (buf[13] == '0') + 1; c->off = 0; c->closing = close_;
            continue;
        }
        if (close_) { wr(fd, cresp, cresplen, 0); fin(fd); return 0; }
        while (k) {
            uint32_t m = k > COPIES ? COPIES : k;
            if (wr(fd, resp, (size_t)m * resplen, 0) != (ssize_t)m * resplen) { fin(fd); return 0; }
            k -= m;
        }
        if (!drain && n < (ssize_t)bufsize) return 1;   /* short read: the socket was empty */
        if (lt) return 1;
    }
}
static void admit(int fd) {
    if (fd >= MAXFD) { close(fd); return; }
    struct conn *c = &cs[fd]; int one = 1;
    memset(c, 0, sizeof *c);
    if (nodelay) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (zerocopy) setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one);
    if (optim && !serve(fd, c)) return;
    struct epoll_event e = {.events = lt ? EPOLLIN : EPOLLIN | EPOLLRDHUP | EPOLLET | (use_static ? EPOLLOUT : 0), .data.u64 = fd};
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}
static void recv_fds(int us) {
    char b[1]; char cb[CMSG_SPACE(sizeof(int) * 64)];
    struct iovec v = {b, 1}; struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = sizeof cb};
    if (recvmsg(us, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) <= 0) { if (errno != EAGAIN) exit(0); return; }
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        int n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (int i = 0; i < n; i++) { int fd; memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd); admit(fd); }
    }
}
static int64_t us_now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000LL + t.tv_nsec / 1000; }
static void loop(int l, int us) {
    build();
    buf = malloc(bufsize);
    cs = calloc(MAXFD, sizeof *cs);
    ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e, ev[512];
    if (l >= 0) { e.events = EPOLLIN | (mode == SHARED ? EPOLLEXCLUSIVE : 0); e.data.u64 = 1ULL << 32; epoll_ctl(ep, EPOLL_CTL_ADD, l, &e); }
    if (us >= 0) { e.events = EPOLLIN; e.data.u64 = 2ULL << 32; epoll_ctl(ep, EPOLL_CTL_ADD, us, &e); }
    int64_t until = 0;
    for (;;) {
        int n = epoll_wait(ep, ev, 512, spin && us_now() < until ? 0 : -1);
        if (spin && n > 0) until = us_now() + spin;
        for (int i = 0; i < n; i++) {
            uint64_t d = ev[i].data.u64;
            if (d == 1ULL << 32) {
                for (int k = 0; k < maxacc; k++) {         /* level-triggered listener */
                    int fd = accept4(l, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
                    if (fd < 0) break;
                    admit(fd);
                }
            } else if (d == 2ULL << 32) recv_fds(us);
            else if (zerocopy && ev[i].events == EPOLLERR) reap(d);
            else if (cs[d].reqlen || ev[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) {
                if (!(ev[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) && !cs[d].pend) continue;
                if (zerocopy && ev[i].events & EPOLLERR) reap(d);
                serve(d, &cs[d]);
            }
        }
    }
}
static void send_fds(int us, int *fds, int n) {
    char b = 0; char cb[CMSG_SPACE(sizeof(int) * 64)]; memset(cb, 0, sizeof cb);
    struct iovec v = {&b, 1}; struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = CMSG_SPACE(sizeof(int) * n)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m); c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(sizeof(int) * n);
    memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
    sendmsg(us, &m, MSG_NOSIGNAL);
    for (int i = 0; i < n; i++) close(fds[i]);
}
int main(int ac, char **av) {
    if (ac < 2) return 2;
    struct rlimit rl = {MAXFD, MAXFD}; if (setrlimit(RLIMIT_NOFILE, &rl)) { getrlimit(RLIMIT_NOFILE, &rl); rl.rlim_cur = rl.rlim_max; setrlimit(RLIMIT_NOFILE, &rl); }
    signal(SIGPIPE, SIG_IGN);
    port = atoi(av[1]); optind = 2; int o;
    while ((o = getopt(ac, av, "w:m:k:H:b:ldroDnxT:s:f:")) != -1) switch (o) {
        case 'w': workers = atoi(optarg); break;
        case 'm': { const char *k[] = {"single", "reuseport", "shared", "herd", "rr", "rrb"}; for (int i = 0; i < 6; i++) if (!strcmp(optarg, k[i])) mode = i; } break;
        case 'l': lt = 1; break; case 'd': drain = 1; break; case 'r': rw = 1; break; case 'o': optim = 1; break;
        case 'D': defer_ = 1; break; case 'n': nodelay = 1; break; case 'x': tag = 1; break; case 'k': maxacc = atoi(optarg); break; case 'T': spin = atoi(optarg); break;
        case 's': load(optarg); use_static = 1; break; case 'f': zerocopy = !strcmp(optarg, "zerocopy"); f_mem = zerocopy || !strcmp(optarg, "mem"); break;
        case 'H': hand = atoi(optarg); if (hand < 1 || hand > 64) return 2; break; case 'b': bufsize = strtoul(optarg, 0, 10); break;
        default: return 2; }
    if (mode == SINGLE) loop(listener(0), -1);
    int us[64][2], shared = mode == SHARED || mode == HERD ? listener(0) : -1;
    for (int i = 0; i < workers; i++) {
        if (mode >= RR) socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, us[i]);
        if (!fork()) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (mode >= RR) { for (int j = 0; j <= i; j++) close(us[j][0]); loop(-1, us[i][1]); }
            loop(mode == REUSEPORT ? listener(1) : shared, -1);
        }
        if (mode >= RR) close(us[i][1]);
    }
    if (mode < RR) { while (wait(0) > 0) {} return 0; }
    int l = listener(0), rr = 0, pe = epoll_create1(EPOLL_CLOEXEC), q[64][64], qn[64] = {0};
    struct epoll_event e = {.events = EPOLLIN}; epoll_ctl(pe, EPOLL_CTL_ADD, l, &e);
    for (;;) {
        epoll_wait(pe, &e, 1, -1);
        for (int k = 0; k < (mode == RRB ? 64 : maxacc); k++) {
            int fd = accept4(l, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd < 0) break;
            q[rr][qn[rr]++] = fd;
            if (qn[rr] == (mode == RR ? 1 : hand)) { send_fds(us[rr][0], q[rr], qn[rr]); qn[rr] = 0; }
            rr = (rr + 1) % workers;
        }
        if (mode == RRB) for (int i = 0; i < workers; i++) if (qn[i]) { send_fds(us[i][0], q[i], qn[i]); qn[i] = 0; }
    }
}
