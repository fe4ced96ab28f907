/* What the tests of output share, on the CPU and on the GPU. */
#ifndef MP_TESTS_OUTPUT_TEST_H
#define MP_TESTS_OUTPUT_TEST_H

#include "codelets/output/output.h"
#include "tests/unit/codelets/dense_test.h"

/* Parts of the attention output of some rows, and the weights of the projection. */
struct problem {
    struct mp_shape shape;
    int64_t rows;
    void *block;
    struct output_weights weights;
    struct attention_part parts[ATTENTION_MAX_PARTS]; /* o and lse are theirs */
    int num_parts;
    float *x; /* [rows][hidden] */
};

/* Part p's output, or log-sum-exp, to change. */
static inline float *part_o(const struct problem *p, int part)
{
    return (float *)p->parts[part].o;
}

static inline float *part_lse(const struct problem *p, int part)
{
    return (float *)p->parts[part].lse;
}

static inline size_t part_heads(const struct problem *p, int part)
{
    return (size_t)(p->rows * p->parts[part].num_heads);
}

/* The heads of a part: all, or, of `subsets`, other ones for each part but the first. */
static inline void part_choose_heads(struct attention_part *part, int i, int heads, bool subsets)
{
    part->first_head = subsets && i > 0 ? i % heads : 0;
    int rest = heads - part->first_head;
    part->num_heads = subsets && i > 0 && rest > 1 ? 1 + i % rest : rest;
}

static inline struct problem problem_create(int heads, int head_dim, int hidden, bool bias,
                                            int64_t rows, int num_parts, bool subsets)
{
    struct problem p = {.shape = {.hidden_size = hidden,
                                  .num_attention_heads = heads,
                                  .num_key_value_heads = 1,
                                  .head_dim = head_dim,
                                  .output_bias = bias},
                        .rows = rows,
                        .num_parts = num_parts};
    size_t width = (size_t)(heads * head_dim);
    p.block = alloc_block(output_weights_at(&p.shape, NULL, NULL));
    output_weights_at(&p.shape, p.block, &p.weights);
    fill_bf16(p.weights.o, width * (size_t)hidden, 0.1f, 1);
    fill_f32(p.weights.bias, (size_t)hidden, 0.0f, 0.5f, 2);
    for (int i = 0; i < num_parts; i++) {
        part_choose_heads(&p.parts[i], i, heads, subsets);
        size_t n = part_heads(&p, i);
        p.parts[i].o = random_floats(n * (size_t)head_dim, 1.0f, 100 + (uint64_t)i);
        p.parts[i].lse = random_floats(n, 3.0f, 200 + (uint64_t)i);
    }
    p.x = random_floats((size_t)(rows * hidden), 1.0f, 7);
    return p;
}

static inline void problem_free(struct problem *p)
{
    for (int i = 0; i < p->num_parts; i++) {
        free(part_o(p, i));
        free(part_lse(p, i));
    }
    free(p->x);
    mp_free(p->block);
}

/* Makes parts empty: some, all of a head, or none; what an empty one holds is NaN. */
static inline void problem_empty_parts(struct problem *p)
{
    for (int i = 0; i < p->num_parts; i++) {
        int heads = p->parts[i].num_heads;
        for (size_t at = 0; at < part_heads(p, i); at++) {
            size_t head = at / (size_t)heads * (size_t)p->shape.num_attention_heads +
                          at % (size_t)heads + (size_t)p->parts[i].first_head;
            if ((head + (size_t)i) % 3 == 0 || head % 7 == 0) {
                part_lse(p, i)[at] = -INFINITY;
                part_o(p, i)[at * (size_t)p->shape.head_dim] = NAN;
            }
        }
    }
}

/* Calls `check` with problems of 1, 2, 3 and 5 parts, of all heads and of some. */
static inline void check_parts(void (*check)(const struct problem *), int heads, int head_dim,
                               int hidden, bool bias, int64_t rows)
{
    const int counts[] = {1, 2, 3, 5};
    for (int i = 0; i < 8; i++) {
        struct problem p =
            problem_create(heads, head_dim, hidden, bias, rows, counts[i / 2], i % 2 == 1);
        check(&p);
        problem_free(&p);
    }
}

#endif
