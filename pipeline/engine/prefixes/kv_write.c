/* From a segment to its file. */
#include "core/base/file.h"
#include "core/base/memory.h"
#include "pipeline/engine/prefixes/kv_file.h"
#include "pipeline/engine/prefixes/kv_layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { PIECE = 16 << 20 }; /* bytes that are on their way at a time, from a GPU */

static int write_bytes(struct mp_new_file *f, const void *data, size_t bytes, struct mp_error *err)
{
    if (fwrite(data, 1, bytes, f->out) != bytes) {
        return mp_fail(err, MP_ERR_IO, "%s: cannot write: %s", f->path, strerror(errno));
    }
    return 0;
}

/* A piece of host memory, or of a GPU's by way of `bounce` [PIECE]. */
static int write_extent(struct mp_new_file *f, const struct kv_extent *x, void *bounce,
                        XXH3_state_t *sum, struct mp_error *err)
{
    int code = 0;
    for (size_t at = 0; at < x->bytes && code == 0; at += PIECE) {
        const void *data = (const char *)x->data + at;
        size_t bytes = x->bytes - at < PIECE ? x->bytes - at : PIECE;
        if (x->place.memory == MP_MEMORY_GPU) {
            code = mp_memory_copy(MP_HOST, bounce, x->place, data, bytes, err);
            data = bounce;
        }
        if (code == 0) {
            XXH3_64bits_update(sum, data, bytes);
            code = write_bytes(f, data, bytes, err);
        }
    }
    return code;
}

/* sums [1 + count] gets the checksums, the header's first. */
static int write_tensors(struct mp_new_file *f, const struct kv_layout *l, const char *header,
                         uint64_t *sums, struct mp_error *err)
{
    uint64_t length = strlen(header);
    XXH3_state_t *sum = XXH3_createState();
    void *bounce = mp_xmalloc(PIECE);
    sums[0] = XXH3_64bits(header, length);
    int code = write_bytes(f, &length, sizeof length, err);
    if (code == 0) {
        code = write_bytes(f, header, length, err);
    }
    for (int i = 0; i < l->count && code == 0; i++) {
        XXH3_64bits_reset(sum);
        for (int x = 0; x < l->tensors[i].num_extents && code == 0; x++) {
            code = write_extent(f, &l->tensors[i].extents[x], bounce, sum, err);
        }
        sums[1 + i] = XXH3_64bits_digest(sum);
    }
    free(bounce);
    XXH3_freeState(sum);
    return code;
}

int kv_file_write(const struct mp_engine *e, const struct mp_segment *s, const char *path,
                  struct mp_error *err)
{
    struct kv_layout l;
    struct mp_new_file f;
    kv_layout_make(e, s->layers, s->ids, s->tokens, &l);
    char *header = kv_layout_header(e, &l, s->tokens);
    uint64_t *sums = mp_xcalloc(1 + (size_t)l.count, sizeof *sums);
    int code = mp_new_file_open(&f, path, err);
    if (code == 0) {
        code = write_tensors(&f, &l, header, sums, err);
        if (code == 0) {
            code = write_bytes(&f, sums, (1 + (size_t)l.count) * sizeof *sums, err);
        }
        code = mp_new_file_close(&f, code, err);
    }
    free(sums);
    free(header);
    kv_layout_free(&l);
    return code;
}
