/* Every CPU with AVX512_BF16, which this variant requires, also has AVX512_VNNI: one instruction
 * for two int16 multiply-adds per lane. */
#pragma GCC target("avx512vnni")

#include "codelets/prefill_attention/prefill_attention_int16.h"

void prefill_attention_avx512(const struct prefill_attention_args *a)
{
    if (a->cache->dtype != MP_BF16) {
        prefill_attention_ref(a);
        return;
    }
    flash_attention(a);
}
