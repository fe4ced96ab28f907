/* The tasks of the benchmark RULER (arXiv 2404.06654), and one sample of one of them. */
#ifndef MP_PIPELINE_MAKE_DATA_TASK_H
#define MP_PIPELINE_MAKE_DATA_TASK_H

#include "core/base/error.h"
#include "core/base/rng.h"
#include "pipeline/make_data/sources.h"
#include "pipeline/make_data/words.h"

#include <stdbool.h>
#include <stdint.h>

/* A question with its text, and what a right answer contains. */
struct mp_sample {
    char *text;              /* the prompt, but for what follows */
    char *answer_prefix;     /* with which the answer starts, as the last part of the prompt */
    struct mp_words outputs; /* expected */
    int64_t tokens;          /* of both without BOS, and the task's new_tokens */
};
void mp_sample_free(struct mp_sample *s);

/* What a sample is written from. The same numbers with more units give the same needles, words and
 * questions in a longer text. */
struct mp_draft {
    const struct mp_sources *sources;
    struct mp_rng rng; /* copied by the writer */
    int64_t turn;      /* counts the drafts of a task, from 0: which question is asked */
    int64_t units;     /* of haystack */
    int64_t tokens;    /* that the sample is to have */
};

enum mp_haystack {
    MP_HAYSTACK_NOISE,   /* one line over and over */
    MP_HAYSTACK_ESSAY,   /* the essay, from a sentence on and over again */
    MP_HAYSTACK_NEEDLES, /* other keys and values */
};

enum mp_needle_kind {
    MP_NEEDLE_WORDS,   /* adjective-noun */
    MP_NEEDLE_NUMBERS, /* of 7 digits */
    MP_NEEDLE_UUIDS,
};

/* How many of what is hidden in a text where. */
struct mp_needles {
    enum mp_haystack haystack;
    enum mp_needle_kind keys, values;
    int num_keys, num_values /* each */, num_queries;
};

struct mp_task {
    const char *name;
    const char *unit;        /* of haystack, in the plural */
    const char *source;      /* the option whose file limits the units; NULL: nothing does */
    int64_t new_tokens;      /* to generate */
    int64_t least;           /* units */
    struct mp_needles hides; /* of tasks with needles */
    /* Writes text, answer_prefix and outputs of *out, which is {0} before, without chat template.
     * MP_ERR_USAGE: the sources are too small. Then and else *out is the caller's. */
    int (*write)(const struct mp_task *t, const struct mp_draft *d, struct mp_sample *out,
                 struct mp_error *err);
    /* The most units that the sources have, for any question; NULL: as many as wanted. */
    int64_t (*most)(const struct mp_task *t, const struct mp_sources *s);
};

enum { MP_NUM_TASKS = 13 };
extern const struct mp_task mp_tasks[MP_NUM_TASKS];

/* A line that says nothing, of noise. */
extern const char mp_noise_line[];

/* The writers: needles.c, chain.c, frequency.c, documents.c. */
int mp_write_needles(const struct mp_task *t, const struct mp_draft *d, struct mp_sample *out,
                     struct mp_error *err);
int mp_write_chain(const struct mp_task *t, const struct mp_draft *d, struct mp_sample *out,
                   struct mp_error *err);
int mp_write_common_words(const struct mp_task *t, const struct mp_draft *d, struct mp_sample *out,
                          struct mp_error *err);
int64_t mp_most_common_words(const struct mp_task *t, const struct mp_sources *s);
int mp_write_coded_words(const struct mp_task *t, const struct mp_draft *d, struct mp_sample *out,
                         struct mp_error *err);
int mp_write_documents(const struct mp_task *t, const struct mp_draft *d, struct mp_sample *out,
                       struct mp_error *err);
int64_t mp_most_documents(const struct mp_task *t, const struct mp_sources *s);

/* Which of the corpora a task asks about. */
const struct mp_corpus *mp_task_corpus(const struct mp_task *t, const struct mp_sources *s);

/* chosen[MP_NUM_TASKS] gets the tasks of a list of names with commas, or of "all". MP_ERR_USAGE: an
 * unknown name, with the nearest known one, or one that is there twice. */
int mp_tasks_parse(const char *names, bool chosen[MP_NUM_TASKS], struct mp_error *err);

#endif
