#include "models/model.h"

#include "core/memory.h"
#include "core/safetensors.h"
#include "models/hf_config.h"
#include "models/weights.h"

#include <stdlib.h>
#include <unistd.h>

struct mp_model {
    struct mp_hf_config config;
    struct mp_tensors *tensors;
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

static char *describe(const struct mp_hf_config *c, int64_t parameters)
{
    const struct mp_shape *s = &c->shape;
    bool billions = parameters >= 1000000000;
    return mp_xasprintf("%s, %d layers, %d/%d heads of %d, %.1f %c parameters", c->model_type,
                        s->num_hidden_layers, s->num_attention_heads, s->num_key_value_heads,
                        s->head_dim, (double)parameters / (billions ? 1e9 : 1e6),
                        billions ? 'B' : 'M');
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
        m->description = describe(&m->config, mp_weight_slots_elements(&slots));
        mp_weight_slots_free(&slots);
    }
    if (rc != 0) {
        mp_model_close(m);
        return rc;
    }
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
                  struct mp_error *err)
{
    (void)err; /* mp_model_open checked every tensor: nothing is left to fail */
    struct mp_weight_slots slots = mp_weight_slots_new(&m->config.shape, dst);
    mp_weight_slots_load(&slots, m->tensors);
    mp_weight_slots_free(&slots);
    return 0;
}
