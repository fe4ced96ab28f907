#include "core/safetensors/safetensors.h"

#include "core/base/memory.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int fail_write(const struct mp_tensor_writer *w, struct mp_error *err)
{
    return mp_fail(err, MP_ERR_IO, "%s: cannot write: %s", w->file.path, strerror(errno));
}

int mp_tensor_writer_open(struct mp_tensor_writer *w, const char *path, const char *name,
                          int64_t rows, int64_t columns, struct mp_error *err)
{
    size_t bytes;
    if (!mp_size_mul((size_t)rows, (size_t)columns, &bytes) ||
        !mp_size_mul(bytes, sizeof(float), &bytes)) {
        return mp_fail(err, MP_ERR_MEMORY, "%s: %lld x %lld floats are more than can be addressed",
                       path, (long long)rows, (long long)columns);
    }
    *w = (struct mp_tensor_writer){.rows = rows, .columns = columns};
    int rc = mp_new_file_open(&w->file, path, err);
    if (rc != MP_OK) {
        return rc;
    }
    char *header =
        mp_xasprintf("{\"%s\":{\"dtype\":\"F32\",\"shape\":[%lld,%lld],\"data_offsets\":[0,%zu]}}",
                     name, (long long)rows, (long long)columns, bytes);
    /* Spaces up to a multiple of 8 keep the data aligned. */
    int width = (int)((strlen(header) + 7) / 8 * 8);
    uint64_t length = htole64((uint64_t)width);
    FILE *out = w->file.out;
    bool written =
        fwrite(&length, sizeof length, 1, out) == 1 && fprintf(out, "%-*s", width, header) >= 0;
    free(header);
    return written ? MP_OK : mp_tensor_writer_close(w, fail_write(w, err), err);
}

int mp_tensor_writer_rows(struct mp_tensor_writer *w, const float *values, int64_t rows,
                          struct mp_error *err)
{
    size_t count = (size_t)rows * (size_t)w->columns;
    if (fwrite(values, sizeof *values, count, w->file.out) != count) {
        return fail_write(w, err);
    }
    w->rows_written += rows;
    return MP_OK;
}

int mp_tensor_writer_close(struct mp_tensor_writer *w, int code, struct mp_error *err)
{
    if (code == MP_OK && w->rows_written != w->rows) {
        code = mp_fail(err, MP_ERR_IO, "%s: %lld rows written, %lld expected", w->file.path,
                       (long long)w->rows_written, (long long)w->rows);
    }
    return mp_new_file_close(&w->file, code, err);
}
