/* Prompts: the records of the command line as token ids. */
#ifndef MP_PIPELINE_PROMPTS_H
#define MP_PIPELINE_PROMPTS_H

#include "core/tokenizer/tokenizer.h"
#include "pipeline/cli/cli.h"
#include "pipeline/engine/magicpig.h"
#include "pipeline/generate/records/records.h"

struct mp_prompts {
    struct mp_records records;
    struct mp_ids *ids; /* [records.count]; empty where the record has an error */
};

/* Reads --input or --prompt, gives each record an id of its own, and tokenizes texts with the
 * engine's tokenizer and conversations with its chat template, which are opened if there are any. A
 * record that cannot be tokenized gets its `error` set. */
int mp_prompts_load(const struct mp_cli *cli, struct mp_engine *e, struct mp_prompts *out,
                    struct mp_error *err);
void mp_prompts_free(struct mp_prompts *p);

/* Sets the `error` of every record that e cannot run (mp_engine_check_prompt). */
void mp_prompts_check(struct mp_prompts *p, const struct mp_cli *cli, const struct mp_engine *e);

/* Sets the `error` of a record that has none: "FILE:LINE: why". */
void mp_prompts_fail(struct mp_prompts *p, size_t record, const struct mp_cli *cli,
                     const char *why);

/* Tokens of the longest prompt without an error; 0 if there is none. */
int64_t mp_prompts_longest(const struct mp_prompts *p);

/* Most tokens that any of these records generates. */
int64_t mp_prompts_most_new_tokens(const struct mp_prompts *p, const struct mp_cli *cli);

/* Tokens to generate for a record, and how they are sampled: as it says, else as the configuration
 * does. */
int64_t mp_prompts_max_new_tokens(const struct mp_record *r, const struct mp_cli *cli);
struct mp_sampling mp_prompts_sampling(const struct mp_record *r, const struct mp_cli *cli);

/* What answers to the records depend on beside their prompts (pipeline/generate/answer_key.h):
 * fingerprints, the caller's, one a record. */
uint64_t *mp_prompts_settings(const struct mp_prompts *p, const struct mp_cli *cli,
                              const struct mp_engine *e);

#endif
