#include "timetable.h"

#include <stdlib.h>

static Entry **heap; /* from place 1 */
static size_t size, room;

static void put(size_t place, Entry *entry) {
    heap[place] = entry;
    entry->place = place;
}

static void rise(size_t place) {
    Entry *moving = heap[place];
    for (; place > 1 && heap[place / 2]->due > moving->due; place /= 2) put(place, heap[place / 2]);
    put(place, moving);
}

static void sink(size_t place) {
    Entry *moving = heap[place];
    for (size_t child; (child = 2 * place) <= size; place = child) {
        if (child < size && heap[child + 1]->due < heap[child]->due) child++;
        if (heap[child]->due >= moving->due) break;
        put(place, heap[child]);
    }
    put(place, moving);
}

void timetable_add(Entry *entry) {
    if (size + 2 > room) {
        room = room ? room * 2 : 1024;
        heap = realloc(heap, room * sizeof *heap);
        if (heap == NULL) abort();
    }
    put(++size, entry);
    rise(size);
}

void timetable_remove(Entry *entry) {
    size_t place = entry->place;
    if (place == 0) return;
    entry->place = 0;
    Entry *last = heap[size--];
    if (last == entry) return;
    put(place, last);
    rise(place);
    sink(last->place);
}

Entry *timetable_first(void) { return size > 0 ? heap[1] : NULL; }
