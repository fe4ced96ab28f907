/* Prompts: the records of the command line as token ids. */
#ifndef MP_PIPELINE_PROMPTS_H
#define MP_PIPELINE_PROMPTS_H

#include "core/tokenizer/tokenizer.h"
#include "pipeline/cli/cli.h"
#include "pipeline/engine/magicpig.h"
#include "pipeline/generate/records.h"

struct mp_prompts {
    struct mp_records records;
    struct mp_ids *ids; /* [records.count]; empty where the record has an error */
};

/* Reads --input or --prompt and tokenizes it with the engine's tokenizer. A record that cannot be
 * tokenized gets its `error` set. */
int mp_prompts_load(const struct mp_cli *cli, struct mp_engine *e, struct mp_prompts *out,
                    struct mp_error *err);
void mp_prompts_free(struct mp_prompts *p);

/* Sets the `error` of every record that e cannot run (mp_engine_check_prompt). */
void mp_prompts_check(struct mp_prompts *p, const struct mp_cli *cli, const struct mp_engine *e);

/* Tokens of the longest prompt without an error; 0 if there is none. */
int64_t mp_prompts_longest(const struct mp_prompts *p);

/* Most tokens that any of these records generates. */
int64_t mp_prompts_most_new_tokens(const struct mp_prompts *p, const struct mp_cli *cli);

/* Tokens to generate for a record: its own number, else the configuration's. */
int64_t mp_prompts_max_new_tokens(const struct mp_record *r, const struct mp_cli *cli);

#endif
