/* Where code_select's CUDA kernels keep what they need of a row. For each KV head, one after the
 * other; tokens in multiples of CODES_BLOCK. */
#ifndef MP_CODELETS_CODE_SCRATCH_H
#define MP_CODELETS_CODE_SCRATCH_H

#include "codelets/common/attention/codes.h"

enum {
    CODE_SUM_TOKENS = 1024, /* of which the kernels in steps have one sum */
    CODE_PART_TOKENS = 512, /* that a CTA of the fused kernel has at least */
    CODE_MAX_PARTS = 512,   /* CTAs that share a KV head at most */
    CODE_QUERY_BYTES = 256, /* channels of a rounded query */
};

/* Of a query head. */
struct code_head {
    float scale;       /* codes_query_scale */
    int32_t query_sum; /* of its channels */
    uint32_t largest;  /* logit, in an order of integers */
    uint32_t reserved;
    uint64_t z;                     /* sum of codes_exp2 */
    int8_t query[CODE_QUERY_BYTES]; /* rotated and rounded; 0 beyond head_dim */
};

/* Of a KV head. */
struct code_kv_head {
    uint64_t total; /* as codes_next_scale's */
    int32_t large;  /* tokens with x >= 1 */
    float c;
};

struct code_scratch {
    struct code_head *heads;       /* [num_heads] */
    struct code_kv_head *kv_heads; /* [num_kv_heads] */
    uint64_t *sums;                /* [num_kv_heads][code_sums] */
    float *logits;                 /* [num_heads][stride]; then weights, x and inclusions */
    float *large;                  /* [num_kv_heads][stride] those x that are at least 1 */
    int64_t stride;                /* tokens */
};

CODES_FUNCTION int64_t code_sums(int64_t tokens)
{
    return (tokens + CODE_SUM_TOKENS - 1) / CODE_SUM_TOKENS;
}

/* CTAs that share a KV head of so many tokens, at most. */
CODES_FUNCTION int64_t code_parts(int64_t tokens)
{
    int64_t parts = (tokens + CODE_PART_TOKENS - 1) / CODE_PART_TOKENS;
    return parts < CODE_MAX_PARTS ? parts : (int64_t)CODE_MAX_PARTS;
}

CODES_FUNCTION int64_t code_round(int64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* The parts of a row's scratch; returns its bytes. */
CODES_FUNCTION int64_t code_scratch_of(void *at, int num_heads, int num_kv_heads, int64_t tokens,
                                       struct code_scratch *out)
{
    char *base = (char *)at;
    int64_t end = 0;
    out->stride = codes_blocks(tokens) * CODES_BLOCK;
    out->heads = (struct code_head *)(base + end);
    end += code_round(num_heads * (int64_t)sizeof(struct code_head));
    out->kv_heads = (struct code_kv_head *)(base + end);
    end += code_round(num_kv_heads * (int64_t)sizeof(struct code_kv_head));
    out->sums = (uint64_t *)(base + end);
    end += code_round(num_kv_heads * code_sums(tokens) * (int64_t)sizeof(uint64_t));
    out->logits = (float *)(base + end);
    end += num_heads * out->stride * (int64_t)sizeof(float);
    out->large = (float *)(base + end);
    return end + num_kv_heads * out->stride * (int64_t)sizeof(float);
}

CODES_FUNCTION int64_t code_scratch_bytes(int num_heads, int num_kv_heads, int64_t tokens)
{
    struct code_scratch unused;
    return code_scratch_of((void *)64, num_heads, num_kv_heads, tokens, &unused);
}

#endif
