#include "codelets/memory_read/memory_read.h"

void memory_read_ref(const struct memory_read_args *a)
{
    const uint64_t *words = a->data;
    int64_t count = a->bytes / (int64_t)sizeof *words;
    uint64_t sum = 0;
#pragma omp parallel for simd schedule(static) reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) {
        sum += words[i];
    }
    *a->sum = sum;
}
