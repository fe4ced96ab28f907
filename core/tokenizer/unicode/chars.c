#include "core/base/memory.h"
#include "core/tokenizer/unicode/unicode.h"

#include <stdlib.h>
#include <string.h>

/* ---- properties of a character ---- */

bool mp_char_in(const struct mp_char_table *table, uint32_t c)
{
    size_t low = 0;
    size_t high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->ranges[middle].last < c) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < table->count && table->ranges[low].first <= c;
}

enum mp_category mp_char_category(uint32_t c)
{
    size_t low = 0; /* the last run that starts at c or before is in [low, high) */
    size_t high = mp_unicode_run_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (mp_unicode_runs[middle] >> 8 <= c) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return (enum mp_category)(mp_unicode_runs[low] & 0xff);
}

/* Sets of categories: bit MP_LU of L, and so on. */
#define BITS(first, last) ((2U << (last)) - (1U << (first)))
static const uint32_t space_categories = BITS(MP_ZS, MP_ZP);
static const uint32_t word_categories =
    BITS(MP_LU, MP_ME) | BITS(MP_ND, MP_NL) | BITS(MP_PC, MP_PC);
/* The controls that are white space. */
static const struct mp_char_range space_controls[] = {{0x09, 0x0d}, {0x85, 0x85}};

bool mp_char_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || c == 0x85 ||
           (space_categories >> mp_char_category(c) & 1) != 0;
}

bool mp_char_is_word(uint32_t c)
{
    return (word_categories >> mp_char_category(c) & 1) != 0 ||
           mp_char_in(&mp_unicode_alphabetic_symbols, c);
}

/* ---- sets ---- */

void mp_chars_free(struct mp_chars *set)
{
    free(set->ranges);
    *set = (struct mp_chars){0};
}

void mp_chars_add(struct mp_chars *set, uint32_t first, uint32_t last)
{
    if (set->count == set->capacity) {
        set->capacity = set->capacity == 0 ? 16 : 2 * set->capacity;
        set->ranges = mp_xrealloc(set->ranges, set->capacity, sizeof *set->ranges);
    }
    set->ranges[set->count++] = (struct mp_char_range){.first = first, .last = last};
}

void mp_chars_add_table(struct mp_chars *set, const struct mp_char_table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        mp_chars_add(set, table->ranges[i].first, table->ranges[i].last);
    }
}

void mp_chars_add_set(struct mp_chars *set, const struct mp_chars *other)
{
    mp_chars_add_table(set, &(struct mp_char_table){other->ranges, other->count});
}

static void add_categories(struct mp_chars *set, uint32_t categories)
{
    for (size_t i = 0; i < mp_unicode_run_count; i++) {
        if ((categories >> (mp_unicode_runs[i] & 0xff) & 1) != 0) {
            bool ends = i + 1 == mp_unicode_run_count;
            uint32_t next = ends ? MP_LAST_CHAR + 1 : mp_unicode_runs[i + 1] >> 8;
            mp_chars_add(set, mp_unicode_runs[i] >> 8, next - 1);
        }
    }
}

bool mp_chars_add_category(struct mp_chars *set, const char *name, size_t length)
{
    static const char names[] = "LuLlLtLmLoMnMcMeNdNlNoPcPdPsPePiPfPoSmScSkSoZsZlZpCcCfCsCoCn";
    uint32_t found = 0;
    for (size_t i = 0; i < sizeof names / 2; i++) {
        if ((length == 1 || length == 2) && memcmp(names + 2 * i, name, length) == 0) {
            found |= 1U << i;
        }
    }
    add_categories(set, found);
    return found != 0;
}

void mp_chars_add_spaces(struct mp_chars *set)
{
    add_categories(set, space_categories);
    mp_chars_add_table(set, &(struct mp_char_table){space_controls, 2});
}

void mp_chars_add_words(struct mp_chars *set)
{
    add_categories(set, word_categories);
    mp_chars_add_table(set, &mp_unicode_alphabetic_symbols);
}

static int compare(const void *left, const void *right)
{
    const struct mp_char_range *a = left;
    const struct mp_char_range *b = right;
    return a->first < b->first ? -1 : a->first > b->first;
}

void mp_chars_settle(struct mp_chars *set)
{
    if (set->count == 0) {
        return;
    }
    qsort(set->ranges, set->count, sizeof *set->ranges, compare);
    size_t last = 0;
    for (size_t i = 1; i < set->count; i++) {
        struct mp_char_range r = set->ranges[i];
        if (r.first > set->ranges[last].last + 1) {
            set->ranges[++last] = r;
        } else if (r.last > set->ranges[last].last) {
            set->ranges[last].last = r.last;
        }
    }
    set->count = last + 1;
}

void mp_chars_complement(struct mp_chars *set)
{
    mp_chars_settle(set);
    struct mp_chars out = {0};
    uint32_t next = 0; /* the first character that no range so far has */
    for (size_t i = 0; i < set->count; i++) {
        if (set->ranges[i].first > next) {
            mp_chars_add(&out, next, set->ranges[i].first - 1);
        }
        next = set->ranges[i].last + 1;
    }
    if (next <= MP_LAST_CHAR) {
        mp_chars_add(&out, next, MP_LAST_CHAR);
    }
    mp_chars_free(set);
    *set = out;
}

void mp_chars_intersect(struct mp_chars *set, const struct mp_chars *other)
{
    struct mp_chars outside = {0}; /* of the other */
    mp_chars_add_set(&outside, other);
    mp_chars_complement(&outside);
    mp_chars_complement(set);
    mp_chars_add_set(set, &outside);
    mp_chars_complement(set);
    mp_chars_free(&outside);
}

bool mp_chars_has(const struct mp_chars *set, uint32_t c)
{
    return mp_char_in(&(struct mp_char_table){set->ranges, set->count}, c);
}
