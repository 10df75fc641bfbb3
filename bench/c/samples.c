#include "samples.h"

#include <stdlib.h>
#include <time.h>

int64_t nanoseconds_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

void samples_add(Samples *samples, int64_t nanoseconds) {
    if (samples->count == samples->room) {
        samples->room = samples->room ? samples->room * 2 : 65536;
        samples->microseconds = realloc(samples->microseconds, samples->room * sizeof *samples->microseconds);
        if (samples->microseconds == NULL) abort();
    }
    samples->microseconds[samples->count++] = nanoseconds > 0 ? nanoseconds / 1000 : 0;
}

static int compare(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static double percentile(const Samples *samples, double share) {
    size_t place = share * samples->count;
    if (place >= samples->count) place = samples->count - 1;
    return samples->microseconds[place] / 1000.0;
}

void samples_print(FILE *out, const char *name, Samples *samples) {
    if (samples->count == 0) {
        fprintf(out, "\"%s\":null", name);
        return;
    }
    qsort(samples->microseconds, samples->count, sizeof *samples->microseconds, compare);
    fprintf(out, "\"%s\":{\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"max\":%.3f,\"samples\":%zu}", name,
            percentile(samples, 0.5), percentile(samples, 0.9), percentile(samples, 0.99), percentile(samples, 1.0),
            samples->count);
}
