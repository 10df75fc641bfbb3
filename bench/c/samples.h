/* Durations, kept one by one so that percentiles are exact. */
#ifndef SAMPLES_H
#define SAMPLES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct {
    uint32_t *microseconds;
    size_t count, room;
} Samples;

void samples_add(Samples *samples, int64_t nanoseconds);

/* Writes "NAME":{"p50":…,"p90":…,"p99":…,"max":…,"samples":…}, in milliseconds; null when there are no samples. Sorts. */
void samples_print(FILE *out, const char *name, Samples *samples);

int64_t nanoseconds_now(void); /* CLOCK_MONOTONIC, as the upstream's tokens carry it */

#endif
