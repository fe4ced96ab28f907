/* A segment in a file: a safetensors file, so that other programs can look into it, in which every
 * tensor has a checksum. What is believed has the very header that this program would write for
 * such a segment, and every checksum right. */
#ifndef MP_PIPELINE_KV_FILE_H
#define MP_PIPELINE_KV_FILE_H

#include "core/base/file.h"
#include "pipeline/engine/prefixes/segment.h"

#include <sched.h>

#define MP_KV_FORMAT "magicpig-kv 1"

/* What a file says of itself. */
struct kv_file {
    char *path;
    int32_t *ids; /* [tokens] */
    int64_t tokens;
    int64_t bytes; /* of the file */
};

void kv_file_free(struct kv_file *f);

/* A file that is being written: beside its path, of its full size from the first on, and locked (by
 * flock) until it has its name or is gone. */
struct kv_new_file {
    struct mp_new_file file;
    int lock; /* a descriptor of it */
};

/* MP_ERR_IO: nothing is open. */
int kv_file_create(const char *path, int64_t bytes, struct kv_new_file *out, struct mp_error *err);

/* Bytes of a segment's file. */
int64_t kv_file_bytes(const struct mp_engine *e, const struct mp_segment *s);

/* Writes a segment's tokens to a file that was created for them, and renames and closes it.
 * MP_ERR_IO: what it was to replace is as it was. May be called by any thread while nobody changes
 * the segment. */
int kv_file_write(const struct mp_engine *e, const struct mp_segment *s, struct kv_new_file *to,
                  struct mp_error *err);

/* Opens a file and reads its header and ids, which are checked. MP_ERR_UNSUPPORTED: another model's
 * or other settings', so that it is nothing to this engine; MP_ERR_FORMAT: it is corrupt, or cut
 * off; MP_ERR_IO. *out: kv_file_free. */
int kv_file_open(const struct mp_engine *e, const char *path, struct kv_file *out,
                 struct mp_error *err);

/* Reads all of it into layers that have been created for its tokens, by threads on the cores
 * `cpus`. MP_ERR_FORMAT: also if it has other tokens by now; MP_ERR_IO, MP_ERR_RUNTIME: what the
 * layers hold is not to be used. */
int kv_file_load(const struct mp_engine *e, const struct kv_file *f,
                 const struct mp_layer_kv *layers, const cpu_set_t *cpus, struct mp_error *err);

#endif
