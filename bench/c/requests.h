/* Chat requests that differ a little in length and content. */
#ifndef REQUESTS_H
#define REQUESTS_H

#include <stddef.h>

typedef struct {
    const char *path, *model, *key, *headers; /* headers: whole lines, each with its CRLF */
    int port, streams, max_tokens;
} RequestOptions;

typedef struct {
    char *bytes;
    size_t length, serial_at;
} Request;

void requests_build(const RequestOptions *options);

/* The next one; its bytes hold until the call after. Its number stands in it, so that no two are alike. */
const Request *requests_next(void);

#endif
