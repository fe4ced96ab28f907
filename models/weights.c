#include "models/weights.h"

#include "codelets/ffn/ffn.h"
#include "codelets/output/output.h"
#include "codelets/projection/projection.h"
#include "core/base/dtype.h"
#include "core/base/log.h"
#include "core/base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- slots ---- */

enum {
    SLOTS_OUTSIDE_LAYERS = 3,
    MAX_SLOTS_PER_LAYER = 18, /* 9 without biases and QK-norm */
};

/* rows: 0 for a vector. */
__attribute__((format(printf, 6, 7))) static void add(struct mp_weight_slots *s,
                                                      enum mp_weight_kind kind, int64_t rows,
                                                      int64_t columns, const void *dst,
                                                      const char *format, ...)
{
    struct mp_weight_slot *slot = &s->items[s->count++];
    va_list args;
    va_start(args, format);
    vsnprintf(slot->name, sizeof slot->name, format, args);
    va_end(args);
    /* The ops hand out read-only views; the caller owns the block and gave it for writing. */
    slot->weight = (struct mp_weight){kind, rows, columns, (void *)dst};
}

/* Row `row` of a bf16 matrix, and element i of a vector; NULL where there are no blocks. */
static const uint16_t *row_at(const uint16_t *matrix, int64_t row, int64_t columns)
{
    return matrix == NULL ? NULL : matrix + row * columns;
}

static const float *element_at(const float *vector, int64_t i)
{
    return vector == NULL ? NULL : vector + i;
}

static void add_attention(struct mp_weight_slots *s, const struct mp_shape *shape, int layer,
                          const struct projection_weights *p, const struct output_weights *o)
{
    static const char NAMES[3] = {'q', 'k', 'v'};
    int64_t hidden = shape->hidden_size;
    int64_t kv_width = (int64_t)shape->num_key_value_heads * shape->head_dim;
    int64_t row = 0; /* of the fused QKV matrix */
    add(s, MP_WEIGHT_GAIN, 0, hidden, p->norm, "model.layers.%d.input_layernorm.weight", layer);
    for (int i = 0; i < 3; i++) {
        int64_t rows = i == 0 ? mp_shape_q_width(shape) : kv_width;
        add(s, i == 0 ? MP_WEIGHT_QUERY : MP_WEIGHT_MATRIX, rows, hidden,
            row_at(p->qkv, row, hidden), "model.layers.%d.self_attn.%c_proj.weight", layer,
            NAMES[i]);
        if (shape->qkv_bias) {
            add(s, MP_WEIGHT_BIAS, 0, rows, element_at(p->bias, row),
                "model.layers.%d.self_attn.%c_proj.bias", layer, NAMES[i]);
        }
        row += rows;
    }
    if (shape->qk_norm) {
        add(s, MP_WEIGHT_GAIN, 0, shape->head_dim, p->q_norm,
            "model.layers.%d.self_attn.q_norm.weight", layer);
        add(s, MP_WEIGHT_GAIN, 0, shape->head_dim, p->k_norm,
            "model.layers.%d.self_attn.k_norm.weight", layer);
    }
    add(s, MP_WEIGHT_MATRIX, hidden, mp_shape_q_width(shape), o->o,
        "model.layers.%d.self_attn.o_proj.weight", layer);
    if (shape->output_bias) {
        add(s, MP_WEIGHT_BIAS, 0, hidden, o->bias, "model.layers.%d.self_attn.o_proj.bias", layer);
    }
}

static void add_ffn(struct mp_weight_slots *s, const struct mp_shape *shape, int layer,
                    const struct ffn_weights *f)
{
    int64_t hidden = shape->hidden_size;
    int64_t width = shape->intermediate_size;
    add(s, MP_WEIGHT_GAIN, 0, hidden, f->norm, "model.layers.%d.post_attention_layernorm.weight",
        layer);
    add(s, MP_WEIGHT_MATRIX, width, hidden, f->gate_up, "model.layers.%d.mlp.gate_proj.weight",
        layer);
    add(s, MP_WEIGHT_MATRIX, width, hidden, row_at(f->gate_up, width, hidden),
        "model.layers.%d.mlp.up_proj.weight", layer);
    add(s, MP_WEIGHT_MATRIX, hidden, width, f->down, "model.layers.%d.mlp.down_proj.weight", layer);
    if (shape->mlp_bias) {
        add(s, MP_WEIGHT_BIAS, 0, width, f->gate_up_bias, "model.layers.%d.mlp.gate_proj.bias",
            layer);
        add(s, MP_WEIGHT_BIAS, 0, width, element_at(f->gate_up_bias, width),
            "model.layers.%d.mlp.up_proj.bias", layer);
        add(s, MP_WEIGHT_BIAS, 0, hidden, f->down_bias, "model.layers.%d.mlp.down_proj.bias",
            layer);
    }
}

static int compare_slots(const void *a, const void *b)
{
    return strcmp(((const struct mp_weight_slot *)a)->name,
                  ((const struct mp_weight_slot *)b)->name);
}

struct mp_weight_slots mp_weight_slots_new(const struct mp_shape *shape,
                                           const struct mp_weight_blocks *dst)
{
    static const struct mp_weight_blocks NOWHERE;
    const struct mp_weight_blocks *to = dst == NULL ? &NOWHERE : dst;
    size_t most = SLOTS_OUTSIDE_LAYERS + (size_t)shape->num_hidden_layers * MAX_SLOTS_PER_LAYER;
    struct mp_weight_slots s = {.items = mp_xcalloc(most, sizeof *s.items)};

    add(&s, MP_WEIGHT_MATRIX, shape->vocab_size, shape->hidden_size, to->embed,
        "model.embed_tokens.weight");
    add(&s, MP_WEIGHT_GAIN, 0, shape->hidden_size, to->final_norm, "model.norm.weight");
    if (!shape->tied_embeddings) {
        add(&s, MP_WEIGHT_MATRIX, shape->vocab_size, shape->hidden_size, to->lm_head,
            "lm_head.weight");
    }
    for (int layer = 0; layer < shape->num_hidden_layers; layer++) {
        struct projection_weights projection = {0};
        struct output_weights output = {0};
        struct ffn_weights ffn = {0};
        if (dst != NULL) {
            projection_weights_at(shape, dst->projection[layer], &projection);
            output_weights_at(shape, dst->output[layer], &output);
            ffn_weights_at(shape, dst->ffn[layer], &ffn);
        }
        add_attention(&s, shape, layer, &projection, &output);
        add_ffn(&s, shape, layer, &ffn);
    }
    qsort(s.items, s.count, sizeof *s.items, compare_slots);
    return s;
}

void mp_weight_slots_free(struct mp_weight_slots *s)
{
    free(s->items);
    *s = (struct mp_weight_slots){0};
}

int64_t mp_weight_slots_elements(const struct mp_weight_slots *s)
{
    int64_t total = 0;
    for (size_t i = 0; i < s->count; i++) {
        total += mp_weight_elements(&s->items[i].weight);
    }
    return total;
}

static const struct mp_weight_slot *find_slot(const struct mp_weight_slots *s, const char *name)
{
    struct mp_weight_slot key;
    if (strlen(name) >= sizeof key.name) {
        return NULL;
    }
    strcpy(key.name, name);
    return bsearch(&key, s->items, s->count, sizeof *s->items, compare_slots);
}

/* Tied models may have their embedding under the name of the head alone. */
static const char *const EMBEDDING = "model.embed_tokens.weight";
static const char *const HEAD = "lm_head.weight";

static bool has_head_alone(const struct mp_weight_slots *s, const struct mp_tensors *tensors)
{
    return find_slot(s, HEAD) == NULL && mp_tensors_find(tensors, EMBEDDING) == NULL;
}

/* The slot that a tensor fills, or NULL. */
static const struct mp_weight_slot *slot_of(const struct mp_weight_slots *s,
                                            const struct mp_tensors *tensors, const char *name)
{
    bool renamed = strcmp(name, HEAD) == 0 && has_head_alone(s, tensors);
    return find_slot(s, renamed ? EMBEDDING : name);
}

/* The tensor that fills a slot, or NULL. */
static const struct mp_tensor *tensor_of(const struct mp_weight_slots *s,
                                         const struct mp_tensors *tensors,
                                         const struct mp_weight_slot *slot)
{
    bool renamed = strcmp(slot->name, EMBEDDING) == 0 && has_head_alone(s, tensors);
    return mp_tensors_find(tensors, renamed ? HEAD : slot->name);
}

/* ---- check ---- */

enum { LISTED = 4 }; /* names a list gives before "and n more" */

/* A growing "; label: a, b, c, d and 3 more" for the error message. */
struct list {
    const char *label;
    int count;
    char text[512];
};

__attribute__((format(printf, 2, 3))) static void list_add(struct list *l, const char *format, ...)
{
    if (l->count++ >= LISTED) {
        return;
    }
    size_t used = strlen(l->text);
    used +=
        (size_t)snprintf(l->text + used, sizeof l->text - used, "%s", l->count == 1 ? "" : ", ");
    if (used < sizeof l->text) {
        va_list args;
        va_start(args, format);
        vsnprintf(l->text + used, sizeof l->text - used, format, args);
        va_end(args);
    }
}

static void append_list(char *out, size_t size, const struct list *l)
{
    size_t used = strlen(out);
    if (l->count == 0 || used >= size) {
        return;
    }
    char more[32] = "";
    if (l->count > LISTED) {
        snprintf(more, sizeof more, " and %d more", l->count - LISTED);
    }
    snprintf(out + used, size - used, "%s%s: %s%s", used == 0 ? "" : "; ", l->label, l->text, more);
}

static void format_shape(char *out, size_t size, int rank, const int64_t *dims)
{
    size_t used = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < rank && used < size; i++) {
        used += (size_t)snprintf(out + used, size - used, "%s%lld", i == 0 ? "" : ", ",
                                 (long long)dims[i]);
    }
    if (used < size) {
        snprintf(out + used, size - used, "]");
    }
}

static void check_tensor(const struct mp_weight_slot *slot, const struct mp_tensor *t,
                         struct list *wrong)
{
    const struct mp_weight *w = &slot->weight;
    const int64_t dims[2] = {w->rows == 0 ? w->columns : w->rows, w->columns};
    int rank = w->rows == 0 ? 1 : 2;
    bool shape_ok =
        t->rank == rank && t->shape[0] == dims[0] && (rank == 1 || t->shape[1] == dims[1]);
    bool dtype_ok = t->dtype == MP_ST_BF16 || t->dtype == MP_ST_F16 || t->dtype == MP_ST_F32;
    if (shape_ok && dtype_ok) {
        return;
    }
    char expected[64];
    char found[96];
    format_shape(expected, sizeof expected, rank, dims);
    format_shape(found, sizeof found, t->rank, t->shape);
    list_add(wrong, "%s (expected BF16, F16 or F32 %s, found %s %s)", t->name, expected,
             mp_st_dtype_name(t->dtype), found);
}

/* Tensors that checkpoints carry without needing them. */
static bool may_be_left_over(const char *name, const struct mp_shape *shape)
{
    static const char BUFFER[] = ".rotary_emb.inv_freq";
    size_t length = strlen(name);
    return (shape->tied_embeddings && strcmp(name, "lm_head.weight") == 0) ||
           (length >= sizeof BUFFER - 1 &&
            strcmp(name + length - (sizeof BUFFER - 1), BUFFER) == 0);
}

/* One line about what the architecture has no use for. */
static void log_extra(const struct mp_weight_slots *s, const struct mp_shape *shape,
                      const struct mp_tensors *tensors, const char *dir)
{
    struct list extra = {.label = "not used"};
    for (size_t i = 0; i < mp_tensors_count(tensors); i++) {
        const char *name = mp_tensors_at(tensors, i)->name;
        if (slot_of(s, tensors, name) == NULL && !may_be_left_over(name, shape)) {
            list_add(&extra, "%.100s", name);
        }
    }
    char text[600] = "";
    append_list(text, sizeof text, &extra);
    if (extra.count > 0) {
        mp_log(MP_LOG_WARNING, "%s: tensors that a model of this config.json does not have: %s",
               dir, text);
    }
}

int mp_weight_slots_check(const struct mp_weight_slots *s, const struct mp_shape *shape,
                          const struct mp_tensors *tensors, const char *dir, struct mp_error *err)
{
    struct list missing = {.label = "missing"};
    struct list wrong = {.label = "wrong shape or type"};
    for (size_t i = 0; i < s->count; i++) {
        const struct mp_tensor *t = tensor_of(s, tensors, &s->items[i]);
        if (t == NULL) {
            list_add(&missing, "%s", s->items[i].name);
        } else {
            check_tensor(&s->items[i], t, &wrong);
        }
    }
    if (missing.count + wrong.count == 0) {
        log_extra(s, shape, tensors, dir);
        return 0;
    }
    char text[1024] = "";
    append_list(text, sizeof text, &missing);
    append_list(text, sizeof text, &wrong);
    return mp_fail(err, MP_ERR_FORMAT, "%s: tensors do not fit config.json: %s", dir, text);
}

/* ---- load ---- */

/* Elements converted at a time: enough to hide the fork, small enough to give pages back early. */
enum { CHUNK = 1 << 20 };

static float f16_to_f32(uint16_t h)
{
    /* The bits of the half at their place in a float read 2^112 too small: the biases are 15 and
     * 127. Infinity and NaN get the exponent that means the same in a float. */
    uint32_t bits = (uint32_t)(h & 0x7fffU) << 13;
    float f;
    memcpy(&f, &bits, sizeof f);
    f *= 0x1p112F;
    memcpy(&bits, &f, sizeof bits);
    bits |= (h & 0x7c00U) == 0x7c00U ? 0x7f800000U : 0U;
    bits |= (uint32_t)(h & 0x8000U) << 16;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Element i of a tensor whose data need not be aligned. */
static float element(const unsigned char *data, enum mp_st_dtype dtype, int64_t i)
{
    if (dtype == MP_ST_F32) {
        float f;
        memcpy(&f, data + i * 4, sizeof f);
        return f;
    }
    uint16_t h;
    memcpy(&h, data + i * 2, sizeof h);
    return dtype == MP_ST_F16 ? f16_to_f32(h) : mp_bf16_to_f32(h);
}

/* Elements [first, first + count) of a matrix, to bf16. */
static void load_matrix(const struct mp_tensor *t, uint16_t *dst, int64_t first, int64_t count)
{
    if (t->dtype == MP_ST_BF16) {
        memcpy(dst + first, (const char *)t->data + first * 2, (size_t)count * 2);
        return;
    }
    for (int64_t i = first; i < first + count; i++) {
        dst[i] = mp_f32_to_bf16(element(t->data, t->dtype, i));
    }
}

static void load_tensor(const struct mp_weight *w, const struct mp_tensor *t)
{
    int64_t total = mp_weight_elements(w);
    size_t size = mp_st_dtype_size(t->dtype);
#pragma omp parallel for schedule(dynamic) if (total > CHUNK)
    for (int64_t first = 0; first < total; first += CHUNK) {
        int64_t count = total - first < CHUNK ? total - first : CHUNK;
        if (w->rows > 0) {
            load_matrix(t, w->dst, first, count);
        } else {
            for (int64_t i = first; i < first + count; i++) {
                ((float *)w->dst)[i] = element(t->data, t->dtype, i);
            }
        }
        mp_tensor_release(t, (size_t)first * size, (size_t)count * size);
    }
}

bool mp_weight_slots_load(const struct mp_weight_slots *s, const struct mp_tensors *tensors,
                          bool (*stop)(void *user), void *user)
{
    for (size_t i = 0; i < mp_tensors_count(tensors); i++) {
        if (stop != NULL && stop(user)) {
            return false;
        }
        const struct mp_tensor *t = mp_tensors_at(tensors, i);
        const struct mp_weight_slot *slot = slot_of(s, tensors, t->name);
        if (slot != NULL && slot->weight.dst != NULL) {
            load_tensor(&slot->weight, t);
        }
    }
    return true;
}
