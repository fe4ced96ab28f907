/* encode_keys on the GPU: a CTA encodes a block of tokens, each warp some of its keys. */
#include "codelets/common/attention/key_rotation_cuda.cuh"
#include "codelets/common/cuda/launch_cuda.cuh"

extern "C" {
#include "codelets/encode_keys/encode_keys.h"
}

namespace
{

enum {
    ENCODE_WARPS = 8,
    ENCODE_THREADS = 32 * ENCODE_WARPS,
    ENCODE_MAX_WORDS = MP_MAX_HEAD_DIM * 4 / 32, /* of a code: 4 bits a channel */
};

struct encode_launch {
    const uint16_t *keys;  /* bf16, heads key_capacity tokens apart */
    const float *rotation; /* key_rotation's data */
    uint32_t *words;       /* heads code_blocks blocks apart */
    float *factors;
    int64_t key_capacity;
    int64_t pitch; /* elements from a key to the next */
    int64_t code_blocks;
    int64_t first; /* token: that of the first key */
    int64_t count;
    int head_dim;
    int bits;
    int num_words;
};

/* What a warp needs in shared memory: the vector that it rotates, then the levels of its key. */
union encode_space {
    float vector[MP_MAX_HEAD_DIM];
    uint32_t levels[MP_MAX_HEAD_DIM / 4]; /* one byte a channel */
};

/* One key; lane m writes word m into words[m][CODES_BLOCK]. Returns the factor. */
__device__ float encode(const encode_launch &p, const uint16_t *key, encode_space *space,
                        uint32_t *words)
{
    const int lane = threadIdx.x % 32;
    const int d = p.head_dim;
    float y[ROTATED];
    float products[ROTATED];
#pragma unroll
    for (int e = 0; e < ROTATED; e++) {
        y[e] = lane + 32 * e < d ? bf16_to_float(key[lane + 32 * e]) : 0.0f;
        products[e] = y[e] * y[e];
    }
    const float norm_squared = ordered_sum(products, d);
    rotate(p.rotation, d, y, space->vector);
    const float step = codes_key_step(norm_squared, d, p.bits);
    uint8_t *levels = reinterpret_cast<uint8_t *>(space->levels);
    __syncwarp(); /* the vector has been read */
#pragma unroll
    for (int e = 0; e < ROTATED; e++) {
        const bool exists = lane + 32 * e < d;
        const int level = exists ? codes_level(y[e], step, p.bits) : 0;
        levels[lane + 32 * e] = (uint8_t)level;
        products[e] = exists ? y[e] * codes_center(level, p.bits) : 0.0f;
    }
    __syncwarp();
    if (lane < p.num_words) {
        const int slots = 8 / p.bits; /* groups of four channels in a word */
        uint32_t word = 0;
        for (int k = 0; k < slots; k++) {
            word |= space->levels[lane * slots + k] << (k * p.bits);
        }
        words[lane * CODES_BLOCK] = word;
    }
    __syncwarp(); /* the levels have been read */
    return codes_factor(norm_squared, ordered_sum(products, d));
}

/* Grid: (any, KV heads). */
__global__ void __launch_bounds__(ENCODE_THREADS)
    encode_blocks(begin_stamp stamp, const __grid_constant__ encode_launch p)
{
    __shared__ encode_space space[ENCODE_WARPS];
    __shared__ uint32_t words[ENCODE_MAX_WORDS * CODES_BLOCK];
    __shared__ float factors[CODES_BLOCK];
    allow_next_kernel();
    wait_for_kernels(stamp);
    const int warp = threadIdx.x / 32;
    const int size = p.num_words * CODES_BLOCK;
    const uint16_t *keys = p.keys + blockIdx.y * p.key_capacity * p.pitch;
    const int64_t first_block = blockIdx.y * p.code_blocks;
    for (int64_t b = p.first / CODES_BLOCK + blockIdx.x; b < codes_blocks(p.count);
         b += gridDim.x) {
        const int skipped = (int)max(p.first - b * CODES_BLOCK, (int64_t)0); /* they keep theirs */
        __syncthreads(); /* the block before has been written */
        for (int t = skipped + warp; t < CODES_BLOCK; t += ENCODE_WARPS) {
            const int64_t i = b * CODES_BLOCK + t;
            float factor = 0.0f;
            if (i < p.count) {
                factor = encode(p, keys + (i - p.first) * p.pitch, &space[warp], words + t);
            } else if ((int)threadIdx.x % 32 < p.num_words) {
                words[threadIdx.x % 32 * CODES_BLOCK + t] = 0;
            }
            if (threadIdx.x % 32 == 0) {
                factors[t] = factor;
            }
        }
        __syncthreads();
        for (int i = threadIdx.x; i < size; i += ENCODE_THREADS) {
            if (i % CODES_BLOCK >= skipped) {
                p.words[(first_block + b) * size + i] = words[i];
            }
        }
        if ((int)threadIdx.x >= skipped && threadIdx.x < CODES_BLOCK) {
            p.factors[(first_block + b) * CODES_BLOCK + threadIdx.x] = factors[threadIdx.x];
        }
    }
}

} // namespace

void encode_keys_cuda(const struct encode_keys_args *a)
{
    const offloaded_kv *kv = a->kv;
    const key_codes *codes = a->codes;
    if (kv->dtype != MP_BF16 || codes->head_dim > MP_MAX_HEAD_DIM) {
        mp_panic("encode_keys: dtype %d, head_dim %d", (int)kv->dtype, codes->head_dim);
    }
    const int64_t blocks = codes_blocks(codes->count) - a->first / CODES_BLOCK;
    if (a->first >= codes->count) {
        return;
    }
    encode_launch p = {};
    p.keys = static_cast<const uint16_t *>(kv->k);
    p.rotation = a->rotation.data;
    p.words = codes->words;
    p.factors = codes->factors;
    p.key_capacity = kv->capacity;
    p.code_blocks = codes_blocks(codes->capacity);
    p.first = a->first;
    p.count = codes->count;
    p.head_dim = codes->head_dim;
    p.pitch = kv_pitch(kv);
    p.bits = codes->bits;
    p.num_words = codes_words(codes->head_dim, codes->bits);
    const int64_t most = 8 * (int64_t)cuda_multiprocessors();
    launch_overlapped(
        encode_blocks,
        dim3((unsigned)(blocks < most ? blocks : most), (unsigned)codes->num_kv_heads),
        ENCODE_THREADS, 0, p);
}
