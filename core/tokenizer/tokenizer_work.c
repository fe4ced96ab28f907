#include "core/tokenizer/tokenizer_internal.h"

int mp_work_count(struct mp_work *w, size_t operations)
{
    w->pending += operations;
    while (w->pending >= MP_TOKENIZER_STOP_PERIOD) {
        w->pending -= MP_TOKENIZER_STOP_PERIOD;
        if (w->stop != NULL && w->stop(w->user)) {
            return mp_fail(w->err, MP_ERR_INTERRUPTED, "interrupted while a text became tokens");
        }
    }
    return MP_OK;
}

int mp_work_check_growth(struct mp_work *w, size_t bytes)
{
    if (bytes / MP_TOKENIZER_MAX_GROWTH <= w->given + MP_TOKENIZER_FREE_BYTES) {
        return MP_OK;
    }
    return mp_fail(w->err, MP_ERR_RUNTIME,
                   "%zu bytes of text have become %zu: expected at most %d times as many", w->given,
                   bytes, MP_TOKENIZER_MAX_GROWTH);
}
