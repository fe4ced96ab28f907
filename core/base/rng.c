#include "core/base/rng.h"

#include <math.h>
#include <string.h>

#define GOLDEN_GAMMA UINT64_C(0x9e3779b97f4a7c15)

/* SplitMix64's finalizer: a bijection that changes half of the bits for each input bit. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void mp_rng_init(struct mp_rng *rng, uint64_t seed, uint64_t stream)
{
    *rng = (struct mp_rng){.state = mix(mix(seed + GOLDEN_GAMMA) + stream)};
}

uint64_t mp_rng_next(struct mp_rng *rng)
{
    rng->state += GOLDEN_GAMMA;
    return mix(rng->state);
}

double mp_rng_uniform(struct mp_rng *rng)
{
    return (double)(mp_rng_next(rng) >> 11) * 0x1p-53;
}

/* ln x of a positive normal number from additions, multiplications and one division, each rounded
 * as IEEE 754 says, so that every machine gets the same bits; libm's may differ in the last one.
 * x = 2^e m with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh(f), f = (m - 1) / (m + 1), |f| < 0.172:
 * the series to f^23 errs by less than 1e-18 of f. */
static double portable_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int e = (int)(bits >> 52) - 1022;
    bits = (bits & UINT64_C(0x000fffffffffffff)) | UINT64_C(0x3fe0000000000000);
    double m; /* in [1/2, 1) */
    memcpy(&m, &bits, sizeof m);
    if (m < 0.70710678118654752) {
        m *= 2.0;
        e--;
    }

    double f = (m - 1.0) / (m + 1.0);
    double square = f * f;
    double sum = 0.0;
    for (int n = 23; n >= 1; n -= 2) {
        sum = sum * square + 1.0 / n;
    }
    return (double)e * 0.69314718055994531 + 2.0 * f * sum;
}

double mp_rng_normal(struct mp_rng *rng)
{
    if (rng->has_spare) {
        rng->has_spare = false;
        return rng->spare;
    }
    /* A uniform point of the unit disc, without its centre. */
    double x, y, square;
    do {
        x = 2.0 * mp_rng_uniform(rng) - 1.0;
        y = 2.0 * mp_rng_uniform(rng) - 1.0;
        square = x * x + y * y;
    } while (square >= 1.0 || square == 0.0);

    /* sqrt is correctly rounded everywhere: IEEE 754 asks for it. */
    double scale = sqrt(-2.0 * portable_log(square) / square);
    rng->spare = y * scale;
    rng->has_spare = true;
    return x * scale;
}
