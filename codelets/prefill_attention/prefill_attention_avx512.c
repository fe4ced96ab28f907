#include "codelets/prefill_attention/prefill_attention.h"
#include "core/machine/cpu.h"

void prefill_attention_avx512(const struct prefill_attention_args *a)
{
    if (mp_cpu_has_amx_bf16()) {
        prefill_attention_amx(a);
    } else if (__builtin_cpu_supports("avx512vnni")) {
        prefill_attention_vnni(a);
    } else {
        prefill_attention_avx2(a);
    }
}
