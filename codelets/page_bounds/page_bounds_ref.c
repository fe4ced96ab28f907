#include "codelets/page_bounds/page_bounds.h"
#include "core/base/error.h"

/* The bounds of n tokens, from element `first` of the keys on, to element `out` of the bounds. */
static void bound_page(const struct page_bounds_args *a, size_t first, int64_t n, size_t out)
{
    size_t d = (size_t)a->kv->head_dim;
    for (size_t c = 0; c < d; c++) {
        float least = mp_load(a->kv->k, a->kv->dtype, first + c);
        float largest = least;
        for (int64_t i = 1; i < n; i++) {
            float x = mp_load(a->kv->k, a->kv->dtype, first + (size_t)(i * kv_pitch(a->kv)) + c);
            least = x < least ? x : least;
            largest = x > largest ? x : largest;
        }
        mp_store(a->pages->bounds, a->pages->dtype, out + c, least);
        mp_store(a->pages->bounds, a->pages->dtype, out + d + c, largest);
    }
}

void page_bounds_ref(const struct page_bounds_args *a)
{
    const struct offloaded_kv *kv = a->kv;
    if (kv->dtype == MP_I8) {
        mp_panic("page_bounds: keys of int8");
    }
    int size = a->pages->page_size;
    int64_t pages = key_pages_of(kv->count, size);
    int64_t row = key_pages_of(a->pages->capacity, size); /* pages a head has room for */
#pragma omp parallel for collapse(2)
    for (int h = 0; h < kv->num_kv_heads; h++) {
        for (int64_t p = 0; p < pages; p++) {
            int64_t rest = kv->count - p * size;
            size_t first = (size_t)((h * kv->capacity + p * size) * kv_pitch(kv));
            size_t out = (size_t)(h * row + p) * 2 * (size_t)kv->head_dim;
            bound_page(a, first, rest < size ? rest : size, out);
        }
    }
}
