#include "models/hf_config.h"

#include "core/json/json.h"
#include "models/hf_rope.h"

#include <inttypes.h>
#include <string.h>

enum { MAX_CONFIG_BYTES = 16 << 20 };

/* As in transformers. */
static const double DEFAULT_RMS_NORM_EPS = 1e-6;
static const int64_t DEFAULT_MAX_WINDOW_LAYERS = 28;

/* What sets the supported architectures apart. */
struct architecture {
    const char *model_type;
    bool qkv_bias;       /* always a bias on q, k and v */
    bool attention_bias; /* the key of that name decides on a bias on q, k, v and o */
    bool mlp_bias;       /* the key of that name decides on a bias in the FFN */
    bool qk_norm;
    bool window;         /* sliding_window counts */
    bool window_default; /* ... unless use_sliding_window says otherwise */
    bool window_layers;  /* ... in the layers that layer_types or max_window_layers say */
};

static const struct architecture ARCHITECTURES[] = {
    {.model_type = "llama", .attention_bias = true, .mlp_bias = true},
    {.model_type = "mistral", .window = true, .window_default = true},
    {.model_type = "qwen2", .qkv_bias = true, .window = true, .window_layers = true},
    {.model_type = "qwen3",
     .attention_bias = true,
     .qk_norm = true,
     .window = true,
     .window_layers = true},
};

/* The document being read. */
struct reader {
    const char *path; /* of its file, or what stands for it in messages */
    const struct mp_json *doc;
    const struct cJSON *root;
};

static bool is_given(const struct cJSON *value)
{
    return value != NULL && mp_json_kind(value) != MP_JSON_NULL;
}

/* ---- shape ---- */

static int get_int(const struct reader *r, const char *key, int max, int *out, struct mp_error *err)
{
    int64_t value;
    int rc = mp_json_get_int(r->doc, r->root, key, 1, max, &value, err);
    if (rc == 0) {
        *out = (int)value;
    }
    return rc;
}

static int opt_int(const struct reader *r, const char *key, int max, int *out, struct mp_error *err)
{
    return is_given(mp_json_find(r->root, key)) ? get_int(r, key, max, out, err) : 0;
}

static int read_architecture(const struct reader *r, const struct architecture **out,
                             struct mp_error *err)
{
    const char *type;
    int rc = mp_json_get_string(r->doc, r->root, "model_type", &type, err);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < sizeof ARCHITECTURES / sizeof ARCHITECTURES[0]; i++) {
        if (strcmp(type, ARCHITECTURES[i].model_type) == 0) {
            *out = &ARCHITECTURES[i];
            return 0;
        }
    }
    return mp_fail(err, MP_ERR_UNSUPPORTED,
                   "%s: model_type: expected \"llama\", \"mistral\", \"qwen2\" or \"qwen3\", "
                   "found \"%.100s\"",
                   r->path, type);
}

static int read_sizes(const struct reader *r, struct mp_shape *s, struct mp_error *err)
{
    int rc;
    if ((rc = get_int(r, "hidden_size", 1 << 20, &s->hidden_size, err)) != 0 ||
        (rc = get_int(r, "num_hidden_layers", MP_MAX_LAYERS, &s->num_hidden_layers, err)) != 0 ||
        (rc = get_int(r, "num_attention_heads", 4096, &s->num_attention_heads, err)) != 0 ||
        (rc = get_int(r, "intermediate_size", 1 << 24, &s->intermediate_size, err)) != 0 ||
        (rc = get_int(r, "vocab_size", 1 << 24, &s->vocab_size, err)) != 0) {
        return rc;
    }
    double eps = DEFAULT_RMS_NORM_EPS;
    rc = mp_json_opt_number(r->doc, r->root, "rms_norm_eps", 0.0, 1.0, &eps, err);
    s->rms_norm_eps = s->qk_norm_eps = (float)eps;
    return rc;
}

static int read_heads(const struct reader *r, struct mp_shape *s, struct mp_error *err)
{
    s->num_key_value_heads = s->num_attention_heads;
    int rc =
        opt_int(r, "num_key_value_heads", s->num_attention_heads, &s->num_key_value_heads, err);
    if (rc == 0) {
        rc = opt_int(r, "head_dim", INT32_MAX, &s->head_dim, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (s->num_attention_heads % s->num_key_value_heads != 0) {
        return mp_fail(err, MP_ERR_FORMAT,
                       "%s: num_key_value_heads: expected a divisor of num_attention_heads = %d, "
                       "found %d",
                       r->path, s->num_attention_heads, s->num_key_value_heads);
    }
    if (s->head_dim == 0) {
        if (s->hidden_size % s->num_attention_heads != 0) {
            return mp_fail(err, MP_ERR_FORMAT,
                           "%s: head_dim: missing, and hidden_size = %d is not a multiple of "
                           "num_attention_heads = %d",
                           r->path, s->hidden_size, s->num_attention_heads);
        }
        s->head_dim = s->hidden_size / s->num_attention_heads;
    }
    if (s->head_dim % 2 != 0 || s->head_dim < 4 || s->head_dim > MP_MAX_HEAD_DIM) {
        return mp_fail(err, MP_ERR_UNSUPPORTED,
                       "%s: head_dim: expected an even number from 4 to %d, found %d", r->path,
                       MP_MAX_HEAD_DIM, s->head_dim);
    }
    return 0;
}

static int read_options(const struct reader *r, const struct architecture *a, struct mp_shape *s,
                        struct mp_error *err)
{
    s->qk_norm = a->qk_norm;
    int rc = mp_json_opt_bool(r->doc, r->root, "tie_word_embeddings", &s->tied_embeddings, err);
    if (rc == 0 && a->attention_bias) {
        rc = mp_json_opt_bool(r->doc, r->root, "attention_bias", &s->output_bias, err);
    }
    s->qkv_bias = a->qkv_bias || s->output_bias;
    if (rc == 0 && a->mlp_bias) {
        rc = mp_json_opt_bool(r->doc, r->root, "mlp_bias", &s->mlp_bias, err);
    }
    return rc;
}

/* ---- what is not implemented ---- */

/* *out: tokens that windowed layers attend to, 0: all of them. A window of all positions hides
 * nothing. */
static int read_window(const struct reader *r, const struct architecture *a, int64_t positions,
                       int64_t *out, struct mp_error *err)
{
    int64_t size = 0;
    bool used = a->window_default;
    *out = 0;
    if (!a->window) {
        return 0;
    }
    int rc = mp_json_opt_bool(r->doc, r->root, "use_sliding_window", &used, err);
    if (rc == 0) {
        rc = mp_json_opt_int(r->doc, r->root, "sliding_window", 1, MP_JSON_MAX_INT, &size, err);
    }
    if (rc == 0 && used && size < positions) {
        *out = size;
    }
    return rc;
}

static int fail_window(const struct reader *r, int64_t positions, int layer, int64_t window,
                       struct mp_error *err)
{
    return mp_fail(err, MP_ERR_UNSUPPORTED,
                   "%s: sliding_window: expected null or at least the model's %" PRId64
                   " positions (windowed attention is not supported), found %" PRId64
                   " for layer %d",
                   r->path, positions, window, layer);
}

/* Without layer_types: the layers from max_window_layers on have the window, or all. */
static int check_window(const struct reader *r, const struct architecture *a,
                        const struct mp_hf_config *c, int64_t window, struct mp_error *err)
{
    int64_t first = a->window_layers ? DEFAULT_MAX_WINDOW_LAYERS : 0;
    int rc = a->window_layers ? mp_json_opt_int(r->doc, r->root, "max_window_layers", 0,
                                                MP_JSON_MAX_INT, &first, err)
                              : 0;
    if (rc == 0 && window > 0 && first < c->shape.num_hidden_layers) {
        rc = fail_window(r, c->max_positions, (int)first, window, err);
    }
    return rc;
}

/* Layers of the type "sliding_attention" are full ones if there is a window that hides nothing. */
static int check_layer_type(const struct reader *r, const struct architecture *a,
                            const struct mp_hf_config *c, int layer, const char *type,
                            int64_t window, struct mp_error *err)
{
    bool sliding = a->window_layers && strcmp(type, "sliding_attention") == 0 &&
                   is_given(mp_json_find(r->root, "sliding_window"));
    if (sliding && window > 0) {
        return fail_window(r, c->max_positions, layer, window, err);
    }
    if (!sliding && strcmp(type, "full_attention") != 0) {
        return mp_fail(err, MP_ERR_UNSUPPORTED,
                       "%s: layer_types[%d]: expected \"full_attention\", found \"%.100s\"",
                       r->path, layer, type);
    }
    return 0;
}

static int check_layer_types(const struct reader *r, const struct architecture *a,
                             const struct mp_hf_config *c, const struct cJSON *types,
                             int64_t window, struct mp_error *err)
{
    int layers = 0;
    for (const struct cJSON *v = mp_json_first(types); v != NULL; v = mp_json_after(v)) {
        const char *type;
        int rc = mp_json_as_string(r->doc, v, &type, err);
        if (rc == 0) {
            rc = check_layer_type(r, a, c, layers, type, window, err);
        }
        if (rc != 0) {
            return rc;
        }
        layers++;
    }
    if (layers != c->shape.num_hidden_layers) {
        return mp_json_fail(r->doc, types, err, "expected num_hidden_layers = %d entries, found %d",
                            c->shape.num_hidden_layers, layers);
    }
    return 0;
}

/* Which layers attend to a window of the last tokens alone: none may, as the models' files say it
 * or transformers takes it. */
static int check_windows(const struct reader *r, const struct architecture *a,
                         const struct mp_hf_config *c, struct mp_error *err)
{
    int64_t window = 0;
    const struct cJSON *types = NULL;
    int rc = read_window(r, a, c->max_positions, &window, err);
    if (rc == 0) {
        rc = mp_json_opt_array(r->doc, r->root, "layer_types", &types, err);
    }
    if (rc == 0 && types != NULL) {
        rc = check_layer_types(r, a, c, types, window, err);
    }
    if (rc == 0 && (types == NULL || !a->window_layers)) {
        rc = check_window(r, a, c, window, err);
    }
    return rc;
}

static int check_supported(const struct reader *r, struct mp_error *err)
{
    const char *act = NULL;
    int rc = mp_json_opt_string(r->doc, r->root, "hidden_act", &act, err);
    if (rc != 0) {
        return rc;
    }
    if (act != NULL && strcmp(act, "silu") != 0) {
        return mp_fail(err, MP_ERR_UNSUPPORTED,
                       "%s: hidden_act: expected \"silu\", found \"%.100s\"", r->path, act);
    }
    if (is_given(mp_json_find(r->root, "quantization_config"))) {
        return mp_fail(err, MP_ERR_UNSUPPORTED,
                       "%s: quantization_config: expected none: weights must be bf16, f16 or f32",
                       r->path);
    }
    return 0;
}

/* ---- end tokens ---- */

/* eos_token_id: a number, an array of numbers, or nothing (what was there stays). */
static int read_eos(const struct reader *r, struct mp_hf_config *c, struct mp_error *err)
{
    const struct cJSON *value = mp_json_find(r->root, "eos_token_id");
    if (!is_given(value)) {
        return 0;
    }
    bool list = mp_json_kind(value) == MP_JSON_ARRAY;
    c->num_eos = 0;
    const struct cJSON *v = list ? mp_json_first(value) : value;
    while (v != NULL) {
        int64_t id;
        int rc = mp_json_as_int(r->doc, v, 0, c->shape.vocab_size - 1, &id, err);
        if (rc != 0) {
            return rc;
        }
        if (c->num_eos == MP_MAX_EOS) {
            return mp_json_fail(r->doc, value, err, "expected at most %d end tokens, found more",
                                MP_MAX_EOS);
        }
        c->eos[c->num_eos++] = (int32_t)id;
        v = list ? mp_json_after(v) : NULL;
    }
    return 0;
}

/* ---- documents ---- */

static int read_rope(const struct reader *r, struct mp_hf_config *c, struct mp_error *err)
{
    c->rope.head_dim = c->shape.head_dim;
    int rc = mp_json_get_int(r->doc, r->root, "max_position_embeddings", 1, INT32_MAX,
                             &c->rope.max_positions, err);
    if (rc == 0) {
        rc = mp_hf_rope_read(r->path, r->doc, r->root, &c->rope, err);
    }
    if (rc == 0) {
        c->max_positions = mp_rope_positions(&c->rope);
    }
    return rc;
}

static int read_config(const struct reader *r, struct mp_hf_config *c, struct mp_error *err)
{
    const struct architecture *a = NULL;
    int rc;
    if ((rc = read_architecture(r, &a, err)) != 0 || (rc = read_sizes(r, &c->shape, err)) != 0 ||
        (rc = read_heads(r, &c->shape, err)) != 0 ||
        (rc = read_options(r, a, &c->shape, err)) != 0 || (rc = check_supported(r, err)) != 0 ||
        (rc = read_rope(r, c, err)) != 0 || (rc = check_windows(r, a, c, err)) != 0 ||
        (rc = read_eos(r, c, err)) != 0) {
        return rc;
    }
    c->model_type = a->model_type;
    return 0;
}

typedef int document_reader(const struct reader *, struct mp_hf_config *, struct mp_error *);

/* Reads a document with `read`, and frees it. */
static int read_document(const char *path, struct mp_json *doc, document_reader *read,
                         struct mp_hf_config *c, struct mp_error *err)
{
    struct reader r = {.path = path, .doc = doc, .root = mp_json_root(doc)};
    int rc = mp_json_expect(doc, r.root, MP_JSON_OBJECT, err);
    if (rc == 0) {
        rc = read(&r, c, err);
    }
    mp_json_free(doc);
    return rc;
}

static int read_file(const char *path, document_reader *read, struct mp_hf_config *c,
                     struct mp_error *err)
{
    struct mp_json *doc;
    int rc = mp_json_read_file(path, MAX_CONFIG_BYTES, &doc, err);
    return rc != 0 ? rc : read_document(path, doc, read, c, err);
}

int mp_hf_config_read(const char *path, struct mp_hf_config *out, struct mp_error *err)
{
    *out = (struct mp_hf_config){0};
    return read_file(path, read_config, out, err);
}

int mp_hf_config_parse(const char *name, const char *text, struct mp_hf_config *out,
                       struct mp_error *err)
{
    struct mp_json *doc;
    *out = (struct mp_hf_config){0};
    int rc = mp_json_parse(name, text, strlen(text), &doc, err);
    return rc != 0 ? rc : read_document(name, doc, read_config, out, err);
}

/* Numbers that are missing have transformers' defaults, where top_k is 50; 0 and -1 are
 * all tokens. */
static int read_sampling(const struct reader *r, struct mp_hf_config *c, struct mp_error *err)
{
    double temperature = 1.0;
    double top_p = 1.0;
    int64_t top_k = 50;
    int rc;
    if ((rc = mp_json_opt_bool(r->doc, r->root, "do_sample", &c->samples, err)) != 0 ||
        (rc = mp_json_opt_number(r->doc, r->root, "temperature", 0.0, 1e6, &temperature, err)) !=
            0 ||
        (rc = mp_json_opt_number(r->doc, r->root, "top_p", 0.0, 1.0, &top_p, err)) != 0 ||
        (rc = mp_json_opt_int(r->doc, r->root, "top_k", -1, INT32_MAX, &top_k, err)) != 0) {
        return rc;
    }
    c->sampling = (struct mp_sampling){.temperature = (float)temperature,
                                       .top_p = (float)top_p,
                                       .top_k = top_k < 0 ? 0 : (int)top_k};
    return 0;
}

static int read_generation(const struct reader *r, struct mp_hf_config *c, struct mp_error *err)
{
    int rc = read_eos(r, c, err);
    return rc == 0 ? read_sampling(r, c, err) : rc;
}

int mp_hf_generation_config_read(const char *path, struct mp_hf_config *config,
                                 struct mp_error *err)
{
    return read_file(path, read_generation, config, err);
}
