/* The probabilities of a request's tokens, for whoever asked for them. */
#include "pipeline/engine/request/slot.h"

static void tell(const struct mp_slot_logprobs *l, int64_t position, const float *logits,
                 int32_t id)
{
    int32_t ids[1 + MP_MOST_LOGPROBS];
    float logprobs[1 + MP_MOST_LOGPROBS];
    int top = l->top < l->vocab_size ? l->top : l->vocab_size;
    mp_logprobs(logits, l->vocab_size, id, top, ids, logprobs);
    l->call(l->user, l->slot, position, ids, logprobs, 1 + top);
}

void mp_slot_tell_logprobs(const struct mp_slot *r, const float *logits, int32_t id)
{
    if (r->logprobs.call != NULL && r->info.finish == MP_FINISH_NONE) {
        tell(&r->logprobs, r->info.prompt_tokens + r->info.generated_tokens, logits, id);
    }
}

int mp_slot_prompt_logprobs(void *slot, const float *logits, int64_t rows, struct mp_error *err)
{
    struct mp_slot *r = slot;
    struct mp_slot_logprobs *l = &r->logprobs;
    for (int64_t i = 0; i < rows; i++) {
        if (r->info.finish != MP_FINISH_NONE) {
            return mp_fail(err, MP_ERR_INTERRUPTED, "cancelled");
        }
        /* The last row is that of the first generated token. */
        if (++l->told < r->info.prompt_tokens) {
            tell(l, l->told, logits + i * l->vocab_size, r->ids[l->told]);
        }
    }
    return 0;
}
