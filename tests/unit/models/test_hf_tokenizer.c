/* tokenizer_config.json: special tokens, BOS and EOS as transformers applies them. */
#include "models/hf_tokenizer.h"

#include "core/base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* "<s>" and "</s>" are words of the model's, and only "<s>" is an added token. */
#define TOKENIZER(post_processor)                                                                  \
    "{\"version\": \"1.0\", \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"<s>\": 1, "     \
    "\"</s>\": 2, \"<\": 3, \">\": 4, \"/\": 5, \"s\": 6, \"<pad>\": 7}, \"merges\": []}, "        \
    "\"added_tokens\": [{\"id\": 1, \"content\": \"<s>\", \"special\": false, \"single_word\": "   \
    "false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false}], "                       \
    "\"post_processor\": " post_processor ", \"decoder\": {\"type\": \"Fuse\"}}"
#define BYTE_LEVEL "{\"type\": \"ByteLevel\"}"
#define TEMPLATE                                                                                   \
    "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"</s>\"}}, "     \
    "{\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"</s>\": {\"ids\": [2]}}}"

static void write_file(const char *dir, const char *name, const char *text)
{
    char *path = mp_xasprintf("%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    free(path);
}

static int load(const char *tokenizer, const char *config, struct mp_tokenizer **t,
                struct mp_error *err)
{
    char dir[] = MP_SCRATCH_DIR "/hf_tokenizer_XXXXXX";
    assert_non_null(mkdtemp(dir));
    write_file(dir, "tokenizer.json", tokenizer);
    if (config != NULL) {
        write_file(dir, "tokenizer_config.json", config);
    }
    int code = mp_hf_tokenizer_load(dir, t, err);
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json"};
    for (int i = 0; i < 2; i++) {
        char *path = mp_xasprintf("%s/%s", dir, names[i]);
        unlink(path);
        free(path);
    }
    rmdir(dir);
    return code;
}

/* expected: the ids of text, separated by spaces; decoded: its text without the special ones. */
static void check(const char *tokenizer, const char *config, const char *text, const char *expected,
                  const char *decoded)
{
    struct mp_tokenizer *t;
    struct mp_error err;
    if (load(tokenizer, config, &t, &err) != MP_OK) {
        fail_msg("%s: %s", config, err.message);
    }
    struct mp_ids ids = {0};
    assert_int_equal(mp_tokenizer_encode(t, text, strlen(text), true, &ids, &err), MP_OK);
    char found[64] = "";
    for (size_t i = 0; i < ids.count; i++) {
        size_t used = strlen(found);
        snprintf(found + used, sizeof found - used, "%s%d", i > 0 ? " " : "", (int)ids.data[i]);
    }
    char *plain = mp_tokenizer_decode(t, ids.data, ids.count, true, NULL);
    if (strcmp(found, expected) != 0 || strcmp(plain, decoded) != 0) {
        fail_msg("%s: found %s, \"%s\", expected %s, \"%s\"", config, found, plain, expected,
                 decoded);
    }
    free(plain);
    mp_ids_free(&ids);
    mp_tokenizer_free(t);
}

static void test_bos_and_eos(void **state)
{
    (void)state;
    static const char plain[] = TOKENIZER(BYTE_LEVEL);
    check(plain, NULL, "a", "0", "a");
    check(plain, "{}", "a", "0", "a");
    check(plain, "{\"add_bos_token\": true, \"bos_token\": \"<s>\"}", "a", "1 0", "a");
    check(TOKENIZER("null"), "{\"add_bos_token\": true, \"bos_token\": \"<s>\"}", "a", "1 0", "a");
    check(plain,
          "{\"add_bos_token\": true, \"bos_token\": {\"__type\": \"AddedToken\", "
          "\"content\": \"<s>\", \"normalized\": true}, \"eos_token\": \"</s>\"}",
          "a", "1 0", "a");
    check(plain, "{\"add_eos_token\": true, \"eos_token\": \"</s>\"}", "a", "0 2", "a");
    check(plain, "{\"add_bos_token\": false, \"bos_token\": \"<s>\"}", "a", "0", "a");
    check(plain, "{\"bos_token\": \"<s>\"}", "a", "0", "a");
    check(plain, "{\"add_bos_token\": true, \"bos_token\": null}", "a", "0", "a");
    check(plain, "{\"add_bos_token\": null, \"bos_token\": \"<s>\"}", "a", "0", "a");
}

/* Classes have defaults for what the file leaves out. */
static void test_classes(void **state)
{
    (void)state;
    static const char plain[] = TOKENIZER(BYTE_LEVEL);
    check(plain, "{\"tokenizer_class\": \"LlamaTokenizerFast\"}", "a", "1 0", "a");
    check(plain, "{\"tokenizer_class\": \"LlamaTokenizer\", \"add_eos_token\": true}", "a", "1 0 2",
          "a");
    check(plain, "{\"tokenizer_class\": \"LlamaTokenizerFast\", \"add_bos_token\": false}", "a",
          "0", "a");
    check(plain, "{\"tokenizer_class\": \"LlamaTokenizerFast\", \"bos_token\": null}", "a", "0",
          "a");
    check(plain, "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"bos_token\": \"<s>\"}", "a",
          "0", "a");
}

/* What tokenizer.json puts around a text stays. */
static void test_template_counts(void **state)
{
    (void)state;
    static const char own[] = TOKENIZER(TEMPLATE);
    check(own, "{\"tokenizer_class\": \"LlamaTokenizerFast\", \"add_bos_token\": true}", "a", "2 0",
          "a");
    check(own, "{\"add_bos_token\": true, \"bos_token\": \"<bos>\"}", "a", "2 0", "</s>a");
    check(own, "{\"add_bos_token\": false, \"bos_token\": \"</s>\"}", "a", "2 0", "a");
    check(own, "{\"add_eos_token\": true, \"eos_token\": \"</s>\"}", "a", "2 0", "a");
    /* Also if that is nothing. */
    static const char nothing[] = TOKENIZER("{\"type\": \"TemplateProcessing\", \"single\": "
                                            "[{\"Sequence\": {\"id\": \"A\"}}]}");
    check(nothing, "{\"add_bos_token\": true, \"bos_token\": \"<s>\"}", "a", "0", "a");
    check(nothing, "{\"tokenizer_class\": \"LlamaTokenizer\"}", "a", "0", "a");
}

/* The tokens that are named are found in texts, and left out of what is generated. */
static void test_special_tokens(void **state)
{
    (void)state;
    static const char plain[] = TOKENIZER(BYTE_LEVEL);
    check(plain, NULL, "a</s><s>", "0 3 5 6 4 1", "a</s><s>");
    check(plain, "{\"eos_token\": \"</s>\"}", "a</s><s>", "0 2 1", "a<s>");
    check(plain, "{\"bos_token\": \"<s>\", \"pad_token\": \"<pad>\", \"unk_token\": \"a\"}",
          "a<pad>s<s>", "0 7 6 1", "s");
    check(plain, "{\"eos_token\": \"<absent>\"}", "a", "0", "a");
}

static void check_refused(const char *config, const char *part)
{
    struct mp_tokenizer *t = NULL;
    struct mp_error err;
    assert_int_equal(load(TOKENIZER("null"), config, &t, &err), MP_ERR_FORMAT);
    assert_null(t);
    if (strstr(err.message, "tokenizer_config.json: ") == NULL ||
        strstr(err.message, part) == NULL) {
        fail_msg("expected \"%s\", found \"%s\"", part, err.message);
    }
}

static void test_refused(void **state)
{
    (void)state;
    check_refused("[]", "expected an object, found an array");
    check_refused("{\"add_bos_token\": 1}", "add_bos_token: expected true or false, found 1");
    check_refused("{\"bos_token\": 1}", "bos_token: expected a string, found 1");
    check_refused("{\"bos_token\": {}}", "bos_token: key \"content\" is missing");
    check_refused("{\"tokenizer_class\": []}", "tokenizer_class: expected a string");
    check_refused("{\"add_bos_token\": true, \"bos_token\": \"<bos>\"}",
                  "add_bos_token puts \"<bos>\" around texts, which tokenizer.json does not have");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bos_and_eos),     cmocka_unit_test(test_classes),
        cmocka_unit_test(test_template_counts), cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
