/* cwe: the most common words of a numbered list. fwe: the most frequent words of a coded text. */
#include "core/base/memory.h"
#include "pipeline/make_data/draw.h"
#include "pipeline/make_data/task.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- common words ---- */

enum { COMMON = 10 };

/* How often words come in a list, and how many others the common ones come with. */
struct list_shape {
    int common_times, other_times;
    int64_t others;
};

/* The list that is asked about, and the example before it, which takes its part of the tokens. */
static void list_shapes(int64_t tokens, struct list_shape *example, struct list_shape *asked)
{
    enum { SHORT = 4096, SMALL_EXAMPLE = 8192 };
    *asked = tokens < SHORT ? (struct list_shape){6, 1, 0} : (struct list_shape){30, 3, 0};
    *example =
        tokens < SMALL_EXAMPLE ? (struct list_shape){3, 1, 10} : (struct list_shape){10, 3, 30};
}

/* The most words of an example. */
enum { EXAMPLE_WORDS = COMMON + 30 };

int64_t mp_most_common_words(const struct mp_task *t, const struct mp_sources *s)
{
    (void)t;
    return (int64_t)s->words.count - EXAMPLE_WORDS - COMMON;
}

/* "1. apple 2. pear ...": the words that order[0 ..] names, the common ones first. */
static void write_list(FILE *out, struct mp_rng *rng, const struct list_shape *shape,
                       const struct mp_words *words, const int32_t *order)
{
    int64_t count = COMMON * shape->common_times + shape->others * shape->other_times;
    int32_t *places = mp_xcalloc((size_t)count, sizeof *places);
    mp_draw_order(rng, places, count);
    int64_t common = COMMON * shape->common_times;
    fputs("Here is a numbered list of words, some of which come more often than others. Remember "
          "those that come most often.\n",
          out);
    for (int64_t i = 0; i < count; i++) {
        int64_t word = places[i] < common ? places[i] / shape->common_times
                                          : COMMON + (places[i] - common) / shape->other_times;
        fprintf(out, "%s%" PRId64 ". %s", i > 0 ? " " : "", i + 1, words->items[order[word]]);
    }
    fprintf(out, "\nQuestion: Which are the %d most common words of the list above?", COMMON);
    free(places);
}

static char *list_answer_prefix(void)
{
    return mp_xasprintf("Answer: The %d words that come most often in the list are:", COMMON);
}

int mp_write_common_words(const struct mp_task *t, const struct mp_draft *d, struct mp_sample *out,
                          struct mp_error *err)
{
    (void)t;
    (void)err;
    const struct mp_words *words = &d->sources->words;
    struct list_shape example, asked;
    list_shapes(d->tokens, &example, &asked);
    asked.others = d->units;
    struct mp_rng rng = d->rng;
    int32_t *order = mp_xcalloc(words->count, sizeof *order);
    mp_draw_order(&rng, order, (int64_t)words->count);
    const int32_t *rest = order + COMMON + example.others;

    size_t length;
    FILE *text = mp_xstream_open(&out->text, &length);
    out->answer_prefix = list_answer_prefix();
    write_list(text, &rng, &example, words, order);
    fprintf(text, " %s", out->answer_prefix);
    for (int i = 0; i < COMMON; i++) {
        fprintf(text, " %d. %s", i + 1, words->items[order[i]]);
        mp_words_add(&out->outputs, words->items[rest[i]], strlen(words->items[rest[i]]));
    }
    fputs("\n\n", text);
    write_list(text, &rng, &asked, words, rest);
    mp_xstream_close(text);
    free(order);
    return 0;
}

/* ---- coded words ---- */

enum {
    CODED_LETTERS = 6,
    ASKED_RANKS = 3, /* from the second: the first is dots */
    MAX_RANKS = 4096,
};

/* How often the word of a rank, from 1, comes among `words`: words / (zeta(2) rank^2), without the
 * fraction. 1 / zeta(2) = 6 / pi^2 in billionths. */
static int64_t times_of_rank(int64_t words, int64_t rank)
{
    return words * INT64_C(607927102) / (INT64_C(1000000000) * rank * rank);
}

/* words->items[rank - 1]; one more of them than ever comes costs nothing. */
static void draw_coded_words(struct mp_rng *rng, int64_t count, struct mp_words *words)
{
    mp_words_add_new(words, "...");
    while ((int64_t)words->count < count) {
        char word[CODED_LETTERS + 1];
        mp_draw_letters(rng, 'a', CODED_LETTERS, word);
        mp_words_add_new(words, word);
    }
}

static void write_shuffled(FILE *out, struct mp_rng *rng, const struct mp_words *words,
                           const int64_t *times)
{
    int64_t count = 0;
    for (size_t rank = 0; rank < words->count; rank++) {
        count += times[rank];
    }
    int32_t *order = mp_xcalloc((size_t)count, sizeof *order);
    int32_t *places = mp_xcalloc((size_t)count, sizeof *places);
    mp_draw_order(rng, places, count);
    int64_t at = 0;
    for (size_t rank = 0; rank < words->count; rank++) {
        for (int64_t i = 0; i < times[rank]; i++) {
            order[places[at++]] = (int32_t)rank;
        }
    }
    for (int64_t i = 0; i < count; i++) {
        fprintf(out, "%s%s", i > 0 ? " " : "", words->items[order[i]]);
    }
    free(order);
    free(places);
}

int mp_write_coded_words(const struct mp_task *t, const struct mp_draft *d, struct mp_sample *out,
                         struct mp_error *err)
{
    (void)t;
    (void)err;
    struct mp_rng rng = d->rng;
    struct mp_words words = {0};
    int64_t times[MAX_RANKS];
    int64_t ranks = 0;
    while (ranks < MAX_RANKS && (times[ranks] = times_of_rank(d->units, ranks + 1)) > 0) {
        ranks++;
    }
    draw_coded_words(&rng, ranks, &words);

    size_t length;
    FILE *text = mp_xstream_open(&out->text, &length);
    fputs(
        "Read the following coded text and track the frequency of each coded word. Find the three "
        "most frequently appeared coded words. ",
        text);
    write_shuffled(text, &rng, &words, times);
    fputs("\nQuestion: Do not provide any explanation. Please ignore the dots '...'. What are the "
          "three most frequently appeared words in the above coded text?",
          text);
    mp_xstream_close(text);
    out->answer_prefix = mp_xstrdup("Answer: According to the coded text above, the three most "
                                    "frequently appeared words are:");
    for (int i = 1; i <= ASKED_RANKS; i++) {
        mp_words_add(&out->outputs, words.items[i], strlen(words.items[i]));
    }
    mp_words_free(&words);
    return 0;
}
