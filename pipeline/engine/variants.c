/* Variants: several attentions over one model in memory. */
#include "core/base/memory.h"
#include "pipeline/engine/internal.h"

#include <stdlib.h>

int mp_engine_open_variant(struct mp_engine *base, const struct mp_config *config,
                           struct mp_engine **out, struct mp_error *err)
{
    if (base->runtime != NULL || base->base != NULL) {
        return mp_fail(err, MP_ERR_USAGE, "variants are opened of an engine before it is started");
    }
    if (base->parts != NULL) {
        return mp_fail(
            err, MP_ERR_USAGE,
            "runtime.parallel: several attentions beside each other expect layers, found "
            "tensor");
    }
    struct mp_engine *e = mp_xcalloc(1, sizeof *e);
    *e = *base;
    e->base = base;
    e->variants = NULL;
    e->num_variants = 0;
    e->lends = false;
    int code = mp_engine_set_attention(e, config, err);
    if (code != 0) {
        free(e);
        return code;
    }
    base->variants =
        mp_xrealloc(base->variants, (size_t)base->num_variants + 1, sizeof *base->variants);
    base->variants[base->num_variants++] = e;
    base->lends = true;
    *out = e;
    return 0;
}

void mp_variants_remove(struct mp_engine *e, const struct mp_engine *variant)
{
    int at = 0;
    while (e->variants[at] != variant) {
        at++;
    }
    for (e->num_variants--; at < e->num_variants; at++) {
        e->variants[at] = e->variants[at + 1];
    }
}

int mp_variants_plan(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                     struct mp_plan *out, struct mp_error *err)
{
    mp_engine_plan(e, tokens, new_tokens, out);
    int code = mp_plan_check(out, e->config, err);
    for (int i = 0; i < e->num_variants && code == 0; i++) {
        struct mp_plan plan;
        mp_engine_plan(e->variants[i], tokens, new_tokens, &plan);
        code = mp_plan_check(&plan, e->config, err);
        for (int d = MP_PLAN_GPU; d < MP_PLAN_DEVICES; d++) {
            int64_t *workspace = &out->bytes[d][MP_PLAN_WORKSPACE];
            int64_t wanted = plan.bytes[d][MP_PLAN_WORKSPACE];
            *workspace = wanted > *workspace ? wanted : *workspace;
        }
        if (code != 0) {
            char *attention = mp_attention_describe(e->variants[i]->config);
            mp_fail_prefix(err, "%s", attention);
            free(attention);
        }
    }
    return code;
}

int mp_variants_start(struct mp_engine *e, int64_t tokens, int64_t new_tokens, struct mp_error *err)
{
    int code = 0;
    for (int i = 0; i < e->num_variants && code == 0; i++) {
        struct mp_engine *v = e->variants[i];
        struct mp_plan plan;
        mp_engine_plan(v, tokens, new_tokens, &plan);
        v->runtime = e->runtime;
        code = mp_engine_set_up_attention(v, &plan, err);
    }
    return code;
}
