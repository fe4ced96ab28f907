/* PCRE2 behind the little that splitting and replacing need. */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "core/base/memory.h"
#include "core/tokenizer/regex/regex.h"
#include "core/tokenizer/tokenizer_internal.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Enough for any one word of a text; what needs more is a pattern that would never end. */
enum { MATCH_LIMIT = 50 * 1000 * 1000, HEAP_LIMIT_KIB = 512 * 1024 };

struct mp_pattern {
    pcre2_code *code;
    struct mp_kinds *kinds; /* that it is a pattern of; NULL: of bytes */
};

static pcre2_code *compile(const char *text, size_t length, uint32_t options, char *why,
                           size_t size)
{
    int code;
    PCRE2_SIZE offset;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)text, length, options, &code, &offset, NULL);
    if (compiled == NULL) {
        char message[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
        snprintf(why, size, "regular expression: %s", message);
    }
    return compiled;
}

struct mp_pattern *mp_pattern_new(const char *text, size_t length, bool literal, char *why,
                                  size_t size)
{
    pcre2_code *compiled = NULL;
    struct mp_kinds *kinds = NULL;
    if (literal) {
        compiled = compile(text, length, PCRE2_UTF | PCRE2_LITERAL, why, size);
    } else {
        struct mp_bytes regex = {0};
        mp_bytes_append(&regex, "(?C)(?:", 7);
        if (mp_regex_translate(text, length, &regex, &kinds, why, size)) {
            mp_bytes_append(&regex, ")", 1);
            /* PCRE2 10.42 takes a+(?>b?|c)a for a++(?>b?|c)a, which does not match "aa". */
            compiled = compile(regex.data, regex.length, PCRE2_NO_AUTO_POSSESS, why, size);
        }
        mp_bytes_free(&regex);
    }
    if (compiled == NULL) {
        mp_kinds_free(kinds);
        return NULL;
    }
    /* Without a just-in-time compiler, pcre2_match interprets: slower, the same result. */
    (void)pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);

    struct mp_pattern *p = mp_xmalloc(sizeof *p);
    *p = (struct mp_pattern){.code = compiled, .kinds = kinds};
    return p;
}

void mp_pattern_free(struct mp_pattern *p)
{
    if (p != NULL) {
        pcre2_code_free(p->code);
        mp_kinds_free(p->kinds);
        free(p);
    }
}

/* ---- matches ---- */

/* Called by PCRE2 wherever a search tries to match, which is where it can be stopped. */
static int on_attempt(pcre2_callout_block *block, void *matches)
{
    (void)block;
    struct mp_matches *m = matches;
    m->stopped = mp_work_count(m->work, 1);
    return m->stopped == MP_OK ? 0 : PCRE2_ERROR_CALLOUT;
}

void mp_matches_begin(struct mp_matches *m, const struct mp_pattern *pattern, const char *text,
                      size_t length, struct mp_work *w)
{
    *m = (struct mp_matches){
        .pattern = pattern, .text = text, .length = length, .last_end = SIZE_MAX, .work = w};
    m->data = pcre2_match_data_create(1, NULL);
    m->limits = pcre2_match_context_create(NULL);
    if (m->data == NULL || m->limits == NULL) {
        mp_give_up("out of memory for a match of a pattern");
    }
    if (pattern->kinds != NULL) {
        m->kinds = mp_xmalloc(length);
        m->kind_count = mp_kinds_of(pattern->kinds, text, length, m->kinds);
    }
    pcre2_set_match_limit(m->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(m->limits, HEAP_LIMIT_KIB);
    pcre2_set_callout(m->limits, on_attempt, m);
}

void mp_matches_end(struct mp_matches *m)
{
    free(m->kinds);
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->limits);
}

/* Goes on to the character that starts at a byte, which is returned by its number, or to a
 * character by its number, whose byte is returned. */
static size_t char_of_byte(struct mp_matches *m, size_t byte)
{
    for (; m->byte_at < byte; m->char_at++) {
        m->byte_at += mp_utf8_length(m->text[m->byte_at]);
    }
    return m->char_at;
}

static size_t byte_of_char(struct mp_matches *m, size_t number)
{
    for (; m->char_at < number; m->char_at++) {
        m->byte_at += mp_utf8_length(m->text[m->byte_at]);
    }
    return m->byte_at;
}

/* One search in what the pattern is of. The number of groups plus one, or a negative code of PCRE2.
 */
static int match(const struct mp_matches *m, const void *subject, size_t length, size_t at)
{
    pcre2_code *code = m->pattern->code;
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int rc = pcre2_match(code, subject, length, at, options, m->data, m->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        /* The interpreter keeps its state on the heap. */
        options |= PCRE2_NO_JIT;
        rc = pcre2_match(code, subject, length, at, options, m->data, m->limits);
    }
    return rc;
}

/* One search from m->at; [*start, *end) is what was found, in bytes of the text. As match. */
static int search(struct mp_matches *m, size_t *start, size_t *end)
{
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(m->data);
    if (m->kinds == NULL) {
        int rc = match(m, m->text, m->length, m->at);
        *start = span[0];
        *end = span[1];
        return rc;
    }
    int rc = match(m, m->kinds, m->kind_count, char_of_byte(m, m->at));
    if (rc > 0) {
        *start = byte_of_char(m, span[0]);
        *end = byte_of_char(m, span[1]);
    }
    return rc;
}

int mp_matches_take(struct mp_matches *m, size_t start, size_t end, bool *found)
{
    if (start < m->at || end < start || end > m->length) {
        return mp_fail(m->work->err, MP_ERR_RUNTIME,
                       "a regular expression matched bytes %zu to %zu of %zu, searched from byte "
                       "%zu on",
                       start, end, m->length, m->at);
    }
    m->start = start;
    m->end = end;
    *found = start < end || end != m->last_end;
    if (*found) {
        m->at = m->last_end = end;
    } else {
        m->at += m->at < m->length ? mp_utf8_length(m->text[m->at]) : 1;
    }
    return mp_work_count(m->work, 1 + end - start);
}

int mp_matches_next(struct mp_matches *m, bool *found)
{
    *found = false;
    int rc = MP_OK;
    while (rc == MP_OK && !*found && m->at <= m->length) {
        size_t start = 0, end = 0;
        int matched = search(m, &start, &end);
        if (m->stopped != MP_OK) {
            return m->stopped;
        }
        if (matched == PCRE2_ERROR_NOMATCH) {
            m->at = m->length + 1;
        } else if (matched < 0) {
            char message[128];
            pcre2_get_error_message(matched, (PCRE2_UCHAR *)message, sizeof message);
            rc = mp_fail(m->work->err, MP_ERR_RUNTIME,
                         "a regular expression failed at byte %zu of a piece of text of %zu "
                         "bytes: %s",
                         m->at, m->length, message);
        } else {
            rc = mp_matches_take(m, start, end, found);
        }
    }
    return rc;
}
