#include "codelets/random/random.h"

#include "codelets/random/random_element.h"
#include "core/base/rng.h"

void random_ref(const struct random_args *a)
{
    struct mp_rng rng;
    mp_rng_init(&rng, a->numbers.seed, 0);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < a->count; i++) {
        mp_store(a->out, a->dtype, (size_t)(a->offset + i),
                 random_element(&a->numbers, rng.state, i));
    }
}
