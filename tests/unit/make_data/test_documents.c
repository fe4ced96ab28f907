/* qa_*: documents, questions that they answer, and files that hold none. */
#include "tests/unit/make_data/eval_test.h"

enum { TOKENS = 4096 };

static const char QUESTION[] = "\n\nQuestion: ";

/* Numbers from 1 on, each document of the corpus at most once, those of the question among them,
 * and each answer in one of those. */
static int64_t check_documents(const char *text, const struct mp_corpus *corpus,
                               const struct mp_question *q)
{
    bool *seen = mp_xcalloc(corpus->documents.count, sizeof *seen);
    int64_t count = 0;
    const char *at = strstr(text, "Document 1:\n");
    while (strncmp(at, "Document ", 9) == 0) {
        char *head = mp_xasprintf("Document %d:\n", (int)++count);
        assert_int_equal(strncmp(at, head, strlen(head)), 0);
        at += strlen(head);
        free(head);
        const char *end = strstr(at, "\n\n");
        char *document = mp_xstrndup(at, (size_t)(end - at));
        size_t index = 0;
        while (index < corpus->documents.count &&
               strcmp(corpus->documents.items[index], document) != 0) {
            index++;
        }
        assert_true(index < corpus->documents.count);
        assert_false(seen[index]);
        seen[index] = true;
        free(document);
        at = end + 2;
    }
    for (size_t i = 0; i < q->num_documents; i++) {
        assert_true(seen[q->documents[i]]);
    }
    for (size_t k = 0; k < q->answers.count; k++) {
        int found = 0;
        for (size_t i = 0; i < q->num_documents; i++) {
            found += count_of(corpus->documents.items[q->documents[i]], q->answers.items[k]);
        }
        assert_int_equal(found, 1);
    }
    free(seen);
    return count;
}

static const struct mp_question *find_question(const struct mp_corpus *corpus, const char *text)
{
    for (size_t i = 0; i < corpus->num_questions; i++) {
        if (strcmp(corpus->questions[i].text, text) == 0) {
            return &corpus->questions[i];
        }
    }
    fail_msg("no question %s", text);
    return NULL;
}

/* documents: that a question is asked about. */
static void check_task(void **state, const char *name, size_t documents)
{
    const struct eval_test *t = *state;
    struct mp_maker m = maker_of(t, TOKENS);
    struct mp_series series = {.task = find_task(name)};
    const struct mp_corpus *corpus = mp_task_corpus(&mp_tasks[series.task], &t->sources);
    assert_int_equal(mp_tasks[series.task].new_tokens, 32);
    struct mp_words asked = {0};
    for (int i = 0; i < SAMPLES; i++) {
        struct mp_sample s = make(&m, &series);
        assert_string_equal(s.answer_prefix, " Answer:");
        const char *question = strstr(s.text, QUESTION) + strlen(QUESTION);
        assert_true(mp_words_add_new(&asked, question));
        const struct mp_question *q = find_question(corpus, question);
        assert_true(check_documents(s.text, corpus, q) > (int64_t)q->num_documents);
        assert_int_equal(q->num_documents, documents);
        assert_int_equal(s.outputs.count, 1);
        assert_int_equal(q->answers.count, 1);
        assert_string_equal(s.outputs.items[0], q->answers.items[0]);
        mp_sample_free(&s);
    }
    mp_words_free(&asked);
}

/* The answer is in the text, once; most of the other documents are of the same article: so many
 * come before any of another one. */
static void test_squad(void **state)
{
    check_task(state, "qa_1", 1);
    const struct eval_test *t = *state;
    struct mp_maker m = maker_of(t, TOKENS);
    struct mp_series series = {.task = find_task("qa_1")};
    struct mp_sample s = make(&m, &series);
    assert_int_equal(s.outputs.count, 1);
    char *answer = mp_xasprintf(" %s came.", s.outputs.items[0]);
    assert_int_equal(count_of(s.text, answer), 1);
    free(answer);
    int article = atoi(s.outputs.items[0] + 3) / 30;
    int documents = 0;
    for (const char *at = strstr(s.text, " it-"); at != NULL; at = strstr(at + 1, " it-")) {
        assert_int_equal(atoi(at + 4) / 30, article);
        documents++;
    }
    assert_in_range(documents, 5, 30);
    mp_sample_free(&s);
}

static void test_hotpot(void **state)
{
    check_task(state, "qa_2", 10);
    const struct eval_test *t = *state;
    struct mp_maker m = maker_of(t, TOKENS);
    struct mp_series series = {.task = find_task("qa_2")};
    struct mp_sample s = make(&m, &series);
    int question = atoi(s.outputs.items[0] + strlen("yes-"));
    for (int p = 10 * question; p < 10 * question + 10; p++) {
        char *title = mp_xasprintf(":\nTitle %d\n", p);
        assert_int_equal(count_of(s.text, title), 1);
        free(title);
    }
    mp_sample_free(&s);
}

/* After the last question the first one comes again, with other documents. */
static void test_more_samples_than_questions(void **state)
{
    struct mp_maker m = maker_of(*state, 16384);
    struct mp_series series = {.task = find_task("qa_2")};
    struct mp_sample first = make(&m, &series);
    series.turn = 120;
    struct mp_sample again = make(&m, &series);
    assert_string_equal(again.outputs.items[0], first.outputs.items[0]);
    assert_string_not_equal(again.text, first.text);
    mp_sample_free(&first);
    mp_sample_free(&again);
}

static void expect_failure(const struct mp_maker *m, const char *task, const char *part)
{
    struct mp_series series = {.task = find_task(task)};
    struct mp_sample s;
    struct mp_error err;
    assert_int_equal(mp_make_sample(m, &series, &s, &err), MP_ERR_USAGE);
    if (strstr(err.message, part) == NULL) {
        fail_msg("expected \"%s\", found \"%s\"", part, err.message);
    }
    assert_null(s.text);
}

static void test_lengths_that_cannot_be(void **state)
{
    const struct eval_test *t = *state;
    struct mp_maker m = maker_of(t, 600);
    expect_failure(&m, "qa_2", "--tokens: found 600, but qa_2 needs at least ");
    m.tokens = 800000;
    expect_failure(&m, "qa_1", "--squad: qa_1 has ");
    expect_failure(&m, "qa_1",
                   " tokens with all the documents, expected 800000: give a file with more");
    /* Nothing but long documents. */
    static const char head[] = "{\"data\": [{\"paragraphs\": [";
    char *text;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    fputs(head, out);
    for (int p = 0; p < 10; p++) {
        fprintf(out, "%s{\"context\": \"%d", p > 0 ? ", " : "", p);
        for (int i = 0; i < 500; i++) {
            fputs(" word", out);
        }
        fputs("\", \"qas\": [{\"question\": \"?\", \"answers\": [{\"text\": \"word\"}]}]}", out);
    }
    fputs("]}]}", out);
    fclose(out);
    struct mp_sources sources = {0};
    load_corpus(mp_corpus_load_squad, text, length, &sources.squad);
    m.sources = &sources;
    m.tokens = 3000;
    expect_failure(&m, "qa_1", "--tokens: found 3000, but qa_1 has ");
    expect_failure(&m, "qa_1", "one of its documents is more than 2 % of the length");
    mp_sources_free(&sources);
}

/* ---- files ---- */

/* Every text contains an empty answer: such ones do not count, nor do questions without others. */
static void test_blank_answers(void **state)
{
    (void)state;
    static const char squad[] =
        "{\"data\": [{\"paragraphs\": [{\"context\": \"c\", \"qas\": ["
        "{\"question\": \"none?\", \"answers\": [{\"text\": \"\"}, {\"text\": \" \\n\"}]}, "
        "{\"question\": \"one?\", \"answers\": [{\"text\": \"\"}, {\"text\": \"x\"}]}]}]}]}";
    static const char hotpot[] =
        "[{\"question\": \"none?\", \"answer\": \"\", \"context\": [[\"t\", [\"s\"]]]}, "
        "{\"question\": \"one?\", \"answer\": \"x\", \"context\": [[\"u\", [\"s\"]]]}]";
    struct mp_corpus corpora[2];
    load_corpus(mp_corpus_load_squad, mp_xstrdup(squad), strlen(squad), &corpora[0]);
    load_corpus(mp_corpus_load_hotpot, mp_xstrdup(hotpot), strlen(hotpot), &corpora[1]);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(corpora[i].num_questions, 1);
        const struct mp_question *q = corpora[i].questions;
        assert_string_equal(q->text, "one?");
        assert_int_equal(q->answers.count, 1);
        assert_string_equal(q->answers.items[0], "x");
        assert_int_equal(q->num_documents, 1);
        /* The other question's paragraphs are documents all the same. */
        assert_int_equal(q->documents[0], i);
        mp_corpus_free(&corpora[i]);
    }
}

static void refuse(int (*load)(const char *, uint64_t, struct mp_corpus *, struct mp_error *),
                   const char *text, const char *part)
{
    struct mp_corpus corpus;
    struct mp_error err;
    char *path = write_scratch("bad.json", text, strlen(text));
    assert_int_equal(load(path, 0, &corpus, &err), MP_ERR_FORMAT);
    if (strstr(err.message, part) == NULL || strstr(err.message, "bad.json") == NULL) {
        fail_msg("expected \"%s\", found \"%s\"", part, err.message);
    }
    assert_null(corpus.questions);
    remove_scratch(path);
}

static void test_bad_squad(void **state)
{
    (void)state;
    refuse(mp_corpus_load_squad, "[]", "expected an object, found an array");
    refuse(mp_corpus_load_squad, "{\"data\": [", ":1:11");
    refuse(mp_corpus_load_squad, "{\"dota\": []}", "key \"data\" is missing");
    refuse(mp_corpus_load_squad, "{\"data\": []}", "found no question with an answer");
    refuse(mp_corpus_load_squad, "{\"data\": [{\"paragraphs\": [{\"context\": 5}]}]}",
           "data[0].paragraphs[0].context: expected a string, found 5");
    refuse(
        mp_corpus_load_squad,
        "{\"data\": [{\"paragraphs\": [{\"context\": \"c\", \"qas\": [{\"question\": \"q\"}]}]}]}",
        "data[0].paragraphs[0].qas[0]: key \"answers\" is missing");
    refuse(mp_corpus_load_squad,
           "{\"data\": [{\"paragraphs\": [{\"context\": \"c\", \"qas\": [{\"question\": \"q\", "
           "\"answers\": [{\"text\": null}]}]}]}]}",
           "answers[0].text: expected a string");
    refuse(mp_corpus_load_squad,
           "{\"data\": [{\"paragraphs\": [{\"context\": \"c\", \"qas\": [{\"question\": \"q\", "
           "\"answers\": []}]}]}]}",
           "found no question with an answer");
    refuse(mp_corpus_load_squad,
           "{\"data\": [{\"paragraphs\": [{\"context\": \"c\", \"qas\": [{\"question\": \"q\", "
           "\"answers\": [{\"text\": \"\"}]}]}]}]}",
           "found no question with an answer");
    struct mp_corpus corpus;
    struct mp_error err;
    assert_int_equal(mp_corpus_load_squad("/nowhere.json", 0, &corpus, &err), MP_ERR_IO);
}

static void test_bad_hotpot(void **state)
{
    (void)state;
#define ITEM "[{\"question\": \"q\", \"answer\": \"a\", \"context\": "
    refuse(mp_corpus_load_hotpot, "{}", "expected an array, found an object");
    refuse(mp_corpus_load_hotpot, "[]", "found no question");
    refuse(mp_corpus_load_hotpot, "[5]", "[0]: key \"question\" is missing");
    refuse(mp_corpus_load_hotpot, "[{\"question\": \"q\"}]", "[0]: key \"answer\" is missing");
    refuse(mp_corpus_load_hotpot, ITEM "5}]", "[0].context: expected an array");
    refuse(mp_corpus_load_hotpot, ITEM "[5]}]", "[0].context[0]: expected an array");
    refuse(mp_corpus_load_hotpot, ITEM "[[\"t\"]]}]",
           "[0].context[0]: expected a title and an array of sentences");
    refuse(mp_corpus_load_hotpot, ITEM "[[\"t\", \"s\"]]}]",
           "[0].context[0][1]: expected an array");
    refuse(mp_corpus_load_hotpot, ITEM "[[\"t\", [\"s\", 5]]]}]",
           "[0].context[0][1][1]: expected a string, found 5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_squad),
        cmocka_unit_test(test_hotpot),
        cmocka_unit_test(test_more_samples_than_questions),
        cmocka_unit_test(test_lengths_that_cannot_be),
        cmocka_unit_test(test_blank_answers),
        cmocka_unit_test(test_bad_squad),
        cmocka_unit_test(test_bad_hotpot),
    };
    return cmocka_run_group_tests(tests, eval_setup, eval_teardown);
}
