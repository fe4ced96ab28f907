/* What a command line says of samples, and the sources that it names. */
#ifndef MP_PIPELINE_MAKE_DATA_WORKSHOP_H
#define MP_PIPELINE_MAKE_DATA_WORKSHOP_H

#include "pipeline/cli/cli.h"
#include "pipeline/make_data/fit.h"

struct mp_workshop {
    bool chosen[MP_NUM_TASKS];
    int64_t samples; /* of each task */
    struct mp_sources sources;
    struct mp_maker maker; /* the caller sets tokenizer and tokens */
    char *before, *after;  /* of the model's chat template; NULL: it is not asked for */
};

/* Reads --task, --samples, --seed, --template and the files of sources. MP_ERR_USAGE: a task that
 * there is not, or whose file is missing; MP_ERR_IO, MP_ERR_FORMAT: a source. *out stays in place.
 * mp_workshop_close, also after an error. */
int mp_workshop_open(const struct mp_cli *cli, struct mp_workshop *out, struct mp_error *err);
void mp_workshop_close(struct mp_workshop *w);

#endif
