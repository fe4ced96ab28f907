/* Runs that keep prompts in files. Define FOLDER first: each test program's own. */
#ifndef MP_TESTS_KV_FILES_TEST_H
#define MP_TESTS_KV_FILES_TEST_H

#include "core/base/file.h"
#include "core/base/rng.h"
#include "engine_fixture.h"
#include "pipeline/engine/prefixes/kv_folder.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODEL GOLDEN "llama3-rope"
enum { VOCAB = 640, DOCUMENT = 325, QUESTION = 21, NEW_TOKENS = 6 };

static const char *const BASE[] = {
    "device-budget", "20",  "window-size", "16",   "eos", "none", "generation-budget", "32",
    "isa",           "ref", "kv-dir",      FOLDER, NULL};

static const char *const METHODS[][7] = {
    {"attention", "full", NULL},
    {"attention", "topk", "attention-budget", "1", NULL},
    {"attention", "quest", "attention-budget", "1", NULL},
    {"attention", "pps", "attention-samples", "100000", NULL},
    {"lsh-k", "3", "lsh-l", "8", NULL},
    {"attention", "pps", "kv-dtype", "int8", "isa", "auto", NULL},
    {"attention", "pps", "kv-dtype", "int8", "cache-layers", "none", NULL},
};
enum { NUM_METHODS = sizeof METHODS / sizeof METHODS[0], NUM_EXACT = 4 };

/* Files of the folder that end so. */
static inline int count_files(const char *suffix, char *path, size_t size)
{
    int n = 0;
    DIR *dir = opendir(FOLDER);
    for (const struct dirent *d = dir == NULL ? NULL : readdir(dir); d != NULL; d = readdir(dir)) {
        size_t length = strlen(d->d_name);
        if (length >= strlen(suffix) && strcmp(d->d_name + length - strlen(suffix), suffix) == 0) {
            n++;
            if (path != NULL) {
                snprintf(path, size, "%s/%s", FOLDER, d->d_name);
            }
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return n;
}

static inline void empty_folder(void)
{
    char path[512];
    while (count_files(".kv", path, sizeof path) > 0) {
        assert_int_equal(unlink(path), 0);
    }
}

static inline struct mp_ids make_prompt(int document, int question, int64_t length)
{
    struct mp_ids ids = {0};
    struct mp_rng rng;
    mp_rng_init(&rng, 7, (uint64_t)document);
    for (int64_t i = 0; i < DOCUMENT; i++) {
        mp_ids_push(&ids, (int32_t)(mp_rng_uniform(&rng) * VOCAB));
    }
    mp_rng_init(&rng, 8, (uint64_t)question);
    for (int64_t i = 0; i < length; i++) {
        mp_ids_push(&ids, (int32_t)(mp_rng_uniform(&rng) * VOCAB));
    }
    return ids;
}

/* An engine with prompts of up to so many tokens; extra: flags beside those of all, or NULL. */
static inline struct mp_engine *open_with(struct mp_config *config, const char *const *method,
                                          const char *const *extra, int64_t tokens)
{
    mp_config_init(config);
    set_flags(config, BASE);
    set_flags(config, method);
    set_flags(config, extra);
    return open_engine(config, MODEL, tokens);
}

/* A run of its own that answers one question. Returns how much of the prompt was known. */
static inline int64_t run(const char *const *method, const char *const *extra, int document,
                          int question, int32_t tokens[NEW_TOKENS])
{
    struct mp_config config;
    struct mp_error err;
    struct mp_session *session;
    struct mp_engine *engine = open_with(&config, method, extra, 400);
    ASSERT_OK(mp_session_open(engine, &session, &err));
    struct mp_ids prompt = make_prompt(document, question, QUESTION);
    int slot = generate(session, &prompt, NEW_TOKENS);
    const struct mp_request *r = mp_session_request(session, slot);
    int64_t cached = r->cached_tokens;
    memcpy(tokens, r->ids + r->prompt_tokens, NEW_TOKENS * sizeof *tokens);
    mp_session_close(session);
    mp_engine_close(engine);
    mp_ids_free(&prompt);
    mp_config_free(&config);
    return cached;
}

static inline void write_bytes(const char *path, const char *bytes, size_t count)
{
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, count, out), count);
    fclose(out);
}

struct fixture {
    struct mp_config config;
    struct mp_engine *engine;
    struct mp_segment *segment;
    int64_t tokens; /* of its file */
};

/* An engine with a folder, and a segment that has been read. */
static inline void open_fixture(struct fixture *f)
{
    struct mp_error err;
    struct mp_session *session;
    empty_folder();
    f->engine = open_with(&f->config, METHODS[5], NULL, 400);
    ASSERT_OK(mp_session_open(f->engine, &session, &err));
    struct mp_ids prompt = make_prompt(0, 0, QUESTION);
    mp_session_remove(session, generate(session, &prompt, 1));
    mp_session_close(session);
    f->segment = f->engine->prefixes->first;
    assert_non_null(f->segment);
    f->tokens = f->segment->tokens;
    mp_ids_free(&prompt);
}

static inline void close_fixture(struct fixture *f)
{
    mp_engine_close(f->engine);
    mp_config_free(&f->config);
}

/* Writes its segment to a file of any name. */
static inline int write_segment(const struct fixture *f, const char *path, struct mp_error *err)
{
    struct kv_new_file file;
    int code = kv_file_create(path, kv_file_bytes(f->engine, f->segment), &file, err);
    return code == 0 ? kv_file_write(f->engine, f->segment, &file, err) : code;
}

/* Writes the file of a document's prompt, and changes a bit in its middle if it is to be bad. */
static inline void write_file(int method, bool bad)
{
    int32_t tokens[NEW_TOKENS];
    char path[512];
    char *bytes;
    size_t length;
    struct mp_error err;
    empty_folder();
    run(METHODS[method], NULL, 0, 0, tokens);
    assert_int_equal(count_files(".kv", path, sizeof path), 1);
    ASSERT_OK(mp_file_read(path, 1 << 28, &bytes, &length, &err));
    bytes[length / 2] ^= bad ? 1 : 0;
    write_bytes(path, bytes, length);
    free(bytes);
}

#endif
