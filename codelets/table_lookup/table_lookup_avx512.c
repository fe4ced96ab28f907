#include <immintrin.h>
#include <stdint.h>

/* Bit i: bit 1 of byte i is set, for 64 aligned bytes. */
static inline uint64_t second_bits64(const uint8_t *bytes)
{
    return _mm512_test_epi8_mask(_mm512_load_si512(bytes), _mm512_set1_epi8(2));
}

#define TABLE_LOOKUP table_lookup_avx512
#include "codelets/table_lookup/table_lookup_simd.h"
