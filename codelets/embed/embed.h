/* embed: token ids -> residual stream. */
#ifndef MP_CODELETS_EMBED_H
#define MP_CODELETS_EMBED_H

#include <stdint.h>

struct embed_args {
    const int32_t *ids;    /* [rows], each in [0, vocab) */
    const uint16_t *table; /* [vocab][hidden_size], bf16 */
    float *x;              /* out [rows][hidden_size] */
    int64_t rows;
    int hidden_size;
};

/* What every variant of the op is. */
typedef void embed_kernel(const struct embed_args *);

/* x[r] = table[ids[r]], widened to float32. One variant: a copy. */
void embed_ref(const struct embed_args *a);
/* On the GPU. */
void embed_cuda(const struct embed_args *a);

/* Task. Buffers: 0 ids R, 1 table R, 2 x W. */
struct embed_task {
    int64_t rows;
    int hidden_size;
};

extern struct starpu_codelet embed_codelet;

#endif
