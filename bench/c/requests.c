#include "requests.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VARIANTS = 61, SERIAL_DIGITS = 10 };

static Request requests[VARIANTS];
static uint64_t serial;

static const char *const WORDS[] = {"river", "sluice", "gate", "evening", "quietly", "carries", "a", "the", "of",
                                    "water", "under", "seven", "lanterns", "and", "turns", "slowly", "toward", "mill"};

/* 560 to 720 letters of words, different in each variant. */
static int write_words(char *at, int variant) {
    uint32_t state = 2463534242u + variant * 7919u;
    int length = 0, wanted = 560 + (variant * 37) % 160;
    while (length < wanted) {
        state = state * 1664525u + 1013904223u;
        length += sprintf(at + length, "%s ", WORDS[(state >> 16) % (sizeof WORDS / sizeof *WORDS)]);
    }
    return length;
}

void requests_build(const RequestOptions *options) {
    for (int variant = 0; variant < VARIANTS; variant++) {
        char words[1024], body[4096], *head = malloc(8192);
        words[write_words(words, variant)] = '\0';
        int length = snprintf(
            body, sizeof body,
            "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":\"You are a helpful assistant. Answer briefly.\"},"
            "{\"role\":\"user\",\"content\":\"%s\"},{\"role\":\"assistant\",\"content\":\"Sure, what would you like to know "
            "next?\"},{\"role\":\"user\",\"content\":\"Tell me story %0*d about a gateway.\"}],\"temperature\":0.%d,"
            "\"max_tokens\":%d,\"stream\":%s}",
            options->model, words, SERIAL_DIGITS, 0, 1 + variant % 9, options->max_tokens, options->streams ? "true" : "false");
        int head_length = sprintf(head,
                                  "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\n"
                                  "Content-Type: application/json\r\nAccept: %s\r\nUser-Agent: loadgen/1\r\n%s"
                                  "Content-Length: %d\r\n\r\n",
                                  options->path, options->port, options->key,
                                  options->streams ? "text/event-stream" : "application/json", options->headers, length);
        memcpy(head + head_length, body, length + 1);
        const char *story = strstr(head + head_length, "Tell me story ");
        requests[variant] = (Request){head, head_length + length, story - head + strlen("Tell me story ")};
    }
}

const Request *requests_next(void) {
    Request *request = &requests[serial % VARIANTS];
    uint64_t left = ++serial;
    for (int digit = SERIAL_DIGITS - 1; digit >= 0; digit--, left /= 10)
        request->bytes[request->serial_at + digit] = '0' + left % 10;
    return request;
}
