#define _GNU_SOURCE
#include "answer.h"

#include <stdlib.h>
#include <string.h>

enum { STAMP_DIGITS = 19 };

void answer_begin(Answer *answer) {
    memset(answer, 0, offsetof(Answer, head));
    answer->digits = -1;
}

int answer_closed(Answer *answer) {
    if (answer->state == UNTIL_CLOSE) answer->state = COMPLETE;
    return answer->state == COMPLETE;
}

/* A token's text begins with ~ and 19 digits; the scan goes on where the last piece ended. */
static void scan(Answer *answer, const char *at, const char *end, OnToken on_token, void *context) {
    answer->body_bytes += end - at;
    while (at < end) {
        if (answer->digits < 0) {
            at = memchr(at, '~', end - at);
            if (at == NULL) return;
            at++;
            answer->digits = 0;
            answer->stamp = 0;
            continue;
        }
        if (*at < '0' || *at > '9') {
            answer->digits = -1;
            continue;
        }
        answer->stamp = answer->stamp * 10 + (*at++ - '0');
        if (++answer->digits == STAMP_DIGITS) {
            answer->digits = -1;
            answer->tokens++;
            on_token(context, answer->stamp);
        }
    }
}

static void read_head(Answer *answer) {
    const char *length = strcasestr(answer->head, "\r\ncontent-length:");
    answer->status = strlen(answer->head) > 12 ? atoi(answer->head + 9) : 0;
    if (answer->status < 100) {
        answer->state = BROKEN;
    } else if (answer->status < 200) {
        answer->head_length = 0; /* 100 Continue: the answer itself follows */
    } else if (strcasestr(answer->head, "\r\ntransfer-encoding: chunked") != NULL) {
        answer->state = SIZE_LINE;
    } else if (length != NULL) {
        answer->left = strtoul(length + 17, NULL, 10);
        answer->state = answer->left > 0 ? COUNTED : COMPLETE;
    } else {
        answer->state = UNTIL_CLOSE;
    }
}

/* Collects the head; returns how many of the bytes belong to it. */
static size_t feed_head(Answer *answer, const char *bytes, size_t length) {
    size_t before = answer->head_length;
    size_t room = MOST_HEAD - 1 - before;
    size_t taken = length < room ? length : room;
    memcpy(answer->head + before, bytes, taken);
    answer->head_length += taken;
    answer->head[answer->head_length] = '\0';
    char *end = strstr(answer->head + (before > 3 ? before - 3 : 0), "\r\n\r\n");
    if (end == NULL) {
        if (taken == room) answer->state = BROKEN;
        return taken;
    }
    end[2] = '\0';
    size_t head = end - answer->head + 4;
    read_head(answer);
    return head - before;
}

static void feed_size_line(Answer *answer, char letter) {
    if (letter == '\n') {
        answer->state = answer->left > 0 ? CHUNK : TRAILER;
        answer->line_length = 0;
        answer->in_extension = 0;
    } else if (letter == ';') {
        answer->in_extension = 1;
    } else if (letter != '\r' && !answer->in_extension) {
        int digit = letter >= '0' && letter <= '9' ? letter - '0' : (letter | 32) - 'a' + 10;
        if (digit < 0 || digit > 15) answer->state = BROKEN;
        answer->left = answer->left * 16 + digit;
    }
}

static void feed_trailer(Answer *answer, char letter) {
    if (letter == '\n') {
        if (answer->line_length == 0) answer->state = COMPLETE;
        answer->line_length = 0;
    } else if (letter != '\r') {
        answer->line_length++;
    }
}

size_t answer_feed(Answer *answer, const char *bytes, size_t length, OnToken on_token, void *context) {
    const char *at = bytes, *end = bytes + length;
    while (at < end && answer->state != COMPLETE && answer->state != BROKEN) {
        size_t here = end - at;
        switch (answer->state) {
        case HEAD:
            at += feed_head(answer, at, here);
            break;
        case COUNTED:
        case CHUNK:
            if (here > answer->left) here = answer->left;
            scan(answer, at, at + here, on_token, context);
            at += here;
            answer->left -= here;
            if (answer->left == 0) answer->state = answer->state == CHUNK ? CHUNK_END : COMPLETE;
            break;
        case UNTIL_CLOSE:
            scan(answer, at, end, on_token, context);
            at = end;
            break;
        case SIZE_LINE:
            feed_size_line(answer, *at++);
            break;
        case CHUNK_END:
            if (*at++ == '\n') answer->state = SIZE_LINE;
            break;
        default:
            feed_trailer(answer, *at++);
        }
    }
    return at - bytes;
}
