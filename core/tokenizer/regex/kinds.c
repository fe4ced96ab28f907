#include "core/tokenizer/regex/kinds.h"

#include "core/base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE_CHARS = 256, PAGES = (MP_LAST_CHAR + 1) / PAGE_CHARS };

struct mp_kinds {
    int count;
    uint32_t chars[MP_MOST_KINDS]; /* [count] the first character of each */
    unsigned char (*pages)[PAGE_CHARS];
    size_t page_count;
    uint16_t page_of[PAGES]; /* index of the page for characters PAGE_CHARS * i and on */
};

/* ---- what the sets tell apart ---- */

/* Neighbouring characters that no set tells apart. */
struct run {
    uint32_t first;
    int kind;
};
struct runs {
    struct run *items; /* [count], in order, from character 0 */
    size_t count;
};

static int compare(const void *left, const void *right)
{
    const struct run *a = left;
    const struct run *b = right;
    return a->first < b->first ? -1 : a->first > b->first;
}

/* A run begins where a set begins or has just ended. */
static struct runs cut_runs(const struct mp_chars *sets, size_t count)
{
    size_t most = 1;
    for (size_t s = 0; s < count; s++) {
        most += 2 * sets[s].count;
    }
    struct runs runs = {.items = mp_xcalloc(most, sizeof *runs.items), .count = 1};
    for (size_t s = 0; s < count; s++) {
        for (size_t i = 0; i < sets[s].count; i++) {
            runs.items[runs.count++].first = sets[s].ranges[i].first;
            runs.items[runs.count++].first = sets[s].ranges[i].last + 1;
        }
    }
    qsort(runs.items, runs.count, sizeof *runs.items, compare);
    size_t kept = 1;
    for (size_t i = 1; i < runs.count; i++) {
        uint32_t first = runs.items[i].first;
        if (first != runs.items[kept - 1].first && first <= MP_LAST_CHAR) {
            runs.items[kept++].first = first;
        }
    }
    runs.count = kept;
    return runs;
}

/* Makes two kinds of each that the set has a part of. Returns how many kinds there are, numbered in
 * the order of their first characters, or MP_MOST_KINDS + 1 for more. */
static int divide(struct runs *runs, const struct mp_chars *set)
{
    int numbers[2 * MP_MOST_KINDS];
    memset(numbers, -1, sizeof numbers);
    int count = 0;
    size_t range = 0; /* the first that does not end before the run */
    for (size_t i = 0; i < runs->count; i++) {
        struct run *run = &runs->items[i];
        while (range < set->count && set->ranges[range].last < run->first) {
            range++;
        }
        bool inside = range < set->count && set->ranges[range].first <= run->first;
        int *number = &numbers[2 * run->kind + inside];
        if (*number < 0) {
            if (count == MP_MOST_KINDS) {
                return MP_MOST_KINDS + 1;
            }
            *number = count++;
        }
        run->kind = *number;
    }
    return count;
}

/* ---- a table of them ---- */

/* The kinds of the characters from `first` on; *run: the one of the first, then of the last. */
static void fill_page(const struct runs *runs, uint32_t first, size_t *run, unsigned char *page)
{
    for (uint32_t i = 0; i < PAGE_CHARS; i++) {
        if (*run + 1 < runs->count && runs->items[*run + 1].first == first + i) {
            ++*run;
        }
        page[i] = (unsigned char)runs->items[*run].kind;
    }
}

/* Most pages are of one kind alone: there is one for each such kind. */
static void make_pages(struct mp_kinds *k, const struct runs *runs)
{
    int whole[MP_MOST_KINDS]; /* pages of one kind; -1: none yet */
    memset(whole, -1, sizeof whole);
    size_t run = 0; /* of the page's first character, or the one before */
    k->pages = mp_xmalloc(PAGES * sizeof *k->pages);
    for (uint32_t p = 0; p < PAGES; p++) {
        uint32_t first = p * PAGE_CHARS;
        int kind = runs->items[run].kind;
        bool is_whole = run + 1 == runs->count || runs->items[run + 1].first >= first + PAGE_CHARS;
        if (is_whole && whole[kind] >= 0) {
            k->page_of[p] = (uint16_t)whole[kind];
            continue;
        }
        k->page_of[p] = (uint16_t)k->page_count;
        whole[kind] = is_whole ? (int)k->page_count : whole[kind];
        fill_page(runs, first, &run, k->pages[k->page_count++]);
    }
    k->pages = mp_xrealloc(k->pages, k->page_count, sizeof *k->pages);
}

struct mp_kinds *mp_kinds_new(const struct mp_chars *sets, size_t count)
{
    struct runs runs = cut_runs(sets, count);
    struct mp_kinds *k = mp_xcalloc(1, sizeof *k);
    k->count = 1;
    for (size_t s = 0; s < count && k->count <= MP_MOST_KINDS; s++) {
        k->count = divide(&runs, &sets[s]);
    }
    if (k->count <= MP_MOST_KINDS) {
        for (size_t i = runs.count; i-- > 0;) {
            k->chars[runs.items[i].kind] = runs.items[i].first;
        }
        make_pages(k, &runs);
    } else {
        mp_kinds_free(k);
        k = NULL;
    }
    free(runs.items);
    return k;
}

void mp_kinds_free(struct mp_kinds *k)
{
    if (k != NULL) {
        free(k->pages);
        free(k);
    }
}

/* ---- use ---- */

int mp_kinds_count(const struct mp_kinds *k)
{
    return k->count;
}

uint32_t mp_kinds_char(const struct mp_kinds *k, int kind)
{
    return k->chars[kind];
}

/* The character at the start of text, valid UTF-8 and not ASCII; *length: its bytes. */
static uint32_t read_char(const unsigned char *text, size_t *length)
{
    uint32_t c = text[0];
    if (c < 0xe0) {
        *length = 2;
        return (c & 0x1f) << 6 | (text[1] & 0x3f);
    }
    c = (c & 0x0f) << 12 | (uint32_t)(text[1] & 0x3f) << 6 | (text[2] & 0x3f);
    if (text[0] < 0xf0) {
        *length = 3;
        return c;
    }
    *length = 4;
    return c << 6 | (text[3] & 0x3f);
}

size_t mp_kinds_of(const struct mp_kinds *k, const char *text, size_t length, unsigned char *out)
{
    const unsigned char *bytes = (const unsigned char *)text;
    const unsigned char *ascii = k->pages[k->page_of[0]];
    size_t count = 0;
    for (size_t at = 0; at < length;) {
        if (bytes[at] < 0x80) {
            out[count++] = ascii[bytes[at++]];
            continue;
        }
        size_t n;
        uint32_t c = read_char(bytes + at, &n);
        out[count++] = k->pages[k->page_of[c / PAGE_CHARS]][c % PAGE_CHARS];
        at += n;
    }
    return count;
}
