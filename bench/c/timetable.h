/* What is due when: a heap, the earliest first. An entry is embedded in what it stands for, as its first member. */
#ifndef TIMETABLE_H
#define TIMETABLE_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int64_t due;  /* not to be changed while the entry is in the timetable */
    size_t place; /* 0 when it is not there */
} Entry;

void timetable_add(Entry *entry);
void timetable_remove(Entry *entry); /* does nothing when it is not there */
Entry *timetable_first(void);        /* NULL when it is empty */

#endif
