/* code_select for the instruction set this is compiled for, in phases between which the team waits:
 * logits and their maxima; weights and their sums; x and its sum; sums of pi; what is selected. */
#include "codelets/code_select/code_dot_simd.h"
#include "codelets/code_select/code_select_plan.h"

#include <omp.h>

/* Tokens of a unit from a chunk on: those of whole chunks by vectors, the rest one by one. */
struct code_range {
    int64_t first;
    int64_t whole; /* end of the whole chunks */
    int64_t end;
};

static struct code_range range_of(const struct code_unit *u, const struct code_part *p)
{
    int64_t tokens = u->codes->count;
    int64_t whole = tokens / CODE_CHUNK * CODE_CHUNK;
    int64_t end = p->end * CODE_CHUNK;
    return (struct code_range){.first = p->first * CODE_CHUNK,
                               .whole = end < whole ? end : whole,
                               .end = end < tokens ? end : tokens};
}

/* ---- logits ---- */

/* The query heads of a group, as code_dot takes them. */
struct code_queries {
    int32_t *channels; /* [words * 8 / bits][group] */
    int32_t *sums;     /* [group] */
    float *scales;     /* [group] */
    int group;
};

/* key_rotate; where R is a matrix, a lane is a row of it. */
static void rotate_query(const struct key_rotation *r, const float *x, float *y)
{
    int d = r->head_dim;
    if (key_rotation_is_hadamard(d)) {
        key_rotate(r, x, y);
        return;
    }
    int j = 0;
    for (; j + VF_LANES <= d; j += VF_LANES) {
        vf sum = vf_zero();
        for (int c = 0; c < d; c++) {
            sum = vf_fma(vf_load_apart(r->data + j * d + c, d), vf_set1(x[c]), sum);
        }
        vf_store(y + j, sum);
    }
    for (; j < d; j++) {
        y[j] = 0.0f;
        for (int c = 0; c < d; c++) {
            y[j] = fmaf(r->data[j * d + c], x[c], y[j]);
        }
    }
}

static void queries_make(const struct code_select_args *a, const struct code_unit *u,
                         struct code_queries *out)
{
    int quads = codes_words(a->head_dim, u->codes->bits) * (8 / u->codes->bits);
    for (int g = 0; g < out->group; g++) {
        struct code_query query;
        float y[MP_MAX_HEAD_DIM];
        rotate_query(&a->rotation, code_select_query(a, u->row, u->kv_head * out->group + g), y);
        code_query_make(y, a->head_dim, &query);
        for (int i = 0; i < quads; i++) {
            memcpy(&out->channels[i * out->group + g], query.channels + 4 * i, 4);
        }
        out->sums[g] = query.sum;
        out->scales[g] = query.scale;
    }
}

/* Logits of `heads` heads from the g-th on of tokens [first, end), in whole blocks, to rows of the
 * unit; their maxima to max. */
CODE_INLINE void score_heads(const struct code_unit *u, const struct code_queries *q, int g,
                             int heads, int bits, int64_t first, int64_t end, float *max)
{
    const struct key_codes *codes = u->codes;
    int num_words = codes_words(codes->head_dim, bits);
    int64_t head = u->kv_head * codes_blocks(codes->capacity);
    vf most[4];
    for (int k = 0; k < heads; k++) {
        most[k] = vf_set1(-INFINITY);
    }
    for (int64_t i = first; i < end; i += CODE_TILE) {
        int64_t block = head + i / CODES_BLOCK;
        int64_t in_block = i % CODES_BLOCK;
        const uint32_t *words = codes->words + block * num_words * CODES_BLOCK + in_block;
        const float *factors = codes->factors + block * CODES_BLOCK + in_block;
        vi sums[4][2];
        code_dot(words, num_words, bits, heads, q->channels + g, q->group, sums);
        for (int k = 0; k < heads; k++) {
            vi shift = vi_set1(((1 << bits) - 1) * q->sums[g + k]);
            for (int v = 0; v < 2; v++) {
                vi twice = vi_sub(vi_add(sums[k][v], sums[k][v]), shift);
                vf logit = vf_mul(vf_mul(vi_to_float(twice), vf_set1(q->scales[g + k])),
                                  vf_load(factors + v * VF_LANES));
                most[k] = vf_max(logit, most[k]);
                vf_store(u->logits + (g + k) * u->stride + i + v * VF_LANES, logit);
            }
        }
    }
    for (int k = 0; k < heads; k++) {
        max[g + k] = vf_reduce_max(most[k]);
    }
}

/* Of all heads: as many at a time as there are registers for. */
CODE_INLINE void score_bits(const struct code_unit *u, const struct code_queries *q, int bits,
                            int64_t first, int64_t end, float *max)
{
    int g = 0;
    for (; g + 4 <= q->group; g += 4) {
        score_heads(u, q, g, 4, bits, first, end, max);
    }
    if (g + 2 <= q->group) {
        score_heads(u, q, g, 2, bits, first, end, max);
        g += 2;
    }
    if (g < q->group) {
        score_heads(u, q, g, 1, bits, first, end, max);
    }
}

static void score(const struct code_unit *u, const struct code_queries *q, int64_t first,
                  int64_t end, float *max)
{
    if (u->codes->bits == 1) {
        score_bits(u, q, 1, first, end, max);
    } else if (u->codes->bits == 2) {
        score_bits(u, q, 2, first, end, max);
    } else {
        score_bits(u, q, 4, first, end, max);
    }
}

static void score_part(const struct code_select_args *a, const struct code_unit *u,
                       struct code_part *p, int group)
{
    enum { PIECE = 512 }; /* tokens whose codes stay in the nearest cache for all heads */
    int32_t channels[MP_MAX_HEAD_DIM / 4 * group];
    int32_t sums[group];
    float scales[group];
    float max[group];
    struct code_queries q = {channels, sums, scales, group};
    struct code_range range = range_of(u, p);
    queries_make(a, u, &q);
    for (int g = 0; g < group; g++) {
        p->max[g] = -INFINITY;
    }
    for (int64_t i = range.first; i < range.whole; i += PIECE) {
        score(u, &q, i, i + PIECE < range.whole ? i + PIECE : range.whole, max);
        for (int g = 0; g < group; g++) {
            p->max[g] = fmaxf(p->max[g], max[g]);
        }
    }
    if (range.whole < range.end) {
        score(u, &q, range.whole, u->stride, max); /* includes tokens beyond the last */
        for (int g = 0; g < group; g++) {
            for (int64_t i = range.whole; i < range.end; i++) {
                p->max[g] = fmaxf(p->max[g], u->logits[g * u->stride + i]);
            }
        }
    }
}

/* ---- weights ---- */

/* codes_exp2: the polynomial times 2^30, which rounds as it does; for x <= 0 it is at most that. */
CODE_INLINE vi exp2_fixed(vf x)
{
    const float one = (float)CODES_ONE;
    x = vf_max(x, vf_set1(-31.0f));
    vf whole = vf_round(x);
    vf r = vf_sub(x, whole);
    vf p = vf_set1(1.5403530e-4f * one);
    p = vf_fma(p, r, vf_set1(1.3333558e-3f * one));
    p = vf_fma(p, r, vf_set1(9.6181291e-3f * one));
    p = vf_fma(p, r, vf_set1(5.5504109e-2f * one));
    p = vf_fma(p, r, vf_set1(2.4022651e-1f * one));
    p = vf_fma(p, r, vf_set1(6.9314718e-1f * one));
    p = vf_fma(p, r, vf_set1(one));
    return vf_truncate(vf_scale2(p, whole));
}

/* Makes one head's logits its weights; returns their sum. */
static uint64_t weigh(float *row, struct code_range range, float max)
{
    int32_t *weights = (int32_t *)(void *)row;
    vf shift = vf_set1(max);
    vi sums = vi_zero();
    for (int64_t i = range.first; i < range.whole; i += CODE_TILE) {
        vi a = exp2_fixed(vf_sub(vf_load(row + i), shift));
        vi b = exp2_fixed(vf_sub(vf_load(row + i + VF_LANES), shift));
        sums = vi_add_wide(sums, vi_add(a, b)); /* each at most 2^30 */
        vi_store(weights + i, a);
        vi_store(weights + i + VF_LANES, b);
    }
    uint64_t z = vi_sum_wide(sums);
    for (int64_t i = range.whole; i < range.end; i++) {
        int32_t w = codes_exp2(row[i] - max);
        memcpy(row + i, &w, sizeof w);
        z += (uint64_t)w;
    }
    return z;
}

static void weigh_part(const struct code_plan *plan, const struct code_unit *u, struct code_part *p)
{
    struct code_range range = range_of(u, p);
    for (int g = 0; g < plan->group; g++) {
        float max = -INFINITY;
        for (int i = 0; i < u->num_parts; i++) {
            max = fmaxf(max, plan->parts[u->first_part + i].max[g]);
        }
        p->z[g] = weigh(u->logits + g * u->stride, range, max);
    }
}

/* ---- x ---- */

/* One x that is at least 1 joins the unit's list; returns it as a fixed-point number. */
static uint64_t add_large(struct code_unit *u, float x)
{
    int64_t at;
#pragma omp atomic capture
    at = u->num_large++;
    u->large[at] = x;
    return codes_large(x);
}

/* x of a whole chunk, in place of the first head's weights. Returns their sum, but for what it adds
 * to *sums. */
CODE_INLINE uint64_t add_chunk(struct code_unit *u, int64_t i, const float *scales, int group,
                               float uniform, vi *sums)
{
    enum { N = CODE_CHUNK / VF_LANES };
    vf x[N];
    uint64_t total = 0;
    for (int v = 0; v < N; v++) {
        x[v] = vf_set1(uniform);
    }
    for (int g = 0; g < group; g++) {
        const float *weights = u->logits + g * u->stride + i;
        for (int v = 0; v < N; v++) {
            vf w = vi_to_float(vi_load(weights + v * VF_LANES));
            x[v] = vf_fma(w, vf_set1(scales[g]), x[v]);
        }
    }
    for (int v = 0; v < N; v++) {
        float *out = u->logits + i + v * VF_LANES;
        uint32_t large;
        vf small = vf_below_one(x[v], &large);
        *sums = vi_add_wide(*sums, vf_truncate(vf_mul(small, vf_set1((float)CODES_ONE))));
        vf_store(out, x[v]);
        for (; large != 0; large &= large - 1) {
            total += add_large(u, out[__builtin_ctz(large)]);
        }
    }
    return total;
}

static void add_part(const struct code_plan *plan, struct code_unit *u, struct code_part *p)
{
    int group = plan->group;
    float scales[group];
    float uniform = codes_uniform(u->samples, u->codes->count);
    struct code_range range = range_of(u, p);
    vi sums = vi_zero();
    uint64_t total = 0;
    for (int g = 0; g < group; g++) {
        uint64_t z = 0;
        for (int i = 0; i < u->num_parts; i++) {
            z += plan->parts[u->first_part + i].z[g];
        }
        scales[g] = codes_head_scale(z, group, u->samples);
    }
    for (int64_t i = range.first; i < range.whole; i += CODE_CHUNK) {
        total += add_chunk(u, i, scales, group, uniform, &sums);
    }
    for (int64_t i = range.whole; i < range.end; i++) {
        float x = uniform;
        for (int g = 0; g < group; g++) {
            int32_t w;
            memcpy(&w, u->logits + g * u->stride + i, sizeof w);
            x = fmaf((float)w, scales[g], x);
        }
        u->logits[i] = x;
        total += x >= 1.0f ? add_large(u, x) : (uint64_t)codes_small(x);
    }
    p->total = total + vi_sum_wide(sums);
}

/* ---- pi ---- */

/* codes_inclusion */
CODE_INLINE vi inclusion(const float *x, vf c)
{
    vf value = vf_mul(vf_mul(c, vf_load(x)), vf_set1((float)CODES_ONE));
    return vi_max(vf_truncate(vf_min(value, vf_set1((float)CODES_ONE))), vi_set1(1));
}

static float scale_of(const struct code_plan *plan, const struct code_unit *u)
{
    uint64_t total = 0;
    for (int i = 0; i < u->num_parts; i++) {
        total += plan->parts[u->first_part + i].total;
    }
    return code_select_scale(u->large, u->num_large, u->samples, total);
}

/* Adds pi up in each chunk. */
static void include_part(const struct code_plan *plan, const struct code_unit *u,
                         struct code_part *p)
{
    struct code_range range = range_of(u, p);
    p->scale = scale_of(plan, u);
    p->inclusion = 0;
    vf c = vf_set1(p->scale);
    for (int64_t i = range.first; i < range.whole; i += CODE_CHUNK) {
        vi sums = vi_zero();
        for (int v = 0; v < CODE_CHUNK; v += 2 * VF_LANES) { /* two of at most 2^30 */
            const float *x = u->logits + i + v;
            sums = vi_add_wide(sums, vi_add(inclusion(x, c), inclusion(x + VF_LANES, c)));
        }
        u->sums[i / CODE_CHUNK] = vi_sum_wide(sums);
        p->inclusion += u->sums[i / CODE_CHUNK];
    }
    if (range.whole < range.end) {
        uint64_t sum = 0;
        for (int64_t i = range.whole; i < range.end; i++) {
            sum += (uint64_t)codes_inclusion(u->logits[i], p->scale);
        }
        u->sums[range.whole / CODE_CHUNK] = sum;
        p->inclusion += sum;
    }
}

/* ---- what is selected ---- */

/* Writes the tokens of a chunk, from i on, that are selected. at: as codes_selected has it, of the
 * tokens before the chunk: its upper bits say how many of those are selected. end: that of the
 * chunk. Every token is written, and the next one over it unless it is selected: which they are
 * cannot be predicted. */
static void draw_chunk(const struct code_unit *u, int64_t i, float scale, uint64_t at, uint64_t end,
                       uint32_t *ids, float *log_weights)
{
    uint64_t first = at >> CODES_ONE_BITS;
    uint64_t last = end >> CODES_ONE_BITS;
    int32_t pi;
    while (at >> CODES_ONE_BITS != last) {
        pi = codes_inclusion(u->logits[i], scale);
        ids[at >> CODES_ONE_BITS] = (uint32_t)i++;
        memcpy(log_weights + (at >> CODES_ONE_BITS), &pi, sizeof pi);
        at += (uint64_t)pi;
    }
    for (uint64_t j = first; j < last; j++) {
        memcpy(&pi, log_weights + j, sizeof pi);
        log_weights[j] = codes_log_weight(pi);
    }
}

static void draw_part(const struct code_select_args *a, const struct code_plan *plan,
                      const struct code_unit *u, const struct code_part *p)
{
    uint32_t *ids = a->ids[u->row] + u->kv_head * a->ids_stride[u->row];
    float *log_weights = a->log_weights[u->row] + u->kv_head * a->ids_stride[u->row];
    uint64_t at = (uint64_t)(CODES_ONE - 1 - code_select_draw(a, u->row, u->kv_head));
    for (const struct code_part *q = plan->parts + u->first_part; q < p; q++) {
        at += q->inclusion;
    }
    for (int64_t chunk = p->first; chunk < p->end; chunk++) {
        uint64_t end = at + u->sums[chunk];
        draw_chunk(u, chunk * CODE_CHUNK, p->scale, at, end, ids, log_weights);
        at = end;
    }
    if (p->end == u->chunks) {
        a->nnz[u->row * a->num_kv_heads + u->kv_head] = (int32_t)(at >> CODES_ONE_BITS);
    }
}

/* ---- all of it ---- */

/* The calling thread's part of a wave. */
static void run_wave(const struct code_select_args *a, const struct code_plan *plan,
                     const struct code_wave *w)
{
    int first = w->first_part[omp_get_thread_num()];
    int end = w->first_part[omp_get_thread_num() + 1];
    struct code_part *parts = plan->parts;
    for (int i = first; i < end; i++) {
        score_part(a, &plan->units[parts[i].unit], &parts[i], plan->group);
    }
#pragma omp barrier
    for (int i = first; i < end; i++) {
        weigh_part(plan, &plan->units[parts[i].unit], &parts[i]);
    }
#pragma omp barrier
    for (int i = first; i < end; i++) {
        add_part(plan, &plan->units[parts[i].unit], &parts[i]);
    }
#pragma omp barrier
    for (int i = first; i < end; i++) {
        include_part(plan, &plan->units[parts[i].unit], &parts[i]);
    }
#pragma omp barrier
    for (int i = first; i < end; i++) {
        draw_part(a, plan, &plan->units[parts[i].unit], &parts[i]);
    }
#pragma omp barrier
}

/* What has no more tokens than samples. */
static void select_all(const struct code_select_args *a, int64_t i)
{
    int64_t r = i / a->num_kv_heads;
    int64_t at = i % a->num_kv_heads * a->ids_stride[r];
    int64_t tokens = code_select_tokens(a, r);
    if (tokens == 0) {
        a->nnz[i] = 0;
    } else if (tokens <= a->samples[r]) {
        a->nnz[i] = code_select_all(tokens, a->ids[r] + at, a->log_weights[r] + at);
    }
}

void VF_NAME(code_select)(const struct code_select_args *a)
{
    struct code_plan plan;
#pragma omp parallel
    {
#pragma omp master
        plan = code_plan_make(a, omp_get_num_threads());
#pragma omp for
        for (int64_t i = 0; i < a->rows * a->num_kv_heads; i++) {
            select_all(a, i);
        }
        for (int w = 0; w < plan.num_waves; w++) {
            run_wave(a, &plan, &plan.waves[w]);
        }
    }
}
