/* safetensors: reading good files, sets and directories, refusing bad ones, writing. */
#include "core/safetensors/safetensors.h"

#include "core/base/memory.h"
#include "tests/unit/bad_files.h"

#include <endian.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

static char *scratch(const char *name)
{
    return mp_xasprintf("%s/safetensors-%d-%s", MP_SCRATCH_DIR, (int)getpid(), name);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

/* A file of one float32 vector for each of the names, element i of tensor t being 100 t + i. */
static void write_tensors(const char *path, const char *const *names, size_t count, size_t length)
{
    char header[1024] = "{";
    for (size_t t = 0; t < count; t++) {
        size_t used = strlen(header);
        snprintf(header + used, sizeof header - used,
                 "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]}",
                 t == 0 ? "" : ",", names[t], length, 4 * t * length, 4 * (t + 1) * length);
    }
    strcat(header, "}");
    uint64_t size = htole64(strlen(header));
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fwrite(&size, sizeof size, 1, file);
    fputs(header, file);
    for (size_t t = 0; t < count; t++) {
        for (size_t i = 0; i < length; i++) {
            float value = 100.0F * (float)t + (float)i;
            fwrite(&value, sizeof value, 1, file);
        }
    }
    assert_int_equal(fclose(file), 0);
}

static float element(const struct mp_tensor *t, size_t i)
{
    float value;
    memcpy(&value, (const char *)t->data + i * sizeof value, sizeof value);
    return value;
}

static int read_bad(const char *path, struct mp_error *err)
{
    struct mp_tensors *t;
    int rc = mp_tensors_open_file(path, &t, err);
    if (rc == MP_OK) {
        mp_tensors_close(t);
    }
    return rc;
}

static void test_bad_files(void **state)
{
    (void)state;
    check_bad_files("safetensors", read_bad);
}

static void test_file_errors(void **state)
{
    (void)state;
    struct mp_error err;
    assert_int_equal(read_bad("/nowhere/x.safetensors", &err), MP_ERR_IO);
    assert_int_equal(read_bad(MP_TEST_DATA, &err), MP_ERR_IO);
}

/* A header length just above 100 MiB in a file that has room for it (sparse, so it costs nothing).
 */
static void test_header_over_the_limit(void **state)
{
    (void)state;
    char *path = scratch("huge-header");
    uint64_t length = htole64((100U << 20) + 1);
    FILE *file = fopen(path, "wb");
    fwrite(&length, sizeof length, 1, file);
    fclose(file);
    assert_int_equal(truncate(path, (200L << 20)), 0);
    struct mp_error err;
    assert_int_equal(read_bad(path, &err), MP_ERR_FORMAT);
    assert_non_null(strstr(err.message, "header of 104857601 bytes, at most 104857600"));
    unlink(path);
    free(path);
}

/* Every truncation of a good file is refused, without a read past its end. */
static void test_every_truncation_fails(void **state)
{
    (void)state;
    char *path = scratch("truncated");
    write_tensors(path, (const char *const[]){"a", "b"}, 2, 3);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    struct mp_error err;
    assert_int_equal(read_bad(path, &err), MP_OK);
    for (off_t size = st.st_size - 1; size >= 0; size--) {
        assert_int_equal(truncate(path, size), 0);
        assert_int_equal(read_bad(path, &err), MP_ERR_FORMAT);
    }
    unlink(path);
    free(path);
}

static void test_shapes_and_order(void **state)
{
    (void)state;
    /* Listed out of order; an empty tensor, a scalar, and padding after the header. */
    static const char header[] =
        "{\"z\":{\"dtype\":\"BF16\",\"shape\":[2,1,3],\"data_offsets\":[4,16]},"
        "\"__metadata__\":{\"format\":\"pt\"},"
        "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[4,4]},"
        "\"scalar\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[0,4]}}   ";
    char *path = scratch("shapes");
    uint64_t size = htole64(sizeof header - 1);
    FILE *file = fopen(path, "wb");
    fwrite(&size, sizeof size, 1, file);
    fputs(header, file);
    fwrite("\1\0\0\0abcdefghijkl", 1, 16, file);
    fclose(file);

    struct mp_tensors *t;
    struct mp_error err;
    assert_int_equal(mp_tensors_open_file(path, &t, &err), MP_OK);
    assert_int_equal(mp_tensors_count(t), 3);
    assert_string_equal(mp_tensors_at(t, 0)->name, "scalar");
    assert_string_equal(mp_tensors_at(t, 1)->name, "empty");
    assert_string_equal(mp_tensors_at(t, 2)->name, "z");
    assert_int_equal(mp_tensors_at(t, 0)->rank, 0);
    assert_int_equal(mp_tensors_at(t, 0)->bytes, 4);
    assert_int_equal(mp_tensors_at(t, 1)->bytes, 0);
    const struct mp_tensor *z = mp_tensors_find(t, "z");
    assert_ptr_equal(z, mp_tensors_at(t, 2));
    assert_int_equal(z->rank, 3);
    assert_int_equal(z->shape[0], 2);
    assert_int_equal(z->shape[1], 1);
    assert_int_equal(z->shape[2], 3);
    assert_string_equal(mp_st_dtype_name(z->dtype), "BF16");
    assert_int_equal(mp_st_dtype_size(z->dtype), 2);
    assert_memory_equal(z->data, "abcdefghijkl", 12);
    assert_string_equal(z->file, path);
    assert_null(mp_tensors_find(t, "__metadata__"));
    assert_null(mp_tensors_find(t, ""));
    mp_tensors_close(t);
    unlink(path);
    free(path);
}

static void test_no_tensors(void **state)
{
    (void)state;
    char *path = scratch("none");
    write_tensors(path, NULL, 0, 0);
    struct mp_tensors *t;
    struct mp_error err;
    assert_int_equal(mp_tensors_open_file(path, &t, &err), MP_OK);
    assert_int_equal(mp_tensors_count(t), 0);
    assert_null(mp_tensors_find(t, "a"));
    mp_tensors_close(t);
    unlink(path);
    free(path);
}

static void test_release(void **state)
{
    (void)state;
    enum { LENGTH = 100000 };
    char *path = scratch("release");
    write_tensors(path, (const char *const[]){"a", "b"}, 2, LENGTH);
    struct mp_tensors *t;
    struct mp_error err;
    assert_int_equal(mp_tensors_open_file(path, &t, &err), MP_OK);
    const struct mp_tensor *b = mp_tensors_find(t, "b");
    mp_tensor_release(b, 0, b->bytes);
    mp_tensor_release(b, 13, 100); /* less than a page: nothing to give back */
    mp_tensor_release(b, b->bytes, 0);
    for (size_t i = 0; i < LENGTH; i += 997) {
        assert_true(element(b, i) == 100.0F + (float)i);
    }
    mp_tensors_close(t);
    unlink(path);
    free(path);
}

/* ---- directories ---- */

static const char *const shard_names[] = {"model-00001-of-00002.safetensors",
                                          "model-00002-of-00002.safetensors"};

/* A directory with two shards: {a, b} and {c}. Returns its path. */
static char *make_shards(const char *name)
{
    char *dir = scratch(name);
    assert_int_equal(mkdir(dir, 0700), 0);
    char *path = mp_xasprintf("%s/%s", dir, shard_names[0]);
    write_tensors(path, (const char *const[]){"a", "b"}, 2, 3);
    free(path);
    path = mp_xasprintf("%s/%s", dir, shard_names[1]);
    write_tensors(path, (const char *const[]){"c"}, 1, 3);
    free(path);
    return dir;
}

static void write_in_dir(const char *dir, const char *name, const char *text)
{
    char *path = mp_xasprintf("%s/%s", dir, name);
    write_file(path, text);
    free(path);
}

static void remove_dir(char *dir)
{
    const char *const names[] = {shard_names[0], shard_names[1], "model.safetensors",
                                 "model.safetensors.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *path = mp_xasprintf("%s/%s", dir, names[i]);
        unlink(path);
        free(path);
    }
    assert_int_equal(rmdir(dir), 0);
    free(dir);
}

/* Opens shards with this weight map; expects the message to contain part, or success if NULL. */
static void check_index(const char *index, const char *part)
{
    char *dir = make_shards("indexed");
    write_in_dir(dir, "model.safetensors.index.json", index);
    struct mp_tensors *t = NULL;
    struct mp_error err;
    int rc = mp_tensors_open_dir(dir, &t, &err);
    if (part == NULL) {
        assert_int_equal(rc, MP_OK);
        assert_int_equal(mp_tensors_count(t), 3);
        assert_true(element(mp_tensors_find(t, "b"), 2) == 102.0F);
        assert_true(element(mp_tensors_find(t, "c"), 1) == 1.0F);
        mp_tensors_close(t);
    } else {
        assert_int_not_equal(rc, MP_OK);
        if (strstr(err.message, part) == NULL) {
            fail_msg("expected \"%s\", found \"%s\"", part, err.message);
        }
    }
    remove_dir(dir);
}

#define SHARD1 "\"model-00001-of-00002.safetensors\""
#define SHARD2 "\"model-00002-of-00002.safetensors\""

static void test_index(void **state)
{
    (void)state;
    check_index("{\"metadata\": {\"total_size\": 36}, \"weight_map\": {\"c\": " SHARD2
                ", \"a\": " SHARD1 ", \"b\": " SHARD1 "}}",
                NULL);
    check_index("{\"weight_map\": {\"a\": " SHARD1 ", \"d\": " SHARD1 ", \"e\": " SHARD2 "}}",
                "2 tensors are in no file: d, e");
    check_index("{\"weight_map\": {\"a\": " SHARD2 ", \"c\": " SHARD1 "}}",
                "2 tensors are in another file than the index says: a, c");
    check_index("{\"weight_map\": {\"a\": \"../model.safetensors\"}}",
                "weight_map.a: expected a file name without");
    check_index("{\"weight_map\": {\"a\": \"/etc/passwd\"}}",
                "weight_map.a: expected a file name without");
    check_index("{\"weight_map\": {\"a\": \"\"}}", "weight_map.a: expected a file name without");
    check_index("{\"weight_map\": {\"a\": 1}}", "weight_map.a: expected a string, found 1");
    check_index("{\"weight_map\": []}", "weight_map: expected an object, found an array");
    check_index("{}", "key \"weight_map\" is missing");
    check_index("{\"weight_map\": {\"a\": \"model-00003-of-00002.safetensors\"}}",
                "index.json: not all of its files are here: ");
}

static void test_shards_without_index(void **state)
{
    (void)state;
    char *dir = make_shards("plain");
    struct mp_tensors *t;
    struct mp_error err;
    assert_int_equal(mp_tensors_open_dir(dir, &t, &err), MP_OK);
    assert_int_equal(mp_tensors_count(t), 3);
    mp_tensors_close(t);

    char *path = mp_xasprintf("%s/%s", dir, shard_names[1]);
    write_tensors(path, (const char *const[]){"c", "b", "a"}, 3, 1);
    free(path);
    assert_int_equal(mp_tensors_open_dir(dir, &t, &err), MP_ERR_FORMAT);
    assert_non_null(strstr(err.message, "2 tensors are in more than one file: b, a"));
    remove_dir(dir);
}

/* Opening the folder with this file in it fails with a message that contains part. */
static void check_other_file(const char *name, const char *text, const char *part)
{
    char *dir = scratch("other");
    struct mp_tensors *t;
    struct mp_error err;
    assert_int_equal(mkdir(dir, 0700), 0);
    write_in_dir(dir, name, text);
    assert_int_not_equal(mp_tensors_open_dir(dir, &t, &err), MP_OK);
    if (strstr(err.message, part) == NULL) {
        fail_msg("expected \"%s\", found \"%s\"", part, err.message);
    }
    char *path = mp_xasprintf("%s/%s", dir, name);
    unlink(path);
    free(path);
    remove_dir(dir);
}

static void test_other_files(void **state)
{
    (void)state;
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\n"
                                  "oid sha256:4d7a\nsize 4976698672\n";
    check_other_file("model.safetensors", pointer,
                     "model.safetensors: found a Git LFS pointer, expected tensors: run git lfs");
    check_other_file("model.safetensors.index.json", pointer,
                     "found a Git LFS pointer, expected JSON: run git lfs pull");
    check_other_file("pytorch_model.bin", "PK",
                     "found pytorch_model.bin, expected model.safetensors or shards of it");
    check_other_file("consolidated.safetensors", "x", "found consolidated.safetensors, expected");

    /* A cache's link to what it has not downloaded yet. */
    char *dir = scratch("link");
    struct mp_tensors *t;
    struct mp_error err;
    assert_int_equal(mkdir(dir, 0700), 0);
    char *path = mp_xasprintf("%s/model.safetensors", dir);
    assert_int_equal(symlink("../blobs/0123", path), 0);
    free(path);
    assert_int_equal(mp_tensors_open_dir(dir, &t, &err), MP_ERR_IO);
    assert_non_null(strstr(err.message, "model.safetensors: cannot open: No such file"));
    remove_dir(dir);
}

static void test_single_file_in_directory(void **state)
{
    (void)state;
    char *dir = scratch("single");
    assert_int_equal(mkdir(dir, 0700), 0);
    struct mp_tensors *t;
    struct mp_error err;
    assert_int_equal(mp_tensors_open_dir(dir, &t, &err), MP_ERR_IO);
    assert_non_null(
        strstr(err.message, "no weights: expected model.safetensors, model.safetensors.index"));
    char *path = mp_xasprintf("%s/model.safetensors", dir);
    write_tensors(path, (const char *const[]){"w"}, 1, 2);
    free(path);
    assert_int_equal(mp_tensors_open_dir(dir, &t, &err), MP_OK);
    assert_non_null(mp_tensors_find(t, "w"));
    mp_tensors_close(t);
    /* An index that was left behind by the shards of before. */
    write_in_dir(dir, "model.safetensors.index.json", "{\"weight_map\": {\"a\": " SHARD1 "}}");
    assert_int_equal(mp_tensors_open_dir(dir, &t, &err), MP_OK);
    assert_non_null(mp_tensors_find(t, "w"));
    mp_tensors_close(t);
    remove_dir(dir);
    assert_int_equal(mp_tensors_open_dir("/nowhere", &t, &err), MP_ERR_IO);
}

/* Hundreds of missing names do not overflow the message. */
static void test_long_list_of_missing(void **state)
{
    (void)state;
    char index[65536] = "{\"weight_map\": {";
    size_t used = strlen(index);
    for (int i = 0; i < 500; i++) {
        used +=
            (size_t)snprintf(index + used, sizeof index - used,
                             "%s\"model.layers.%d.missing.weight\": " SHARD1, i == 0 ? "" : ",", i);
    }
    snprintf(index + used, sizeof index - used, "}}");
    check_index(index, "500 tensors are in no file: model.layers.0.missing.weight, ");
    check_index(index, ", ...");
}

/* ---- writing ---- */

static void test_writer(void **state)
{
    (void)state;
    enum { ROWS = 7, COLUMNS = 5 };
    float values[ROWS][COLUMNS];
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        values[i / COLUMNS][i % COLUMNS] = (float)i / 3.0F;
    }
    char *path = scratch("written");
    struct mp_tensor_writer w;
    struct mp_error err;
    assert_int_equal(mp_tensor_writer_open(&w, path, "logits", ROWS, COLUMNS, &err), MP_OK);
    assert_int_equal(mp_tensor_writer_rows(&w, values[0], 1, &err), MP_OK);
    assert_int_equal(mp_tensor_writer_rows(&w, values[1], 0, &err), MP_OK);
    assert_int_equal(mp_tensor_writer_rows(&w, values[1], ROWS - 1, &err), MP_OK);
    assert_int_equal(mp_tensor_writer_close(&w, MP_OK, &err), MP_OK);

    struct mp_tensors *t;
    assert_int_equal(mp_tensors_open_file(path, &t, &err), MP_OK);
    const struct mp_tensor *logits = mp_tensors_find(t, "logits");
    assert_int_equal(mp_tensors_count(t), 1);
    assert_int_equal(logits->dtype, MP_ST_F32);
    assert_int_equal(logits->rank, 2);
    assert_int_equal(logits->shape[0], ROWS);
    assert_int_equal(logits->shape[1], COLUMNS);
    assert_int_equal((uintptr_t)logits->data % 8, 0);
    assert_memory_equal(logits->data, values, sizeof values);
    mp_tensors_close(t);
    unlink(path);
    free(path);
}

static void test_writer_errors(void **state)
{
    (void)state;
    struct mp_tensor_writer w;
    struct mp_error err;
    const float row[4] = {0};
    assert_int_equal(mp_tensor_writer_open(&w, "/nowhere/x", "logits", 1, 4, &err), MP_ERR_IO);
    assert_int_equal(mp_tensor_writer_open(&w, "/dev/null", "logits", INT64_MAX, 4, &err),
                     MP_ERR_MEMORY);
    assert_int_equal(mp_tensor_writer_open(&w, "/dev/null", "logits", 3, 4, &err), MP_OK);
    assert_int_equal(mp_tensor_writer_rows(&w, row, 1, &err), MP_OK);
    assert_int_equal(mp_tensor_writer_close(&w, MP_OK, &err), MP_ERR_IO);
    assert_string_equal(err.message, "/dev/null: 1 rows written, 3 expected");
    /* A full disk shows when the buffer is flushed. */
    if (access("/dev/full", W_OK) == 0) {
        assert_int_equal(mp_tensor_writer_open(&w, "/dev/full", "logits", 1, 4, &err), MP_OK);
        assert_int_equal(mp_tensor_writer_rows(&w, row, 1, &err), MP_OK);
        assert_int_equal(mp_tensor_writer_close(&w, MP_OK, &err), MP_ERR_IO);
        assert_non_null(strstr(err.message, "/dev/full: cannot write: No space"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_file_errors),
        cmocka_unit_test(test_header_over_the_limit),
        cmocka_unit_test(test_every_truncation_fails),
        cmocka_unit_test(test_shapes_and_order),
        cmocka_unit_test(test_no_tensors),
        cmocka_unit_test(test_release),
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_shards_without_index),
        cmocka_unit_test(test_single_file_in_directory),
        cmocka_unit_test(test_other_files),
        cmocka_unit_test(test_long_list_of_missing),
        cmocka_unit_test(test_writer),
        cmocka_unit_test(test_writer_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
