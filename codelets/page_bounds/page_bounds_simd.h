/* page_bounds for the instruction set this is compiled for. */
#include "codelets/common/attention/support.h"
#include "codelets/common/simd.h"
#include "codelets/page_bounds/page_bounds.h"

/* The bounds of n keys of d channels each, `pitch` elements apart, to out [2][d]. */
static void bound_page(const uint16_t *keys, int64_t pitch, int64_t n, int d, uint16_t *out)
{
    for (int c = 0; c < d; c += VF_LANES) {
        vf least = vf_load_bf16(keys + c);
        vf largest = least;
        for (int64_t i = 1; i < n; i++) {
            vf x = vf_load_bf16(keys + i * pitch + c);
            least = vf_min(x, least);
            largest = vf_max(x, largest);
        }
        vf_cut_bf16(out + c, least);
        vf_cut_bf16(out + d + c, largest);
    }
}

void VF_NAME(page_bounds)(const struct page_bounds_args *a)
{
    const struct offloaded_kv *kv = a->kv;
    mp_kernel_demand("page_bounds", kv->dtype, kv->head_dim, VF_LANES);
    int size = a->pages->page_size;
    int64_t pages = key_pages_of(kv->count, size);
    int64_t row = key_pages_of(a->pages->capacity, size);
#pragma omp parallel for collapse(2)
    for (int h = 0; h < kv->num_kv_heads; h++) {
        for (int64_t p = 0; p < pages; p++) {
            int64_t rest = kv->count - p * size;
            bound_page((const uint16_t *)kv->k + (h * kv->capacity + p * size) * kv_pitch(kv),
                       kv_pitch(kv), rest < size ? rest : size, kv->head_dim,
                       (uint16_t *)a->pages->bounds + (h * row + p) * 2 * kv->head_dim);
        }
    }
}
