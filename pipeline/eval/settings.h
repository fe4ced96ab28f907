/* The settings of attention that an evaluation compares. */
#ifndef MP_PIPELINE_EVAL_SETTINGS_H
#define MP_PIPELINE_EVAL_SETTINGS_H

#include "pipeline/cli/cli.h"
#include "pipeline/engine/hooks.h"

struct mp_setting {
    struct mp_config config;  /* the command line's, with this attention */
    struct mp_engine *engine; /* a variant of the evaluation's; NULL: not opened */
    char *name;               /* for people: "magicpig, (K, L) = (10, 150)"; no two are the same */
    char *key; /* what an answer depends on, beside the prompt: a JSON object in one line */
};

struct mp_settings {
    struct mp_setting *items; /* [count] */
    size_t count;
};

/* Those of --setting, each a list of words with blanks between them: a configuration file, of which
 * the attention counts, or flag=value for what --flag value says elsewhere, one over the other and
 * over the command line's. Without any: full attention and the command line's own. MP_ERR_USAGE
 * names the setting and the word. *out: mp_settings_free, also after an error. */
int mp_settings_parse(const struct mp_cli *cli, struct mp_settings *out, struct mp_error *err);

/* Opens their engines as variants of base, and writes their keys. MP_ERR_USAGE: a setting that the
 * model does not go with, or that is there twice. */
int mp_settings_open(struct mp_settings *s, struct mp_engine *base, const char *sparse_from,
                     struct mp_error *err);

/* Closes the engines too. */
void mp_settings_free(struct mp_settings *s);

#endif
