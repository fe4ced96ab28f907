/* What the tests of output share, on the CPU and on the GPU. */
#ifndef MP_TESTS_OUTPUT_TEST_H
#define MP_TESTS_OUTPUT_TEST_H

#include "codelets/output/output.h"
#include "tests/unit/codelets/dense_test.h"

/* Both parts of the attention output of some rows, and the weights of the projection. */
struct problem {
    struct mp_shape shape;
    int64_t rows;
    void *block;
    struct output_weights weights;
    float *o[2];   /* static, sampled: [rows][heads][head_dim] */
    float *lse[2]; /* [rows][heads] */
    float *x;      /* [rows][hidden] */
};

static inline struct problem problem_create(int heads, int head_dim, int hidden, bool bias,
                                            int64_t rows)
{
    struct problem p = {.shape = {.hidden_size = hidden,
                                  .num_attention_heads = heads,
                                  .num_key_value_heads = 1,
                                  .head_dim = head_dim,
                                  .output_bias = bias},
                        .rows = rows};
    size_t width = (size_t)(heads * head_dim);
    p.block = alloc_block(output_weights_at(&p.shape, NULL, NULL));
    output_weights_at(&p.shape, p.block, &p.weights);
    fill_bf16(p.weights.o, width * (size_t)hidden, 0.1f, 1);
    fill_f32(p.weights.bias, (size_t)hidden, 0.0f, 0.5f, 2);
    for (int i = 0; i < 2; i++) {
        p.o[i] = random_floats((size_t)rows * width, 1.0f, 3 + (uint64_t)i);
        p.lse[i] = random_floats((size_t)(rows * heads), 3.0f, 5 + (uint64_t)i);
    }
    p.x = random_floats((size_t)(rows * hidden), 1.0f, 7);
    return p;
}

static inline void problem_free(struct problem *p)
{
    for (int i = 0; i < 2; i++) {
        free(p->o[i]);
        free(p->lse[i]);
    }
    free(p->x);
    mp_free(p->block);
}

#endif
