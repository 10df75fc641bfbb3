/* A model server that costs next to nothing: it speaks OpenAI's dialect and says what the model's name tells it to.

       upstream PORT MODEL...        (port 0 takes a free one; the one taken is printed as {"port":N})

   A model is named mock-t<ms to the first token>-n<tokens>-g<ms between tokens>-w<1: as few writes as can be>-s<bytes of
   padding in each token>; what is left out is t0-n32-g0-w0-s0. Every streamed token carries the time at which it was
   made, as ~ and 19 digits of CLOCK_MONOTONIC nanoseconds, so that a reader on this machine sees how long it was under
   way. One thread, epoll, and a timetable of the streams by their next token.

   GET /v1/models lists the models given, GET /stats counts, and any other GET is answered with 200 and {}. The same
   port of 127.0.0.2 lists the first model alone, that of 127.0.0.3 the second, and so on, for routers that take a
   server to have one model; every address serves every model.

   The life of an exchange:   IDLE -> WAITING -> IDLE         (one answer, when it is due)
                              IDLE -> STREAMING -> IDLE       (a token each time one is due)
                              WAITING or STREAMING, the caller closes -> counted as cancelled */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "timetable.h"

enum {
    MOST_DESCRIPTORS = 40000,
    EVENTS_A_TURN = 512,
    FULL_WRITE = 60000,
    MOST_PADDING = 65536,
    MOST_LISTENERS = 32,
};

typedef enum { IDLE, WAITING, STREAMING } Phase;

typedef struct {
    char *bytes;
    size_t length, sent, room;
} Buffer;

typedef struct {
    Entry entry;        /* when its next token is due */
    int descriptor;
    int listener;       /* its place in `listeners` */
    Phase phase;
    Buffer in, out;
    int tokens_left, one_write, padding;
    int64_t gap;
    int awaits_room;    /* the socket is full: the next token waits until it takes bytes again */
} Connection;

static struct {
    uint64_t requests, plain_done, streams_done, cancelled, active, connections, open, bytes;
    int64_t last_cancel;
} stats;

static Connection *connections[MOST_DESCRIPTORS];
static int poller;
static int listeners[MOST_LISTENERS], listener_count; /* the first lists all models, the others one each */
static char *model_lists[MOST_LISTENERS];
static char padding_bytes[MOST_PADDING];

#define CHUNK_JSON(rest)                                                                                              \
    "data: {\"id\":\"chatcmpl-AbCdEfGhIjKlMnOpQrSt\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"     \
    "\"model\":\"mock\",\"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":[{\"index\":0," rest "}\n\n"
#define USAGE "\"usage\":{\"prompt_tokens\":25,\"completion_tokens\":32,\"total_tokens\":57}"

static const char STREAM_HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                                  "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
static const char TOKEN_HEAD[] = CHUNK_JSON("\"delta\":{\"content\":\"~%019lld%.*s\"},\"logprobs\":null,"
                                            "\"finish_reason\":null}]");
static const char LAST_EVENT[] = CHUNK_JSON("\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]," USAGE);
static const char DONE[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* ---- bytes in and out ---- */

static char *reserve(Buffer *buffer, size_t more) {
    if (buffer->length + more > buffer->room) {
        buffer->room = (buffer->length + more) * 2;
        buffer->bytes = realloc(buffer->bytes, buffer->room);
        if (buffer->bytes == NULL) abort();
    }
    return buffer->bytes + buffer->length;
}

static void append(Buffer *buffer, const char *bytes, size_t length) {
    memcpy(reserve(buffer, length), bytes, length);
    buffer->length += length;
}

static void watch(Connection *connection, int awaits_room) {
    if (connection->awaits_room == awaits_room) return;
    connection->awaits_room = awaits_room;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (awaits_room ? EPOLLOUT : 0),
                                .data.fd = connection->descriptor};
    epoll_ctl(poller, EPOLL_CTL_MOD, connection->descriptor, &event);
}

static void close_connection(Connection *connection) {
    if (connection->phase != IDLE) {
        stats.cancelled++;
        stats.active--;
        stats.last_cancel = now();
    }
    timetable_remove(&connection->entry);
    connections[connection->descriptor] = NULL;
    close(connection->descriptor);
    free(connection->in.bytes);
    free(connection->out.bytes);
    free(connection);
    stats.open--;
}

/* Sends what stands in `out`. 1: all gone; 0: the socket is full; -1: the connection is gone and freed. */
static int flush(Connection *connection) {
    Buffer *out = &connection->out;
    while (out->sent < out->length) {
        ssize_t taken = send(connection->descriptor, out->bytes + out->sent, out->length - out->sent, MSG_NOSIGNAL);
        if (taken < 0) {
            if (errno == EAGAIN) {
                watch(connection, 1);
                return 0;
            }
            close_connection(connection);
            return -1;
        }
        out->sent += taken;
        stats.bytes += taken;
    }
    out->sent = out->length = 0;
    watch(connection, 0);
    return 1;
}

/* ---- answers ---- */

static void append_token(Connection *connection) {
    char size_line[16];
    Buffer *out = &connection->out;
    size_t body = sizeof TOKEN_HEAD - 1 - strlen("%019lld%.*s") + 19 + connection->padding;
    int line = snprintf(size_line, sizeof size_line, "%zx\r\n", body);
    append(out, size_line, line);
    char *at = reserve(out, body + 3);
    snprintf(at, body + 1, TOKEN_HEAD, (long long)now(), connection->padding, padding_bytes);
    memcpy(at + body, "\r\n", 2);
    out->length += body + 2;
}

/* The last event and [DONE]: two writes, or one with all before them. Same result as `flush`. */
static int append_end(Connection *connection) {
    char chunk[sizeof LAST_EVENT + 16];
    int length = snprintf(chunk, sizeof chunk, "%zx\r\n%s\r\n", sizeof LAST_EVENT - 1, LAST_EVENT);
    append(&connection->out, chunk, length);
    if (!connection->one_write && flush(connection) < 0) return -1;
    append(&connection->out, DONE, sizeof DONE - 1);
    connection->phase = IDLE;
    stats.active--;
    stats.streams_done++;
    return flush(connection);
}

static void append_json(Connection *connection, const char *body, size_t length) {
    char head[128];
    int head_length = snprintf(head, sizeof head,
                               "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", length);
    append(&connection->out, head, head_length);
    append(&connection->out, body, length);
}

static void append_whole_answer(Connection *connection) {
    char body[2048];
    int length = snprintf(body, sizeof body,
                          "{\"id\":\"chatcmpl-AbCdEfGhIjKlMnOpQrSt\",\"object\":\"chat.completion\",\"created\":1700000000,"
                          "\"model\":\"mock\",\"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":[{\"index\":0,"
                          "\"message\":{\"role\":\"assistant\",\"content\":\"%.*s\"},\"logprobs\":null,"
                          "\"finish_reason\":\"stop\"}]," USAGE "}",
                          620, padding_bytes);
    append_json(connection, body, length);
}

static void append_stats(Connection *connection) {
    char body[512];
    int length = snprintf(body, sizeof body,
                          "{\"requests\":%lu,\"plain_done\":%lu,\"streams_done\":%lu,\"cancelled\":%lu,\"active\":%lu,"
                          "\"connections\":%lu,\"open\":%lu,\"bytes\":%lu,\"last_cancel_ns\":%lld,\"now_ns\":%lld}",
                          stats.requests, stats.plain_done, stats.streams_done, stats.cancelled, stats.active,
                          stats.connections, stats.open, stats.bytes, (long long)stats.last_cancel, (long long)now());
    append_json(connection, body, length);
}

static void answer_requests(Connection *connection);

/* Writes all that is due by now; the connection may be freed by it. */
static void proceed(Connection *connection) {
    if (connection->phase == WAITING) {
        append_whole_answer(connection);
        connection->phase = IDLE;
        stats.active--;
        stats.plain_done++;
        if (flush(connection) >= 0) answer_requests(connection);
        return;
    }
    while (!connection->awaits_room) {
        int64_t time = now();
        if (connection->entry.due > time) {
            timetable_add(&connection->entry);
            return;
        }
        if (connection->tokens_left == 0) {
            if (append_end(connection) >= 0) answer_requests(connection);
            return;
        }
        append_token(connection);
        connection->tokens_left--;
        connection->entry.due += connection->gap;
        if (connection->gap > 0 && connection->entry.due < time) connection->entry.due = time; /* no burst after a stall */
        if (connection->one_write && connection->out.length <= FULL_WRITE) continue;
        if (flush(connection) < 0) return;
    }
}

/* ---- requests ---- */

static const char *find_header(const char *head, size_t length, const char *name) {
    size_t wanted = strlen(name);
    for (const char *line = memchr(head, '\n', length); line != NULL; line = memchr(line, '\n', head + length - line)) {
        line++;
        if (line + wanted >= head + length) break;
        if (strncasecmp(line, name, wanted) == 0 && line[wanted] == ':') return line + wanted + 1;
    }
    return NULL;
}

/* The length of the first request in `in` and where its body stands; 0 while it is not whole. */
static size_t whole_request(const Buffer *in, const char **body, size_t *body_length) {
    const char *end = memmem(in->bytes, in->length, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    size_t head = end - in->bytes + 4;
    *body = in->bytes + head;
    *body_length = 0;
    const char *length = find_header(in->bytes, head, "content-length");
    if (length != NULL) {
        *body_length = strtoul(length, NULL, 10);
        return in->length >= head + *body_length ? head + *body_length : 0;
    }
    if (find_header(in->bytes, head, "transfer-encoding") == NULL) return head;
    /* The model's name is looked for in the raw chunks: the gateways measured send a small body as one chunk. */
    const char *last = memmem(*body, in->length - head, "\r\n0\r\n\r\n", 7);
    if (last == NULL) return 0;
    *body_length = last - *body;
    return head + *body_length + 7;
}

static int behaviour(const char *model, const char *end, char letter, int absent) {
    for (const char *at = model; at + 2 < end && *at != '"'; at++)
        if (at[0] == '-' && at[1] == letter) return atoi(at + 2);
    return absent;
}

static void begin_answer(Connection *connection, const char *body, size_t length) {
    const char *end = body + length;
    const char *model = memmem(body, length, "mock-", 5);
    if (model == NULL) model = end;
    int streams = memmem(body, length, "\"stream\":true", 13) != NULL || memmem(body, length, "\"stream\": true", 14) != NULL;
    int wait = behaviour(model, end, 't', 0);
    connection->phase = streams ? STREAMING : WAITING;
    connection->tokens_left = behaviour(model, end, 'n', 32);
    connection->gap = behaviour(model, end, 'g', 0) * 1000000LL;
    connection->one_write = behaviour(model, end, 'w', 0);
    connection->padding = behaviour(model, end, 's', 0);
    if (connection->padding > MOST_PADDING) connection->padding = MOST_PADDING;
    connection->entry.due = now() + wait * 1000000LL;
    stats.active++;
    if (streams) {
        append(&connection->out, STREAM_HEAD, sizeof STREAM_HEAD - 1);
        if (wait > 0 && flush(connection) < 0) return;
    }
    if (wait > 0 && !streams)
        timetable_add(&connection->entry);
    else
        proceed(connection);
}

/* Answers what has come in, one request after the other; the connection may be freed by it. */
static void answer_requests(Connection *connection) {
    const char *body;
    size_t body_length;
    Buffer *in = &connection->in;
    size_t length = connection->phase == IDLE ? whole_request(in, &body, &body_length) : 0;
    if (length == 0) return;
    int is_get = strncmp(in->bytes, "GET ", 4) == 0;
    stats.requests++;
    if (is_get && strncmp(in->bytes + 4, "/stats", 6) == 0)
        append_stats(connection);
    else if (is_get && strncmp(in->bytes + 4, "/v1/models", 10) == 0)
        append_json(connection, model_lists[connection->listener], strlen(model_lists[connection->listener]));
    else if (is_get)
        append_json(connection, "{}", 2);
    char request[65536];
    size_t kept = body_length < sizeof request ? body_length : sizeof request;
    memcpy(request, body, kept);
    memmove(in->bytes, in->bytes + length, in->length - length);
    in->length -= length;
    if (!is_get) {
        begin_answer(connection, request, kept);
    } else if (flush(connection) >= 0) {
        answer_requests(connection);
    }
}

/* ---- connections ---- */

static void accept_connections(int listener) {
    const int on = 1;
    for (int descriptor; (descriptor = accept4(listeners[listener], NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        if (descriptor >= MOST_DESCRIPTORS) {
            close(descriptor);
            continue;
        }
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        Connection *connection = calloc(1, sizeof *connection);
        if (connection == NULL) abort();
        connection->descriptor = descriptor;
        connection->listener = listener;
        connections[descriptor] = connection;
        stats.connections++;
        stats.open++;
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = descriptor};
        epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event);
    }
}

static void handle(Connection *connection, uint32_t events) {
    int descriptor = connection->descriptor;
    if (events & (EPOLLHUP | EPOLLERR)) {
        close_connection(connection);
        return;
    }
    if (events & EPOLLIN) {
        char *at = reserve(&connection->in, 4096);
        ssize_t got = recv(descriptor, at, 4096, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            close_connection(connection);
            return;
        }
        if (got > 0) {
            connection->in.length += got;
            answer_requests(connection);
        }
    }
    connection = connections[descriptor]; /* gone if answering failed */
    if ((events & EPOLLOUT) && connection != NULL && flush(connection) == 1 && connection->phase == STREAMING)
        proceed(connection);
}

static int listener_of(int descriptor) {
    for (int listener = 0; listener < listener_count; listener++)
        if (listeners[listener] == descriptor) return listener;
    return -1;
}

static void run(void) {
    static struct epoll_event events[EVENTS_A_TURN];
    for (;;) {
        struct timespec pause, *limit = NULL;
        Entry *first = timetable_first();
        if (first != NULL) {
            int64_t left = first->due - now();
            if (left < 0) left = 0;
            pause.tv_sec = left / 1000000000;
            pause.tv_nsec = left % 1000000000;
            limit = &pause;
        }
        int count = epoll_pwait2(poller, events, EVENTS_A_TURN, limit, NULL);
        for (int i = 0; i < count; i++) {
            int descriptor = events[i].data.fd;
            if (connections[descriptor] != NULL)
                handle(connections[descriptor], events[i].events);
            else if (listener_of(descriptor) >= 0)
                accept_connections(listener_of(descriptor));
        }
        int64_t time = now();
        while ((first = timetable_first()) != NULL && first->due <= time) {
            timetable_remove(first);
            proceed((Connection *)first);
        }
    }
}

/* Listens on 127.0.0.HOST; returns the port. */
static int listen_on(int host, int port) {
    const int on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + host)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 8192) < 0) {
        perror("upstream: cannot listen");
        exit(1);
    }
    getsockname(listener, (struct sockaddr *)&address, &length);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    listeners[listener_count++] = listener;
    return ntohs(address.sin_port);
}

static char *list_models(int count, char **names) {
    Buffer list = {0};
    char entry[256];
    append(&list, "{\"object\":\"list\",\"data\":[", 25);
    for (int i = 0; i < count; i++) {
        int length = snprintf(entry, sizeof entry, "%s{\"id\":\"%.150s\",\"object\":\"model\",\"created\":1,\"owned_by\":\"mock\"}",
                              i > 0 ? "," : "", names[i]);
        append(&list, entry, length);
    }
    append(&list, "]}", 3); /* with its NUL */
    return list.bytes;
}

int main(int count, char **arguments) {
    if (count < 2) {
        fprintf(stderr, "usage: upstream PORT MODEL...\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    memset(padding_bytes, 'x', sizeof padding_bytes);
    poller = epoll_create1(0);
    model_lists[0] = list_models(count - 2, arguments + 2);
    int port = listen_on(1, atoi(arguments[1]));
    for (int i = 2; i < count && listener_count < MOST_LISTENERS; i++) {
        model_lists[listener_count] = list_models(1, arguments + i);
        listen_on(listener_count + 1, port);
    }
    printf("{\"port\":%d}\n", port);
    fflush(stdout);
    run();
}
