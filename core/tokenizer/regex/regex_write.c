/* The pattern for PCRE2. */
#include "core/tokenizer/regex/regex.h"

#include "core/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SETS = 1024 }; /* PCRE2 could not take many more */

void mp_regex_write(struct mp_regex *r, const char *text)
{
    mp_bytes_append(&r->out, text, strlen(text));
}

static bool equal(const struct mp_chars *a, const struct mp_chars *b)
{
    return a->count == b->count &&
           (a->count == 0 || memcmp(a->ranges, b->ranges, a->count * sizeof *a->ranges) == 0);
}

void mp_regex_write_set(struct mp_regex *r, struct mp_chars *set)
{
    mp_chars_settle(set);
    size_t n = 0;
    while (n < r->set_count && !equal(&r->sets[n], set)) {
        n++;
    }
    if (n == MOST_SETS) {
        r->too_many_sets = true;
    } else if (n == r->set_count) {
        r->sets = mp_xrealloc(r->sets, r->set_count + 1, sizeof *r->sets);
        r->sets[r->set_count++] = *set;
        *set = (struct mp_chars){0};
    }
    mp_chars_free(set);
    char text[32];
    snprintf(text, sizeof text, "#%zu#", n);
    mp_regex_write(r, text);
}

void mp_regex_write_char(struct mp_regex *r, uint32_t c)
{
    struct mp_chars set = {0};
    mp_chars_add(&set, c, c);
    mp_regex_write_set(r, &set);
}

/* The set as PCRE2's class of the kinds that it has. */
static void write_kinds(const struct mp_chars *set, const struct mp_kinds *kinds,
                        struct mp_bytes *out)
{
    char class[4 * MP_MOST_KINDS + 1] = "";
    size_t used = 0;
    for (int k = 0; k < mp_kinds_count(kinds); k++) {
        if (mp_chars_has(set, mp_kinds_char(kinds, k))) {
            used += (size_t)snprintf(class + used, sizeof class - used, "\\x%02x", (unsigned)k);
        }
    }
    bool one = used == 4;
    if (used == 0) { /* PCRE2 takes [] for the beginning of a class */
        used = (size_t)snprintf(class, sizeof class, "^\\x00-\\xff");
    }
    mp_bytes_append(out, "[", !one);
    mp_bytes_append(out, class, used);
    mp_bytes_append(out, "]", !one);
}

/* Appends the pattern with its sets written out. */
static void fill_in_sets(const struct mp_regex *r, const struct mp_kinds *kinds,
                         struct mp_bytes *out)
{
    const char *at = r->out.data;
    for (const char *set; (set = strchr(at, '#')) != NULL;) {
        mp_bytes_append(out, at, (size_t)(set - at));
        char *end;
        write_kinds(&r->sets[strtoul(set + 1, &end, 10)], kinds, out);
        at = end + 1;
    }
    mp_bytes_append(out, at, strlen(at));
}

bool mp_regex_finish(struct mp_regex *r, struct mp_bytes *out, struct mp_kinds **kinds)
{
    *kinds = r->too_many_sets ? NULL : mp_kinds_new(r->sets, r->set_count);
    if (*kinds == NULL) {
        return mp_regex_fail(r, 0,
                             "found more than %d sets of characters or %d kinds that they tell "
                             "apart",
                             MOST_SETS, MP_MOST_KINDS);
    }
    mp_regex_write(r, "");
    fill_in_sets(r, *kinds, out);
    return true;
}
