/* Asks a DNS server as fast as it answers, and counts. For benchmarks; compiled when they run.
 *
 *   sender udp    PORT FILE SECONDS WINDOW FLAGS     WINDOW questions under way at a time
 *   sender paced  PORT FILE SECONDS RATE   FLAGS     RATE questions a second; tells how long answers took
 *   sender single PORT FILE SECONDS 1      FLAGS     one question at a time; the same
 *   sender tcp    PORT FILE SECONDS WINDOW FLAGS     8 kept connections, WINDOW questions under way on each
 *
 * FILE holds questions, each behind its length in two bytes, asked in turn. FLAGS: c, a random cookie in each; x, random
 * letter case in each; m, a random first label in each (of its length). Prints one JSON object; an answer with another id,
 * question length or response code than the first one of its kind is counted as bad.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, SIZE = 4096, CONNECTIONS = 8, ROOM = 1 << 20, MAX_TIMES = 1 << 22 };

static uint8_t *questions;
static size_t *starts, count, next_question;
static int cookies, cases, missing;
static uint64_t state = 88172645463325252ULL;
static uint32_t *times;
static size_t timed;
static uint64_t answered, bad, lost, sent;

static uint64_t draw(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000ULL + (uint64_t)at.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void load(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    questions = malloc(size);
    starts = malloc((size / 2 + 1) * sizeof *starts);
    if (fread(questions, 1, size, file) != size) die("read");
    fclose(file);
    for (size_t at = 0; at < size; at += 2 + (size_t)(questions[at] << 8 | questions[at + 1])) starts[count++] = at;
}

/* The next question with its id; the number of bytes. */
static size_t question(uint8_t *out, uint16_t id) {
    uint8_t *from = questions + starts[next_question];
    next_question = next_question + 1 == count ? 0 : next_question + 1;
    size_t size = (size_t)(from[0] << 8 | from[1]);
    memcpy(out, from + 2, size);
    out[0] = (uint8_t)(id >> 8);
    out[1] = (uint8_t)id;
    if (missing) {
        uint64_t random = draw();
        for (int at = 0; at < out[12]; at++, random = random > 25 ? random / 26 : draw()) out[13 + at] = (uint8_t)('a' + random % 26);
    }
    if (cases) {
        uint64_t random = draw();
        for (size_t at = 12; out[at]; at += out[at] + 1u)
            for (size_t each = at + 1; each <= at + out[at]; each++, random = random >> 1 | random << 63)
                if (out[each] >= 'a' && out[each] <= 'z' && random & 1) out[each] ^= 0x20;
    }
    if (cookies) {
        static const uint8_t opt[] = {0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8};
        uint64_t cookie = draw();
        memcpy(out + size, opt, sizeof opt);
        memcpy(out + size + sizeof opt, &cookie, 8);
        size += sizeof opt + 8;
        out[11] = 1;
    }
    return size;
}

static int expected = -1;

static void check(const uint8_t *packet, size_t size) {
    int code = size >= 12 ? packet[3] & 15 : 99;
    if (expected < 0) expected = code;
    if (size < 12 || !(packet[2] & 0x80) || code != expected || (code == 0 && !packet[7])) bad++;
    else answered++;
}

static int udp_socket(int port) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), room = 8 << 20;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    return fd;
}

static struct mmsghdr messages[BATCH];
static struct iovec parts[BATCH];
static uint8_t buffers[BATCH][SIZE];

static int receive(int fd) {
    for (int at = 0; at < BATCH; at++) {
        parts[at] = (struct iovec){buffers[at], SIZE};
        messages[at].msg_hdr = (struct msghdr){.msg_iov = &parts[at], .msg_iovlen = 1};
    }
    int got = recvmmsg(fd, messages, BATCH, 0, NULL);
    return got < 0 ? 0 : got;
}

static void transmit(int fd, int number) {
    for (int at = 0; at < number; at++) messages[at].msg_hdr = (struct msghdr){.msg_iov = &parts[at], .msg_iovlen = 1};
    for (int done = 0; done < number;) {
        int more = sendmmsg(fd, messages + done, (unsigned)(number - done), 0);
        if (more <= 0) {
            struct pollfd wait = {fd, POLLOUT, 0};
            poll(&wait, 1, 10);
            continue;
        }
        done += more;
    }
    sent += (uint64_t)number;
}

/* WINDOW questions under way (rate 0), or `rate` a second, whichever way answers come. */
static void udp(int port, double seconds, int window, double rate) {
    static uint64_t asked[65536];
    int fd = udp_socket(port), under_way = 0;
    uint16_t id = 0;
    uint64_t begin = now(), end = begin + (uint64_t)(seconds * 1e9), heard = begin, at = begin;
    while ((at = now()) < end) {
        int room = rate > 0 ? (int)((double)(at - begin) * rate / 1e9 - (double)sent) : window - under_way;
        if (room >= (rate > 0 ? 1 : window < 32 ? 1 : 16)) {
            if (room > BATCH) room = BATCH;
            for (int each = 0; each < room; each++) {
                while (rate <= 0 && asked[id]) id++;
                if (asked[id]) lost++, under_way--;
                asked[id] = at;
                parts[each] = (struct iovec){buffers[each], question(buffers[each], id++)};
            }
            transmit(fd, room);
            under_way += room;
        }
        int got = receive(fd);
        if (!got) {
            if (rate <= 0 && at - heard > 500000000ULL) {
                lost += (uint64_t)under_way;
                under_way = 0;
                memset(asked, 0, sizeof asked);
                heard = at;
            }
            struct timespec wait = {0, 20000};
            struct pollfd poller = {fd, POLLIN, 0};
            ppoll(&poller, 1, rate > 0 ? &wait : &(struct timespec){0, 50000000}, NULL);
            continue;
        }
        heard = at = now();
        for (int each = 0; each < got; each++) {
            uint16_t answer = (uint16_t)(buffers[each][0] << 8 | buffers[each][1]);
            if (!asked[answer]) {
                bad++;
                continue;
            }
            if (timed < MAX_TIMES) times[timed++] = (uint32_t)(at - asked[answer]);
            asked[answer] = 0;
            under_way--;
            check(buffers[each], messages[each].msg_len);
        }
    }
    if (rate > 0) {
        struct timespec wait = {0, 300000000};
        nanosleep(&wait, NULL);
        for (int got; (got = receive(fd));) {
            for (int each = 0; each < got; each++) check(buffers[each], messages[each].msg_len);
            under_way -= got;
        }
        lost += (uint64_t)(under_way > 0 ? under_way : 0);
    }
}

static void tcp(int port, double seconds, int window) {
    static struct { int fd, under_way; size_t held; uint8_t in[ROOM]; size_t out_at, out_size; uint8_t out[ROOM]; uint16_t id; } peers[CONNECTIONS];
    struct pollfd polls[CONNECTIONS];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int each = 0; each < CONNECTIONS; each++) {
        peers[each].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(peers[each].fd, (struct sockaddr *)&to, sizeof to)) die("connect");
        setsockopt(peers[each].fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        fcntl(peers[each].fd, F_SETFL, O_NONBLOCK);
    }
    uint64_t end = now() + (uint64_t)(seconds * 1e9);
    while (now() < end) {
        for (int each = 0; each < CONNECTIONS; each++) {
            if (peers[each].out_at == peers[each].out_size && peers[each].under_way <= window / 2) {
                peers[each].out_at = peers[each].out_size = 0;
                for (; peers[each].under_way < window && peers[each].out_size + SIZE < ROOM; peers[each].under_way++, sent++) {
                    uint8_t *out = peers[each].out + peers[each].out_size;
                    size_t size = question(out + 2, peers[each].id++);
                    out[0] = (uint8_t)(size >> 8);
                    out[1] = (uint8_t)size;
                    peers[each].out_size += size + 2;
                }
            }
            if (peers[each].out_at < peers[each].out_size) {
                ssize_t done = write(peers[each].fd, peers[each].out + peers[each].out_at, peers[each].out_size - peers[each].out_at);
                if (done > 0) peers[each].out_at += (size_t)done;
            }
            polls[each] = (struct pollfd){peers[each].fd, (short)(POLLIN | (peers[each].out_at < peers[each].out_size ? POLLOUT : 0)), 0};
        }
        poll(polls, CONNECTIONS, 50);
        for (int each = 0; each < CONNECTIONS; each++) {
            if (!(polls[each].revents & (POLLIN | POLLHUP | POLLERR))) continue;
            ssize_t got = read(peers[each].fd, peers[each].in + peers[each].held, ROOM - peers[each].held);
            if (got == 0 || (got < 0 && errno != EAGAIN)) {
                fprintf(stderr, "the server ended a connection\n");
                exit(1);
            }
            if (got < 0) continue;
            peers[each].held += (size_t)got;
            size_t at = 0;
            while (at + 2 <= peers[each].held) {
                size_t size = (size_t)(peers[each].in[at] << 8 | peers[each].in[at + 1]);
                if (at + 2 + size > peers[each].held) break;
                check(peers[each].in + at + 2, size);
                peers[each].under_way--;
                at += 2 + size;
            }
            memmove(peers[each].in, peers[each].in + at, peers[each].held - at);
            peers[each].held -= at;
        }
    }
}

static int by_size(const void *one, const void *two) {
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)two;
    return a < b ? -1 : a > b;
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    int port = atoi(argv[2]), number = atoi(argv[5]);
    double seconds = atof(argv[4]);
    load(argv[3]);
    cookies = strchr(argv[6], 'c') != NULL;
    cases = strchr(argv[6], 'x') != NULL;
    missing = strchr(argv[6], 'm') != NULL;
    state += now();
    times = malloc(MAX_TIMES * sizeof *times);
    uint64_t begin = now();
    if (!strcmp(argv[1], "tcp")) tcp(port, seconds, number);
    else udp(port, seconds, number, strcmp(argv[1], "paced") ? 0 : number);
    double took = (double)(now() - begin) / 1e9;
    qsort(times, timed, sizeof *times, by_size);
    double p50 = timed ? times[timed / 2] / 1e3 : 0, p99 = timed ? times[timed * 99 / 100] / 1e3 : 0;
    printf("{\"answered\": %lu, \"bad\": %lu, \"lost\": %lu, \"seconds\": %.3f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n", answered, bad, lost, took, p50, p99, timed ? times[timed - 1] / 1e3 : 0);
    return 0;
}
