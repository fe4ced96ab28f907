/* Samples of a given length in tokens. */
#ifndef MP_PIPELINE_MAKE_DATA_FIT_H
#define MP_PIPELINE_MAKE_DATA_FIT_H

#include "core/tokenizer/tokenizer.h"
#include "pipeline/make_data/task.h"

/* What all samples of a run have in common. */
struct mp_maker {
    const struct mp_tokenizer *tokenizer;
    const struct mp_sources *sources;
    const char
        *before;       /* of the chat template, before and after the user's text; NULL: none, and */
    const char *after; /* then a blank comes before the answer prefix */
    int64_t tokens;    /* of a sample at most, and at least 98 % of it */
    uint64_t seed;
};

/* The samples of one task, one after the other. Start from {.task = index}. */
struct mp_series {
    int task;      /* of mp_tasks */
    int64_t turn;  /* drafts so far */
    int64_t units; /* of haystack in the last sample */
};

/* The next sample: text of user and chat template, answer prefix, expected answers, tokens. The
 * same maker and series give the same bytes. A draft that cannot have the length, because its
 * documents are too long for instance, gives way to the next one, 32 times. MP_ERR_USAGE: the least
 * sample has too many tokens, one unit of haystack is more than 2 %, or the sources are too small;
 * MP_ERR_FORMAT: the tokenizer cannot encode it. *out: mp_sample_free, {0} after an error. */
int mp_make_sample(const struct mp_maker *m, struct mp_series *s, struct mp_sample *out,
                   struct mp_error *err);

#endif
