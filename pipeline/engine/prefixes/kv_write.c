/* From a segment to its file. */
#include "core/base/memory.h"
#include "pipeline/engine/prefixes/kv_file.h"
#include "pipeline/engine/prefixes/kv_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

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

/* The lock is held until the file has its name. */
static int close_file(struct kv_new_file *f, int code, struct mp_error *err)
{
    code = mp_new_file_close(&f->file, code, err);
    if (f->lock >= 0) {
        close(f->lock);
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

int64_t kv_file_bytes(const struct mp_engine *e, const struct mp_segment *s)
{
    struct kv_layout l;
    kv_layout_make(e, s->layers, s->ids, s->tokens, &l);
    char *header = kv_layout_header(e, &l, s->tokens);
    size_t bytes = 8 + strlen(header) + 8 * (1 + (size_t)l.count);
    for (int i = 0; i < l.count; i++) {
        bytes += kv_tensor_bytes(&l.tensors[i]);
    }
    free(header);
    kv_layout_free(&l);
    return (int64_t)bytes;
}

int kv_file_create(const char *path, int64_t bytes, struct kv_new_file *out, struct mp_error *err)
{
    int code = mp_new_file_open(&out->file, path, err);
    if (code != 0) {
        return code;
    }
    int fd = fileno(out->file.out);
    out->lock = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int no_locks = flock(fd, LOCK_EX | LOCK_NB);
    (void)no_locks; /* then nobody takes it for abandoned either */
    if (out->lock < 0 || ftruncate(fd, (off_t)bytes) != 0) {
        code = mp_fail(err, MP_ERR_IO, "%s: cannot write %lld bytes: %s", path, (long long)bytes,
                       strerror(errno));
        close_file(out, code, err);
    }
    return code;
}

int kv_file_write(const struct mp_engine *e, const struct mp_segment *s, struct kv_new_file *to,
                  struct mp_error *err)
{
    struct kv_layout l;
    kv_layout_make(e, s->layers, s->ids, s->tokens, &l);
    char *header = kv_layout_header(e, &l, s->tokens);
    uint64_t *sums = mp_xcalloc(1 + (size_t)l.count, sizeof *sums);
    int code = write_tensors(&to->file, &l, header, sums, err);
    if (code == 0) {
        code = write_bytes(&to->file, sums, (1 + (size_t)l.count) * sizeof *sums, err);
    }
    free(sums);
    free(header);
    kv_layout_free(&l);
    return close_file(to, code, err);
}
