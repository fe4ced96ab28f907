/* From a file to a segment. */
#include "core/base/memory.h"
#include "core/json/json.h"
#include "pipeline/engine/prefixes/kv_file.h"
#include "pipeline/engine/prefixes/kv_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    PIECE = 4 << 20, /* bytes at a time: they are in the cache when their checksum is made */
    MOST_HEADER = 16 << 20,
    READERS = 8, /* threads, at most */
};

void kv_file_free(struct kv_file *f)
{
    free(f->path);
    free(f->ids);
    *f = (struct kv_file){0};
}

/* ---- bytes ---- */

static int read_at(int fd, const char *path, int64_t at, void *data, size_t bytes,
                   struct mp_error *err)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(fd, (char *)data + done, bytes - done, (off_t)(at + (int64_t)done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return mp_fail(err, MP_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        }
        if (n == 0) {
            return mp_fail(err, MP_ERR_FORMAT, "%s: ends after %lld bytes, expected %lld", path,
                           (long long)(at + (int64_t)done), (long long)(at + (int64_t)bytes));
        }
        done += (size_t)n;
    }
    return 0;
}

static int open_file(const char *path, int *fd, int64_t *size, struct mp_error *err)
{
    struct stat st = {0};
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0 || fstat(*fd, &st) != 0) {
        int why = errno;
        if (*fd >= 0) {
            close(*fd);
        }
        return mp_fail(err, MP_ERR_IO, "%s: cannot open: %s", path, strerror(why));
    }
    *size = (int64_t)st.st_size;
    return 0;
}

/* The header, with a NUL: the caller's, free. */
static int read_header(int fd, const char *path, int64_t size, char **out, uint64_t *length,
                       struct mp_error *err)
{
    int code = read_at(fd, path, 0, length, sizeof *length, err);
    if (code == 0 && (*length > MOST_HEADER || (int64_t)*length > size - 8)) {
        code = mp_fail(err, MP_ERR_FORMAT, "%s: found a header of %llu bytes in a file of %lld",
                       path, (unsigned long long)*length, (long long)size);
    }
    if (code != 0) {
        return code;
    }
    *out = mp_xcalloc(*length + 1, 1);
    code = read_at(fd, path, 8, *out, *length, err);
    if (code != 0) {
        free(*out);
    }
    return code;
}

/* ---- what a file says of itself ---- */

static int expect_text(const struct mp_json *doc, const struct cJSON *about, const char *key,
                       const char *expected, const char *path, struct mp_error *err)
{
    const char *found;
    int code = mp_json_get_string(doc, about, key, &found, err);
    if (code == 0 && strcmp(found, expected) != 0) {
        code = mp_fail(err, MP_ERR_UNSUPPORTED, "%s: %s: found %s, expected %s", path, key, found,
                       expected);
    }
    return code;
}

/* Checks for whom it was written; *tokens gets how many it has. */
static int check_about(const struct mp_engine *e, const struct mp_json *doc, const char *path,
                       int64_t *tokens, struct mp_error *err)
{
    const struct cJSON *about;
    const char *count;
    int code = mp_json_get_object(doc, mp_json_root(doc), "__metadata__", &about, err);
    if (code == 0) {
        code = expect_text(doc, about, "format", MP_KV_FORMAT, path, err);
    }
    if (code == 0) {
        code = expect_text(doc, about, "model", e->prefixes->model, path, err);
    }
    if (code == 0) {
        code = expect_text(doc, about, "settings", e->prefixes->settings, path, err);
    }
    if (code == 0) {
        code = mp_json_get_string(doc, about, "tokens", &count, err);
    }
    if (code == 0) {
        char *end;
        *tokens = strtoll(count, &end, 10);
        if (*end != '\0' || *tokens < 1 || *tokens > INT32_MAX) {
            code =
                mp_fail(err, MP_ERR_FORMAT, "%s: tokens: found %s, expected a number", path, count);
        }
    }
    return code;
}

/* Where a tensor begins and ends, behind the header. */
static int find_tensor(const struct mp_json *doc, const char *name, const char *path,
                       int64_t offsets[2], struct mp_error *err)
{
    const struct cJSON *entry;
    const struct cJSON *list;
    int code = mp_json_get_object(doc, mp_json_root(doc), name, &entry, err);
    if (code == 0) {
        code = mp_json_get_array(doc, entry, "data_offsets", &list, err);
    }
    int n = 0;
    for (const struct cJSON *v = code == 0 ? mp_json_first(list) : NULL; v != NULL && code == 0;
         v = mp_json_after(v)) {
        if (n == 2) {
            return mp_fail(err, MP_ERR_FORMAT, "%s: %s: expected two data_offsets", path, name);
        }
        code = mp_json_as_int(doc, v, 0, INT64_C(1) << 52, &offsets[n++], err);
    }
    return code == 0 && n != 2
               ? mp_fail(err, MP_ERR_FORMAT, "%s: %s: expected two data_offsets", path, name)
               : code;
}

/* The ids come first in a file, and the checksums last: that of the header, then that of the ids.
 */
static int read_ids(int fd, const char *path, const struct mp_json *doc, const char *header,
                    uint64_t length, struct kv_file *out, struct mp_error *err)
{
    int64_t ids[2];
    int64_t sums[2];
    uint64_t found[2];
    int64_t data = 8 + (int64_t)length;
    int code = find_tensor(doc, "ids", path, ids, err);
    if (code == 0) {
        code = find_tensor(doc, "checksums", path, sums, err);
    }
    if (code != 0) {
        return code;
    }
    if (ids[0] != 0 || ids[1] != 4 * out->tokens || ids[1] > sums[0] || sums[1] - sums[0] < 16 ||
        data + sums[1] != out->bytes) {
        return mp_fail(err, MP_ERR_FORMAT, "%s: found %lld bytes, expected %lld as its header says",
                       path, (long long)out->bytes, (long long)(data + sums[1]));
    }
    out->ids = mp_xcalloc((size_t)out->tokens, sizeof *out->ids);
    code = read_at(fd, path, data, out->ids, (size_t)ids[1], err);
    if (code == 0) {
        code = read_at(fd, path, data + sums[0], found, sizeof found, err);
    }
    if (code == 0 && (found[0] != XXH3_64bits(header, length) ||
                      found[1] != XXH3_64bits(out->ids, (size_t)ids[1]))) {
        code =
            mp_fail(err, MP_ERR_FORMAT, "%s: the checksum of its header or its ids is wrong", path);
    }
    return code;
}

int kv_file_open(const struct mp_engine *e, const char *path, struct kv_file *out,
                 struct mp_error *err)
{
    int fd;
    char *header;
    uint64_t length;
    struct mp_json *doc = NULL;
    *out = (struct kv_file){.path = mp_xstrdup(path)};
    int code = open_file(path, &fd, &out->bytes, err);
    if (code != 0) {
        kv_file_free(out);
        return code;
    }
    code = read_header(fd, path, out->bytes, &header, &length, err);
    if (code == 0) {
        code = mp_json_parse(path, header, length, &doc, err);
        if (code == 0) {
            code = check_about(e, doc, path, &out->tokens, err);
        }
        if (code == 0) {
            code = read_ids(fd, path, doc, header, length, out, err);
        }
        mp_json_free(doc);
        free(header);
    }
    close(fd);
    if (code != 0) {
        kv_file_free(out);
    }
    return code;
}

/* ---- all of it ---- */

/* Into host memory, or a GPU's by way of `bounce` [PIECE]. */
static int read_extent(int fd, const char *path, int64_t from, const struct kv_extent *x,
                       void *bounce, XXH3_state_t *sum, struct mp_error *err)
{
    int code = 0;
    for (size_t at = 0; at < x->bytes && code == 0; at += PIECE) {
        void *data = (char *)x->data + at;
        bool gpu = x->place.memory == MP_MEMORY_GPU;
        size_t bytes = x->bytes - at < PIECE ? x->bytes - at : PIECE;
        code = read_at(fd, path, from + (int64_t)at, gpu ? bounce : data, bytes, err);
        if (code == 0) {
            XXH3_64bits_update(sum, gpu ? bounce : data, bytes);
        }
        if (code == 0 && gpu) {
            code = mp_memory_copy(x->place, data, MP_HOST, bounce, bytes, err);
        }
    }
    return code;
}

/* What several threads read together: a tensor at a time each. */
struct reading {
    int fd;
    const char *path;
    const struct kv_layout *layout;
    int64_t *starts; /* [count] of the tensors in the file, in bytes */
    uint64_t *sums;  /* [1 + count] gets their checksums, behind the header's place */
    atomic_int next; /* tensor that nobody has begun */
    pthread_mutex_t lock;
    int code; /* of the first read that failed: no tensor is begun after it */
    struct mp_error *err;
};

static void *read_tensors(void *reading)
{
    struct reading *r = reading;
    struct mp_error err;
    XXH3_state_t *sum = XXH3_createState();
    void *bounce = mp_xmalloc(PIECE);
    int code = 0;
    for (int i = atomic_fetch_add(&r->next, 1); i < r->layout->count && code == 0;
         i = atomic_fetch_add(&r->next, 1)) {
        const struct kv_tensor *t = &r->layout->tensors[i];
        int64_t at = r->starts[i];
        XXH3_64bits_reset(sum);
        for (int x = 0; x < t->num_extents && code == 0; x++) {
            code = read_extent(r->fd, r->path, at, &t->extents[x], bounce, sum, &err);
            at += (int64_t)t->extents[x].bytes;
        }
        r->sums[1 + i] = XXH3_64bits_digest(sum);
    }
    if (code != 0) {
        atomic_store(&r->next, r->layout->count);
        pthread_mutex_lock(&r->lock);
        *r->err = r->code == 0 ? err : *r->err;
        r->code = r->code == 0 ? code : r->code;
        pthread_mutex_unlock(&r->lock);
    }
    free(bounce);
    XXH3_freeState(sum);
    return NULL;
}

/* Runs read_tensors on as many threads as help, on the cores `cpus`: one alone copies more slowly
 * than memory does, and this one may be bound to a core that others need. */
static void read_together(struct reading *r, const cpu_set_t *cpus)
{
    pthread_t threads[READERS];
    pthread_attr_t attributes;
    int wanted = CPU_COUNT(cpus) < READERS ? CPU_COUNT(cpus) : READERS;
    int started = 0;
    pthread_attr_init(&attributes);
    pthread_attr_setaffinity_np(&attributes, sizeof *cpus, cpus);
    while (started < wanted &&
           pthread_create(&threads[started], &attributes, read_tensors, r) == 0) {
        started++;
    }
    pthread_attr_destroy(&attributes);
    if (started == 0) {
        read_tensors(r);
    }
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
}

static int check_sums(const struct reading *r, const uint64_t *expected, struct mp_error *err)
{
    for (int i = 0; i < r->layout->count; i++) {
        if (r->sums[1 + i] != expected[1 + i]) {
            return mp_fail(err, MP_ERR_FORMAT, "%s: %s: its checksum is wrong", r->path,
                           r->layout->tensors[i].name);
        }
    }
    return 0;
}

/* Tensors from byte `at` on, then their checksums. */
static int read_all(int fd, const char *path, int64_t at, const struct kv_layout *l,
                    const cpu_set_t *cpus, struct mp_error *err)
{
    size_t sums = (1 + (size_t)l->count) * sizeof(uint64_t);
    uint64_t *expected = mp_xcalloc(1, sums);
    struct reading r = {
        .fd = fd,
        .path = path,
        .layout = l,
        .starts = mp_xcalloc((size_t)l->count, sizeof *r.starts),
        .sums = mp_xcalloc(1, sums),
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .err = err,
    };
    for (int i = 0; i < l->count; i++) {
        r.starts[i] = at;
        at += (int64_t)kv_tensor_bytes(&l->tensors[i]);
    }
    int code = read_at(fd, path, at, expected, sums, err);
    if (code == 0) {
        read_together(&r, cpus);
        code = r.code;
    }
    if (code == 0) {
        code = check_sums(&r, expected, err);
    }
    free(r.starts);
    free(r.sums);
    free(expected);
    return code;
}

/* The file may be another one by now: header and ids are still to be those that were found. */
static int read_segment(const struct mp_engine *e, int fd, const struct kv_file *f,
                        const char *header, uint64_t length, const struct mp_layer_kv *layers,
                        const cpu_set_t *cpus, struct mp_error *err)
{
    struct kv_layout l;
    int code = 0;
    int32_t *ids = mp_xcalloc((size_t)f->tokens, sizeof *ids);
    kv_layout_make(e, layers, ids, f->tokens, &l);
    char *expected = kv_layout_header(e, &l, f->tokens);
    if (strlen(expected) != length || memcmp(expected, header, length) != 0) {
        code = mp_fail(err, MP_ERR_FORMAT, "%s: its header is not that of a segment of %lld tokens",
                       f->path, (long long)f->tokens);
    } else {
        code = read_all(fd, f->path, 8 + (int64_t)length, &l, cpus, err);
    }
    if (code == 0 && memcmp(ids, f->ids, (size_t)f->tokens * sizeof *ids) != 0) {
        code =
            mp_fail(err, MP_ERR_FORMAT, "%s: its tokens are others than it was found for", f->path);
    }
    free(expected);
    kv_layout_free(&l);
    free(ids);
    return code;
}

int kv_file_load(const struct mp_engine *e, const struct kv_file *f,
                 const struct mp_layer_kv *layers, const cpu_set_t *cpus, struct mp_error *err)
{
    int fd;
    int64_t size = 0;
    char *header;
    uint64_t length;
    int code = open_file(f->path, &fd, &size, err);
    if (code != 0) {
        return code;
    }
    code = read_header(fd, f->path, size, &header, &length, err);
    if (code == 0) {
        code = read_segment(e, fd, f, header, length, layers, cpus, err);
        free(header);
    }
    close(fd);
    return code;
}
