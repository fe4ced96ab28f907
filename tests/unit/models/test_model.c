/* Opening and loading models: the golden ones bit for bit, and small ones written here for biases,
 * QK-norm, tied embeddings, other types, and tensors that do not fit. */
#include "codelets/ffn/ffn.h"
#include "codelets/output/output.h"
#include "codelets/projection/projection.h"
#include "core/base/dtype.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/safetensors/safetensors.h"
#include "models/model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- blocks ---- */

static void *must_alloc(size_t bytes)
{
    struct mp_error err;
    void *p = mp_alloc(bytes, 1, "test weights", &err);
    assert_non_null(p);
    memset(p, 0xff, bytes); /* NaN: what is not loaded shows */
    return p;
}

static struct mp_weight_blocks blocks_new(const struct mp_shape *s)
{
    size_t table = (size_t)s->vocab_size * (size_t)s->hidden_size * sizeof(uint16_t);
    size_t layers = (size_t)s->num_hidden_layers;
    struct mp_weight_blocks b = {
        .embed = must_alloc(table),
        .lm_head = s->tied_embeddings ? NULL : must_alloc(table),
        .final_norm = must_alloc((size_t)s->hidden_size * sizeof(float)),
        .projection = mp_xcalloc(layers, sizeof(void *)),
        .output = mp_xcalloc(layers, sizeof(void *)),
        .ffn = mp_xcalloc(layers, sizeof(void *)),
    };
    for (size_t i = 0; i < layers; i++) {
        b.projection[i] = must_alloc(projection_weights_at(s, NULL, NULL));
        b.output[i] = must_alloc(output_weights_at(s, NULL, NULL));
        b.ffn[i] = must_alloc(ffn_weights_at(s, NULL, NULL));
    }
    return b;
}

static void blocks_free(struct mp_weight_blocks *b, int layers)
{
    for (int i = 0; i < layers; i++) {
        mp_free(b->projection[i]);
        mp_free(b->output[i]);
        mp_free(b->ffn[i]);
    }
    mp_free(b->embed);
    mp_free(b->lm_head);
    mp_free(b->final_norm);
    free(b->projection);
    free(b->output);
    free(b->ffn);
}

/* ---- comparison with the reader ---- */

static const struct mp_tensor *find(const struct mp_tensors *tensors, const char *format, int layer)
{
    char name[128];
    snprintf(name, sizeof name, format, layer);
    const struct mp_tensor *t = mp_tensors_find(tensors, name);
    if (t == NULL) {
        fail_msg("no tensor %s", name);
    }
    return t;
}

static float element(const struct mp_tensor *t, size_t i)
{
    if (t->dtype == MP_ST_F32) {
        float f;
        memcpy(&f, (const char *)t->data + 4 * i, 4);
        return f;
    }
    assert_int_equal(t->dtype, MP_ST_BF16);
    uint16_t h;
    memcpy(&h, (const char *)t->data + 2 * i, 2);
    return mp_bf16_to_f32(h);
}

/* Compares and returns the number of elements, so that the next part of a fused matrix is found. */
static size_t same_matrix(const struct mp_tensor *t, const uint16_t *found)
{
    size_t count = t->bytes / mp_st_dtype_size(t->dtype);
    for (size_t i = 0; i < count; i++) {
        if (found[i] != mp_f32_to_bf16(element(t, i))) {
            fail_msg("%s[%zu]: expected %g, found %g", t->name, i, (double)element(t, i),
                     (double)mp_bf16_to_f32(found[i]));
        }
    }
    return count;
}

static size_t same_vector(const struct mp_tensor *t, const float *found)
{
    size_t count = t->bytes / mp_st_dtype_size(t->dtype);
    for (size_t i = 0; i < count; i++) {
        float expected = element(t, i);
        if (memcmp(&found[i], &expected, sizeof expected) != 0) {
            fail_msg("%s[%zu]: expected %g, found %g", t->name, i, (double)expected,
                     (double)found[i]);
        }
    }
    return count;
}

static void same_projection(const struct mp_tensors *t, const struct mp_shape *s, int layer,
                            const void *block)
{
    struct projection_weights w;
    projection_weights_at(s, block, &w);
    same_vector(find(t, "model.layers.%d.input_layernorm.weight", layer), w.norm);
    size_t at = same_matrix(find(t, "model.layers.%d.self_attn.q_proj.weight", layer), w.qkv);
    at += same_matrix(find(t, "model.layers.%d.self_attn.k_proj.weight", layer), w.qkv + at);
    same_matrix(find(t, "model.layers.%d.self_attn.v_proj.weight", layer), w.qkv + at);
    if (s->qkv_bias) {
        at = same_vector(find(t, "model.layers.%d.self_attn.q_proj.bias", layer), w.bias);
        at += same_vector(find(t, "model.layers.%d.self_attn.k_proj.bias", layer), w.bias + at);
        same_vector(find(t, "model.layers.%d.self_attn.v_proj.bias", layer), w.bias + at);
    }
    if (s->qk_norm) {
        same_vector(find(t, "model.layers.%d.self_attn.q_norm.weight", layer), w.q_norm);
        same_vector(find(t, "model.layers.%d.self_attn.k_norm.weight", layer), w.k_norm);
    }
}

static void same_output(const struct mp_tensors *t, const struct mp_shape *s, int layer,
                        const void *block)
{
    struct output_weights w;
    output_weights_at(s, block, &w);
    same_matrix(find(t, "model.layers.%d.self_attn.o_proj.weight", layer), w.o);
    if (s->output_bias) {
        same_vector(find(t, "model.layers.%d.self_attn.o_proj.bias", layer), w.bias);
    }
}

static void same_ffn(const struct mp_tensors *t, const struct mp_shape *s, int layer,
                     const void *block)
{
    struct ffn_weights w;
    ffn_weights_at(s, block, &w);
    same_vector(find(t, "model.layers.%d.post_attention_layernorm.weight", layer), w.norm);
    size_t at = same_matrix(find(t, "model.layers.%d.mlp.gate_proj.weight", layer), w.gate_up);
    same_matrix(find(t, "model.layers.%d.mlp.up_proj.weight", layer), w.gate_up + at);
    same_matrix(find(t, "model.layers.%d.mlp.down_proj.weight", layer), w.down);
    if (s->mlp_bias) {
        at = same_vector(find(t, "model.layers.%d.mlp.gate_proj.bias", layer), w.gate_up_bias);
        same_vector(find(t, "model.layers.%d.mlp.up_proj.bias", layer), w.gate_up_bias + at);
        same_vector(find(t, "model.layers.%d.mlp.down_proj.bias", layer), w.down_bias);
    }
}

static struct mp_model *must_open(const char *dir)
{
    struct mp_model *m;
    struct mp_error err;
    if (mp_model_open(dir, &m, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return m;
}

/* Opens and loads dir, and compares every slot with the files. */
static void check_load(const char *dir, const char *description)
{
    struct mp_error err;
    struct mp_model *m = must_open(dir);
    const struct mp_shape *s = mp_model_shape(m);
    assert_string_equal(mp_model_description(m), description);
    struct mp_weight_blocks b = blocks_new(s);
    assert_int_equal(mp_model_load(m, &b, NULL, NULL, &err), 0);

    struct mp_tensors *t;
    assert_int_equal(mp_tensors_open_dir(dir, &t, &err), 0);
    same_matrix(find(t, "model.embed_tokens.weight", 0), b.embed);
    same_vector(find(t, "model.norm.weight", 0), b.final_norm);
    if (!s->tied_embeddings) {
        same_matrix(find(t, "lm_head.weight", 0), b.lm_head);
    }
    for (int layer = 0; layer < s->num_hidden_layers; layer++) {
        same_projection(t, s, layer, b.projection[layer]);
        same_output(t, s, layer, b.output[layer]);
        same_ffn(t, s, layer, b.ffn[layer]);
    }
    mp_tensors_close(t);
    blocks_free(&b, s->num_hidden_layers);
    mp_model_close(m);
}

static void test_golden(void **state)
{
    (void)state;
    check_load(MP_TEST_DATA "/golden/llama3-rope",
               "llama, 3 layers, 8/2 heads of 64, 1.1 M parameters");
    check_load(MP_TEST_DATA "/golden/mistral",
               "mistral, 3 layers, 4/1 heads of 32, 0.7 M parameters");
    check_load(MP_TEST_DATA "/golden/qwen3", "qwen3, 3 layers, 8/2 heads of 32, 0.7 M parameters");
}

static void test_demo(void **state)
{
    (void)state;
    check_load(MP_SOURCE_DIR "/models/demo", "llama, 8 layers, 8/2 heads of 64, 8.0 M parameters");
    struct mp_model *m = must_open(MP_SOURCE_DIR "/models/demo");
    assert_true(mp_model_has_weights(m));
    int count;
    const int32_t *eos = mp_model_eos(m, &count);
    assert_int_equal(count, 2);
    assert_int_equal(eos[0], 4092);
    assert_int_equal(eos[1], 4095);
    assert_int_equal(mp_model_max_positions(m), 65536);
    assert_false(mp_model_rope_varies(m));
    float inv_freq[32];
    float scale;
    mp_model_rope(m, 32768, inv_freq, &scale);
    assert_float_equal(inv_freq[0], 1.0F, 0.0F);
    assert_float_equal(inv_freq[31], 3.013858152e-06F, 1e-12F);
    assert_float_equal(scale, 1.0F, 0.0F);
    mp_model_close(m);
}

/* ---- small models written here ---- */

enum { MAX_TENSORS = 24, VOCAB = 10, BIG_VOCAB = 200001 };

struct spec {
    const char *name;
    enum mp_st_dtype dtype;
    int rows; /* 0: a vector */
    int columns;
};

/* hidden 8, 2 query heads and 1 KV head of 4, FFN 6, one layer. The first ten are what every
 * architecture has. */
static const struct spec COMMON[] = {
    {"model.embed_tokens.weight", MP_ST_BF16, VOCAB, 8},
    {"model.norm.weight", MP_ST_BF16, 0, 8},
    {"model.layers.0.input_layernorm.weight", MP_ST_F32, 0, 8},
    {"model.layers.0.self_attn.q_proj.weight", MP_ST_F32, 8, 8},
    {"model.layers.0.self_attn.k_proj.weight", MP_ST_BF16, 4, 8},
    {"model.layers.0.self_attn.v_proj.weight", MP_ST_F32, 4, 8},
    {"model.layers.0.self_attn.o_proj.weight", MP_ST_BF16, 8, 8},
    {"model.layers.0.post_attention_layernorm.weight", MP_ST_BF16, 0, 8},
    {"model.layers.0.mlp.gate_proj.weight", MP_ST_F32, 6, 8},
    {"model.layers.0.mlp.up_proj.weight", MP_ST_BF16, 6, 8},
    {"model.layers.0.mlp.down_proj.weight", MP_ST_BF16, 8, 6},
};
static const struct spec QKV_BIAS[] = {
    {"model.layers.0.self_attn.q_proj.bias", MP_ST_F32, 0, 8},
    {"model.layers.0.self_attn.k_proj.bias", MP_ST_BF16, 0, 4},
    {"model.layers.0.self_attn.v_proj.bias", MP_ST_BF16, 0, 4},
};
static const struct spec OUTPUT_BIAS = {"model.layers.0.self_attn.o_proj.bias", MP_ST_F32, 0, 8};
static const struct spec MLP_BIAS[] = {
    {"model.layers.0.mlp.gate_proj.bias", MP_ST_BF16, 0, 6},
    {"model.layers.0.mlp.up_proj.bias", MP_ST_F32, 0, 6},
    {"model.layers.0.mlp.down_proj.bias", MP_ST_BF16, 0, 8},
};
static const struct spec QK_NORM[] = {
    {"model.layers.0.self_attn.q_norm.weight", MP_ST_BF16, 0, 4},
    {"model.layers.0.self_attn.k_norm.weight", MP_ST_F32, 0, 4},
};
static const struct spec LM_HEAD = {"lm_head.weight", MP_ST_F32, VOCAB, 8};

struct small_model {
    struct spec items[MAX_TENSORS];
    int count;
};

static void add(struct small_model *m, const struct spec *specs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_true(m->count < MAX_TENSORS);
        m->items[m->count++] = specs[i];
    }
}

#define ADD(model, specs) add(model, specs, sizeof(specs) / sizeof((specs)[0]))

static struct spec *item(struct small_model *m, const char *name)
{
    for (int i = 0; i < m->count; i++) {
        if (strcmp(m->items[i].name, name) == 0) {
            return &m->items[i];
        }
    }
    fail_msg("no item %s", name);
    return NULL;
}

static void drop(struct small_model *m, const char *name)
{
    struct spec *s = item(m, name);
    *s = m->items[--m->count];
}

static size_t elements(const struct spec *s)
{
    return (size_t)(s->rows == 0 ? 1 : s->rows) * (size_t)s->columns;
}

/* Element i of tensor k: not exact in bf16, so that rounding shows; any bits will do for F16. */
static void write_data(FILE *f, const struct spec *s, int k)
{
    for (size_t i = 0; i < elements(s); i++) {
        float value = (float)((i * 37 + (size_t)k * 11) % 1009) / 313.0F - 1.5F;
        uint16_t half = s->dtype == MP_ST_F16 ? (uint16_t)(i * 257) : mp_f32_to_bf16(value);
        size_t size = mp_st_dtype_size(s->dtype);
        const void *bytes = size == 4 ? (const void *)&value : (const void *)&half;
        assert_int_equal(fwrite(bytes, size, 1, f), 1);
    }
}

/* Writes MP_SCRATCH_DIR/<name>: config.json with `keys` added, and model.safetensors. */
static const char *write_model(const char *name, const char *keys, int vocab,
                               const struct small_model *m)
{
    static char dir[512];
    char path[600];
    snprintf(dir, sizeof dir, "%s/test_model-%s", MP_SCRATCH_DIR, name);
    mkdir(dir, 0777);
    snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "{\"hidden_size\": 8, \"intermediate_size\": 6, \"num_hidden_layers\": 1,"
            " \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"vocab_size\": %d,"
            " \"max_position_embeddings\": 64, %s}",
            vocab, keys);
    fclose(f);

    char header[4096] = "{";
    size_t used = 1;
    size_t at = 0;
    for (int i = 0; i < m->count; i++) {
        const struct spec *s = &m->items[i];
        size_t bytes = elements(s) * mp_st_dtype_size(s->dtype);
        char shape[64];
        if (s->rows == 0) {
            snprintf(shape, sizeof shape, "%d", s->columns);
        } else {
            snprintf(shape, sizeof shape, "%d,%d", s->rows, s->columns);
        }
        used += (size_t)snprintf(header + used, sizeof header - used,
                                 "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],"
                                 "\"data_offsets\":[%zu,%zu]}",
                                 i == 0 ? "" : ",", s->name, mp_st_dtype_name(s->dtype), shape, at,
                                 at + bytes);
        at += bytes;
    }
    used += (size_t)snprintf(header + used, sizeof header - used, "}");
    assert_true(used < sizeof header);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    uint64_t length = used;
    fwrite(&length, sizeof length, 1, f);
    fwrite(header, used, 1, f);
    for (int i = 0; i < m->count; i++) {
        write_data(f, &m->items[i], i);
    }
    assert_int_equal(fclose(f), 0);
    return dir;
}

static const char *write_llama(const char *name, const struct small_model *m)
{
    return write_model(name, "\"model_type\": \"llama\", \"tie_word_embeddings\": true", VOCAB, m);
}

static void test_biases(void **state)
{
    (void)state;
    struct small_model m = {0};
    ADD(&m, COMMON);
    ADD(&m, QKV_BIAS);
    add(&m, &OUTPUT_BIAS, 1);
    ADD(&m, MLP_BIAS);
    add(&m, &LM_HEAD, 1);
    check_load(write_model("llama-biases",
                           "\"model_type\": \"llama\", \"attention_bias\": true, "
                           "\"mlp_bias\": true",
                           VOCAB, &m),
               "llama, 1 layers, 2/1 heads of 4, 0.0 M parameters");
}

/* One layer with every bias: the listing tells the kinds apart. */
static void test_kinds(void **state)
{
    (void)state;
    struct small_model m = {0};
    ADD(&m, COMMON);
    ADD(&m, QKV_BIAS);
    add(&m, &OUTPUT_BIAS, 1);
    ADD(&m, MLP_BIAS);
    struct mp_model *model = must_open(write_model("llama-kinds",
                                                   "\"model_type\": \"llama\", "
                                                   "\"attention_bias\": true, \"mlp_bias\": true, "
                                                   "\"tie_word_embeddings\": true",
                                                   VOCAB, &m));
    const struct mp_shape *s = mp_model_shape(model);
    struct mp_weight_blocks b = blocks_new(s);
    struct mp_weight *weights;
    size_t count = mp_model_weights(model, &b, &weights);
    int found[4] = {0};
    for (size_t i = 0; i < count; i++) {
        found[weights[i].kind]++;
    }
    assert_int_equal(found[MP_WEIGHT_MATRIX], 7); /* embedding, k, v, o, gate, up, down */
    assert_int_equal(found[MP_WEIGHT_QUERY], 1);
    assert_int_equal(found[MP_WEIGHT_GAIN], 3);
    assert_int_equal(found[MP_WEIGHT_BIAS], 7);
    free(weights);
    blocks_free(&b, s->num_hidden_layers);
    mp_model_close(model);
}

static void test_qwen(void **state)
{
    (void)state;
    struct small_model m = {0};
    ADD(&m, COMMON);
    ADD(&m, QKV_BIAS);
    add(&m, &LM_HEAD, 1);
    check_load(write_model("qwen2", "\"model_type\": \"qwen2\"", VOCAB, &m),
               "qwen2, 1 layers, 2/1 heads of 4, 0.0 M parameters");
    /* Qwen3 needs QK-norm, and without attention_bias takes none. */
    m.count = 0;
    ADD(&m, COMMON);
    ADD(&m, QK_NORM);
    check_load(write_model("qwen3",
                           "\"model_type\": \"qwen3\", \"head_dim\": 4, "
                           "\"tie_word_embeddings\": true",
                           VOCAB, &m),
               "qwen3, 1 layers, 2/1 heads of 4, 0.0 M parameters");
}

/* A tied model's file may hold the LM head, and old files hold rope buffers: both are skipped. */
static void test_left_over(void **state)
{
    (void)state;
    struct small_model m = {0};
    const struct spec buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq", MP_ST_F32, 0, 2};
    ADD(&m, COMMON);
    add(&m, &LM_HEAD, 1);
    add(&m, &buffer, 1);
    check_load(write_llama("llama-left-over", &m),
               "llama, 1 layers, 2/1 heads of 4, 0.0 M parameters");
}

/* More than one chunk, from f32, on all threads. */
static void test_big_matrix(void **state)
{
    (void)state;
    struct small_model m = {0};
    ADD(&m, COMMON);
    item(&m, "model.embed_tokens.weight")->rows = BIG_VOCAB;
    item(&m, "model.embed_tokens.weight")->dtype = MP_ST_F32;
    check_load(write_model("llama-big", "\"model_type\": \"llama\", \"tie_word_embeddings\": true",
                           BIG_VOCAB, &m),
               "llama, 1 layers, 2/1 heads of 4, 1.6 M parameters");
}

/* Every half (i * 257 takes each 16-bit value once), through a matrix; a few through a vector. */
static void test_f16(void **state)
{
    (void)state;
    struct small_model m = {0};
    struct mp_error err;
    enum { ROWS = 65536 / 8 };
    ADD(&m, COMMON);
    item(&m, "model.embed_tokens.weight")->rows = ROWS;
    item(&m, "model.embed_tokens.weight")->dtype = MP_ST_F16;
    item(&m, "model.norm.weight")->dtype = MP_ST_F16;
    struct mp_model *model = must_open(write_model(
        "llama-f16", "\"model_type\": \"llama\", \"tie_word_embeddings\": true", ROWS, &m));
    const struct mp_shape *s = mp_model_shape(model);
    struct mp_weight_blocks b = blocks_new(s);
    assert_int_equal(mp_model_load(model, &b, NULL, NULL, &err), 0);
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t h = (uint16_t)(i * 257);
        int exponent = h >> 10 & 31;
        double mantissa = h & 1023;
        double value = exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
        if (exponent == 31) {
            value = mantissa == 0 ? INFINITY : NAN;
        }
        float expected = (float)((h & 0x8000) != 0 ? -value : value);
        float found = mp_bf16_to_f32(b.embed[i]);
        assert_true(isnan(expected) ? isnan(found) : b.embed[i] == mp_f32_to_bf16(expected));
        if (i < 8) {
            assert_true(b.final_norm[i] == expected); /* 0 and subnormals */
        }
    }
    blocks_free(&b, s->num_hidden_layers);
    mp_model_close(model);
}

/* Opening dir must fail with exactly this message after "dir: ". */
static void must_refuse(const char *dir, const char *message)
{
    struct mp_model *m = NULL;
    struct mp_error err;
    assert_int_equal(mp_model_open(dir, &m, &err), MP_ERR_FORMAT);
    assert_null(m);
    assert_int_equal(strncmp(err.message, dir, strlen(dir)), 0);
    assert_string_equal(err.message + strlen(dir), message);
}

static void test_missing(void **state)
{
    (void)state;
    struct small_model m = {0};
    ADD(&m, COMMON);
    drop(&m, "model.norm.weight");
    drop(&m, "model.layers.0.mlp.up_proj.weight");
    must_refuse(write_llama("llama-missing", &m),
                ": tensors do not fit config.json: missing: model.layers.0.mlp.up_proj.weight, "
                "model.norm.weight");
    m.count = 0;
    ADD(&m, COMMON);
    m.count = 1;
    must_refuse(write_llama("llama-missing-many", &m),
                ": tensors do not fit config.json: missing: model.layers.0.input_layernorm.weight, "
                "model.layers.0.mlp.down_proj.weight, model.layers.0.mlp.gate_proj.weight, "
                "model.layers.0.mlp.up_proj.weight and 6 more");
}

static char logged[1024];

static void keep_line(void *user, enum mp_log_level level, const char *message)
{
    (void)user;
    assert_int_equal(level, MP_LOG_WARNING);
    snprintf(logged, sizeof logged, "%s", message);
}

/* What a model of this config.json does not have is told in one line. */
static void test_unused(void **state)
{
    (void)state;
    struct small_model m = {0};
    const struct spec strange = {"model.layers.1.self_attn.q_proj.weight", MP_ST_BF16, 8, 8};
    ADD(&m, COMMON);
    add(&m, &QKV_BIAS[0], 1);
    add(&m, &strange, 1);
    struct mp_log_target target = {.sink = keep_line};
    mp_log_add_target(&target);
    mp_model_close(must_open(write_llama("llama-unused", &m)));
    mp_log_remove_target(&target);
    assert_non_null(strstr(logged,
                           "llama-unused: tensors that a model of this config.json does not "
                           "have: not used: model.layers.0.self_attn.q_proj.bias, "
                           "model.layers.1.self_attn.q_proj.weight"));
}

static bool stop_after(void *user)
{
    return (*(int *)user)-- == 0;
}

static void test_stopped(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_model *m = must_open(MP_SOURCE_DIR "/models/demo");
    struct mp_weight_blocks b = blocks_new(mp_model_shape(m));
    int tensors = 3;
    assert_int_equal(mp_model_load(m, &b, stop_after, &tensors, &err), MP_ERR_INTERRUPTED);
    assert_int_equal(tensors, -1);
    assert_string_equal(err.message, "interrupted while reading the weights");
    blocks_free(&b, mp_model_shape(m)->num_hidden_layers);
    mp_model_close(m);
}

/* A tied embedding under the name of the head. */
static void test_head_alone(void **state)
{
    (void)state;
    struct small_model m = {0};
    struct mp_error err;
    ADD(&m, COMMON);
    item(&m, "model.embed_tokens.weight")->name = "lm_head.weight";
    const char *dir = write_llama("llama-head-alone", &m);
    struct mp_model *model = must_open(dir);
    const struct mp_shape *s = mp_model_shape(model);
    struct mp_weight_blocks b = blocks_new(s);
    assert_int_equal(mp_model_load(model, &b, NULL, NULL, &err), 0);
    struct mp_tensors *t;
    assert_int_equal(mp_tensors_open_dir(dir, &t, &err), 0);
    same_matrix(find(t, "lm_head.weight", 0), b.embed);
    mp_tensors_close(t);
    blocks_free(&b, s->num_hidden_layers);
    mp_model_close(model);
    item(&m, "lm_head.weight")->rows = VOCAB + 1;
    must_refuse(write_llama("llama-head-wrong", &m),
                ": tensors do not fit config.json: wrong shape or type: lm_head.weight (expected "
                "BF16, F16 or F32 [10, 8], found BF16 [11, 8])");
}

static void test_wrong(void **state)
{
    (void)state;
    struct small_model m = {0};
    ADD(&m, COMMON);
    item(&m, "model.embed_tokens.weight")->rows = VOCAB + 1;
    item(&m, "model.norm.weight")->dtype = MP_ST_I16;
    item(&m, "model.layers.0.self_attn.q_proj.weight")->rows = 0;
    drop(&m, "model.layers.0.self_attn.o_proj.weight");
    must_refuse(write_llama("llama-wrong", &m),
                ": tensors do not fit config.json: missing: "
                "model.layers.0.self_attn.o_proj.weight; wrong shape or type: "
                "model.embed_tokens.weight (expected BF16, F16 or F32 [10, 8], found BF16 [11, 8]),"
                " model.layers.0.self_attn.q_proj.weight (expected BF16, F16 or F32 [8, 8], found "
                "F32 [8]), model.norm.weight (expected BF16, F16 or F32 [8], found I16 [8])");
}

static void test_no_model(void **state)
{
    (void)state;
    struct mp_model *m = NULL;
    struct mp_error err;
    assert_int_equal(mp_model_open(MP_TEST_DATA "/nowhere", &m, &err), MP_ERR_IO);
    assert_non_null(strstr(err.message, "/nowhere/config.json"));
    mp_model_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),     cmocka_unit_test(test_demo),
        cmocka_unit_test(test_biases),     cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_qwen),       cmocka_unit_test(test_left_over),
        cmocka_unit_test(test_big_matrix), cmocka_unit_test(test_f16),
        cmocka_unit_test(test_missing),    cmocka_unit_test(test_unused),
        cmocka_unit_test(test_stopped),    cmocka_unit_test(test_head_alone),
        cmocka_unit_test(test_wrong),      cmocka_unit_test(test_no_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
