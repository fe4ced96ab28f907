/* What a file of a segment holds, in order: which tensors, and which memory each of them is. The
 * writer and the reader walk the same list, so that a file is read by the code that has written it.
 *
 * Arrays are by KV heads, whatever devices and workers they were dealt out to. */
#ifndef MP_PIPELINE_KV_LAYOUT_H
#define MP_PIPELINE_KV_LAYOUT_H

#include "core/safetensors/safetensors.h"
#include "pipeline/engine/prefixes/segment.h"

/* A piece of memory. */
struct kv_extent {
    struct mp_place place;
    void *data;
    size_t bytes;
};

enum { KV_RANK = 4 };

struct kv_tensor {
    char *name;
    enum mp_st_dtype dtype;
    int64_t shape[KV_RANK];
    int rank;
    struct kv_extent *extents; /* [shape[0]], of equal size: a KV head's; or all of it in one */
    int num_extents;
};

struct kv_layout {
    struct kv_tensor *tensors; /* [count] "ids" first */
    int count;
};

/* That of the first `tokens` tokens of a segment whose layers are there; ids [tokens]. */
void kv_layout_make(const struct mp_engine *e, const struct mp_layer_kv *layers, int32_t *ids,
                    int64_t tokens, struct kv_layout *out);
void kv_layout_free(struct kv_layout *l);

size_t kv_tensor_bytes(const struct kv_tensor *t);

/* The header of such a file: a safetensors header, whose last tensor, "checksums", has XXH3's 64
 * bits of the header and of each tensor before it. As long as a multiple of 8, without the number
 * of its bytes that precedes it. The caller's: free. */
char *kv_layout_header(const struct mp_engine *e, const struct kv_layout *l, int64_t tokens);

/* Those settings that what is kept of a prompt depends on, in one line. The caller's: free. */
char *kv_settings(const struct mp_engine *e);

#endif
