/* Callers of a chat interface: HTTP/1.1 with keep-alive, one thread, epoll. Prints one JSON object at the end.

       loadgen --port N --model NAME [options]

   --mode closed   each of --connections sends its next request when the last is answered; measured for --seconds
                   after --warmup
   --mode hold     opens streams up to each of --levels and reads the memory of --pids at each
   --mode stall    --connections ask for a stream and never read
   --mode drip     --connections ask for a stream and read one byte a second
   --mode vanish   --connections ask for a stream, leave after up to --linger milliseconds, and come again

   Requests differ a little in length and content, so that nothing can be gained by knowing them. The body names the
   model, which tells the upstream what to do; see upstream.c. */

#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "answer.h"
#include "processes.h"
#include "requests.h"
#include "samples.h"

enum {
    MOST_DESCRIPTORS = 40000,
    EVENTS_A_TURN = 1024,
    MOST_LEVELS = 16,
    MOST_FAILURES = 20000,
    SMALL_RECEIVE_BUFFER = 4096,
    LEAST_PLAIN_BODY = 620,
    LONGEST_LEVEL = 40, /* seconds */
};

static const int64_t SECOND = 1000000000LL;

typedef enum { CLOSED, HOLD, STALL, DRIP, VANISH } Mode;
static const char *const MODE_NAMES[] = {"closed", "hold", "stall", "drip", "vanish"};

typedef struct {
    int descriptor, connected, first_seen, piece_seen;
    int64_t began, act_at; /* act_at: when a dripping caller reads, or a vanishing one leaves */
    Answer answer;
} Connection;

static struct {
    Mode mode;
    int port, streams, connections, linger, max_tokens, level_count, levels[MOST_LEVELS];
    double seconds, warmup, rate, settle;
    const char *path, *model, *key, *pids;
    char headers[2048];
} options = {
    .port = 8000, .connections = 100, .seconds = 5, .warmup = 1, .rate = 1000, .settle = 1.5, .linger = 500, .max_tokens = 200,
    .path = "/v1/chat/completions", .model = "mock-t0-n32-g0-w0-s0", .key = "none", .pids = "",
};

static struct {
    uint64_t requests, failed, refused, cut_short, tokens, bytes, left, closed_by_peer, with_first_token;
} counts;

static Samples latency, first_piece, first_token, token_delay, first_token_delay;
static Connection *connections[MOST_DESCRIPTORS];
static int poller, highest, measuring, expected_tokens;
static int opened, to_reopen; /* ever wanted, and lost since */
static int64_t read_at;       /* one clock reading for all that one read brought */

/* ---- connections ---- */

static void drop(Connection *connection, int failed) {
    counts.failed += failed;
    connections[connection->descriptor] = NULL;
    close(connection->descriptor);
    free(connection);
    to_reopen++;
}

static void ask(Connection *connection) {
    const Request *request = requests_next();
    answer_begin(&connection->answer);
    connection->first_seen = connection->piece_seen = 0;
    connection->began = nanoseconds_now();
    connection->act_at = connection->began + (options.mode == DRIP ? SECOND : rand() % (options.linger + 1) * 1000000LL);
    ssize_t sent = send(connection->descriptor, request->bytes, request->length, MSG_NOSIGNAL);
    if (sent != (ssize_t)request->length) drop(connection, 1);
}

static void open_connection(void) {
    const int on = 1, small = SMALL_RECEIVE_BUFFER;
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (descriptor < 0 || descriptor >= MOST_DESCRIPTORS) {
        if (descriptor >= 0) close(descriptor);
        counts.failed++;
        return;
    }
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (options.mode == STALL || options.mode == DRIP)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(options.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
        counts.failed++;
        close(descriptor);
        to_reopen++;
        return;
    }
    Connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) abort();
    connection->descriptor = descriptor;
    connections[descriptor] = connection;
    if (descriptor > highest) highest = descriptor;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.fd = descriptor};
    epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event);
}

/* Opens what is wanted by now, not faster than --rate; what was lost is opened again where the mode wants that. */
static void open_due(int wanted, int64_t since, int reopen) {
    double allowed = 1 + (nanoseconds_now() - since) * 1e-9 * options.rate;
    for (; opened < wanted && opened < allowed; opened++) open_connection();
    int again = reopen ? to_reopen : 0; /* each once a turn: a port that refuses must not hold us */
    for (; again > 0 && counts.failed < MOST_FAILURES; again--) {
        to_reopen--;
        open_connection();
    }
}

/* ---- answers ---- */

static void on_token(void *context, int64_t made) {
    Connection *connection = context;
    int64_t delay = read_at - made;
    if (!connection->first_seen) {
        connection->first_seen = 1;
        counts.with_first_token++;
        if (measuring) {
            samples_add(&first_token, read_at - connection->began);
            samples_add(&first_token_delay, delay);
        }
    }
    if (measuring) {
        counts.tokens++;
        samples_add(&token_delay, delay);
    }
}

static void complete(Connection *connection) {
    const Answer *answer = &connection->answer;
    if (measuring) {
        counts.requests++;
        samples_add(&latency, read_at - connection->began);
        if (answer->status != 200) {
            if (counts.refused++ < 3) fprintf(stderr, "loadgen: answered with %d: %.300s\n", answer->status, answer->head);
        } else if (options.streams ? answer->tokens != expected_tokens : answer->body_bytes < LEAST_PLAIN_BODY) {
            counts.cut_short++;
        }
    }
}

static void read_answer(Connection *connection) {
    static char bytes[262144];
    ssize_t got = recv(connection->descriptor, bytes, sizeof bytes, 0);
    if (got < 0 && errno == EAGAIN) return;
    read_at = nanoseconds_now();
    if (got <= 0) {
        int whole = answer_closed(&connection->answer);
        if (whole) complete(connection);
        counts.closed_by_peer += !whole;
        drop(connection, !whole);
        return;
    }
    counts.bytes += got;
    answer_feed(&connection->answer, bytes, got, on_token, connection);
    if (!connection->piece_seen && connection->answer.body_bytes > 0) {
        connection->piece_seen = 1;
        if (measuring) samples_add(&first_piece, read_at - connection->began);
    }
    if (connection->answer.state == BROKEN) {
        drop(connection, 1);
    } else if (connection->answer.state == COMPLETE) {
        complete(connection);
        if (strcasestr(connection->answer.head, "\r\nconnection: close") != NULL)
            drop(connection, 0);
        else
            ask(connection);
    }
}

static void connected(Connection *connection) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(connection->descriptor, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
        drop(connection, 1);
        return;
    }
    int reads = options.mode != STALL && options.mode != DRIP;
    struct epoll_event event = {.events = reads ? EPOLLIN : EPOLLRDHUP, .data.fd = connection->descriptor};
    epoll_ctl(poller, EPOLL_CTL_MOD, connection->descriptor, &event);
    connection->connected = 1;
    ask(connection);
}

/* Lets vanishing callers leave and dripping ones read their byte. */
static void act(int64_t time) {
    char byte;
    for (int descriptor = 0; descriptor <= highest; descriptor++) {
        Connection *connection = connections[descriptor];
        if (connection == NULL || !connection->connected || connection->act_at > time) continue;
        if (options.mode == VANISH) {
            counts.left++;
            drop(connection, 0);
        } else if (options.mode == DRIP) {
            connection->act_at += SECOND;
            if (recv(descriptor, &byte, 1, 0) == 1) counts.bytes++;
        }
    }
}

static void turn(void) {
    static struct epoll_event events[EVENTS_A_TURN];
    int count = epoll_wait(poller, events, EVENTS_A_TURN, 5);
    for (int i = 0; i < count; i++) {
        Connection *connection = connections[events[i].data.fd];
        if (connection == NULL) continue;
        if (!connection->connected) {
            connected(connection);
        } else if (events[i].events & EPOLLIN) {
            read_answer(connection);
        } else {
            counts.closed_by_peer++;
            drop(connection, 1);
        }
    }
}

/* ---- the modes ---- */

static double own_processor_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

static void print_memory(void) {
    Memory memory = memory_of(options.pids);
    printf("\"rss_kb\":%ld,\"pss_kb\":%ld", memory.resident_kb, memory.proportional_kb);
}

static void print_counts(double seconds) {
    printf("{\"mode\":\"%s\",\"connections\":%d,\"seconds\":%.3f,\"requests\":%lu,\"failed\":%lu,\"refused\":%lu,"
           "\"cut_short\":%lu,\"tokens\":%lu,\"bytes\":%lu,\"left\":%lu,\"closed_by_peer\":%lu,",
           MODE_NAMES[options.mode], options.connections, seconds, counts.requests, counts.failed, counts.refused,
           counts.cut_short, counts.tokens, counts.bytes, counts.left, counts.closed_by_peer);
}

static void closed_loop(void) {
    int64_t start = nanoseconds_now(), begin = start + (int64_t)(options.warmup * SECOND), end = INT64_MAX;
    double gateway = 0, own = 0;
    for (int64_t time = start; time < end && counts.failed < MOST_FAILURES; time = nanoseconds_now()) {
        open_due(options.connections, start, 1);
        if (!measuring && time >= begin && opened == options.connections) {
            memset(&counts, 0, sizeof counts);
            measuring = 1;
            gateway = processor_seconds(options.pids);
            own = own_processor_seconds();
            begin = nanoseconds_now();
            end = begin + (int64_t)(options.seconds * SECOND);
        }
        turn();
    }
    double seconds = (nanoseconds_now() - begin) * 1e-9;
    print_counts(seconds);
    printf("\"gateway_cpu_seconds\":%.3f,\"own_cpu_seconds\":%.3f,", processor_seconds(options.pids) - gateway,
           own_processor_seconds() - own);
    samples_print(stdout, "latency", &latency);
    printf(",");
    samples_print(stdout, "first_piece", &first_piece);
    printf(",");
    samples_print(stdout, "first_token", &first_token);
    printf(",");
    samples_print(stdout, "first_token_delay", &first_token_delay);
    printf(",");
    samples_print(stdout, "token_delay", &token_delay);
    printf(",");
    print_memory();
    printf("}\n");
}

/* Opens streams up to the level and waits until each has had a token; gives up when none came in ten seconds. */
static int reach(int wanted) {
    int64_t start = nanoseconds_now(), progress = start;
    int before = opened;
    uint64_t seen = counts.with_first_token;
    while (opened < wanted || (int)counts.with_first_token < wanted) {
        int64_t time = nanoseconds_now();
        double allowed = before + (time - start) * 1e-9 * options.rate;
        for (; opened < wanted && opened < allowed; opened++) open_connection();
        turn();
        if (counts.with_first_token != seen) progress = time;
        seen = counts.with_first_token;
        if (time - progress > 10 * SECOND || time - start > LONGEST_LEVEL * SECOND) return 0;
    }
    return 1;
}

/* Ends behind the first level that is not reached. */
static void hold_levels(void) {
    printf("{\"mode\":\"hold\",\"levels\":[");
    int reached = 1;
    for (int level = 0; level < options.level_count && reached; level++) {
        reached = reach(options.levels[level]);
        int64_t settled = nanoseconds_now() + (int64_t)(options.settle * SECOND);
        while (nanoseconds_now() < settled) turn();
        printf("%s{\"streams\":%d,\"with_first_token\":%lu,\"failed\":%lu,", level ? "," : "",
               options.levels[level], counts.with_first_token, counts.failed);
        print_memory();
        printf("}");
        fflush(stdout);
    }
    printf("]}\n");
}

static void hardship(void) {
    int64_t start = nanoseconds_now(), sample_at = start, end = start + (int64_t)(options.seconds * SECOND);
    int first = 1;
    printf("{\"memory\":[");
    for (int64_t time = start; time < end; time = nanoseconds_now()) {
        open_due(options.connections, start, options.mode == VANISH);
        turn();
        act(time);
        if (time < sample_at) continue;
        printf("%s{\"at\":%.2f,", first ? "" : ",", (time - start) * 1e-9);
        print_memory();
        printf("}");
        first = 0;
        sample_at = time + SECOND / 2;
    }
    printf("],\"counts\":");
    print_counts((nanoseconds_now() - start) * 1e-9);
    printf("\"with_first_token\":%lu}}\n", counts.with_first_token);
}

/* ---- options ---- */

static void read_levels(char *list) {
    for (char *word = strtok(list, ","); word != NULL && options.level_count < MOST_LEVELS; word = strtok(NULL, ","))
        options.levels[options.level_count++] = atoi(word);
}

static Mode read_mode(const char *name) {
    for (Mode mode = CLOSED; mode <= VANISH; mode++)
        if (strcmp(name, MODE_NAMES[mode]) == 0) return mode;
    fprintf(stderr, "loadgen: no mode \"%s\"; closed, hold, stall, drip or vanish\n", name);
    exit(2);
}

static void read_options(int count, char **arguments) {
    enum { PORT = 256, CONNECTIONS, SECONDS, WARMUP, RATE, SETTLE, LINGER, LEVELS, PATH, MODEL, KEY, PIDS, HEADER, STREAM, MODE, MAX_TOKENS };
    static const struct option known[] = {
        {"port", 1, 0, PORT},       {"connections", 1, 0, CONNECTIONS}, {"seconds", 1, 0, SECONDS}, {"warmup", 1, 0, WARMUP},
        {"rate", 1, 0, RATE},       {"settle", 1, 0, SETTLE},           {"linger", 1, 0, LINGER},   {"levels", 1, 0, LEVELS},
        {"path", 1, 0, PATH},       {"model", 1, 0, MODEL},             {"key", 1, 0, KEY},         {"pids", 1, 0, PIDS},
        {"header", 1, 0, HEADER},   {"stream", 0, 0, STREAM},           {"mode", 1, 0, MODE},       {"max-tokens", 1, 0, MAX_TOKENS}, {0, 0, 0, 0},
    };
    for (int option; (option = getopt_long(count, arguments, "", known, NULL)) != -1;) switch (option) {
        case PORT: options.port = atoi(optarg); break;
        case CONNECTIONS: options.connections = atoi(optarg); break;
        case SECONDS: options.seconds = atof(optarg); break;
        case WARMUP: options.warmup = atof(optarg); break;
        case RATE: options.rate = atof(optarg); break;
        case SETTLE: options.settle = atof(optarg); break;
        case LINGER: options.linger = atoi(optarg); break;
        case LEVELS: read_levels(optarg); break;
        case MAX_TOKENS: options.max_tokens = atoi(optarg); break;
        case PATH: options.path = optarg; break;
        case MODEL: options.model = optarg; break;
        case KEY: options.key = optarg; break;
        case PIDS: options.pids = optarg; break;
        case STREAM: options.streams = 1; break;
        case MODE: options.mode = read_mode(optarg); break;
        case HEADER: {
            size_t used = strlen(options.headers);
            snprintf(options.headers + used, sizeof options.headers - used, "%s\r\n", optarg);
            break;
        }
        default: exit(2);
        }
}

int main(int count, char **arguments) {
    read_options(count, arguments);
    signal(SIGPIPE, SIG_IGN);
    const char *tokens = strstr(options.model, "-n");
    expected_tokens = tokens != NULL ? atoi(tokens + 2) : 32;
    requests_build(&(RequestOptions){options.path, options.model, options.key, options.headers, options.port,
                                     options.streams, options.max_tokens});
    poller = epoll_create1(0);
    switch (options.mode) {
    case CLOSED: closed_loop(); break;
    case HOLD: hold_levels(); break;
    default: hardship();
    }
    return 0;
}
