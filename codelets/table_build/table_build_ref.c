#include "codelets/table_build/table_build.h"

#include <string.h>

/* Counting sort of the n tokens of one block by code. Filling the buckets from the back leaves
 * every offset at its bucket's start and the ids of a bucket in ascending order. */
static void sort_block(const uint16_t *codes, int64_t n, int K, uint32_t *offsets, uint16_t *ids)
{
    size_t buckets = (size_t)1 << K;
    memset(offsets, 0, (buckets + 1) * sizeof *offsets);
    for (int64_t i = 0; i < n; i++) {
        offsets[codes[i]]++;
    }
    uint32_t end = 0;
    for (size_t c = 0; c <= buckets; c++) {
        end += offsets[c];
        offsets[c] = end;
    }
    for (int64_t i = n - 1; i >= 0; i--) {
        ids[--offsets[codes[i]]] = (uint16_t)i;
    }
}

void table_build_ref(const struct table_build_args *a)
{
    struct lsh_tables *t = a->tables;
    int64_t blocks = lsh_num_blocks(t->count);
#pragma omp parallel for collapse(3) schedule(dynamic)
    for (int h = 0; h < t->num_kv_heads; h++) {
        for (int64_t b = 0; b < blocks; b++) {
            for (int l = 0; l < t->L; l++) {
                int64_t first = b * LSH_BLOCK_TOKENS;
                int64_t rest = t->count - first;
                int64_t n = rest < LSH_BLOCK_TOKENS ? rest : LSH_BLOCK_TOKENS;
                const uint16_t *codes = a->codes + ((int64_t)h * t->L + l) * t->count + first;
                sort_block(codes, n, t->K, lsh_offsets(t, h, b, l), lsh_ids(t, h, b, l));
            }
        }
    }
}
