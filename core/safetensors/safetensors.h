/* Tensors of safetensors files: one file or a sharded set, mapped read-only.
 *
 * Everything a header says is checked when it is opened: its length, every shape (products checked
 * for overflow), span = shape x dtype, no overlap, no hole, the last tensor ends at the end of the
 * file, no name twice. Errors are MP_ERR_FORMAT and name file and tensor.
 */
#ifndef MP_CORE_SAFETENSORS_H
#define MP_CORE_SAFETENSORS_H

#include "core/base/error.h"
#include "core/base/file.h"

#include <stddef.h>
#include <stdint.h>

enum mp_st_dtype {
    MP_ST_BOOL,
    MP_ST_U8,
    MP_ST_I8,
    MP_ST_F8_E5M2,
    MP_ST_F8_E4M3,
    MP_ST_U16,
    MP_ST_I16,
    MP_ST_F16,
    MP_ST_BF16,
    MP_ST_U32,
    MP_ST_I32,
    MP_ST_F32,
    MP_ST_U64,
    MP_ST_I64,
    MP_ST_F64,
};

/* Bytes of one element, and the name in the header ("BF16"). */
size_t mp_st_dtype_size(enum mp_st_dtype dtype);
const char *mp_st_dtype_name(enum mp_st_dtype dtype);

enum { MP_ST_MAX_RANK = 8 };

struct mp_tensor {
    const char *name;
    enum mp_st_dtype dtype;
    int rank;                      /* 0: a scalar */
    int64_t shape[MP_ST_MAX_RANK]; /* outermost first */
    const void *data;              /* [bytes], inside the mapping; only aligned if the file is */
    size_t bytes;
    const char *file; /* path of its file, for messages */
};

struct mp_tensors; /* opaque: all tensors of one file or set */

/* Opens one file. */
int mp_tensors_open_file(const char *path, struct mp_tensors **out, struct mp_error *err);

/* Opens the weights of a model directory: model.safetensors, or the shards that
 * model.safetensors.index.json names, or (with neither) every model-*-of-*.safetensors. Tensors
 * that the index promises and no shard has, that are in two shards or in another than the index
 * says are errors that list them. */
int mp_tensors_open_dir(const char *dir, struct mp_tensors **out, struct mp_error *err);

void mp_tensors_close(struct mp_tensors *t);

/* In order of file and position. */
size_t mp_tensors_count(const struct mp_tensors *t);
const struct mp_tensor *mp_tensors_at(const struct mp_tensors *t, size_t i);

/* By name (hashed), or NULL. */
const struct mp_tensor *mp_tensors_find(const struct mp_tensors *t, const char *name);

/* Gives the memory of a tensor's bytes [offset, offset + bytes) back to the system: whole pages
 * inside the range. They are read from the file again when next touched. */
void mp_tensor_release(const struct mp_tensor *t, size_t offset, size_t bytes);

/* ---- writing ---- */

/* Writes one file with one float32 tensor of shape [rows][columns], a few rows at a time. */
struct mp_tensor_writer {
    struct mp_new_file file;
    int64_t rows;
    int64_t columns;
    int64_t rows_written;
};

/* name: plain ASCII without quotes or backslashes. On failure nothing is left open. */
int mp_tensor_writer_open(struct mp_tensor_writer *w, const char *path, const char *name,
                          int64_t rows, int64_t columns, struct mp_error *err);
/* values: [rows][columns]. */
int mp_tensor_writer_rows(struct mp_tensor_writer *w, const float *values, int64_t rows,
                          struct mp_error *err);
/* Closes; with code 0, and if no rows are missing, path is then the file that was written,
 * otherwise it stays as it was. Returns code, or MP_ERR_IO. */
int mp_tensor_writer_close(struct mp_tensor_writer *w, int code, struct mp_error *err);

#endif
