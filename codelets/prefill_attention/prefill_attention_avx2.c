#include "codelets/prefill_attention/prefill_attention_int16.h"

void prefill_attention_avx2(const struct prefill_attention_args *a)
{
    mp_kernel_demand("prefill_attention", a->cache->dtype, a->head_dim, 1);
    flash_attention(a);
}
