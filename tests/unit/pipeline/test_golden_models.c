/* Logits and greedy tokens of the reference models, on every kernel variant this CPU has. */
#include "core/machine/cpu.h"
#include "core/safetensors/safetensors.h"
#include "engine_fixture.h"

#include <math.h>

static const struct golden {
    const char *name;
    const char *model;
    const char *ids; /* file with input_ids (object) or a bare array */
    const char *logits;
} MODELS[] = {
    {"llama3-rope", GOLDEN "llama3-rope", GOLDEN "llama3-rope/golden.json",
     GOLDEN "llama3-rope/golden_logits.safetensors"},
    {"mistral", GOLDEN "mistral", GOLDEN "mistral/golden.json",
     GOLDEN "mistral/golden_logits.safetensors"},
    {"qwen3", GOLDEN "qwen3", GOLDEN "qwen3/golden.json", GOLDEN "qwen3/golden_logits.safetensors"},
    {"demo", DEMO_MODEL, GOLDEN "demo/golden_input_ids.json",
     GOLDEN "demo/golden_logits.safetensors"},
};
enum { NUM_MODELS = sizeof MODELS / sizeof MODELS[0] };

/* Running comparison of rows with the reference. */
struct comparison {
    const float *reference; /* next row */
    int vocab_size;
    int64_t rows;
    double difference; /* sum of squares */
    double norm;
};

static int compare_rows(void *arg, const float *logits, int64_t rows, struct mp_error *err)
{
    (void)err;
    struct comparison *c = arg;
    for (int64_t i = 0; i < rows * c->vocab_size; i++) {
        double d = (double)logits[i] - (double)c->reference[i];
        c->difference += d * d;
        c->norm += (double)c->reference[i] * (double)c->reference[i];
    }
    c->reference += rows * c->vocab_size;
    c->rows += rows;
    return 0;
}

/* A model with one KV head cannot be parted. */
static bool can_be_run(const struct golden *g)
{
    const char *parallel = getenv("MAGICPIG_TEST_PARALLEL");
    bool parted = parallel != NULL && strcmp(parallel, "tensor") == 0;
    return !parted || strcmp(g->name, "mistral") != 0;
}

static void read_prompt(const struct golden *g, struct mp_ids *ids)
{
    struct mp_json *doc = read_json(g->ids);
    const struct cJSON *root = mp_json_root(doc);
    struct mp_error err;
    if (mp_json_kind(root) == MP_JSON_OBJECT) {
        read_ids(doc, root, "input_ids", ids);
    } else {
        for (const struct cJSON *v = mp_json_first(root); v != NULL; v = mp_json_after(v)) {
            int64_t id;
            ASSERT_OK(mp_json_as_int(doc, v, 0, INT32_MAX, &id, &err));
            mp_ids_push(ids, (int32_t)id);
        }
    }
    mp_json_free(doc);
}

static double logits_error(const struct golden *g, const char *const *flags)
{
    struct mp_error err;
    struct mp_config config;
    struct mp_ids ids = {0};
    struct mp_tensors *tensors;
    mp_config_init(&config);
    set_flags(&config, flags);
    read_prompt(g, &ids);
    ASSERT_OK(mp_tensors_open_file(g->logits, &tensors, &err));
    const struct mp_tensor *logits = mp_tensors_find(tensors, "logits");
    assert_non_null(logits);
    assert_int_equal(logits->shape[0], ids.count);

    struct mp_engine *engine = open_engine(&config, g->model, (int64_t)ids.count);
    assert_int_equal(logits->shape[1], mp_engine_vocab_size(engine));
    struct comparison c = {.reference = logits->data, .vocab_size = (int)logits->shape[1]};
    ASSERT_OK(mp_engine_logits(engine, ids.data, (int64_t)ids.count, compare_rows, &c, &err));
    assert_int_equal(c.rows, ids.count);

    mp_engine_close(engine);
    mp_tensors_close(tensors);
    mp_ids_free(&ids);
    mp_config_free(&config);
    return sqrt(c.difference / c.norm);
}

/* What the logits may be off by, relative, with activations as so many bf16 parts. */
static void check_logits(const struct golden *g, enum mp_isa isa, const char *activations,
                         double tolerance)
{
    const char *const flags[] = {"isa",          mp_isa_name(isa), "lsh-k",      "0",
                                 "cache-layers", "none",           "chunk-size", "48",
                                 "activations",  activations,      NULL};
    double error = logits_error(g, flags);
    print_message("%-12s %-7s %-7s relative L2 %.1e\n", g->name, mp_isa_name(isa), activations,
                  error);
    assert_true(error <= tolerance);
}

static void test_logits(void **state)
{
    (void)state;
    for (int m = 0; m < NUM_MODELS; m++) {
        if (!can_be_run(&MODELS[m])) {
            continue;
        }
        check_logits(&MODELS[m], MP_ISA_REF, "auto", 1e-4);
        for (int isa = MP_ISA_REF + 1; isa <= (int)mp_isa_detect(); isa++) {
            check_logits(&MODELS[m], (enum mp_isa)isa, "bf16x2", 1e-2);
            check_logits(&MODELS[m], (enum mp_isa)isa, "bf16", 2.2e-2);
        }
    }
}

/* Greedy tokens after the prompt. Where the reference's two best logits were within 0.05 of each
 * other either is right; from there on the texts may differ. */
static void check_greedy(const struct golden *g, const char *isa)
{
    struct mp_error err;
    struct mp_config config;
    struct mp_ids prompt = {0};
    struct mp_ids greedy = {0};
    struct mp_json *doc = read_json(g->ids);
    const struct cJSON *gaps;
    read_ids(doc, mp_json_root(doc), "input_ids", &prompt);
    read_ids(doc, mp_json_root(doc), "greedy", &greedy);
    ASSERT_OK(mp_json_get_array(doc, mp_json_root(doc), "top1_top2_gap", &gaps, &err));

    mp_config_init(&config);
    const char *const flags[] = {"isa", isa, "lsh-k", "0", "eos", "none", "generation-budget",
                                 "5",   NULL};
    set_flags(&config, flags);
    struct mp_engine *engine = open_engine(&config, g->model, (int64_t)prompt.count);
    struct mp_session *session;
    ASSERT_OK(mp_session_open(engine, &session, &err));
    const struct mp_request *r =
        mp_session_request(session, generate(session, &prompt, (int64_t)greedy.count));
    assert_int_equal(r->generated_tokens, greedy.count);

    const struct cJSON *gap = mp_json_first(gaps);
    size_t compared = 0;
    for (; compared < greedy.count; compared++, gap = mp_json_after(gap)) {
        double value;
        ASSERT_OK(mp_json_as_number(doc, gap, 0, INFINITY, &value, &err));
        int32_t found = r->ids[r->prompt_tokens + (int64_t)compared];
        if (found != greedy.data[compared]) {
            assert_true(value <= 0.05);
            break;
        }
    }
    print_message("%-12s %-7s %zu of %zu greedy tokens equal\n", g->name, isa, compared,
                  greedy.count);
    mp_session_close(session);
    mp_engine_close(engine);
    mp_config_free(&config);
    mp_ids_free(&prompt);
    mp_ids_free(&greedy);
    mp_json_free(doc);
}

static void test_greedy(void **state)
{
    (void)state;
    for (int m = 0; m < NUM_MODELS - 1; m++) {
        for (int isa = MP_ISA_REF; can_be_run(&MODELS[m]) && isa <= (int)mp_isa_detect(); isa++) {
            check_greedy(&MODELS[m], mp_isa_name((enum mp_isa)isa));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_greedy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
