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
    if (literal) {
        compiled = compile(text, length, PCRE2_UTF | PCRE2_LITERAL, why, size);
    } else {
        struct mp_bytes regex = {0};
        mp_bytes_append(&regex, "(?C)(?:", 7);
        if (mp_regex_translate(text, length, &regex, why, size)) {
            mp_bytes_append(&regex, ")", 1);
            /* PCRE2 10.42 takes a+(?>b?|c)a for a++(?>b?|c)a, which does not match "aa". */
            uint32_t options = PCRE2_UTF | PCRE2_NO_AUTO_POSSESS;
            compiled = compile(regex.data, regex.length, options, why, size);
        }
        mp_bytes_free(&regex);
    }
    if (compiled == NULL) {
        return NULL;
    }
    /* Without a just-in-time compiler, pcre2_match interprets: slower, the same result. */
    (void)pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);

    struct mp_pattern *p = mp_xmalloc(sizeof *p);
    *p = (struct mp_pattern){.code = compiled};
    return p;
}

void mp_pattern_free(struct mp_pattern *p)
{
    if (p != NULL) {
        pcre2_code_free(p->code);
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
        mp_memory_exhausted("out of memory for a match of a pattern");
    }
    pcre2_set_match_limit(m->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(m->limits, HEAP_LIMIT_KIB);
    pcre2_set_callout(m->limits, on_attempt, m);
}

void mp_matches_end(struct mp_matches *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->limits);
}

/* One search from m->at. The number of groups plus one, or a negative code of PCRE2. */
static int match(const struct mp_matches *m)
{
    PCRE2_SPTR text = (PCRE2_SPTR)m->text;
    pcre2_code *code = m->pattern->code;
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int rc = pcre2_match(code, text, m->length, m->at, options, m->data, m->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        /* The interpreter keeps its state on the heap. */
        options |= PCRE2_NO_JIT;
        rc = pcre2_match(code, text, m->length, m->at, options, m->data, m->limits);
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
        int matched = match(m);
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
            const PCRE2_SIZE *span = pcre2_get_ovector_pointer(m->data);
            rc = mp_matches_take(m, span[0], span[1], found);
        }
    }
    return rc;
}
