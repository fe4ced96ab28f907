/* A regular expression, up to the first newline, on the text after it: matches come in order and
 * lie between characters. */
#include "core/tokenizer/tokenizer_internal.h"
#include "fuzz.h"

#include <string.h>

static bool stop(void *calls)
{
    return --*(int *)calls < 0;
}

static bool is_utf8(const char *text, size_t length)
{
    size_t at = 0;
    for (int n = 1; at < length && n > 0; at += n > 0 ? (size_t)n : 0) {
        n = mp_utf8_next(text + at, length - at);
        if (n <= 0) {
            return false;
        }
    }
    return true;
}

static bool between_characters(const char *text, size_t length, size_t at)
{
    return at <= length && (at == length || ((unsigned char)text[at] & 0xc0) != 0x80);
}

static void walk(const struct mp_pattern *p, const char *text, size_t length)
{
    int calls = 100; /* of 4,096 operations */
    struct mp_error err;
    struct mp_work work = {.stop = stop, .user = &calls, .err = &err};
    struct mp_matches m;
    mp_matches_begin(&m, p, text, length, &work);
    size_t done = 0;
    bool found;
    int code = mp_matches_next(&m, &found);
    while (code == 0 && found) {
        if (m.start < done || m.end < m.start || !between_characters(text, length, m.start) ||
            !between_characters(text, length, m.end)) {
            mp_panic("a match of %zu to %zu after %zu", m.start, m.end, done);
        }
        done = m.end;
        code = mp_matches_next(&m, &found);
    }
    if (code != 0) {
        fuzz_check_error(code, &err);
    }
    mp_matches_end(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *newline = size == 0 ? NULL : memchr(text, '\n', size);
    if (newline == NULL || newline == text || !is_utf8(text, size)) {
        return 0; /* what is in a tokenizer.json is UTF-8, and so is the text */
    }
    char why[256] = "";
    struct mp_pattern *p = mp_pattern_new(text, (size_t)(newline - text), false, why, sizeof why);
    if (p != NULL) {
        walk(p, newline + 1, size - (size_t)(newline + 1 - text));
        mp_pattern_free(p);
    } else if (why[0] == '\0') {
        mp_panic("a pattern is refused without a word");
    }
    return 0;
}
