/* key_select: queries and offloaded keys -> ids, by reading every key. Two ways:
 *   largest: the tokens with the largest q.k;
 *   drawn:   tokens drawn with replacement from the softmax of z = q.k / sqrt(d) over all offloaded
 *            tokens. A token that is drawn c times out of m gets the log weight
 *            ln(c / m) + ln Z - z, where Z is the sum of e^z over all of them, so that the sums of
 *            e^(z + weight) and e^(z + weight) v over the selected tokens have Z and the exact sum
 *            of e^z v as their means.
 * What is drawn is the same on every device: see key_draw.h. */
#ifndef MP_CODELETS_KEY_SELECT_H
#define MP_CODELETS_KEY_SELECT_H

#include "codelets/common/attention/kv.h"
#include "core/base/shape.h"

struct mp_buffer;
struct mp_shard;
struct mp_submit;

enum key_select_mode { KEY_SELECT_LARGEST, KEY_SELECT_DRAWN };

struct key_select_args {
    enum key_select_mode mode;
    const float *q;                       /* [rows][num_heads][head_dim] */
    const struct offloaded_kv *const *kv; /* [rows]; NULL or count 0: nothing is selected */
    const int64_t *budget;                /* [rows] >= 1; LARGEST: tokens that a head selects, all
                                             there are if these are fewer; DRAWN: draws */
    const uint64_t *seed;                 /* [rows] of the draws: head h of a row draws from
                                             generator (seed, first_head + h). LARGEST: not read */
    uint32_t *const *ids;                 /* [rows] -> [num_heads][ids_stride[row]], out: selected
                                             tokens, ascending, each once */
    float *const *log_weights;            /* DRAWN: the same, out; LARGEST: not written */
    const int64_t *ids_stride;            /* [rows] room per head, >= the lesser of budget and
                                             kv->count */
    void *const *scratch;                 /* [rows] of key_select_scratch bytes, 64-byte aligned;
                                             the reference does without */
    int32_t *nnz;                         /* out [rows][num_heads]: tokens selected */
    int64_t rows;
    int num_heads;  /* query heads; consecutive num_heads / num_kv_heads share a KV head */
    int first_head; /* number of the first one in its layer */
    int head_dim;
    float scale; /* DRAWN: 1 / sqrt(head_dim); LARGEST: not read */
};

/* What every variant of the op is. */
typedef void key_select_kernel(const struct key_select_args *);

/* Of tokens with equal q.k the lower one goes first. q.k is added as
 * codelets/common/score/score.h says. */
void key_select_ref(const struct key_select_args *a);
/* The same ids; weights may be rounded differently. Keys are MP_BF16, head_dim a multiple of 8
 * (AVX2) or 16 (AVX-512). */
void key_select_avx2(const struct key_select_args *a);
void key_select_avx512(const struct key_select_args *a);

/* The same ids; weights may be rounded differently. Keys are MP_BF16, 16-byte aligned, head_dim a
 * multiple of 8; keys, ids, log_weights and scratch in device memory, q and nnz there or in pinned
 * host memory. Needs no workspace. */
void key_select_cuda(const struct key_select_args *a);

/* Bytes of scratch that a row of so many offloaded tokens needs. */
size_t key_select_scratch(enum key_select_mode mode, int num_heads, int64_t tokens);

/* A request's keys and where what is selected of them goes. */
struct key_select_row {
    const struct mp_buffer *kv;          /* wraps the struct offloaded_kv of the shard's KV heads */
    int64_t tokens;                      /* in it */
    const struct mp_buffer *ids;         /* out [query heads of the shard][room] u32 */
    const struct mp_buffer *log_weights; /* DRAWN: out, the same of f32; LARGEST: not used */
    int64_t room;                        /* tokens */
    const struct mp_buffer *scratch;     /* for one task at a time */
    int64_t budget;                      /* as in the args */
    uint64_t seed;                       /* as in the args */
};

/* The selection for a shard's query heads: q [rows][heads of the shard][head_dim] f32 -> ids,
 * log_weights and nnz [rows][heads of the shard] i32. */
void key_select_insert(struct mp_submit *sub, const struct mp_shape *shape,
                       const struct mp_shard *shard, enum key_select_mode mode,
                       const struct mp_buffer *q, const struct key_select_row *list, int64_t rows,
                       const struct mp_buffer *nnz);

#endif
