/* Prompts with their answers: from records and from tasks, how far they are read exactly, and what
 * cannot be asked. */
#include "items_fixture.h"

#include <stdbool.h>

/* ---- the question ---- */

static void check_question(const char *text, const char *question, const char *rest)
{
    int64_t at = mp_items_find_question(text, question);
    if (rest == NULL) {
        assert_int_equal(at, -1);
        return;
    }
    assert_in_range(at, 0, strlen(text));
    assert_string_equal(text + at, rest);
}

/* The last one of all phrases. */
static void test_phrases(void **state)
{
    (void)state;
    check_question("x. Question: who? ", NULL, "Question: who? ");
    check_question("What is the special magic number for a?", NULL,
                   "What is the special magic number for a?");
    check_question("x What are all the special magic uuids for a?", NULL,
                   "What are all the special magic uuids for a?");
    check_question("Question: a? What is the special magic word?", NULL,
                   "What is the special magic word?");
    check_question("What is the special magic word? Question: a?", NULL, "Question: a?");
    check_question("What are all the special magic a Question: 1 Question: 2", NULL, "Question: 2");
    check_question("Question:", NULL, "Question:");
    check_question("QuestionQuestion:", NULL, "Question:");
}

static void test_no_phrase(void **state)
{
    (void)state;
    check_question("", NULL, NULL);
    check_question("question: who?", NULL, NULL);
    check_question("What is magic? Question", NULL, NULL);
}

/* A record's own, instead of the phrases. */
static void test_own_question(void **state)
{
    (void)state;
    check_question("Who? Tell me: Who? Question: a", "Who?", "Who? Question: a");
    check_question("aaaa", "aa", "aa");
    check_question("Question: a", "Who?", NULL);
    check_question("Who", "Who?", NULL);
    /* One that says nothing is none. */
    check_question("x Question: a", "", "Question: a");
    check_question("x", "", NULL);
}

static void test_sparse_from(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_cli cli = {0};
    bool question = true;
    ASSERT_OK(mp_items_sparse_question(&cli, &question, &err));
    assert_false(question);
    cli.sparse_from = "question";
    ASSERT_OK(mp_items_sparse_question(&cli, &question, &err));
    assert_true(question);
    cli.sparse_from = "answer";
    ASSERT_OK(mp_items_sparse_question(&cli, &question, &err));
    assert_false(question);
    static const char *const bad[] = {"", "Question", "prompt"};
    for (int i = 0; i < 3; i++) {
        cli.sparse_from = bad[i];
        ASSERT_FAILS(mp_items_sparse_question(&cli, &question, &err), MP_ERR_USAGE,
                     "expected answer or question");
    }
}

/* ---- records ---- */

static void check_ids(const struct loaded *l, const struct mp_item *item, const char *text)
{
    struct mp_error err;
    int32_t *ids;
    int64_t count;
    ASSERT_OK(mp_engine_encode(l->engine, text, strlen(text), &ids, &count, &err));
    assert_int_equal(item->ids.count, count);
    assert_memory_equal(item->ids.data, ids, (size_t)count * sizeof *ids);
    mp_free(ids);
}

static void test_record(void **state)
{
    (void)state;
    struct loaded l;
    load(&l, 2,
         "{\"index\": 7, \"input\": \"The lamp is lit.\", \"answer_prefix\": \" It is\","
         " \"outputs\": [\"lit\", \"on\"], \"max_new_tokens\": 9}\n"
         "{\"id\": \"b\", \"input_ids\": [5, 6, 7], \"outputs\": \"x\", \"task\": \"mine\","
         " \"target_tokens\": 4096}\n",
         WITH("--gen-len", "11"));
    const struct mp_item *a = item_of(&l, 0);
    assert_string_equal(a->id, "7");
    assert_string_equal(a->task, "prompts");
    check_ids(&l, a, "The lamp is lit. It is");
    assert_int_equal(a->exact, a->ids.count);
    assert_int_equal(a->max_new_tokens, 9);
    assert_int_equal(a->num_outputs, 2);
    assert_string_equal(a->outputs[0], "lit");
    assert_string_equal(a->outputs[1], "on");
    assert_false(a->any);
    const struct mp_item *b = item_of(&l, 1);
    assert_string_equal(b->id, "b");
    assert_string_equal(b->task, "mine");
    assert_true(b->ids.count == 3 && b->ids.data[0] == 5 && b->ids.data[2] == 7);
    assert_true(b->exact == 3 && b->max_new_tokens == 11 && b->context == 4096);
    assert_true(b->num_outputs == 1 && strcmp(b->outputs[0], "x") == 0);
    assert_true(a->fingerprint != b->fingerprint);
    free_loaded(&l);
}

/* The record's own number, else its task's, else the configuration's. */
static void test_new_tokens(void **state)
{
    (void)state;
    static const char records[] = "{\"input\": \"a\", \"outputs\": \"x\", \"task\": \"vt\"}\n"
                                  "{\"input\": \"a\", \"outputs\": \"x\", \"task\": \"mine\"}\n"
                                  "{\"input\": \"a\", \"outputs\": \"x\"}\n"
                                  "{\"input\": \"a\", \"outputs\": \"x\", \"task\": \"fwe\","
                                  " \"max_new_tokens\": 3}\n";
    static const int64_t without[] = {30, 128, 128, 3};
    static const int64_t of_fwe[] = {30, 40, 50, 3}; /* --task: of those that do not say */
    struct loaded l;
    load(&l, 4, records, NOTHING);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(item_of(&l, i)->max_new_tokens, without[i]);
    }
    free_loaded(&l);
    load(&l, 4, records, WITH("--task", "fwe", "--gen-len", "40"));
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(item_of(&l, i)->max_new_tokens, of_fwe[i]);
    }
    assert_string_equal(item_of(&l, 1)->task, "mine");
    assert_string_equal(item_of(&l, 2)->task, "fwe");
    free_loaded(&l);
}

/* In tasks with documents one of the answers is enough. */
static void test_any(void **state)
{
    (void)state;
    static const char *const tasks[] = {"qa_1",          "qa_2", "qa", "qasper",
                                        "niah_single_1", "q",    "aqa"};
    static const bool any[] = {true, true, true, false, false, false, false};
    char *records = mp_xstrdup("");
    for (int i = 0; i < 7; i++) {
        char *longer = mp_xasprintf(
            "%s{\"input\": \"a\", \"outputs\": [\"x\"], \"task\": \"%s\"}\n", records, tasks[i]);
        free(records);
        records = longer;
    }
    struct loaded l;
    load(&l, 7, records, NOTHING);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(item_of(&l, i)->any, any[i]);
    }
    free(records);
    free_loaded(&l);
}

/* A record of so many ids, and what may be generated after them. */
static char *record_of_ids(int64_t count, int64_t new_tokens)
{
    char *text;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    fputs("{\"input_ids\": [", out);
    for (int64_t i = 0; i < count; i++) {
        fputs(i > 0 ? ",5" : "5", out);
    }
    fprintf(out, "], \"outputs\": \"x\", \"max_new_tokens\": %lld}\n", (long long)new_tokens);
    fclose(out);
    return text;
}

/* Without "target_tokens" the power of two at or above the length of the prompt. */
static void test_context(void **state)
{
    (void)state;
    static const int64_t cases[][2] = {{1, 1},     {2, 2},       {3, 4},      {128, 128},
                                       {129, 256}, {1000, 1024}, {1025, 2048}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct loaded l;
        char *record = record_of_ids(cases[i][0], 100);
        load(&l, 1, record, NOTHING);
        assert_int_equal(item_of(&l, 0)->context, cases[i][1]);
        free(record);
        free_loaded(&l);
    }
}

/* Of its tokens alone: not of the id or the answers. */
static void test_fingerprint(void **state)
{
    (void)state;
    struct loaded l;
    load(&l, 5,
         "{\"id\": \"a\", \"input_ids\": [1, 2], \"outputs\": \"x\"}\n"
         "{\"id\": \"b\", \"input_ids\": [1, 2], \"outputs\": \"y\", \"max_new_tokens\": 3}\n"
         "{\"input_ids\": [2, 1], \"outputs\": \"x\"}\n"
         "{\"input_ids\": [1, 2, 0], \"outputs\": \"x\"}\n"
         "{\"input_ids\": [1, 3], \"outputs\": \"x\"}\n",
         NOTHING);
    assert_true(item_of(&l, 0)->fingerprint == item_of(&l, 1)->fingerprint);
    for (size_t i = 1; i < 5; i++) {
        for (size_t j = i + 1; j < 5; j++) {
            assert_true(item_of(&l, i)->fingerprint != item_of(&l, j)->fingerprint);
        }
    }
    free_loaded(&l);
}

/* ---- what is read exactly ---- */

/* Both are what the prompt and the text before the question have in common at their start. */
static void check_exact(const struct loaded *l, size_t index, const char *before, const char *after)
{
    const struct mp_item *item = item_of(l, index);
    struct mp_error err;
    int32_t *ids;
    int64_t count;
    int64_t same = 0;
    char *text = mp_xasprintf("%s%s", before, after);
    check_ids(l, item, text);
    ASSERT_OK(mp_engine_encode(l->engine, before, strlen(before), &ids, &count, &err));
    while (same < count && ids[same] == item->ids.data[same]) {
        same++;
    }
    assert_true(same >= 1 && same >= count - 1); /* a token may begin before the question */
    assert_int_equal(item->exact, same);
    assert_true(item->exact < (int64_t)item->ids.count);
    mp_free(ids);
    free(text);
}

static void test_exact(void **state)
{
    (void)state;
    static const char records[] =
        "{\"input\": \"The lamp is lit.\\nQuestion: What is lit?\", \"answer_prefix\": \" "
        "Answer:\","
        " \"outputs\": \"lamp\"}\n"
        "{\"input\": \"The lamp is lit. Who is here? Nobody. Who is here?\", \"outputs\": \"x\","
        " \"question\": \"Who is\"}\n"
        "{\"input\": \"The lamp is litWho\", \"outputs\": \"x\", \"question\": \"Who\"}\n"
        "{\"input\": \"Question: at once\", \"outputs\": \"x\"}\n";
    struct loaded l;
    load(&l, 4, records, WITH("--sparse-from", "question"));
    check_exact(&l, 0, "The lamp is lit.\n", "Question: What is lit? Answer:");
    check_exact(&l, 1, "The lamp is lit. Who is here? Nobody. ", "Who is here?");
    check_exact(&l, 2, "The lamp is lit", "Who");
    check_exact(&l, 3, "", "Question: at once"); /* BOS */
    free_loaded(&l);
    load(&l, 4, records, WITH("--sparse-from", "answer"));
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(item_of(&l, i)->exact, item_of(&l, i)->ids.count);
    }
    free_loaded(&l);
}

/* ---- records that cannot be asked ---- */

static void test_bad_records(void **state)
{
    (void)state;
    struct loaded l;
    load(&l, 7,
         "{\"input\": \"a\"}\n"
         "{\"input\": \"a\", \"outputs\": []}\n"
         "{\"input\": \"a\", \"outputs\": [\"x\", \"\"]}\n"
         "{\"outputs\": \"x\"}\n"
         "no JSON\n"
         "{\"input\": \"a\", \"outputs\": \"x\"}\n"
         "{\"messages\": [{\"role\": \"user\"}], \"outputs\": \"x\"}\n",
         NOTHING);
    check_error(&l, 0, "items.jsonl:1: outputs: found none, expected the right answers");
    check_error(&l, 1, "items.jsonl:2: outputs: found none");
    check_error(&l, 2, "items.jsonl:3: outputs: found an empty text, which every answer contains");
    check_error(&l, 3, "items.jsonl:4");
    check_error(&l, 4, "items.jsonl:5");
    item_of(&l, 5);
    check_error(&l, 6, "items.jsonl:7: messages do not act for eval");
    struct mp_error err;
    ASSERT_OK(mp_items_report_errors(&l.items, &err));
    ASSERT_FAILS(mp_items_check_failed(&l.items, &err), MP_ERR_FORMAT,
                 "6 of 7 prompts could not be run");
    free_loaded(&l);
}

static void test_none_can_be_asked(void **state)
{
    (void)state;
    struct loaded l;
    struct mp_error err;
    load(&l, 2, "{\"input\": \"a\"}\n{\"input\": \"b\"}\n", NOTHING);
    ASSERT_FAILS(mp_items_report_errors(&l.items, &err), MP_ERR_FORMAT,
                 "none of the 2 prompts can be run");
    free_loaded(&l);
}

static void test_bad_for_question(void **state)
{
    (void)state;
    struct loaded l;
    load(&l, 4,
         "{\"input_ids\": [1, 2], \"outputs\": \"x\"}\n"
         "{\"input\": \"The lamp is lit.\", \"outputs\": \"x\"}\n"
         "{\"input\": \"Question: Who?\", \"outputs\": \"x\", \"question\": \"Whom\"}\n"
         "{\"input\": \"The lamp. Question: Who?\", \"outputs\": \"x\", \"question\": \"\"}\n",
         WITH("--sparse-from", "question"));
    check_error(&l, 0, "items.jsonl:1: --sparse-from question needs \"input\" as text");
    check_error(&l, 1, "no question found to be sparse from: the text has none of the phrases");
    check_error(&l, 2, "no question found to be sparse from: the text does not have \"question\"");
    check_exact(&l, 3, "The lamp. ", "Question: Who?");
    free_loaded(&l);
}

/* The demo model has 65,536 positions and 4,096 ids. */
static void test_what_the_model_refuses(void **state)
{
    (void)state;
    struct loaded l;
    char *fits = record_of_ids(65536, 1);
    char *too_long = record_of_ids(65537, 1);
    char *records = mp_xasprintf("%s%s{\"input_ids\": [1, 4096], \"outputs\": \"x\"}\n"
                                 "{\"input_ids\": [1], \"outputs\": \"\"}\n",
                                 fits, too_long);
    load(&l, 4, records, NOTHING);
    mp_items_check(&l.items, l.engine);
    item_of(&l, 0);
    check_error(&l, 1, "found 65537 tokens, the model has 65536 positions");
    check_error(&l, 2, "token 1: found id 4096");
    check_error(&l, 3, "found an empty text");
    free(fits);
    free(too_long);
    free(records);
    free_loaded(&l);
}

static void test_bad_files(void **state)
{
    (void)state;
    struct loaded l;
    struct mp_error err;
    ASSERT_FAILS(load_items(&l, "", NOTHING, &err), MP_ERR_FORMAT, "items.jsonl");
    assert_true(l.items.items == NULL && l.items.count == 0);
    free_loaded(&l);
    ASSERT_FAILS(load_items(&l, NULL, WITH("--input", "/absent.jsonl"), &err), MP_ERR_IO,
                 "/absent.jsonl");
    free_loaded(&l);
    ASSERT_FAILS(load_items(&l, "{}", WITH("--sparse-from", "x"), &err), MP_ERR_USAGE,
                 "--sparse-from: found \"x\"");
    free_loaded(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_phrases),
        cmocka_unit_test(test_no_phrase),
        cmocka_unit_test(test_own_question),
        cmocka_unit_test(test_sparse_from),
        cmocka_unit_test(test_record),
        cmocka_unit_test(test_new_tokens),
        cmocka_unit_test(test_any),
        cmocka_unit_test(test_context),
        cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_bad_records),
        cmocka_unit_test(test_none_can_be_asked),
        cmocka_unit_test(test_bad_for_question),
        cmocka_unit_test(test_what_the_model_refuses),
        cmocka_unit_test(test_bad_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
