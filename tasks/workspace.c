#include "tasks/workspace.h"

#include "codelets/ffn/ffn.h"
#include "codelets/memory_read/memory_read.h"
#include "codelets/offload/offload.h"
#include "codelets/output/output.h"
#include "codelets/projection/projection.h"
#include "codelets/sampled_attention/sampled_attention.h"
#include "codelets/static_attention/static_attention.h"

size_t mp_workspace_bytes(const struct mp_attention *a, int64_t prefill_rows, int64_t decode_rows,
                          bool selects)
{
    const struct mp_shape *s = a->shape;
    int64_t rows = prefill_rows > decode_rows ? prefill_rows : decode_rows;
    const size_t needs[] = {
        projection_workspace(s, rows),
        output_workspace(s, rows),
        ffn_workspace(s, rows),
        offload_workspace(s),
        static_attention_workspace(s, decode_rows),
        sampled_attention_workspace(s, decode_rows),
        memory_read_workspace(),
        selects && a->method->workspace != NULL ? a->method->workspace(a) : 0,
    };
    size_t most = 0;
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        most = needs[i] > most ? needs[i] : most;
    }
    return most;
}
