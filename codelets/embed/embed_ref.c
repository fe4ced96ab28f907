#include "codelets/embed/embed.h"

#include "core/base/dtype.h"

void embed_ref(const struct embed_args *a)
{
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        const uint16_t *from = a->table + (int64_t)a->ids[r] * a->hidden_size;
        float *to = a->x + r * a->hidden_size;
        for (int i = 0; i < a->hidden_size; i++) {
            to[i] = mp_bf16_to_f32(from[i]);
        }
    }
}
