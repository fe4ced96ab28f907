/* Sources, tokenizer and samples for tests of make-data. */
#ifndef MP_TESTS_EVAL_TEST_H
#define MP_TESTS_EVAL_TEST_H

#include "core/base/memory.h"
#include "pipeline/make_data/draw.h"
#include "pipeline/make_data/fit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SAMPLES = 50, MISSING_PERCENT = 2 };

struct eval_test {
    struct mp_tokenizer *tokenizer; /* the demo model's */
    struct mp_sources sources;      /* the program's, and corpora drawn from their words */
};

/* ---- files ---- */

/* The path of a new file with this text, in the scratch folder; the caller's. */
static inline char *write_scratch(const char *name, const char *text, size_t length)
{
    char *path = mp_xasprintf("%s/eval-%d-%s", MP_SCRATCH_DIR, (int)getpid(), name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
    return path;
}

static inline void remove_scratch(char *path)
{
    unlink(path);
    free(path);
}

static inline const char *any_word(struct mp_rng *rng, const struct mp_sources *s)
{
    return s->words.items[mp_draw_below(rng, (int64_t)s->words.count)];
}

/* So many words, in quotes. */
static inline void put_words(FILE *out, struct mp_rng *rng, const struct mp_sources *s,
                             int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        fprintf(out, "%s%s", i == 0 ? "\"" : " ", any_word(rng, s));
    }
    fputs(".\"", out);
}

/* 30 articles of 30 paragraphs, of 30 to 150 words. Question q<i> of the i-th paragraph has the
 * answers "it-<i>" and "it-<i>", which ends the paragraph. */
static inline char *squad_text(const struct mp_sources *s, size_t *length)
{
    char *text;
    struct mp_rng rng;
    mp_rng_init(&rng, 1, 0);
    FILE *out = open_memstream(&text, length);
    fputs("{\"version\": \"v2.0\", \"data\": [", out);
    for (int p = 0; p < 900; p++) {
        if (p % 30 == 0) {
            fprintf(out, "%s{\"title\": \"t\", \"paragraphs\": [", p > 0 ? ", " : "");
        }
        fprintf(out, "%s{\"context\": ", p % 30 > 0 ? ", " : "");
        put_words(out, &rng, s, 30 + mp_draw_below(&rng, 121));
        fseek(out, -1, SEEK_CUR);
        fprintf(
            out,
            " Then it-%d came.\", \"qas\": [{\"question\": \"q%d?\", \"id\": \"1\", "
            "\"is_impossible\": false, \"answers\": [{\"text\": \"it-%d\", \"answer_start\": 0}, "
            "{\"text\": \"it-%d\", \"answer_start\": 0}]}, {\"question\": \"no?\", \"id\": \"2\", "
            "\"answers\": [], \"is_impossible\": true}]}",
            p, p, p, p);
        fputs(p % 30 == 29 ? "]}" : "", out);
    }
    fputs("]}\n", out);
    fclose(out);
    return text;
}

/* 120 questions q<i> about paragraphs 10 i to 10 i + 9, of 10 to 60 words, one of which has the
 * answer "yes-<i>.". */
static inline char *hotpot_text(const struct mp_sources *s, size_t *length)
{
    char *text;
    struct mp_rng rng;
    mp_rng_init(&rng, 2, 0);
    FILE *out = open_memstream(&text, length);
    for (int q = 0; q < 120; q++) {
        fprintf(out,
                "%s{\"_id\": \"x\", \"question\": \"q%d?\", \"answer\": \"yes-%d\", \"context\": [",
                q == 0 ? "[" : ", ", q, q);
        for (int p = 0; p < 10; p++) {
            fprintf(out, "%s[\"Title %d\", [", p > 0 ? ", " : "", 10 * q + p);
            put_words(out, &rng, s, 5 + mp_draw_below(&rng, 26));
            fputs(", ", out);
            put_words(out, &rng, s, 5 + mp_draw_below(&rng, 26));
            if (p == q % 10) {
                fprintf(out, ", \" It is yes-%d.\"", q);
            }
            fputs("]]", out);
        }
        fputs("]}", out);
    }
    fputs("]\n", out);
    fclose(out);
    return text;
}

static inline void load_corpus(int (*load)(const char *, uint64_t, struct mp_corpus *,
                                           struct mp_error *),
                               char *text, size_t length, struct mp_corpus *out)
{
    struct mp_error err;
    char *path = write_scratch("corpus.json", text, length);
    if (load(path, 0, out, &err) != 0) {
        fail_msg("%s", err.message);
    }
    remove_scratch(path);
    free(text);
}

/* ---- set up ---- */

static inline int eval_setup(void **state)
{
    struct eval_test *t = mp_xcalloc(1, sizeof *t);
    struct mp_error err;
    size_t length;
    if (mp_tokenizer_load(MP_SOURCE_DIR "/models/demo/tokenizer.json", &t->tokenizer, &err) != 0 ||
        mp_sources_load(NULL, NULL, &t->sources, &err) != 0) {
        fail_msg("%s", err.message);
    }
    char *text = squad_text(&t->sources, &length);
    load_corpus(mp_corpus_load_squad, text, length, &t->sources.squad);
    text = hotpot_text(&t->sources, &length);
    load_corpus(mp_corpus_load_hotpot, text, length, &t->sources.hotpot);
    *state = t;
    return 0;
}

static inline int eval_teardown(void **state)
{
    struct eval_test *t = *state;
    mp_sources_free(&t->sources);
    mp_tokenizer_free(t->tokenizer);
    free(t);
    return 0;
}

/* ---- samples ---- */

static inline struct mp_maker maker_of(const struct eval_test *t, int64_t tokens)
{
    return (struct mp_maker){
        .tokenizer = t->tokenizer, .sources = &t->sources, .tokens = tokens, .seed = 11};
}

static inline int find_task(const char *name)
{
    for (int i = 0; i < MP_NUM_TASKS; i++) {
        if (strcmp(mp_tasks[i].name, name) == 0) {
            return i;
        }
    }
    fail_msg("no task %s", name);
    return -1;
}

/* The next sample, whose length is right and counted right. */
static inline struct mp_sample make(const struct mp_maker *m, struct mp_series *s)
{
    struct mp_sample sample;
    struct mp_error err;
    if (mp_make_sample(m, s, &sample, &err) != 0) {
        fail_msg("%s: %s", mp_tasks[s->task].name, err.message);
    }
    struct mp_ids ids = {0};
    char *prompt = mp_xasprintf("%s%s", sample.text, sample.answer_prefix);
    assert_int_equal(mp_tokenizer_encode(m->tokenizer, prompt, strlen(prompt), false, &ids, &err),
                     0);
    int64_t tokens = (int64_t)ids.count + mp_tasks[s->task].new_tokens;
    assert_int_equal(sample.tokens, tokens);
    if (tokens > m->tokens || 100 * (m->tokens - tokens) > MISSING_PERCENT * m->tokens) {
        fail_msg("%s: %d tokens of %d", mp_tasks[s->task].name, (int)tokens, (int)m->tokens);
    }
    mp_ids_free(&ids);
    free(prompt);
    return sample;
}

/* How often part is in text. */
static inline int count_of(const char *text, const char *part)
{
    int count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part)) {
        count++;
    }
    return count;
}

#endif
