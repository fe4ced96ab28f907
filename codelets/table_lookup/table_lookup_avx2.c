#include <immintrin.h>
#include <stdint.h>

/* Bit i: bit 1 of byte i is set, for 32 bytes. */
static inline uint32_t second_bits(const uint8_t *bytes)
{
    __m256i x = _mm256_load_si256((const __m256i *)bytes);
    return (uint32_t)_mm256_movemask_epi8(_mm256_slli_epi16(x, 6)); /* bit 1 becomes the sign */
}

/* Bit i: bit 1 of byte i is set, for 64 aligned bytes. */
static inline uint64_t second_bits64(const uint8_t *bytes)
{
    return second_bits(bytes) | (uint64_t)second_bits(bytes + 32) << 32;
}

#define TABLE_LOOKUP table_lookup_avx2
#include "codelets/table_lookup/table_lookup_simd.h"
