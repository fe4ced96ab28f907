#include "codelets/prefill_attention/prefill_attention_int16.h"

void prefill_attention_vnni(const struct prefill_attention_args *a)
{
    if (a->cache->dtype != MP_BF16) {
        prefill_attention_ref(a);
        return;
    }
    flash_attention(a);
}
