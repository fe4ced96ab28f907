#include "pipeline/make_data/draw.h"

#include <inttypes.h>
#include <stdio.h>

int64_t mp_draw_below(struct mp_rng *rng, int64_t n)
{
    /* Above the largest multiple of n some remainders would come once more than others. */
    uint64_t range = (uint64_t)n;
    uint64_t end = UINT64_MAX - UINT64_MAX % range;
    uint64_t x;
    do {
        x = mp_rng_next(rng);
    } while (x >= end);
    return (int64_t)(x % range);
}

void mp_draw_order(struct mp_rng *rng, int32_t *order, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        order[i] = (int32_t)i;
    }
    for (int64_t i = count - 1; i > 0; i--) {
        int64_t j = mp_draw_below(rng, i + 1);
        int32_t other = order[j];
        order[j] = order[i];
        order[i] = other;
    }
}

int64_t mp_draw_number(struct mp_rng *rng, int digits)
{
    int64_t least = 1;
    for (int i = 1; i < digits; i++) {
        least *= 10;
    }
    return least + mp_draw_below(rng, 9 * least);
}

void mp_draw_letters(struct mp_rng *rng, char first, int count, char *out)
{
    for (int i = 0; i < count; i++) {
        out[i] = (char)(first + mp_draw_below(rng, 26));
    }
    out[count] = '\0';
}

void mp_draw_uuid(struct mp_rng *rng, char out[MP_UUID_SIZE])
{
    uint64_t high = mp_rng_next(rng);
    uint64_t low = mp_rng_next(rng);
    high = (high & ~UINT64_C(0xf000)) | UINT64_C(0x4000); /* the version */
    low = (low >> 2) | UINT64_C(1) << 63;                 /* the variant, binary 10 */
    snprintf(out, MP_UUID_SIZE,
             "%08" PRIx64 "-%04" PRIx64 "-%04" PRIx64 "-%04" PRIx64 "-%012" PRIx64, high >> 32,
             high >> 16 & 0xffff, high & 0xffff, low >> 48, low & UINT64_C(0xffffffffffff));
}
