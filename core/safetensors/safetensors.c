#include "core/safetensors/safetensors.h"

#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/safetensors/safetensors_set.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LENGTH_BYTES = 8, /* the header's length, little-endian, before the header */
    MAX_HEADER_BYTES = 100 << 20,
};

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [MP_ST_BOOL] = {"BOOL", 1},       [MP_ST_U8] = {"U8", 1},           [MP_ST_I8] = {"I8", 1},
    [MP_ST_F8_E5M2] = {"F8_E5M2", 1}, [MP_ST_F8_E4M3] = {"F8_E4M3", 1}, [MP_ST_U16] = {"U16", 2},
    [MP_ST_I16] = {"I16", 2},         [MP_ST_F16] = {"F16", 2},         [MP_ST_BF16] = {"BF16", 2},
    [MP_ST_U32] = {"U32", 4},         [MP_ST_I32] = {"I32", 4},         [MP_ST_F32] = {"F32", 4},
    [MP_ST_U64] = {"U64", 8},         [MP_ST_I64] = {"I64", 8},         [MP_ST_F64] = {"F64", 8},
};

size_t mp_st_dtype_size(enum mp_st_dtype dtype)
{
    return dtypes[dtype].size;
}

const char *mp_st_dtype_name(enum mp_st_dtype dtype)
{
    return dtypes[dtype].name;
}

/* ---- one tensor's entry in a header ---- */

static int read_dtype(const struct mp_json *header, const struct cJSON *entry,
                      enum mp_st_dtype *dtype, struct mp_error *err)
{
    const char *name;
    int rc = mp_json_get_string(header, entry, "dtype", &name, err);
    if (rc != MP_OK) {
        return rc;
    }
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            *dtype = (enum mp_st_dtype)i;
            return MP_OK;
        }
    }
    return mp_json_fail(header, entry, err, "unknown dtype \"%.40s\"", name);
}

/* Reads the shape into tensor and gives the bytes that it takes. */
static int read_shape(const struct mp_json *header, const struct cJSON *entry,
                      struct mp_tensor *tensor, size_t *bytes, struct mp_error *err)
{
    const struct cJSON *shape;
    int rc = mp_json_get_array(header, entry, "shape", &shape, err);
    if (rc != MP_OK) {
        return rc;
    }
    *bytes = mp_st_dtype_size(tensor->dtype);
    for (const struct cJSON *v = mp_json_first(shape); v != NULL; v = mp_json_after(v)) {
        if (tensor->rank == MP_ST_MAX_RANK) {
            return mp_json_fail(header, shape, err, "more than %d dimensions", MP_ST_MAX_RANK);
        }
        int64_t *size = &tensor->shape[tensor->rank++];
        rc = mp_json_as_int(header, v, 0, MP_JSON_MAX_INT, size, err);
        if (rc != MP_OK) {
            return rc;
        }
        if (!mp_size_mul(*bytes, (size_t)*size, bytes)) {
            return mp_json_fail(header, shape, err, "more bytes than can be addressed");
        }
    }
    return MP_OK;
}

/* Reads "data_offsets": [begin, end) relative to the end of the header. */
static int read_offsets(const struct mp_json *header, const struct cJSON *entry, size_t *begin,
                        size_t *end, struct mp_error *err)
{
    const struct cJSON *offsets;
    int rc = mp_json_get_array(header, entry, "data_offsets", &offsets, err);
    if (rc != MP_OK) {
        return rc;
    }
    if (mp_json_count(offsets) != 2) {
        return mp_json_fail(header, offsets, err, "expected [begin, end], found %zu elements",
                            mp_json_count(offsets));
    }
    const struct cJSON *first = mp_json_first(offsets);
    int64_t from = 0;
    int64_t to = 0;
    rc = mp_json_as_int(header, first, 0, MP_JSON_MAX_INT, &from, err);
    if (rc == MP_OK) {
        rc = mp_json_as_int(header, mp_json_after(first), from, MP_JSON_MAX_INT, &to, err);
    }
    *begin = (size_t)from;
    *end = (size_t)to;
    return rc;
}

/* Its data may lie beyond the end of the file: check_tiling tells. */
static int read_tensor(const struct mp_tensor_file *file, const struct cJSON *entry,
                       const char *data, struct mp_tensor *tensor, struct mp_error *err)
{
    *tensor = (struct mp_tensor){.name = mp_json_key(entry), .file = file->path};
    size_t bytes = 0;
    size_t begin = 0;
    size_t end = 0;
    int rc = mp_json_expect(file->header, entry, MP_JSON_OBJECT, err);
    if (rc == MP_OK) {
        rc = read_dtype(file->header, entry, &tensor->dtype, err);
    }
    if (rc == MP_OK) {
        rc = read_shape(file->header, entry, tensor, &bytes, err);
    }
    if (rc == MP_OK) {
        rc = read_offsets(file->header, entry, &begin, &end, err);
    }
    if (rc == MP_OK && end - begin != bytes) {
        rc = mp_json_fail(file->header, entry, err,
                          "data_offsets span %zu bytes, shape and dtype need %zu", end - begin,
                          bytes);
    }
    tensor->data = data + begin;
    tensor->bytes = bytes;
    return rc;
}

/* ---- one file ---- */

static int by_position(const void *a, const void *b)
{
    const struct mp_tensor *x = a;
    const struct mp_tensor *y = b;
    const char *p = x->data;
    const char *q = y->data;
    if (p != q) {
        return p < q ? -1 : 1;
    }
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; /* empty ones first */
}

/* Checks that tensors in order of position tile the data: no overlap, no hole, to the end. */
static int check_tiling(const struct mp_tensor_file *file, const struct mp_tensor *tensors,
                        size_t count, const char *data, size_t data_size, struct mp_error *err)
{
    size_t end = 0;
    for (size_t i = 0; i < count; i++) {
        size_t begin = (size_t)((const char *)tensors[i].data - data);
        if (begin < end) {
            return mp_fail(err, MP_ERR_FORMAT, "%s: tensors \"%.200s\" and \"%.200s\" overlap",
                           file->path, tensors[i - 1].name, tensors[i].name);
        }
        if (begin > end) {
            return mp_fail(err, MP_ERR_FORMAT, "%s: hole of %zu bytes before tensor \"%.200s\"",
                           file->path, begin - end, tensors[i].name);
        }
        end = begin + tensors[i].bytes;
    }
    if (end > data_size) {
        return mp_fail(err, MP_ERR_FORMAT, "%s: incomplete download: %zu of %zu bytes", file->path,
                       file->size, file->size - data_size + end);
    }
    if (end < data_size) {
        return mp_fail(err, MP_ERR_FORMAT, "%s: the tensors end after %zu bytes of data, found %zu",
                       file->path, end, data_size);
    }
    return MP_OK;
}

/* "__metadata__" maps strings to strings; its content is not used. */
static int check_metadata(const struct mp_json *header, const struct cJSON *metadata,
                          struct mp_error *err)
{
    int rc = mp_json_expect(header, metadata, MP_JSON_OBJECT, err);
    if (rc != MP_OK) {
        return rc;
    }
    for (const struct cJSON *v = mp_json_first(metadata); v != NULL; v = mp_json_after(v)) {
        const char *unused;
        rc = mp_json_as_string(header, v, &unused, err);
        if (rc != MP_OK) {
            return rc;
        }
    }
    return MP_OK;
}

/* Maps path read-only. On failure nothing is left open. */
static int map_file(struct mp_tensor_file *file, const char *path, struct mp_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return mp_fail(err, MP_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    struct stat st = {0};
    int rc = MP_OK;
    void *base = NULL;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        rc = mp_fail(err, MP_ERR_IO, "%s: not a regular file", path);
    } else if (st.st_size < LENGTH_BYTES) {
        rc = mp_fail(err, MP_ERR_FORMAT, "%s: %lld bytes, a safetensors file has at least %d", path,
                     (long long)st.st_size, LENGTH_BYTES);
    } else {
        base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (base == MAP_FAILED) {
            rc = mp_fail(err, MP_ERR_IO, "%s: cannot map: %s", path, strerror(errno));
        }
    }
    close(fd);
    if (rc == MP_OK) {
        *file = (struct mp_tensor_file){
            .path = mp_xstrdup(path), .base = base, .size = (size_t)st.st_size};
    }
    return rc;
}

static int parse_header(struct mp_tensor_file *file, size_t *header_size, struct mp_error *err)
{
    const char *base = file->base;
    uint64_t length;
    if (mp_file_is_lfs_pointer(base, file->size)) {
        return mp_fail(err, MP_ERR_FORMAT,
                       "%s: found a Git LFS pointer, expected tensors: run git lfs pull",
                       file->path);
    }
    memcpy(&length, base, sizeof length);
    length = le64toh(length);
    size_t room = file->size - LENGTH_BYTES;
    if (length > MAX_HEADER_BYTES) {
        return mp_fail(err, MP_ERR_FORMAT,
                       "%s: header of %llu bytes, at most %d are possible: no safetensors file",
                       file->path, (unsigned long long)length, MAX_HEADER_BYTES);
    }
    if (length > room) {
        return mp_fail(err, MP_ERR_FORMAT,
                       "%s: header of %zu bytes, the file has %zu: incomplete download, or no "
                       "safetensors file",
                       file->path, (size_t)length, file->size);
    }
    if (length == 0 || base[LENGTH_BYTES] != '{') {
        return mp_fail(err, MP_ERR_FORMAT, "%s: the header does not start with '{'", file->path);
    }
    *header_size = (size_t)length;
    char *name = mp_xasprintf("%s (header)", file->path); /* lines count from the header's start */
    int rc = mp_json_parse(name, base + LENGTH_BYTES, (size_t)length, &file->header, err);
    free(name);
    return rc;
}

/* Appends the tensors of a mapped file whose header is parsed. */
static int add_tensors(struct mp_tensors *t, const struct mp_tensor_file *file, size_t header_size,
                       struct mp_error *err)
{
    const char *data = (const char *)file->base + LENGTH_BYTES + header_size;
    size_t data_size = file->size - LENGTH_BYTES - header_size;
    const struct cJSON *root = mp_json_root(file->header);
    size_t first = t->count;
    t->items = mp_xrealloc(t->items, first + mp_json_count(root), sizeof *t->items);
    for (const struct cJSON *v = mp_json_first(root); v != NULL; v = mp_json_after(v)) {
        int rc = strcmp(mp_json_key(v), "__metadata__") == 0
                     ? check_metadata(file->header, v, err)
                     : read_tensor(file, v, data, &t->items[t->count++], err);
        if (rc != MP_OK) {
            return rc;
        }
    }
    struct mp_tensor *added = t->items + first;
    if (t->count > first) {
        qsort(added, t->count - first, sizeof *added, by_position);
    }
    return check_tiling(file, added, t->count - first, data, data_size, err);
}

int mp_tensors_add_file(struct mp_tensors *t, const char *path, struct mp_error *err)
{
    struct mp_tensor_file file;
    int rc = map_file(&file, path, err);
    if (rc != MP_OK) {
        return rc;
    }
    size_t header_size = 0;
    rc = parse_header(&file, &header_size, err);
    t->files = mp_xrealloc(t->files, t->num_files + 1, sizeof *t->files);
    t->files[t->num_files++] = file;
    return rc == MP_OK ? add_tensors(t, &file, header_size, err) : rc;
}

/* ---- a set ---- */

void mp_name_list_add(struct mp_name_list *list, const char *name)
{
    size_t used = strlen(list->text);
    size_t room = sizeof list->text - used;
    const char *separator = list->count > 0 ? ", " : "";
    if (strlen(separator) + strlen(name) + sizeof ", ..." <= room) {
        snprintf(list->text + used, room, "%s%s", separator, name);
    } else if (used < 3 || strcmp(list->text + used - 3, "...") != 0) {
        snprintf(list->text + used, room, "%s...", separator);
    }
    list->count++;
}

int mp_tensors_index(struct mp_tensors *t, const char *where, struct mp_error *err)
{
    struct mp_name_list twice = {0};
    for (size_t i = 0; i < t->count; i++) {
        if (!mp_strmap_add(&t->by_name, t->items[i].name, &t->items[i])) {
            mp_name_list_add(&twice, t->items[i].name);
        }
    }
    if (twice.count > 0) {
        return mp_fail(err, MP_ERR_FORMAT, "%s: %zu tensors are in more than one file: %s", where,
                       twice.count, twice.text);
    }
    return MP_OK;
}

int mp_tensors_open_file(const char *path, struct mp_tensors **out, struct mp_error *err)
{
    struct mp_tensors *t = mp_xcalloc(1, sizeof *t);
    int rc = mp_tensors_add_file(t, path, err);
    if (rc == MP_OK) {
        rc = mp_tensors_index(t, path, err);
    }
    if (rc != MP_OK) {
        mp_tensors_close(t);
        return rc;
    }
    *out = t;
    return MP_OK;
}

void mp_tensors_close(struct mp_tensors *t)
{
    if (t == NULL) {
        return;
    }
    for (size_t i = 0; i < t->num_files; i++) {
        munmap(t->files[i].base, t->files[i].size);
        mp_json_free(t->files[i].header);
        free(t->files[i].path);
    }
    mp_strmap_free(&t->by_name);
    free(t->files);
    free(t->items);
    free(t);
}

size_t mp_tensors_count(const struct mp_tensors *t)
{
    return t->count;
}

const struct mp_tensor *mp_tensors_at(const struct mp_tensors *t, size_t i)
{
    return &t->items[i];
}

const struct mp_tensor *mp_tensors_find(const struct mp_tensors *t, const char *name)
{
    return mp_strmap_get(&t->by_name, name);
}

void mp_tensor_release(const struct mp_tensor *t, size_t offset, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)t->data + offset + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)t->data + offset + bytes) / page * page;
    if (begin < end) {
        madvise((void *)begin, end - begin, MADV_DONTNEED);
    }
}
