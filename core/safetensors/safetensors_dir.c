/* The weights of a model directory: one file, or shards with or without an index. */
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/safetensors/safetensors_set.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"

enum { MAX_INDEX_BYTES = 100 << 20 };

static int add_in_dir(struct mp_tensors *t, const char *dir, const char *name, struct mp_error *err)
{
    char *path = mp_xasprintf("%s/%s", dir, name);
    int rc = mp_tensors_add_file(t, path, err);
    free(path);
    return rc;
}

/* Also a link that leads nowhere, as caches have them of a file that is not there yet. */
static bool is_there(const char *dir, const char *name)
{
    char *path = mp_xasprintf("%s/%s", dir, name);
    bool there = faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    free(path);
    return there;
}

/* ---- with an index ---- */

/* Adds every file that the index's weight map names, each once. */
static int add_indexed(struct mp_tensors *t, const char *dir, const struct mp_json *index,
                       const struct cJSON *weight_map, struct mp_error *err)
{
    struct mp_strmap added = {0};
    int rc = MP_OK;
    const struct cJSON *v = mp_json_first(weight_map);
    for (; v != NULL && rc == MP_OK; v = mp_json_after(v)) {
        const char *name = NULL;
        rc = mp_json_as_string(index, v, &name, err);
        if (rc != MP_OK) {
            break;
        }
        if (name[0] == '\0' || strchr(name, '/') != NULL || strstr(name, "..") != NULL) {
            rc = mp_json_fail(index, v, err,
                              "expected a file name without \"/\" or \"..\", found \"%.200s\"",
                              name);
        } else if (mp_strmap_add(&added, name, v)) {
            rc = add_in_dir(t, dir, name, err);
        }
    }
    mp_strmap_free(&added);
    return rc;
}

/* Checks that every tensor of the weight map is in the file that it names. */
static int check_indexed(const struct mp_tensors *t, const struct mp_json *index,
                         const char *index_path, const struct cJSON *weight_map,
                         struct mp_error *err)
{
    struct mp_name_list missing = {0};
    struct mp_name_list elsewhere = {0};
    for (const struct cJSON *v = mp_json_first(weight_map); v != NULL; v = mp_json_after(v)) {
        const char *file;
        int rc = mp_json_as_string(index, v, &file, err);
        if (rc != MP_OK) {
            return rc;
        }
        const struct mp_tensor *tensor = mp_tensors_find(t, mp_json_key(v));
        if (tensor == NULL) {
            mp_name_list_add(&missing, mp_json_key(v));
        } else if (strcmp(strrchr(tensor->file, '/') + 1, file) != 0) {
            mp_name_list_add(&elsewhere, mp_json_key(v));
        }
    }
    if (missing.count > 0) {
        return mp_fail(err, MP_ERR_FORMAT, "%s: %zu tensors are in no file: %s", index_path,
                       missing.count, missing.text);
    }
    if (elsewhere.count > 0) {
        return mp_fail(err, MP_ERR_FORMAT,
                       "%s: %zu tensors are in another file than the index says: %s", index_path,
                       elsewhere.count, elsewhere.text);
    }
    return MP_OK;
}

static int open_indexed(struct mp_tensors *t, const char *dir, struct mp_error *err)
{
    struct mp_json *index;
    char *index_path = mp_xasprintf("%s/" INDEX, dir);
    int rc = mp_json_read_file(index_path, MAX_INDEX_BYTES, &index, err);
    if (rc != MP_OK) {
        free(index_path);
        return rc;
    }
    const struct cJSON *weight_map;
    rc = mp_json_get_object(index, mp_json_root(index), "weight_map", &weight_map, err);
    if (rc == MP_OK) {
        rc = add_indexed(t, dir, index, weight_map, err);
        if (rc == MP_ERR_IO) {
            mp_fail_prefix(err, "%s: not all of its files are here", index_path);
        }
    }
    if (rc == MP_OK) {
        rc = mp_tensors_index(t, dir, err);
    }
    if (rc == MP_OK) {
        rc = check_indexed(t, index, index_path, weight_map, err);
    }
    free(index_path);
    mp_json_free(index);
    return rc;
}

/* ---- without one ---- */

static int is_shard(const struct dirent *entry)
{
    return fnmatch("model-*-of-*.safetensors", entry->d_name, 0) == 0;
}

static int fail_without(const char *dir, struct mp_error *err)
{
    static const char *const others[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                         "consolidated.safetensors", "consolidated.00.pth"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (is_there(dir, others[i])) {
            return mp_fail(err, MP_ERR_IO,
                           "%s: found %s, expected " SINGLE " or shards of it: download them, or "
                           "convert the weights, as transformers' save_pretrained does",
                           dir, others[i]);
        }
    }
    return mp_fail(err, MP_ERR_IO,
                   "%s: no weights: expected " SINGLE ", " INDEX " or model-*-of-*.safetensors",
                   dir);
}

static int open_shards(struct mp_tensors *t, const char *dir, struct mp_error *err)
{
    struct dirent **entries;
    int n = scandir(dir, &entries, is_shard, alphasort);
    if (n < 0) {
        return mp_fail(err, MP_ERR_IO, "%s: cannot list: %s", dir, strerror(errno));
    }
    int rc = MP_OK;
    for (int i = 0; i < n; i++) {
        if (rc == MP_OK) {
            rc = add_in_dir(t, dir, entries[i]->d_name, err);
        }
        free(entries[i]);
    }
    free(entries);
    if (n == 0) {
        return fail_without(dir, err);
    }
    return rc == MP_OK ? mp_tensors_index(t, dir, err) : rc;
}

static int open_single(struct mp_tensors *t, const char *dir, struct mp_error *err)
{
    int rc = add_in_dir(t, dir, SINGLE, err);
    return rc == MP_OK ? mp_tensors_index(t, dir, err) : rc;
}

int mp_tensors_open_dir(const char *dir, struct mp_tensors **out, struct mp_error *err)
{
    struct mp_tensors *t = mp_xcalloc(1, sizeof *t);
    bool single = is_there(dir, SINGLE);
    bool indexed = is_there(dir, INDEX);
    if (single && indexed) {
        mp_log(MP_LOG_INFO, "%s/" INDEX ": not used, for there is " SINGLE, dir);
    }
    int rc = single    ? open_single(t, dir, err)
             : indexed ? open_indexed(t, dir, err)
                       : open_shards(t, dir, err);
    if (rc != MP_OK) {
        mp_tensors_close(t);
        return rc;
    }
    *out = t;
    return MP_OK;
}
