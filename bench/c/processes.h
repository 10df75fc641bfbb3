/* What other processes use: processor time and memory, summed over a list of process ids such as "12,34". */
#ifndef PROCESSES_H
#define PROCESSES_H

double processor_seconds(const char *pids);

typedef struct {
    long resident_kb;     /* RSS */
    long proportional_kb; /* PSS: pages that processes share are counted once */
} Memory;

Memory memory_of(const char *pids);

#endif
