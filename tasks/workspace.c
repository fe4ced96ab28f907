#include "tasks/workspace.h"

#if MAGICPIG_CUDA

#include "codelets/ffn/ffn.h"
#include "codelets/hashing/hashing.h"
#include "codelets/memory_read/memory_read.h"
#include "codelets/offload/offload.h"
#include "codelets/output/output.h"
#include "codelets/projection/projection.h"
#include "codelets/sampled_attention/sampled_attention.h"
#include "codelets/static_attention/static_attention.h"
#include "codelets/table_build/table_build.h"

static size_t hashing_bytes(const struct mp_workspace_run *run)
{
    int heads = run->shape->num_key_value_heads;
    return hashing_cuda_workspace(heads, run->shared ? heads : 1, run->shape->head_dim, run->K,
                                  run->L);
}

size_t mp_workspace_bytes(const struct mp_workspace_run *run)
{
    const struct mp_shape *s = run->shape;
    int64_t rows = run->prefill_rows > run->decode_rows ? run->prefill_rows : run->decode_rows;
    const size_t needs[] = {
        projection_cuda_workspace(s, rows),
        output_cuda_workspace(s, rows),
        ffn_cuda_workspace(s, rows),
        offload_cuda_workspace(s->num_key_value_heads, s->head_dim),
        static_attention_cuda_workspace(run->decode_rows, s->num_attention_heads, s->head_dim),
        sampled_attention_cuda_workspace(run->decode_rows, s->num_attention_heads, s->head_dim),
        run->K > 0 ? hashing_bytes(run) : 0,
        run->K > 0 ? table_build_cuda_workspace() : 0,
        memory_read_cuda_workspace(),
    };
    size_t most = 0;
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        most = needs[i] > most ? needs[i] : most;
    }
    return most;
}

#else

size_t mp_workspace_bytes(const struct mp_workspace_run *run)
{
    (void)run;
    return 0;
}

#endif
