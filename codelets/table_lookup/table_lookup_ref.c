#include "codelets/common/scratch.h"
#include "codelets/table_lookup/table_lookup.h"

#include <string.h>

/* Counts the collisions of every token of block b into collisions[0 .. 65535]. */
static void count_collisions(const struct lsh_tables *t, int h, int64_t b, const uint16_t *codes,
                             int32_t *collisions)
{
    for (int l = 0; l < t->L; l++) {
        const uint32_t *offsets = lsh_offsets(t, h, b, l);
        const uint16_t *ids = lsh_ids(t, h, b, l);
        for (uint32_t i = offsets[codes[l]]; i < offsets[codes[l] + 1]; i++) {
            collisions[ids[i]]++;
        }
    }
}

/* Writes the selected tokens of one query head; returns their number. */
static int32_t select_tokens(const struct lsh_tables *t, int h, const uint16_t *codes,
                             uint32_t *ids)
{
    mp_scratch_reset();
    int32_t *collisions = mp_scratch(LSH_BLOCK_TOKENS, sizeof *collisions);
    int32_t nnz = 0;
    for (int64_t b = 0; b < lsh_num_blocks(t->count); b++) {
        memset(collisions, 0, LSH_BLOCK_TOKENS * sizeof *collisions);
        count_collisions(t, h, b, codes, collisions);
        int64_t rest = t->count - b * LSH_BLOCK_TOKENS;
        for (int i = 0; i < LSH_BLOCK_TOKENS && i < rest; i++) {
            if (collisions[i] >= 2) {
                ids[nnz++] = (uint32_t)(b * LSH_BLOCK_TOKENS + i);
            }
        }
    }
    return nnz;
}

void table_lookup_ref(const struct table_lookup_args *a)
{
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t r = 0; r < a->rows; r++) {
        for (int h = 0; h < a->num_heads; h++) {
            const struct lsh_tables *t = a->tables[r];
            int64_t head = r * a->num_heads + h;
            a->nnz[head] = 0;
            if (t != NULL && t->count > 0) {
                a->nnz[head] =
                    select_tokens(t, h / (a->num_heads / t->num_kv_heads), a->codes + head * a->L,
                                  a->ids[r] + h * a->ids_stride[r]);
            }
        }
    }
}
