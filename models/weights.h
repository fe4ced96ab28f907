/* Weight tensors by their Hugging Face names: what a shape needs, and where each one goes. */
#ifndef MP_MODELS_WEIGHTS_H
#define MP_MODELS_WEIGHTS_H

#include "core/base/error.h"
#include "core/base/shape.h"
#include "core/safetensors/safetensors.h"
#include "models/model.h"

#include <stddef.h>
#include <stdint.h>

enum { MP_WEIGHT_NAME_SIZE = 64 };

/* One tensor the model needs. */
struct mp_weight_slot {
    char name[MP_WEIGHT_NAME_SIZE]; /* "model.layers.3.self_attn.q_proj.weight" */
    struct mp_weight weight;        /* dst is NULL without blocks */
};

/* All slots of a shape, sorted by name. */
struct mp_weight_slots {
    struct mp_weight_slot *items;
    size_t count;
};

/* dst: where the weights go, NULL to learn names and sizes only. Never follows its blocks. */
struct mp_weight_slots mp_weight_slots_new(const struct mp_shape *shape,
                                           const struct mp_weight_blocks *dst);
void mp_weight_slots_free(struct mp_weight_slots *s);

/* Parameters of all slots together. */
int64_t mp_weight_slots_elements(const struct mp_weight_slots *s);

/* Checks that the tensors have all slots, each with the right shape and BF16, F16 or F32; tied
 * embeddings may have the name of the head. MP_ERR_FORMAT lists the names; dir stands for the files
 * in the message. A warning lists tensors that are left over, but for a copy of tied embeddings and
 * the rope buffers of old checkpoints. */
int mp_weight_slots_check(const struct mp_weight_slots *s, const struct mp_shape *shape,
                          const struct mp_tensors *tensors, const char *dir, struct mp_error *err);

/* Reads every checked tensor into its slot's dst, in the files' order, each tensor on all threads,
 * and gives the pages of the files back behind it. False once stop(user), which is asked before
 * each, says true; NULL: nothing stops it. */
bool mp_weight_slots_load(const struct mp_weight_slots *s, const struct mp_tensors *tensors,
                          bool (*stop)(void *user), void *user);

#endif
