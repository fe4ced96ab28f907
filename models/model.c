#include "models/model.h"

#include "core/base/hash.h"
#include "core/base/memory.h"
#include "core/safetensors/safetensors.h"
#include "models/hf_config.h"
#include "models/presets.h"
#include "models/weights.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mp_model {
    struct mp_hf_config config;
    struct mp_tensors *tensors; /* NULL: a shape without weights */
    char *description;
};

static int read_configs(const char *dir, struct mp_hf_config *config, struct mp_error *err)
{
    char *path = mp_xasprintf("%s/config.json", dir);
    int rc = mp_hf_config_read(path, config, err);
    free(path);
    if (rc != 0) {
        return rc;
    }
    path = mp_xasprintf("%s/generation_config.json", dir);
    if (access(path, F_OK) == 0) {
        rc = mp_hf_generation_config_read(path, config, err);
    }
    free(path);
    return rc;
}

static char *describe(const char *name, const struct mp_shape *s, int64_t parameters,
                      const char *remark)
{
    bool billions = parameters >= 1000000000;
    return mp_xasprintf("%s, %d layers, %d/%d heads of %d, %.1f %c parameters%s", name,
                        s->num_hidden_layers, s->num_attention_heads, s->num_key_value_heads,
                        s->head_dim, (double)parameters / (billions ? 1e9 : 1e6),
                        billions ? 'B' : 'M', remark);
}

int mp_model_open(const char *dir, struct mp_model **out, struct mp_error *err)
{
    struct mp_model *m = mp_xcalloc(1, sizeof *m);
    int rc = read_configs(dir, &m->config, err);
    if (rc == 0) {
        rc = mp_tensors_open_dir(dir, &m->tensors, err);
    }
    if (rc == 0) {
        const struct mp_shape *shape = &m->config.shape;
        struct mp_weight_slots slots = mp_weight_slots_new(shape, NULL);
        rc = mp_weight_slots_check(&slots, shape, m->tensors, dir, err);
        m->description =
            describe(m->config.model_type, shape, mp_weight_slots_elements(&slots), "");
        mp_weight_slots_free(&slots);
    }
    if (rc != 0) {
        mp_model_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

static int read_shape(const char *name, int num_layers, struct mp_hf_config *config,
                      struct mp_error *err)
{
    const char *text;
    int rc = mp_preset_find(name, &text, err);
    if (rc != 0) {
        return rc;
    }
    if (num_layers < 0 || num_layers > MP_MAX_LAYERS) {
        return mp_fail(err, MP_ERR_USAGE,
                       "shape %s: expected 1 to %d layers, or 0 for the model's own, found %d",
                       name, MP_MAX_LAYERS, num_layers);
    }
    char *source = mp_xasprintf("shape %s", name);
    rc = mp_hf_config_parse(source, text, config, err);
    free(source);
    if (rc == 0 && num_layers != 0) {
        config->shape.num_hidden_layers = num_layers;
    }
    return rc;
}

int mp_model_open_shape(const char *name, int num_layers, struct mp_model **out,
                        struct mp_error *err)
{
    struct mp_model *m = mp_xcalloc(1, sizeof *m);
    int rc = read_shape(name, num_layers, &m->config, err);
    if (rc != 0) {
        mp_model_close(m);
        return rc;
    }
    m->config.max_positions = MP_SHAPE_POSITIONS;
    struct mp_weight_slots slots = mp_weight_slots_new(&m->config.shape, NULL);
    m->description =
        describe(name, &m->config.shape, mp_weight_slots_elements(&slots), ", random weights");
    mp_weight_slots_free(&slots);
    *out = m;
    return 0;
}

void mp_model_close(struct mp_model *m)
{
    if (m == NULL) {
        return;
    }
    if (m->tensors != NULL) {
        mp_tensors_close(m->tensors);
    }
    free(m->description);
    free(m);
}

bool mp_model_has_weights(const struct mp_model *m)
{
    return m->tensors != NULL;
}

const struct mp_shape *mp_model_shape(const struct mp_model *m)
{
    return &m->config.shape;
}

int64_t mp_model_max_positions(const struct mp_model *m)
{
    return m->config.max_positions;
}

const int32_t *mp_model_eos(const struct mp_model *m, int *count)
{
    *count = m->config.num_eos;
    return m->config.eos;
}

bool mp_model_sampling(const struct mp_model *m, struct mp_sampling *out)
{
    *out = m->config.sampling;
    return m->config.samples;
}

uint64_t mp_model_fingerprint(const struct mp_model *m)
{
    enum { SAMPLES = 16, WIDTH = 16 }; /* bytes of a sample: a few pages of each tensor are read */
    uint64_t hash = MP_HASH_START;
    if (m->tensors == NULL) {
        return 0;
    }
    for (size_t i = 0; i < mp_tensors_count(m->tensors); i++) {
        const struct mp_tensor *t = mp_tensors_at(m->tensors, i);
        hash = mp_hash_bytes(hash, t->name, strlen(t->name));
        hash = mp_hash_bytes(hash, t->shape, (size_t)t->rank * sizeof t->shape[0]);
        for (size_t n = 0; n < SAMPLES && t->bytes >= WIDTH; n++) {
            size_t at = (t->bytes - WIDTH) / SAMPLES * n;
            hash = mp_hash_bytes(hash, (const char *)t->data + at, WIDTH);
        }
    }
    return hash;
}

const char *mp_model_description(const struct mp_model *m)
{
    return m->description;
}

void mp_model_rope(const struct mp_model *m, int64_t seq_len, float *inv_freq, float *scale)
{
    mp_rope_frequencies(&m->config.rope, seq_len, inv_freq, scale);
}

bool mp_model_rope_varies(const struct mp_model *m)
{
    return m->config.rope.type == MP_ROPE_DYNAMIC;
}

int mp_model_load(const struct mp_model *m, const struct mp_weight_blocks *dst,
                  bool (*stop)(void *user), void *user, struct mp_error *err)
{
    if (!mp_model_has_weights(m)) {
        mp_panic("%s: there are no weights to load", m->description);
    }
    struct mp_weight_slots slots = mp_weight_slots_new(&m->config.shape, dst);
    bool whole = mp_weight_slots_load(&slots, m->tensors, stop, user);
    mp_weight_slots_free(&slots);
    return whole ? 0 : mp_fail(err, MP_ERR_INTERRUPTED, "interrupted while reading the weights");
}

size_t mp_model_weights(const struct mp_model *m, const struct mp_weight_blocks *dst,
                        struct mp_weight **out)
{
    struct mp_weight_slots slots = mp_weight_slots_new(&m->config.shape, dst);
    size_t count = slots.count;
    *out = mp_xcalloc(count, sizeof **out);
    for (size_t i = 0; i < count; i++) {
        (*out)[i] = slots.items[i].weight;
    }
    mp_weight_slots_free(&slots);
    return count;
}
