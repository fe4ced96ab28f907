/* Rows of keys and values as the GPU reads them: bf16, or int8 that become bf16 in registers, which
 * is exact. */
#ifndef MP_CODELETS_COMMON_KV_ROWS_CUDA_CUH
#define MP_CODELETS_COMMON_KV_ROWS_CUDA_CUH

/* Keys and values of one KV head from some token on, in chunks of 8 channels: Chunk is uint4 for
 * bf16, uint2 for int8, whose scales are the tokens' business. */
template <class Chunk> struct kv_rows {
    const Chunk *k;
    const Chunk *v;
    int chunks; /* of a row: head_dim / 8 */
    int pitch;  /* chunks from a row to the next */
};

/* Two int8 of a word, picked out as the low bytes of 0x43xx, as bf16: with 7 bits of x that is 128
 * + x, and with the 8th alone 128 or 256. */
static __device__ __forceinline__ unsigned widen_pair(unsigned picked)
{
    unsigned x;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;"
        : "=r"(x)
        : "r"(picked & 0xff80ff80u), "r"(0xbf80bf80u), "r"(picked & 0xff7fff7fu));
    return x;
}

/* A chunk as bf16. */
static __device__ __forceinline__ uint4 widen(uint4 chunk)
{
    return chunk;
}

static __device__ __forceinline__ uint4 widen(uint2 chunk)
{
    const unsigned upper = 0x43434343u;
    return make_uint4(widen_pair(__byte_perm(chunk.x, upper, 0x4140)),
                      widen_pair(__byte_perm(chunk.x, upper, 0x4342)),
                      widen_pair(__byte_perm(chunk.y, upper, 0x4140)),
                      widen_pair(__byte_perm(chunk.y, upper, 0x4342)));
}

#endif
