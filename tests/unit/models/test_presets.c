/* Models without a directory: the shapes are the published ones, and the listing of their weights
 * covers the caller's blocks. */
#include "codelets/ffn/ffn.h"
#include "codelets/output/output.h"
#include "codelets/projection/projection.h"
#include "core/base/memory.h"
#include "models/hf_config.h"
#include "models/model.h"
#include "models/presets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

/* Parameters as counted in the published weights; they pin every width down. */
static const struct published {
    const char *name;
    int64_t parameters;
    const char *description;
    int64_t max_positions;
    double rope_theta;
    double rope_factor; /* 0: default rope */
    float rms_norm_eps;
} PUBLISHED[] = {
    {"llama-3.1-8b", 8030261248,
     "llama-3.1-8b, 32 layers, 32/8 heads of 128, 8.0 B parameters, random weights", 131072, 5e5,
     8.0, 1e-5F},
    {"llama-3.1-70b", 70553706496,
     "llama-3.1-70b, 80 layers, 64/8 heads of 128, 70.6 B parameters, random weights", 131072, 5e5,
     8.0, 1e-5F},
    {"llama-3.1-405b", 405853388800,
     "llama-3.1-405b, 126 layers, 128/8 heads of 128, 405.9 B parameters, random weights", 131072,
     5e5, 8.0, 1e-5F},
    {"llama-3.2-1b", 1235814400,
     "llama-3.2-1b, 16 layers, 32/8 heads of 64, 1.2 B parameters, random weights", 131072, 5e5,
     32.0, 1e-5F},
    {"llama-3.2-3b", 3212749824,
     "llama-3.2-3b, 28 layers, 24/8 heads of 128, 3.2 B parameters, random weights", 131072, 5e5,
     32.0, 1e-5F},
    {"mistral-7b", 7248023552,
     "mistral-7b, 32 layers, 32/8 heads of 128, 7.2 B parameters, random weights", 32768, 1e6, 0.0,
     1e-5F},
    {"qwen2.5-7b", 7615616512,
     "qwen2.5-7b, 28 layers, 28/4 heads of 128, 7.6 B parameters, random weights", 131072, 1e6, 0.0,
     1e-6F},
    {"qwen3-8b", 8190735360,
     "qwen3-8b, 36 layers, 32/8 heads of 128, 8.2 B parameters, random weights", 40960, 1e6, 0.0,
     1e-6F},
};

enum { NUM_PUBLISHED = sizeof PUBLISHED / sizeof PUBLISHED[0] };

static struct mp_model *must_open(const char *name, int num_layers)
{
    struct mp_model *m;
    struct mp_error err;
    if (mp_model_open_shape(name, num_layers, &m, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return m;
}

/* ---- shapes ---- */

static void test_published(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_PUBLISHED; i++) {
        const struct published *p = &PUBLISHED[i];
        struct mp_model *m = must_open(p->name, 0);
        assert_string_equal(mp_model_description(m), p->description);
        assert_false(mp_model_has_weights(m));
        assert_int_equal(mp_model_max_positions(m), MP_SHAPE_POSITIONS);
        assert_float_equal(mp_model_shape(m)->rms_norm_eps, p->rms_norm_eps, 0.0F);
        int count;
        mp_model_eos(m, &count);
        assert_int_equal(count, 0);
        mp_model_close(m);
    }
}

static void test_rope(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_PUBLISHED; i++) {
        const struct published *p = &PUBLISHED[i];
        const char *text;
        struct mp_hf_config c;
        struct mp_error err;
        assert_int_equal(mp_preset_find(p->name, &text, &err), 0);
        assert_int_equal(mp_hf_config_parse(p->name, text, &c, &err), 0);
        assert_int_equal(c.max_positions, p->max_positions);
        assert_float_equal(c.rope.theta, p->rope_theta, 0.0);
        assert_int_equal(c.rope.type, p->rope_factor > 0.0 ? MP_ROPE_LLAMA3 : MP_ROPE_DEFAULT);
        if (p->rope_factor > 0.0) {
            assert_float_equal(c.rope.factor, p->rope_factor, 0.0);
            assert_float_equal(c.rope.low_freq_factor, 1.0, 0.0);
            assert_float_equal(c.rope.high_freq_factor, 4.0, 0.0);
            assert_int_equal(c.rope.original_max_positions, 8192);
        }
    }
}

static void test_exact_shapes(void **state)
{
    (void)state;
    struct mp_model *m = must_open("llama-3.2-3b", 0);
    const struct mp_shape *s = mp_model_shape(m);
    assert_int_equal(s->hidden_size, 3072);
    assert_int_equal(s->num_hidden_layers, 28);
    assert_int_equal(s->num_attention_heads, 24);
    assert_int_equal(s->num_key_value_heads, 8);
    assert_int_equal(s->head_dim, 128);
    assert_int_equal(s->intermediate_size, 8192);
    assert_int_equal(s->vocab_size, 128256);
    assert_true(s->tied_embeddings);
    assert_false(s->qkv_bias || s->output_bias || s->mlp_bias || s->qk_norm);
    mp_model_close(m);

    m = must_open("qwen2.5-7b", 0);
    s = mp_model_shape(m);
    assert_int_equal(s->hidden_size, 3584);
    assert_int_equal(s->num_hidden_layers, 28);
    assert_int_equal(s->num_attention_heads, 28);
    assert_int_equal(s->num_key_value_heads, 4);
    assert_int_equal(s->head_dim, 128);
    assert_int_equal(s->intermediate_size, 18944);
    assert_int_equal(s->vocab_size, 152064);
    assert_true(s->qkv_bias);
    assert_false(s->tied_embeddings || s->output_bias || s->mlp_bias || s->qk_norm);
    mp_model_close(m);
}

static void test_layers(void **state)
{
    (void)state;
    struct mp_model *m = must_open("llama-3.1-70b", 8);
    assert_int_equal(mp_model_shape(m)->num_hidden_layers, 8);
    assert_string_equal(
        mp_model_description(m),
        "llama-3.1-70b, 8 layers, 64/8 heads of 128, 8.9 B parameters, random weights");
    mp_model_close(m);
    m = must_open("llama-3.2-1b", 4096);
    assert_int_equal(mp_model_shape(m)->num_hidden_layers, 4096);
    mp_model_close(m);
}

static void must_refuse(const char *name, int num_layers, const char *message)
{
    struct mp_model *m = NULL;
    struct mp_error err;
    assert_int_equal(mp_model_open_shape(name, num_layers, &m, &err), MP_ERR_USAGE);
    assert_null(m);
    assert_string_equal(err.message, message);
}

#define KNOWN                                                                                      \
    "; known shapes: llama-3.1-8b, llama-3.1-70b, llama-3.1-405b, llama-3.2-1b, llama-3.2-3b, "    \
    "mistral-7b, qwen2.5-7b, qwen3-8b"

static void test_refused(void **state)
{
    (void)state;
    must_refuse("llama3.1-70b", 0, "unknown shape \"llama3.1-70b\" (nearest: llama-3.1-70b)" KNOWN);
    must_refuse("Qwen3-8B", 2, "unknown shape \"Qwen3-8B\" (nearest: qwen3-8b)" KNOWN);
    must_refuse("x", 0, "unknown shape \"x\"" KNOWN);
    must_refuse("", 0, "unknown shape \"\"" KNOWN);
    must_refuse("qwen3-8b", -1,
                "shape qwen3-8b: expected 1 to 4096 layers, or 0 for the model's own, found -1");
    must_refuse("qwen3-8b", 4097,
                "shape qwen3-8b: expected 1 to 4096 layers, or 0 for the model's own, found 4097");
}

static void test_text_errors(void **state)
{
    (void)state;
    struct mp_hf_config c;
    struct mp_error err;
    assert_int_equal(mp_hf_config_parse("shape a", "{\"model_type\": 1}", &c, &err), MP_ERR_FORMAT);
    assert_string_equal(err.message, "shape a: model_type: expected a string, found 1");
    assert_int_equal(mp_hf_config_parse("shape a", "{", &c, &err), MP_ERR_FORMAT);
    assert_int_equal(strncmp(err.message, "shape a:1", strlen("shape a:1")), 0);
}

/* ---- weights ---- */

/* Every block of a model one after the other, in memory that must not be touched. */
struct layout {
    struct mp_weight_blocks blocks;
    char *base;
    size_t bytes;
    struct {
        char *base;
        size_t bytes;
    } * parts; /* [num_parts] in the order of their addresses */
    size_t num_parts;
};

static void *place(struct layout *l, size_t bytes)
{
    char *base = l->num_parts == 0
                     ? l->base
                     : l->parts[l->num_parts - 1].base + l->parts[l->num_parts - 1].bytes;
    l->parts[l->num_parts].base = base;
    l->parts[l->num_parts].bytes = bytes;
    l->num_parts++;
    assert_true(base + bytes <= l->base + l->bytes);
    return base;
}

static struct layout layout_new(const struct mp_shape *s)
{
    size_t layers = (size_t)s->num_hidden_layers;
    size_t table = (size_t)s->vocab_size * (size_t)s->hidden_size * sizeof(uint16_t);
    size_t norm = (size_t)s->hidden_size * sizeof(float);
    size_t projection = projection_weights_at(s, NULL, NULL);
    size_t output = output_weights_at(s, NULL, NULL);
    size_t ffn = ffn_weights_at(s, NULL, NULL);
    struct layout l = {.bytes = 2 * table + norm + layers * (projection + output + ffn)};
    l.base = mmap(NULL, l.bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(l.base != MAP_FAILED);
    l.parts = mp_xcalloc(3 + 3 * layers, sizeof *l.parts);
    l.blocks.embed = place(&l, table);
    l.blocks.lm_head = s->tied_embeddings ? NULL : place(&l, table);
    l.blocks.final_norm = place(&l, norm);
    l.blocks.projection = mp_xcalloc(layers, sizeof(void *));
    l.blocks.output = mp_xcalloc(layers, sizeof(void *));
    l.blocks.ffn = mp_xcalloc(layers, sizeof(void *));
    for (size_t i = 0; i < layers; i++) {
        l.blocks.projection[i] = place(&l, projection);
        l.blocks.output[i] = place(&l, output);
        l.blocks.ffn[i] = place(&l, ffn);
    }
    return l;
}

static void layout_free(struct layout *l)
{
    munmap(l->base, l->bytes);
    free(l->parts);
    free(l->blocks.projection);
    free(l->blocks.output);
    free(l->blocks.ffn);
}

static int by_place(const void *a, const void *b)
{
    const char *x = ((const struct mp_weight *)a)->dst;
    const char *y = ((const struct mp_weight *)b)->dst;
    return (x > y) - (x < y);
}

/* Bytes a weight takes in its block: blocks begin every tensor at a multiple of 64. */
static size_t taken(const struct mp_weight *w)
{
    size_t size = w->rows == 0 ? sizeof(float) : sizeof(uint16_t);
    return ((size_t)mp_weight_elements(w) * size + 63) / 64 * 64;
}

/* The weights, sorted by place, tile each block: none overlap, none is missing, none sticks out. */
static void check_tiling(const struct layout *l, const struct mp_weight *weights, size_t count)
{
    size_t next = 0;
    for (size_t i = 0; i < l->num_parts; i++) {
        char *at = l->parts[i].base;
        char *end = at + l->parts[i].bytes;
        while (at < end) {
            assert_true(next < count);
            assert_ptr_equal(weights[next].dst, at);
            at += taken(&weights[next++]);
        }
        assert_ptr_equal(at, end);
    }
    assert_int_equal(next, count);
}

static void check_kinds(const struct mp_shape *s, const struct mp_weight *weights, size_t count)
{
    size_t layers = (size_t)s->num_hidden_layers;
    size_t found[4] = {0};
    for (size_t i = 0; i < count; i++) {
        const struct mp_weight *w = &weights[i];
        found[w->kind]++;
        assert_int_equal(w->rows == 0, w->kind == MP_WEIGHT_GAIN || w->kind == MP_WEIGHT_BIAS);
    }
    assert_int_equal(found[MP_WEIGHT_MATRIX], 6 * layers + (s->tied_embeddings ? 1 : 2));
    assert_int_equal(found[MP_WEIGHT_QUERY], layers);
    assert_int_equal(found[MP_WEIGHT_GAIN], (s->qk_norm ? 4 : 2) * layers + 1);
    assert_int_equal(found[MP_WEIGHT_BIAS], (s->qkv_bias ? 3 : 0) * layers);
}

/* The weight at this place. */
static const struct mp_weight *weight_at(const struct mp_weight *weights, size_t count,
                                         const void *dst)
{
    struct mp_weight key = {.dst = (void *)dst};
    const struct mp_weight *w = bsearch(&key, weights, count, sizeof key, by_place);
    assert_non_null(w);
    return w;
}

/* Layer 0: one weight of every kind, looked for where the ops do. */
static void check_first_layer(const struct mp_shape *s, const struct layout *l,
                              const struct mp_weight *weights, size_t count)
{
    struct projection_weights p;
    projection_weights_at(s, l->blocks.projection[0], &p);
    const struct mp_weight *q = weight_at(weights, count, p.qkv);
    assert_int_equal(q->kind, MP_WEIGHT_QUERY);
    assert_int_equal(q->rows, (int64_t)s->num_attention_heads * s->head_dim);
    assert_int_equal(q->columns, s->hidden_size);
    const struct mp_weight *k = weight_at(weights, count, p.qkv + q->rows * q->columns);
    assert_int_equal(k->kind, MP_WEIGHT_MATRIX);
    assert_int_equal(k->rows, (int64_t)s->num_key_value_heads * s->head_dim);
    const struct mp_weight *norm = weight_at(weights, count, p.norm);
    assert_int_equal(norm->kind, MP_WEIGHT_GAIN);
    assert_int_equal(norm->columns, s->hidden_size);
    if (s->qk_norm) {
        assert_int_equal(weight_at(weights, count, p.q_norm)->kind, MP_WEIGHT_GAIN);
    }
    if (s->qkv_bias) {
        assert_int_equal(weight_at(weights, count, p.bias)->kind, MP_WEIGHT_BIAS);
    }
}

static void test_weights(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_PUBLISHED; i++) {
        struct mp_model *m = must_open(PUBLISHED[i].name, 0);
        const struct mp_shape *s = mp_model_shape(m);
        struct layout l = layout_new(s);
        struct mp_weight *weights;
        size_t count = mp_model_weights(m, &l.blocks, &weights);
        int64_t parameters = 0;
        for (size_t w = 0; w < count; w++) {
            parameters += mp_weight_elements(&weights[w]);
        }
        assert_int_equal(parameters, PUBLISHED[i].parameters);
        qsort(weights, count, sizeof *weights, by_place);
        check_tiling(&l, weights, count);
        check_kinds(s, weights, count);
        check_first_layer(s, &l, weights, count);
        free(weights);
        layout_free(&l);
        mp_model_close(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),    cmocka_unit_test(test_rope),
        cmocka_unit_test(test_exact_shapes), cmocka_unit_test(test_layers),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_text_errors),
        cmocka_unit_test(test_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
