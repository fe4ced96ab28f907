#include "codelets/code_select/code_select_cpu.h"
#include "codelets/common/scratch.h"

/* Sum over the channels of query * level. words: of the token, CODES_BLOCK apart. */
static int32_t dot(const struct key_codes *codes, const uint32_t *words,
                   const struct code_query *query)
{
    int per_word = 32 / codes->bits;
    int32_t sum = 0;
    for (int c = 0; c < codes->head_dim; c++) {
        int i = c % per_word;
        uint32_t word = words[c / per_word * CODES_BLOCK];
        uint32_t level = word >> (i % 4 * 8 + i / 4 * codes->bits) & ((1u << codes->bits) - 1);
        sum += query->channels[c] * (int32_t)level;
    }
    return sum;
}

/* Logits of all tokens of KV head h for a query head; returns the largest. */
static float score(const struct key_codes *codes, int h, const struct code_query *query, float *out)
{
    int64_t first = h * codes_blocks(codes->capacity);
    int num_words = codes_words(codes->head_dim, codes->bits);
    float max = -INFINITY;
    for (int64_t i = 0; i < codes->count; i++) {
        int64_t block = first + i / CODES_BLOCK;
        int64_t t = i % CODES_BLOCK;
        const uint32_t *words = codes->words + block * num_words * CODES_BLOCK + t;
        int32_t twice = codes_twice_dot(dot(codes, words, query), query->sum, codes->bits);
        out[i] = codes_logit(twice, query->scale, codes->factors[block * CODES_BLOCK + t]);
        max = fmaxf(max, out[i]);
    }
    return max;
}

/* Adds a query head's part to x; logits become its weights. */
static void add_head(const float *logits, float max, int64_t tokens, int group, int64_t samples,
                     float *x)
{
    uint64_t z = 0;
    for (int64_t i = 0; i < tokens; i++) {
        z += (uint64_t)codes_exp2(logits[i] - max);
    }
    float scale = codes_head_scale(z, group, samples);
    for (int64_t i = 0; i < tokens; i++) {
        x[i] = fmaf((float)codes_exp2(logits[i] - max), scale, x[i]);
    }
}

/* By x and c'; returns how many tokens. */
static int32_t draw(const float *x, int64_t tokens, float c, int32_t u, uint32_t *ids,
                    float *log_weights)
{
    uint64_t sum = 0;
    int32_t n = 0;
    for (int64_t i = 0; i < tokens; i++) {
        int32_t inclusion = codes_inclusion(x[i], c);
        sum += (uint64_t)inclusion;
        if (codes_selected(sum, inclusion, u)) {
            ids[n] = (uint32_t)i;
            log_weights[n] = codes_log_weight(inclusion);
            n++;
        }
    }
    return n;
}

/* Writes what KV head h of row r selects; returns how many tokens. */
static int32_t select_for_head(const struct code_select_args *a, int64_t r, int h)
{
    mp_scratch_reset();
    const struct key_codes *codes = a->codes[r];
    int64_t tokens = code_select_tokens(a, r);
    int64_t samples = a->samples[r];
    int group = a->num_heads / a->num_kv_heads;
    uint32_t *ids = a->ids[r] + h * a->ids_stride[r];
    float *log_weights = a->log_weights[r] + h * a->ids_stride[r];
    if (tokens <= samples) {
        return code_select_all(tokens, ids, log_weights);
    }
    float *logits = mp_scratch((size_t)tokens, sizeof *logits);
    float *x = mp_scratch((size_t)tokens, sizeof *x);
    for (int64_t i = 0; i < tokens; i++) {
        x[i] = codes_uniform(samples, tokens);
    }
    for (int g = 0; g < group; g++) {
        struct code_query query;
        float y[MP_MAX_HEAD_DIM];
        key_rotate(&a->rotation, code_select_query(a, r, h * group + g), y);
        code_query_make(y, a->head_dim, &query);
        float max = score(codes, h, &query, logits);
        add_head(logits, max, tokens, group, samples, x);
    }
    uint64_t total = 0;
    for (int64_t i = 0; i < tokens; i++) {
        total += x[i] >= 1.0f ? codes_large(x[i]) : (uint64_t)codes_small(x[i]);
    }
    float c = code_select_scale(x, tokens, samples, total);
    return draw(x, tokens, c, code_select_draw(a, r, h), ids, log_weights);
}

void code_select_ref(const struct code_select_args *a)
{
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t r = 0; r < a->rows; r++) {
        for (int h = 0; h < a->num_kv_heads; h++) {
            a->nnz[r * a->num_kv_heads + h] =
                code_select_tokens(a, r) > 0 ? select_for_head(a, r, h) : 0;
        }
    }
}
