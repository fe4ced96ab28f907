/* The essay and the word lists. */
#include "pipeline/make_data/sources.h"

#include "core/base/file.h"
#include "core/base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { MAX_SOURCE_BYTES = 1 << 30 };

/* configs/ruler/essay.txt and words.txt, put into the program when it is built. */
extern const char mp_eval_essay[];
extern const char mp_eval_words[];

static const char BLANKS[] = " \t\r\n\v\f";

/* ---- text files ---- */

/* Texts of benchmarks go into JSON and into tokenizers, which both take UTF-8 without NULs. */
static int check_text(const char *name, const char *text, size_t length, struct mp_error *err)
{
    size_t line = 1;
    for (size_t at = 0; at < length;) {
        utf8proc_int32_t character;
        utf8proc_ssize_t bytes = utf8proc_iterate((const utf8proc_uint8_t *)text + at,
                                                  (utf8proc_ssize_t)(length - at), &character);
        if (bytes <= 0 || character == 0) {
            return mp_fail(err, MP_ERR_FORMAT, "%s:%zu: found %s, expected UTF-8 text", name, line,
                           bytes <= 0 ? "an invalid byte" : "a NUL");
        }
        line += character == '\n';
        at += (size_t)bytes;
    }
    return 0;
}

/* *text: a copy of what is built in if path is NULL, else the file's content; the caller's. */
static int read_text(const char *path, const char *built_in, char **text, struct mp_error *err)
{
    if (path == NULL) {
        *text = mp_xstrdup(built_in);
        return 0;
    }
    size_t length;
    int code = mp_file_read(path, MAX_SOURCE_BYTES, text, &length, err);
    if (code == 0) {
        code = check_text(mp_file_name(path), *text, length, err);
        if (code != 0) {
            free(*text);
            *text = NULL;
        }
    }
    return code;
}

/* ---- the essay ---- */

/* Bytes of the quotation mark or bracket that ends word[0 .. length); 0: none does. */
static size_t closing_length(const char *word, size_t length)
{
    static const char *const closing[] = {"\"", "'", ")", "]", "\u201d", "\u2019"};
    for (size_t i = 0; i < sizeof closing / sizeof closing[0]; i++) {
        size_t n = strlen(closing[i]);
        if (length >= n && memcmp(word + length - n, closing[i], n) == 0) {
            return n;
        }
    }
    return 0;
}

bool mp_ends_sentence(const char *word)
{
    size_t length = strlen(word);
    for (size_t n = closing_length(word, length); n > 0; n = closing_length(word, length)) {
        length -= n;
    }
    return length > 0 && strchr(".?!", word[length - 1]) != NULL;
}

static int load_essay(const char *path, struct mp_essay *out, struct mp_error *err)
{
    char *text = NULL;
    int code = read_text(path, mp_eval_essay, &text, err);
    if (code != 0) {
        return code;
    }
    for (const char *at = text + strspn(text, BLANKS); *at != '\0'; at += strspn(at, BLANKS)) {
        size_t length = strcspn(at, BLANKS);
        mp_words_add(&out->words, at, length);
        at += length;
    }
    free(text);
    if (out->words.count == 0) {
        return mp_fail(err, MP_ERR_FORMAT, "%s: found no words, expected a text", path);
    }
    out->sentences = mp_xcalloc(out->words.count, sizeof *out->sentences);
    bool starts = true;
    for (size_t i = 0; i < out->words.count; i++) {
        if (starts) {
            out->sentences[out->num_sentences++] = i;
        }
        starts = mp_ends_sentence(out->words.items[i]);
    }
    return 0;
}

/* ---- the word lists ---- */

/* One line of a file of words. *list: that which it belongs to, or which it starts. */
static int read_line(const char *name, size_t number, const char *line, size_t length,
                     struct mp_sources *out, struct mp_words **list, struct mp_error *err)
{
    while (length > 0 && strchr(BLANKS, line[length - 1]) != NULL) {
        length--;
    }
    if (length == 0 || line[0] == '#') {
        return 0;
    }
    const struct {
        const char *head;
        struct mp_words *list;
    } lists[] = {
        {"[adjectives]", &out->adjectives}, {"[nouns]", &out->nouns}, {"[words]", &out->words}};
    char *word = mp_xstrndup(line, length);
    int code = 0;
    bool is_head = false;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (strcmp(word, lists[i].head) == 0) {
            *list = lists[i].list;
            is_head = true;
        }
    }
    if (!is_head && (word[0] == '[' || strcspn(word, BLANKS) < length)) {
        code =
            mp_fail(err, MP_ERR_FORMAT,
                    "%s:%zu: found \"%s\", expected one word, or [adjectives], [nouns] or [words]",
                    name, number, word);
    } else if (!is_head) {
        mp_words_add_new(*list, word);
    }
    free(word);
    return code;
}

static int read_lists(const char *path, struct mp_sources *out, struct mp_error *err)
{
    char *text = NULL;
    int code = read_text(path, mp_eval_words, &text, err);
    if (code != 0) {
        return code;
    }
    struct mp_words *list = &out->words;
    const char *line = text;
    for (size_t number = 1; code == 0 && *line != '\0'; number++) {
        size_t length = strcspn(line, "\n");
        code = read_line(path != NULL ? mp_file_name(path) : "words.txt", number, line, length, out,
                         &list, err);
        line += length + (line[length] != '\0');
    }
    free(text);
    return code;
}

/* Moves a list to where there is none. */
static void complete(struct mp_words *list, struct mp_words *from)
{
    if (list->count == 0) {
        struct mp_words empty = *list;
        *list = *from;
        *from = empty;
    }
}

static int load_words(const char *path, struct mp_sources *out, struct mp_error *err)
{
    int code = read_lists(path, out, err);
    if (code != 0) {
        return code;
    }
    if (out->adjectives.count + out->nouns.count + out->words.count == 0) {
        return mp_fail(err, MP_ERR_FORMAT, "%s: found no words, expected one a line", path);
    }
    struct mp_sources own = {0};
    code = read_lists(NULL, &own, err);
    complete(&out->adjectives, &own.adjectives);
    complete(&out->nouns, &own.nouns);
    complete(&out->words, &own.words);
    mp_sources_free(&own);
    return code;
}

int mp_sources_load(const char *essay_path, const char *words_path, struct mp_sources *out,
                    struct mp_error *err)
{
    *out = (struct mp_sources){0};
    int code = load_essay(essay_path, &out->essay, err);
    return code == 0 ? load_words(words_path, out, err) : code;
}

void mp_sources_free(struct mp_sources *s)
{
    mp_words_free(&s->essay.words);
    free(s->essay.sentences);
    mp_words_free(&s->adjectives);
    mp_words_free(&s->nouns);
    mp_words_free(&s->words);
    mp_corpus_free(&s->squad);
    mp_corpus_free(&s->hotpot);
    *s = (struct mp_sources){0};
}
