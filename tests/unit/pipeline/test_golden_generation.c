/* The demo model's greedy texts with full attention, from prompt text to answer text, against the
 * reference's. */
#include "engine_fixture.h"

#include <string.h>

enum { MAX_PROMPT = 16384 };

static void check_text(struct mp_session *session, const struct mp_tokenizer *tokenizer,
                       const struct mp_json *doc, const struct cJSON *item)
{
    struct mp_error err;
    const char *prompt;
    const char *expected;
    int64_t num_tokens;
    struct mp_ids ids = {0};
    struct mp_ids greedy = {0};
    ASSERT_OK(mp_json_get_string(doc, item, "prompt", &prompt, &err));
    ASSERT_OK(mp_json_get_string(doc, item, "text", &expected, &err));
    ASSERT_OK(mp_json_get_int(doc, item, "n_prompt", 1, MAX_PROMPT, &num_tokens, &err));
    read_ids(doc, item, "greedy", &greedy);

    ASSERT_OK(mp_tokenizer_encode(tokenizer, prompt, strlen(prompt), false, &ids, &err));
    assert_int_equal(ids.count, num_tokens);
    int slot = generate(session, &ids, (int64_t)greedy.count);
    const struct mp_request *r = mp_session_request(session, slot);
    char *text = mp_tokenizer_decode(tokenizer, r->ids + r->prompt_tokens,
                                     (size_t)r->generated_tokens, false, NULL);
    print_message("%5lld tokens ->%s\n", (long long)num_tokens, text);
    assert_string_equal(text, expected);
    assert_int_equal(r->generated_tokens, greedy.count);
    assert_memory_equal(r->ids + r->prompt_tokens, greedy.data, greedy.count * sizeof(int32_t));

    mp_session_remove(session, slot);
    free(text);
    mp_ids_free(&ids);
    mp_ids_free(&greedy);
}

static void test_texts(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_config config;
    mp_config_init(&config);
    static const char *const flags[] = {"lsh-k", "0", "chunk-size", "2048", NULL};
    set_flags(&config, flags);
    struct mp_json *doc = read_json(GOLDEN "demo/golden_generation.json");
    struct mp_tokenizer *tokenizer;
    ASSERT_OK(mp_tokenizer_load(DEMO_MODEL "/tokenizer.json", &tokenizer, &err));
    struct mp_engine *engine = open_engine(&config, DEMO_MODEL, MAX_PROMPT);
    struct mp_session *session;
    ASSERT_OK(mp_session_open(engine, &session, &err));

    int checked = 0;
    for (const struct cJSON *item = mp_json_first(mp_json_root(doc)); item != NULL;
         item = mp_json_after(item)) {
        check_text(session, tokenizer, doc, item);
        checked++;
    }
    assert_int_equal(checked, 8);

    mp_session_close(session);
    mp_engine_close(engine);
    mp_tokenizer_free(tokenizer);
    mp_json_free(doc);
    mp_config_free(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
