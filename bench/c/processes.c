#define _GNU_SOURCE
#include "processes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Opens /proc/PID/NAME of the next process in the list and moves on; NULL at the end or when it has ended. */
static FILE *open_next(const char **pids, const char *name) {
    char *end, path[64];
    long pid = strtol(*pids, &end, 10);
    *pids = *end == ',' ? end + 1 : end;
    snprintf(path, sizeof path, "/proc/%ld/%s", pid, name);
    return fopen(path, "r");
}

double processor_seconds(const char *pids) {
    unsigned long ticks = 0;
    while (*pids != '\0') {
        char line[1024];
        FILE *file = open_next(&pids, "stat");
        if (file == NULL) continue;
        unsigned long user = 0, system = 0;
        if (fgets(line, sizeof line, file) != NULL) {
            const char *rest = strrchr(line, ')'); /* the name before it may hold anything */
            if (rest != NULL &&
                sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) == 2)
                ticks += user + system;
        }
        fclose(file);
    }
    return (double)ticks / sysconf(_SC_CLK_TCK);
}

Memory memory_of(const char *pids) {
    Memory sum = {0, 0};
    while (*pids != '\0') {
        char line[256];
        long kilobytes;
        FILE *file = open_next(&pids, "smaps_rollup");
        if (file == NULL) continue;
        while (fgets(line, sizeof line, file) != NULL) {
            if (sscanf(line, "Rss: %ld", &kilobytes) == 1) sum.resident_kb += kilobytes;
            if (sscanf(line, "Pss: %ld", &kilobytes) == 1) sum.proportional_kb += kilobytes;
        }
        fclose(file);
    }
    return sum;
}
