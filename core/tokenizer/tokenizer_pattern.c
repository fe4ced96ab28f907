/* PCRE2 behind the little that splitting and replacing need. */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "core/base/memory.h"
#include "core/tokenizer/tokenizer_internal.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Enough for any one word of a text; what needs more is a pattern that would never end. */
enum { MATCH_LIMIT = 50 * 1000 * 1000, HEAP_LIMIT_KIB = 512 * 1024 };

struct mp_pattern {
    pcre2_code *code;
    pcre2_match_context *limits;
};

struct mp_pattern *mp_pattern_new(const char *text, size_t length, bool literal, char *why,
                                  size_t size)
{
    if (!literal && memmem(text, length, "&&", 2) != NULL) {
        snprintf(why, size, "intersections (&&) of character classes are not supported");
        return NULL;
    }
    uint32_t options =
        literal ? PCRE2_UTF | PCRE2_LITERAL : PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
    int code;
    PCRE2_SIZE offset;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)text, length, options, &code, &offset, NULL);
    if (compiled == NULL) {
        char message[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
        snprintf(why, size, "invalid regular expression, at offset %zu: %s", offset, message);
        return NULL;
    }
    /* Without a just-in-time compiler, pcre2_match interprets: slower, the same result. */
    (void)pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);

    struct mp_pattern *p = mp_xmalloc(sizeof *p);
    *p = (struct mp_pattern){.code = compiled, .limits = pcre2_match_context_create(NULL)};
    if (p->limits == NULL) {
        mp_panic("out of memory for a match context");
    }
    pcre2_set_match_limit(p->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(p->limits, HEAP_LIMIT_KIB);
    return p;
}

void mp_pattern_free(struct mp_pattern *p)
{
    if (p != NULL) {
        pcre2_code_free(p->code);
        pcre2_match_context_free(p->limits);
        free(p);
    }
}

void mp_matches_begin(struct mp_matches *m, const struct mp_pattern *pattern, const char *text,
                      size_t length)
{
    *m = (struct mp_matches){
        .pattern = pattern, .text = text, .length = length, .last_end = SIZE_MAX};
    m->data = pcre2_match_data_create(1, NULL);
    if (m->data == NULL) {
        mp_panic("out of memory for match data");
    }
}

void mp_matches_end(struct mp_matches *m)
{
    pcre2_match_data_free(m->data);
}

/* One search from m->at. The number of groups plus one, or a negative code of PCRE2. */
static int match(const struct mp_matches *m)
{
    PCRE2_SPTR text = (PCRE2_SPTR)m->text;
    pcre2_code *code = m->pattern->code;
    pcre2_match_context *limits = m->pattern->limits;
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int rc = pcre2_match(code, text, m->length, m->at, options, m->data, limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        /* The interpreter keeps its state on the heap. */
        options |= PCRE2_NO_JIT;
        rc = pcre2_match(code, text, m->length, m->at, options, m->data, limits);
    }
    return rc;
}

int mp_matches_next(struct mp_matches *m, bool *found, struct mp_error *err)
{
    while (m->at <= m->length) {
        int rc = match(m);
        if (rc == PCRE2_ERROR_NOMATCH) {
            break;
        }
        if (rc < 0) {
            char message[128];
            pcre2_get_error_message(rc, (PCRE2_UCHAR *)message, sizeof message);
            return mp_fail(err, MP_ERR_RUNTIME,
                           "tokenizer: a regular expression failed at byte %zu of a piece of text "
                           "of %zu bytes: %s",
                           m->at, m->length, message);
        }
        const PCRE2_SIZE *match_span = pcre2_get_ovector_pointer(m->data);
        m->start = match_span[0];
        m->end = match_span[1];
        if (m->start == m->end && m->end == m->last_end) {
            m->at += m->at < m->length ? mp_utf8_length(m->text[m->at]) : 1;
            continue;
        }
        m->at = m->last_end = m->end;
        *found = true;
        return MP_OK;
    }
    m->at = m->length + 1;
    *found = false;
    return MP_OK;
}
