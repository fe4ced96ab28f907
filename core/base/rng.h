/* Seeded random numbers, bit for bit the same on every machine.
 *
 * Generator: SplitMix64 (state += 0x9e3779b97f4a7c15, then its 64-bit finalizer). Streams are
 * separated by hashing (seed, stream) into the start state. Normal numbers use Marsaglia's polar
 * method with a logarithm computed here from IEEE operations alone (no libm, no contraction). */
#ifndef MP_CORE_RNG_H
#define MP_CORE_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_rng {
    uint64_t state;
    double spare; /* second normal of the last pair */
    bool has_spare;
};

void mp_rng_init(struct mp_rng *rng, uint64_t seed, uint64_t stream);
uint64_t mp_rng_next(struct mp_rng *rng);
/* Uniform in [0, 1), 53 bits. */
double mp_rng_uniform(struct mp_rng *rng);
/* N(0, 1). */
double mp_rng_normal(struct mp_rng *rng);

#endif
