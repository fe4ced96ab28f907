/* What the verbs need of the engine beyond its public interface. */
#ifndef MP_PIPELINE_HOOKS_H
#define MP_PIPELINE_HOOKS_H

#include "core/config/config.h"

struct cJSON;

/* ---- attention_text.c: the attention that a configuration asks for ---- */

/* For people: "magicpig, (K, L) = (10, 150)", or "full". The caller's: free. */
char *mp_attention_describe(const struct mp_config *config);

/* For programs: {"method": "magicpig", "lsh_K": 10, ...}, the method and its settings by their
 * names. The caller's: cJSON_Delete. */
struct cJSON *mp_attention_json(const struct mp_config *config);

#endif
