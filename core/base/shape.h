/* The numbers that define a decoder-only transformer, free of any architecture's name.
 * models/ fills it from a Hugging Face config; codelets read it. */
#ifndef MP_CORE_SHAPE_H
#define MP_CORE_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

enum { MP_MAX_HEAD_DIM = 256 };

struct mp_shape {
    int hidden_size;         /* width of the residual stream */
    int num_hidden_layers;   /* decoder layers */
    int num_attention_heads; /* query heads */
    int num_key_value_heads; /* KV heads; divides num_attention_heads */
    int head_dim;            /* elements per head, even, <= MP_MAX_HEAD_DIM */
    int intermediate_size;   /* FFN width */
    int vocab_size;          /* rows of the embedding and of the LM head */
    float rms_norm_eps;      /* added to the mean square of the residual stream */
    float qk_norm_eps;       /* likewise, of a head's queries and keys */
    bool qkv_bias;           /* bias on the Q, K and V projections */
    bool output_bias;        /* bias on the attention output projection */
    bool mlp_bias;           /* bias on gate, up and down */
    bool qk_norm;            /* per-head RMSNorm on q and k before RoPE */
    bool tied_embeddings;    /* the LM head is the embedding matrix */
};

/* Query heads that share one KV head. */
static inline int mp_shape_group(const struct mp_shape *s)
{
    return s->num_attention_heads / s->num_key_value_heads;
}

/* Rows of the fused QKV matrix: all query heads, then all key heads, then all value heads. */
static inline int mp_shape_qkv_rows(const struct mp_shape *s)
{
    return (s->num_attention_heads + 2 * s->num_key_value_heads) * s->head_dim;
}

/* Width of the attention output before its projection. */
static inline int mp_shape_q_width(const struct mp_shape *s)
{
    return s->num_attention_heads * s->head_dim;
}

/* Rows [first, first + count) of an array. */
struct mp_rows {
    int64_t first;
    int64_t count;
};

#endif
