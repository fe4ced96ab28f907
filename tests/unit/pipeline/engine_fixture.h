/* Opening engines in tests. Errors fail the test with their message. */
#ifndef MP_TESTS_ENGINE_FIXTURE_H
#define MP_TESTS_ENGINE_FIXTURE_H

#include "core/json/json.h"
#include "core/tokenizer/tokenizer.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/engine/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DEMO_MODEL MP_SOURCE_DIR "/models/demo"
#define GOLDEN MP_TEST_DATA "/golden/"

#define ASSERT_OK(call)                                                                            \
    do {                                                                                           \
        if ((call) != 0) {                                                                         \
            fail_msg("%s", err.message);                                                           \
        }                                                                                          \
    } while (0)

/* Where the tests run, and that they leave nothing in the tester's home.
 * MAGICPIG_TEST_GPU_KV_LAYERS, if set, is "cpu" for no GPU, or how many layers keep their KV and
 * tables on the GPU. MAGICPIG_TEST_MOCK_GPUS, if set, is how many CPU workers stand for GPUs, and
 * MAGICPIG_TEST_PARALLEL what each of them has. Otherwise the defaults hold: everything on a GPU,
 * if there is one. */
static inline void set_placement(struct mp_config *config)
{
    struct mp_error err;
    const char *layers = getenv("MAGICPIG_TEST_GPU_KV_LAYERS");
    const char *mock = getenv("MAGICPIG_TEST_MOCK_GPUS");
    const char *parallel = getenv("MAGICPIG_TEST_PARALLEL");
    ASSERT_OK(mp_config_set_flag(config, "calibration", "off", &err));
    if (mock != NULL) {
        ASSERT_OK(mp_config_set_flag(config, "devices", "mock", &err));
        ASSERT_OK(mp_config_set_flag(config, "gpus", mock, &err));
    }
    if (parallel != NULL) {
        ASSERT_OK(mp_config_set_flag(config, "parallel", parallel, &err));
    }
    if (layers != NULL && strcmp(layers, "cpu") == 0) {
        ASSERT_OK(mp_config_set_flag(config, "devices", "cpu", &err));
    } else if (layers != NULL) {
        ASSERT_OK(mp_config_set_flag(config, "gpu-kv-layers", layers, &err));
    }
}

/* Sets flags given as "name", "value" pairs ending in NULL. */
static inline void set_flags(struct mp_config *config, const char *const *flags)
{
    struct mp_error err;
    set_placement(config);
    for (int i = 0; flags != NULL && flags[i] != NULL; i += 2) {
        ASSERT_OK(mp_config_set_flag(config, flags[i], flags[i + 1], &err));
    }
    ASSERT_OK(mp_config_check(config, &err));
}

/* Options of an engine. */
static inline struct mp_engine_options engine_options(const struct mp_config *config,
                                                      const char *dir)
{
    return (struct mp_engine_options){
        .size = sizeof(struct mp_engine_options), .config = config, .model = dir};
}

static inline struct mp_engine *open_engine(const struct mp_config *config, const char *dir,
                                            int64_t tokens)
{
    struct mp_error err;
    struct mp_engine *engine;
    struct mp_engine_options options = engine_options(config, dir);
    ASSERT_OK(mp_engine_open(&options, &engine, &err));
    ASSERT_OK(mp_engine_start(engine, tokens, 1, &err));
    return engine;
}

/* An array of ids in a JSON object. */
static inline void read_ids(const struct mp_json *doc, const struct cJSON *object, const char *key,
                            struct mp_ids *out)
{
    struct mp_error err;
    const struct cJSON *array;
    ASSERT_OK(mp_json_get_array(doc, object, key, &array, &err));
    for (const struct cJSON *v = mp_json_first(array); v != NULL; v = mp_json_after(v)) {
        int64_t id;
        ASSERT_OK(mp_json_as_int(doc, v, 0, INT32_MAX, &id, &err));
        mp_ids_push(out, (int32_t)id);
    }
}

static inline struct mp_json *read_json(const char *path)
{
    struct mp_error err;
    struct mp_json *doc = NULL;
    ASSERT_OK(mp_json_read_file(path, 1 << 28, &doc, &err));
    return doc;
}

/* Adds a prompt that has nothing of its own. */
static inline int add_prompt(struct mp_session *session, const int32_t *ids, int64_t count,
                             int64_t max_new_tokens, uint64_t stream, int *slot,
                             struct mp_error *err)
{
    const struct mp_request_options options = {.size = sizeof options,
                                               .ids = ids,
                                               .count = count,
                                               .max_new_tokens = max_new_tokens,
                                               .stream = stream};
    return mp_session_add(session, &options, slot, err);
}

/* Adds a prompt and decodes until it has finished. Returns the slot. */
static inline int generate(struct mp_session *session, const struct mp_ids *prompt,
                           int64_t max_new_tokens)
{
    struct mp_error err;
    int slot;
    ASSERT_OK(
        add_prompt(session, prompt->data, (int64_t)prompt->count, max_new_tokens, 0, &slot, &err));
    int active = 1;
    while (mp_session_request(session, slot)->finish == MP_FINISH_NONE) {
        ASSERT_OK(mp_session_step(session, &active, &err));
    }
    return slot;
}

#endif
