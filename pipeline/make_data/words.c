#include "pipeline/make_data/words.h"

#include "core/base/memory.h"

#include <stdlib.h>
#include <string.h>

void mp_words_add(struct mp_words *w, const char *text, size_t length)
{
    if (w->count == w->capacity) {
        w->capacity = w->capacity == 0 ? 16 : 2 * w->capacity;
        w->items = mp_xrealloc(w->items, w->capacity, sizeof *w->items);
    }
    w->items[w->count++] = mp_xstrndup(text, length);
}

size_t mp_words_place(struct mp_words *w, const char *text)
{
    /* Values of the map are indices, from 1: NULL says that there is none. */
    uintptr_t place = (uintptr_t)mp_strmap_get(&w->seen, text);
    if (place == 0) {
        mp_words_add(w, text, strlen(text));
        place = w->count;
        mp_strmap_add(&w->seen, w->items[place - 1], (const void *)place);
    }
    return place - 1;
}

bool mp_words_add_new(struct mp_words *w, const char *text)
{
    size_t count = w->count;
    return mp_words_place(w, text) == count;
}

void mp_words_free(struct mp_words *w)
{
    for (size_t i = 0; i < w->count; i++) {
        free(w->items[i]);
    }
    free(w->items);
    mp_strmap_free(&w->seen);
    *w = (struct mp_words){0};
}
