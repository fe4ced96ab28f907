/* All tasks: lengths, chat templates, and the same bytes from the same seed; lists of tasks, and
 * draws. */
#include "tests/unit/make_data/eval_test.h"

#include "pipeline/engine/hooks.h"

#include <inttypes.h>

/* FNV-1a of everything that samples of all tasks consist of. If a change of the texts is meant,
 * this changes with it; otherwise it is the same on every machine. */
#define CHECKSUM UINT64_C(0x3c407abdeee9036e)

static void use_template(struct mp_maker *m, const char *name)
{
    struct mp_error err;
    assert_int_equal(mp_hook_chat(name, &m->before, &m->after, &err), 0);
}

/* Every sample has the length that was asked for, which make() sees to, and no two of a task are
 * the same. */
static void check_lengths(void **state, int64_t tokens, int samples, const char *template,
                          const char *only)
{
    struct mp_maker m = maker_of(*state, tokens);
    use_template(&m, template);
    for (int task = 0; task < MP_NUM_TASKS; task++) {
        struct mp_series series = {.task = task};
        struct mp_words texts = {0};
        for (int i = 0; i < samples && (only == NULL || strcmp(mp_tasks[task].name, only) == 0);
             i++) {
            struct mp_sample s = make(&m, &series);
            assert_true(mp_words_add_new(&texts, s.text));
            mp_sample_free(&s);
        }
        mp_words_free(&texts);
    }
}

static void test_4k(void **state)
{
    check_lengths(state, 4096, SAMPLES, "llama3", NULL);
}

static void test_16k(void **state)
{
    check_lengths(state, 16384, 10, "none", NULL);
}

static void test_128k(void **state)
{
    check_lengths(state, 131072, 3, "llama3", "niah_multikey_2");
    check_lengths(state, 131072, 3, "none", "cwe");
}

static void test_template(void **state)
{
    struct mp_maker m = maker_of(*state, 4096);
    struct mp_series plain = {.task = 0}, chat = {.task = 0};
    struct mp_sample a = make(&m, &plain);
    use_template(&m, "llama3");
    struct mp_sample b = make(&m, &chat);
    static const char before[] = "<|start_header_id|>user<|end_header_id|>\n\n";
    static const char after[] = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
    assert_int_equal(strncmp(b.text, before, strlen(before)), 0);
    assert_string_equal(b.text + strlen(b.text) - strlen(after), after);
    assert_string_equal(a.answer_prefix + 1, b.answer_prefix);
    assert_int_equal(a.answer_prefix[0], ' ');
    assert_string_equal(a.outputs.items[0], b.outputs.items[0]);
    mp_sample_free(&a);
    mp_sample_free(&b);
    struct mp_error err;
    assert_int_equal(mp_hook_chat("llama", &m.before, &m.after, &err), MP_ERR_USAGE);
    assert_string_equal(err.message, "found template \"llama\", expected one of none, llama3, model");
}

/* ---- determinism ---- */

static uint64_t add_string(uint64_t sum, const char *text)
{
    for (size_t i = 0; i <= strlen(text); i++) {
        sum = (sum ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    }
    return sum;
}

static uint64_t checksum(const struct mp_maker *m, int task, int samples, uint64_t sum)
{
    struct mp_series series = {.task = task};
    for (int i = 0; i < samples; i++) {
        struct mp_sample s = make(m, &series);
        sum = add_string(sum, s.text);
        sum = add_string(sum, s.answer_prefix);
        for (size_t k = 0; k < s.outputs.count; k++) {
            sum = add_string(sum, s.outputs.items[k]);
        }
        mp_sample_free(&s);
    }
    return sum;
}

static void test_checksum(void **state)
{
    struct mp_maker m = maker_of(*state, 4096);
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    for (int task = 0; task < MP_NUM_TASKS; task++) {
        sum = checksum(&m, task, 3, sum);
    }
    if (sum != CHECKSUM) {
        fail_msg("checksum 0x%016" PRIx64 ", expected 0x%016" PRIx64, sum, CHECKSUM);
    }
    m.seed++;
    assert_int_not_equal(checksum(&m, 0, 3, 0), 0);
    struct mp_maker other = maker_of(*state, 4096);
    assert_int_not_equal(checksum(&m, 0, 3, 0), checksum(&other, 0, 3, 0));
}

/* ---- errors, lists ---- */

static void test_too_short(void **state)
{
    struct mp_maker m = maker_of(*state, 100);
    struct mp_error err;
    struct mp_sample s;
    for (int task = 0; task < MP_NUM_TASKS; task++) {
        struct mp_series series = {.task = task};
        if (mp_make_sample(&m, &series, &s, &err) != MP_ERR_USAGE) {
            fail_msg("%s: %s", mp_tasks[task].name, s.text);
        }
        char *part =
            mp_xasprintf("--tokens: found 100, but %s needs at least ", mp_tasks[task].name);
        assert_non_null(strstr(err.message, part));
        assert_null(s.text);
        free(part);
    }
}

static void test_task_lists(void **state)
{
    (void)state;
    bool chosen[MP_NUM_TASKS];
    struct mp_error err;
    assert_int_equal(mp_tasks_parse("all", chosen, &err), 0);
    for (int i = 0; i < MP_NUM_TASKS; i++) {
        assert_true(chosen[i]);
    }
    assert_int_equal(mp_tasks_parse("vt,niah_single_1", chosen, &err), 0);
    for (int i = 0; i < MP_NUM_TASKS; i++) {
        assert_int_equal(chosen[i], i == find_task("vt") || i == find_task("niah_single_1"));
    }
    static const char *const bad[][2] = {
        {"vt,vt", "--task: found vt twice"},
        {"", "--task: found \"\", expected one of all, niah_single_1, "},
        {"vt,", "--task: found \"\", expected"},
        {"niah_single1", "found \"niah_single1\" (nearest: niah_single_1), expected"},
        {"vt,all", "found \"all\""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(mp_tasks_parse(bad[i][0], chosen, &err), MP_ERR_USAGE);
        assert_non_null(strstr(err.message, bad[i][1]));
    }
}

static void test_draws(void **state)
{
    (void)state;
    struct mp_rng rng;
    mp_rng_init(&rng, 3, 0);
    int seen[7] = {0};
    for (int i = 0; i < 7000; i++) {
        int64_t x = mp_draw_below(&rng, 7);
        assert_in_range(x, 0, 6);
        seen[x]++;
    }
    int32_t order[100];
    bool found[100] = {0};
    mp_draw_order(&rng, order, 100);
    for (int i = 0; i < 100; i++) {
        assert_false(found[order[i]]);
        found[order[i]] = true;
        assert_in_range(seen[i % 7], 850, 1150);
    }
    for (int i = 0; i < 1000; i++) {
        assert_in_range(mp_draw_number(&rng, 5), 10000, 99999);
    }
    assert_int_equal(mp_draw_below(&rng, 1), 0);
    mp_draw_order(&rng, order, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_4k),         cmocka_unit_test(test_16k),
        cmocka_unit_test(test_128k),       cmocka_unit_test(test_template),
        cmocka_unit_test(test_checksum),   cmocka_unit_test(test_too_short),
        cmocka_unit_test(test_task_lists), cmocka_unit_test(test_draws),
    };
    return cmocka_run_group_tests(tests, eval_setup, eval_teardown);
}
