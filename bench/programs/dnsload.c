/* dnsload: DNS queries over UDP, one after the other from each of several sockets (RFC 1035).
 *
 *   dnsload ADDRESS NAME TYPE               send one query, print the answer in hexadecimal
 *   dnsload ADDRESS NAME TYPE SECONDS FLOWS ask for SECONDS with FLOWS queries in flight, print one JSON line:
 *                                           queries per second, microseconds of the median, 99th percentile and
 *                                           maximum, answers without any address, queries without an answer
 *
 * Static, so that it runs in an empty container: cc -O2 -static -o dnsload dnsload.c
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_FLOWS 256
#define TIMEOUT_US 2000000
#define BUCKETS 200000 /* of ten microseconds */

static unsigned buckets[BUCKETS];

static double now_us(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1e6 + at.tv_nsec / 1e3;
}

static int build(unsigned char *out, const char *name, int type)
{
    int length = 12;
    memset(out, 0, 12);
    out[2] = 1; /* recursion desired */
    out[5] = 1;
    while (*name) {
        int label = (int)strcspn(name, ".");
        out[length++] = (unsigned char)label;
        memcpy(out + length, name, label);
        length += label;
        name += label + (name[label] == '.');
    }
    out[length++] = 0;
    out[length++] = (unsigned char)(type >> 8);
    out[length++] = (unsigned char)type;
    out[length++] = 0;
    out[length++] = 1;
    return length;
}

static double percentile(unsigned long total, double part)
{
    unsigned long seen = 0;
    for (int each = 0; each < BUCKETS; each++) {
        seen += buckets[each];
        if (seen >= total * part)
            return each * 10 + 5;
    }
    return BUCKETS * 10;
}

int main(int argc, char **argv)
{
    if ((argc != 4 && argc != 6) || strlen(argv[2]) > 253) {
        fprintf(stderr, "usage: dnsload ADDRESS NAME TYPE [SECONDS FLOWS]\n");
        return 2;
    }
    unsigned char query[300], answer[65536];
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(53)};
    inet_pton(AF_INET, argv[1], &server.sin_addr);
    int length = build(query, argv[2], atoi(argv[3]));
    int flows = argc == 6 ? atoi(argv[5]) : 1;
    double seconds = argc == 6 ? atof(argv[4]) : 0;
    if (flows < 1 || flows > MAX_FLOWS)
        return 2;

    struct pollfd sockets[MAX_FLOWS];
    double sent[MAX_FLOWS], worst = 0;
    unsigned short id[MAX_FLOWS], next = 1;
    unsigned long answered = 0, empty = 0, lost = 0;
    for (int each = 0; each < flows; each++) {
        sockets[each].fd = socket(AF_INET, SOCK_DGRAM, 0);
        sockets[each].events = POLLIN;
        if (connect(sockets[each].fd, (struct sockaddr *)&server, sizeof server))
            return perror("connect"), 1;
        sent[each] = 0;
    }
    double begin = now_us(), end = begin + seconds * 1e6;
    for (;;) {
        double now = now_us();
        int waiting = 0;
        for (int each = 0; each < flows; each++) {
            if (sent[each] && now - sent[each] > TIMEOUT_US) {
                lost++;
                sent[each] = 0;
                if (!seconds)
                    return fprintf(stderr, "no answer\n"), 1;
            }
            if (!sent[each] && (now < end || (!seconds && !answered))) {
                id[each] = htons(next++);
                memcpy(query, &id[each], 2);
                sent[each] = now_us();
                if (send(sockets[each].fd, query, length, 0) < 0) {
                    lost++;
                    sent[each] = 0;
                    usleep(1000);
                    if (!seconds)
                        return perror("send"), 1;
                }
            }
            waiting += sent[each] != 0;
        }
        if (!waiting)
            break;
        if (poll(sockets, flows, 100) <= 0)
            continue;
        for (int each = 0; each < flows; each++) {
            if (!(sockets[each].revents & (POLLIN | POLLERR)))
                continue;
            ssize_t got = recv(sockets[each].fd, answer, sizeof answer, MSG_DONTWAIT);
            if (got < 0 && sent[each]) { /* refused: nobody listens */
                lost++;
                sent[each] = 0;
                usleep(1000);
                if (!seconds)
                    return perror("recv"), 1;
                continue;
            }
            if (got < 12 || !sent[each] || memcmp(answer, &id[each], 2))
                continue;
            double took = now_us() - sent[each];
            sent[each] = 0;
            answered++;
            empty += !answer[6] && !answer[7];
            worst = took > worst ? took : worst;
            buckets[took / 10 < BUCKETS - 1 ? (int)(took / 10) : BUCKETS - 1]++;
            if (!seconds) {
                for (ssize_t byte = 0; byte < got; byte++)
                    printf("%02x", answer[byte]);
                puts("");
            }
        }
    }
    if (seconds)
        printf("{\"qps\": %.0f, \"p50_us\": %.0f, \"p99_us\": %.0f, \"max_us\": %.0f, \"answered\": %lu, "
               "\"empty\": %lu, \"lost\": %lu}\n",
               answered / ((now_us() - begin) / 1e6), percentile(answered, 0.5), percentile(answered, 0.99), worst,
               answered, empty, lost);
    return lost && !answered;
}
