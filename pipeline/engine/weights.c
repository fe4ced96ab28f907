/* The weights: their buffers, and reading them from the model's files or drawing them at random. */
#include "codelets/ffn/ffn.h"
#include "codelets/output/output.h"
#include "codelets/projection/projection.h"
#include "codelets/random/random.h"
#include "core/base/memory.h"
#include "pipeline/engine/internal.h"

#include <math.h>
#include <stdlib.h>

/* Every buffer of weights: embed, lm_head and final_norm, then projection, output and ffn of each
 * layer. */
enum { SHARED_BLOCKS = 3, LAYER_BLOCKS = 3 };

struct block {
    struct mp_buffer *buffer;
    struct mp_device device; /* that has it */
    size_t bytes;
    const char *what;
};

static int num_blocks(const struct mp_engine *e)
{
    return SHARED_BLOCKS + LAYER_BLOCKS * e->shape->num_hidden_layers;
}

static void list_blocks(struct mp_engine *e, struct block *list)
{
    const struct mp_shape *s = e->shape;
    const struct mp_placements *p = &e->graph.placements;
    struct mp_model_weights *w = &e->weights;
    /* The first of several parts has what belongs to no layer. */
    size_t matrix = e->part == 0 ? (size_t)mp_weights_matrix_bytes(e) : 0;
    size_t norm = e->part == 0 ? (size_t)s->hidden_size * sizeof(float) : 0;
    struct mp_device last = mp_last_device(p);
    list[0] = (struct block){&w->embed, p->devices[0], matrix, "embedding"};
    list[1] = (struct block){&w->lm_head, last, s->tied_embeddings ? 0 : matrix, "LM head"};
    list[2] = (struct block){&w->final_norm, last, norm, "final norm"};
    for (int l = 0; l < s->num_hidden_layers; l++) {
        struct mp_layer_weights *layer = &w->layers[l];
        struct block *of = list + SHARED_BLOCKS + LAYER_BLOCKS * l;
        struct mp_device at = p->layers[l].dense;
        of[0] = (struct block){&layer->projection, at, projection_weights_at(s, NULL, NULL),
                               "projection weights"};
        of[1] =
            (struct block){&layer->output, at, output_weights_at(s, NULL, NULL), "output weights"};
        of[2] = (struct block){&layer->ffn, at, ffn_weights_at(s, NULL, NULL), "FFN weights"};
    }
}

int64_t mp_weights_matrix_bytes(const struct mp_engine *e)
{
    return (int64_t)e->shape->vocab_size * e->shape->hidden_size * (int64_t)sizeof(uint16_t);
}

int64_t mp_weights_layer_bytes(const struct mp_engine *e)
{
    const struct mp_shape *s = e->shape;
    return (int64_t)(projection_weights_at(s, NULL, NULL) + output_weights_at(s, NULL, NULL) +
                     ffn_weights_at(s, NULL, NULL));
}

/* Where the models' room is to put the weights: the memory of each block in the list's order, NULL
 * for those it is to leave out. layers has room for all LAYER_BLOCKS * num_hidden_layers. */
static struct mp_weight_blocks blocks_at(const struct mp_engine *e, void **memory, void **layers)
{
    int n = e->shape->num_hidden_layers;
    for (int l = 0; l < n; l++) {
        for (int i = 0; i < LAYER_BLOCKS; i++) {
            layers[i * n + l] = memory[SHARED_BLOCKS + LAYER_BLOCKS * l + i];
        }
    }
    return (struct mp_weight_blocks){
        .embed = memory[0],
        .lm_head = memory[1],
        .final_norm = memory[2],
        .projection = layers,
        .output = layers + n,
        .ffn = layers + 2 * n,
    };
}

/* ---- read ---- */

static int read_all(struct mp_engine *e, void **memory, struct mp_error *err)
{
    void *layers[num_blocks(e)];
    struct mp_weight_blocks to = blocks_at(e, memory, layers);
    return mp_model_load(e->model, &to, e->host->stop, e->host->user, err);
}

/* Through one block's worth of CPU memory, so that a model larger than that memory can be read. */
static int read_to_gpu(struct mp_engine *e, const struct block *list, struct mp_error *err)
{
    void *staging =
        mp_alloc(mp_weights_largest_block(e), 1, "weights on their way to the GPU", err);
    int code = staging == NULL ? MP_ERR_MEMORY : 0;
    for (int i = 0; i < num_blocks(e) && code == 0; i++) {
        void *memory[num_blocks(e)];
        for (int j = 0; j < num_blocks(e); j++) {
            memory[j] = j == i && list[i].bytes > 0 ? staging : NULL;
        }
        code = read_all(e, memory, err);
        if (code == 0 && list[i].bytes > 0) {
            code = mp_buffer_fill(list[i].buffer, staging, err);
        }
    }
    mp_free(staging);
    return code;
}

/* ---- draw ---- */

/* The block that holds an address. */
static const struct mp_buffer *holder(const struct mp_engine *e, const struct block *list,
                                      const void *at)
{
    for (int i = 0; i < num_blocks(e); i++) {
        const char *begin = list[i].buffer->data;
        if (begin != NULL && (const char *)at >= begin &&
            (const char *)at < begin + list[i].bytes) {
            return list[i].buffer;
        }
    }
    mp_panic("a weight lies in none of the %d blocks", num_blocks(e));
}

/* Matrices that keep the size of what they multiply, gains of 1, no bias. Queries lie in the first
 * rotation pairs of their heads, so that synthetic keys can meet them as often as is asked for. */
static void draw_weight(struct mp_submit *sub, const struct mp_engine *e,
                        const struct mp_buffer *block, const struct mp_weight *w, uint64_t seed)
{
    bool matrix = w->rows > 0;
    size_t at = (size_t)((const char *)w->dst - (const char *)block->data);
    struct random_part what = {
        .dtype = matrix ? MP_BF16 : MP_F32,
        .offset = (int64_t)(at / (matrix ? sizeof(uint16_t) : sizeof(float))),
        .count = mp_weight_elements(w),
        .numbers = {.seed = seed, .center = w->kind == MP_WEIGHT_GAIN ? 1.0f : 0.0f},
    };
    float spread = matrix ? sqrtf(3.0f / (float)w->columns) : 0.0f;
    if (w->kind == MP_WEIGHT_QUERY) {
        what.numbers.pairs = MP_QUERY_PAIRS;
        what.numbers.pair_spread = spread;
        what.numbers.head_dim = e->shape->head_dim;
        what.numbers.stride = w->columns;
    } else {
        what.numbers.spread = spread;
    }
    random_insert(sub, block, &what);
}

/* Those whose memory is given [blocks]; the others' is NULL. */
static int draw(struct mp_engine *e, const struct block *list, void **memory, struct mp_error *err)
{
    void *layers[num_blocks(e)];
    struct mp_weight_blocks at = blocks_at(e, memory, layers);
    struct mp_weight *weights;
    size_t count = mp_model_weights(e->model, &at, &weights);
    struct mp_task_group *group = mp_task_group_create();
    struct mp_submit sub = mp_submit_begin(group, err);
    for (size_t i = 0; i < count; i++) {
        if (weights[i].dst != NULL) {
            draw_weight(&sub, e, holder(e, list, weights[i].dst), &weights[i], i);
        }
    }
    mp_task_group_destroy(group);
    free(weights);
    return sub.code;
}

/* ---- parts ---- */

/* A block of the model, in host memory, to each part: as much of it as that has. */
static int fill_parts_of(struct mp_engine *e, int block, const void *whole, void *staging,
                         struct mp_error *err)
{
    int code = 0;
    for (int p = 0; p < e->num_parts && code == 0; p++) {
        struct mp_engine *part = e->parts[p];
        struct block list[num_blocks(part)];
        list_blocks(part, list);
        const int kind = block < SHARED_BLOCKS ? -1 : (block - SHARED_BLOCKS) % LAYER_BLOCKS;
        if (kind == 0) {
            projection_weights_part(e->shape, whole, part->shape, p, staging);
        } else if (kind == 1) {
            output_weights_part(e->shape, whole, part->shape, p, staging);
        } else if (kind == 2) {
            ffn_weights_part(e->shape, whole, part->shape, p, staging);
        }
        if (list[block].bytes > 0) {
            code = mp_buffer_fill(list[block].buffer, kind < 0 ? whole : staging, err);
        }
    }
    return code;
}

/* Block by block through host memory. */
static int fill_parts(struct mp_engine *e, struct mp_error *err)
{
    const size_t largest = mp_weights_largest_block(e);
    struct mp_layer_weights layers[e->shape->num_hidden_layers];
    struct mp_engine any = *e; /* its list tells what blocks the model has */
    struct block list[num_blocks(e)];
    struct mp_allocator a = {.err = err};
    struct mp_buffer whole = {0};
    any.weights.layers = layers;
    list_blocks(&any, list);
    mp_buffer_create(&a, &whole, MP_HOST, largest, "weights on their way to the GPUs");
    void *staging = mp_allocate(&a, MP_HOST, largest, "weights on their way to the GPUs");
    for (int i = 0; i < num_blocks(e) && a.code == 0; i++) {
        void *memory[num_blocks(e)];
        struct mp_buffer none = {0};
        for (int j = 0; j < num_blocks(e); j++) {
            memory[j] = j == i && list[i].bytes > 0 ? whole.data : NULL;
            list[j].buffer = j == i ? &whole : &none;
        }
        a.code =
            mp_model_has_weights(e->model) ? read_all(e, memory, err) : draw(e, list, memory, err);
        if (a.code == 0 && list[i].bytes > 0) {
            a.code = fill_parts_of(e, i, whole.data, staging, err);
        }
    }
    mp_memory_free(MP_HOST, staging, largest);
    mp_buffer_release(&whole);
    return a.code;
}

/* ---- life ---- */

size_t mp_weights_largest_block(const struct mp_engine *e)
{
    struct mp_layer_weights layers[e->shape->num_hidden_layers];
    struct mp_engine any = *e; /* the list holds addresses in it, which nobody follows */
    struct block list[num_blocks(e)];
    any.weights.layers = layers;
    list_blocks(&any, list);
    size_t largest = 0;
    for (int i = 0; i < num_blocks(e); i++) {
        largest = list[i].bytes > largest ? list[i].bytes : largest;
    }
    return largest;
}

void mp_weights_create(struct mp_engine *e, struct mp_allocator *a)
{
    for (int p = 0; p < e->num_parts; p++) {
        mp_weights_create(e->parts[p], a);
    }
    if (e->parts != NULL) {
        return;
    }
    struct block list[num_blocks(e)];
    e->weights.layers = mp_xcalloc((size_t)e->shape->num_hidden_layers, sizeof *e->weights.layers);
    list_blocks(e, list);
    for (int i = 0; i < num_blocks(e); i++) {
        if (list[i].bytes > 0) {
            mp_buffer_create(a, list[i].buffer, mp_memory_of(list[i].device), list[i].bytes,
                             list[i].what);
        }
    }
}

int mp_weights_fill(struct mp_engine *e, struct mp_error *err)
{
    if (e->parts != NULL) {
        return fill_parts(e, err);
    }
    struct block list[num_blocks(e)];
    void *memory[num_blocks(e)];
    list_blocks(e, list);
    for (int i = 0; i < num_blocks(e); i++) {
        memory[i] = list[i].bytes > 0 ? list[i].buffer->data : NULL;
    }
    if (!mp_model_has_weights(e->model)) {
        return draw(e, list, memory, err);
    }
    return mp_dense(e).kind == MP_GPU ? read_to_gpu(e, list, err) : read_all(e, memory, err);
}

void mp_weights_destroy(struct mp_engine *e)
{
    for (int p = 0; p < e->num_parts; p++) {
        mp_weights_destroy(e->parts[p]);
    }
    if (e->weights.layers == NULL) {
        return;
    }
    struct block list[num_blocks(e)];
    list_blocks(e, list);
    for (int i = 0; i < num_blocks(e); i++) {
        mp_buffer_release(list[i].buffer);
    }
    free(e->weights.layers);
    e->weights.layers = NULL;
}
