/* Random draws by number, for the CPU and the GPU: the generator of core/base/rng.h hashes a
 * counter, so that draw i needs none of those before it. Integers alone: both get the same bits. */
#ifndef MP_CODELETS_COMMON_RANDOM_DRAW_H
#define MP_CODELETS_COMMON_RANDOM_DRAW_H

#include <stdint.h>

#ifdef __CUDACC__
#define RANDOM_FUNCTION static inline __host__ __device__
#else
#define RANDOM_FUNCTION static inline
#endif

/* SplitMix64's finalizer. */
RANDOM_FUNCTION uint64_t random_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* The state in which mp_rng_init leaves a generator for (seed, stream). To separate by more than
 * one number, take the state as the next seed. */
RANDOM_FUNCTION uint64_t random_state(uint64_t seed, uint64_t stream)
{
    return random_mix(random_mix(seed + UINT64_C(0x9e3779b97f4a7c15)) + stream);
}

/* Draw i, from 0, of a generator in that state: all 64 bits are random. */
RANDOM_FUNCTION uint64_t random_draw(uint64_t state, int64_t i)
{
    return random_mix(state + ((uint64_t)i + 1) * UINT64_C(0x9e3779b97f4a7c15));
}

#endif
