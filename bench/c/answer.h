/* Reads an HTTP/1.1 answer as it comes, in pieces of any size, and finds the upstream's tokens in its body.

       HEAD -> COUNTED, UNTIL_CLOSE or SIZE_LINE -> CHUNK -> CHUNK_END -> SIZE_LINE ... -> TRAILER
            -> COMPLETE, or BROKEN for what is no answer */
#ifndef ANSWER_H
#define ANSWER_H

#include <stddef.h>
#include <stdint.h>

enum { MOST_HEAD = 4096 };

typedef enum { HEAD, COUNTED, UNTIL_CLOSE, SIZE_LINE, CHUNK, CHUNK_END, TRAILER, COMPLETE, BROKEN } AnswerState;

typedef struct {
    AnswerState state;
    int status;
    size_t left;          /* of the body or the chunk */
    size_t line_length;   /* of the trailer's line */
    int in_extension;     /* behind the ; of a chunk's size */
    size_t body_bytes;
    int tokens;
    int digits;           /* of a timestamp under way; -1 outside of one */
    int64_t stamp;
    size_t head_length;
    char head[MOST_HEAD];
} Answer;

/* Told of each token: when the upstream made it, in nanoseconds of CLOCK_MONOTONIC. */
typedef void (*OnToken)(void *context, int64_t made);

void answer_begin(Answer *answer);

/* Takes bytes until the answer is complete or broken; returns how many were taken. */
size_t answer_feed(Answer *answer, const char *bytes, size_t length, OnToken on_token, void *context);

/* The other side closed. Returns whether the answer is complete by that. */
int answer_closed(Answer *answer);

#endif
