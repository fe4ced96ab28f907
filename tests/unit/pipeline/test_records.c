/* Input records: every layout, broken ones among good ones, files that are none. */
#include "pipeline/generate/records/records.h"

#include "core/base/clock.h"
#include "core/base/memory.h"
#include "tests/unit/bad_files.h"

#include <math.h>
#include <stdlib.h>

/* Loads records from text by way of a file. */
static int load_bytes(const char *text, size_t length, struct mp_records *r, struct mp_error *err)
{
    char *path = mp_xasprintf("%s/records-%d.txt", MP_SCRATCH_DIR, (int)getpid());
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
    int rc = mp_records_load(path, r, err);
    unlink(path);
    free(path);
    return rc;
}

/* Loads text and expects count records. */
static struct mp_records load(const char *text, size_t count)
{
    struct mp_records r;
    struct mp_error err;
    if (load_bytes(text, strlen(text), &r, &err) != MP_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(r.count, count);
    return r;
}

static void check_text(const struct mp_record *r, const char *id, const char *text, size_t line)
{
    if (r->error != NULL) {
        fail_msg("%s", r->error);
    }
    assert_string_equal(r->id, id);
    assert_non_null(r->text);
    assert_string_equal(r->text, text);
    assert_int_equal(r->text_length, strlen(text));
    assert_int_equal(r->line, line);
}

static void check_broken(const struct mp_record *r, const char *id, size_t line, const char *part)
{
    assert_non_null(r->error);
    assert_string_equal(r->id, id);
    assert_int_equal(r->line, line);
    assert_true(r->text == NULL && r->ids == NULL && r->outputs == NULL);
    if (strstr(r->error, part) == NULL) {
        fail_msg("expected \"%s\", found \"%s\"", part, r->error);
    }
}

static void test_one_object(void **state)
{
    (void)state;
    struct mp_records r =
        load("{\"index\": 3, \"input\": \"caf\\u00e9\", \"outputs\": [\"x\", \"y\"],"
             " \"others\": {}, \"truncation\": -1, \"max_new_tokens\": 9}",
             1);
    check_text(&r.items[0], "3", "caf\xc3\xa9", 1);
    assert_int_equal(r.items[0].num_outputs, 2);
    assert_string_equal(r.items[0].outputs[1], "y");
    assert_int_equal(r.items[0].max_new_tokens, 9);
    mp_records_free(&r);
    assert_int_equal(r.count, 0);
}

static void test_pretty_printed_objects(void **state)
{
    (void)state;
    struct mp_records r = load("\n{\n  \"input\": \"a\",\n  \"others\": {\n    \"k\": 1\n  }\n}\n"
                               "{\n  \"input\": \"b\"\n}\n",
                               2);
    check_text(&r.items[0], "0", "a", 2);
    check_text(&r.items[1], "1", "b", 8);
    mp_records_free(&r);
}

static void test_array(void **state)
{
    (void)state;
    struct mp_records r =
        load("[{\"input\": \"a\"}, {\"id\": \"x\", \"input\": \"b\"},\n"
             " {\"input\": 5},\n {\"index\": 7, \"id\": null, \"input\": \"d\"}]\n",
             4);
    check_text(&r.items[0], "0", "a", 1);
    check_text(&r.items[1], "x", "b", 1);
    check_broken(&r.items[2], "2", 2, ":2: input: expected a string, found 5");
    check_text(&r.items[3], "7", "d", 3);
    assert_int_equal(r.items[0].max_new_tokens, -1);
    assert_int_equal(r.items[0].num_outputs, 0);
    mp_records_free(&r);
}

static void test_array_with_syntax_errors(void **state)
{
    (void)state;
    struct mp_records r = load("[\n  {\"input\": \"a\"},\n  {\"input\": \"b\" \"c\"},\n"
                               "  {\"input\": \"d\"}\n",
                               3);
    check_text(&r.items[0], "0", "a", 2);
    check_broken(&r.items[1], "1", 3, ":3:17: expected ',' or '}'");
    check_broken(&r.items[2], "2", 4, "expected ',' or ']' after the record");
    mp_records_free(&r);

    r = load("[{\"input\": \"a\"},\n{\"input\": \"b\"},", 2);
    check_text(&r.items[0], "0", "a", 1);
    check_broken(&r.items[1], "1", 2, ":2:16: the array of records is not closed");
    mp_records_free(&r);

    r = load("[{\"input\": \"a\"},\n{\"input\": \"b\"}] {\"input\": \"c\"}", 2);
    check_text(&r.items[0], "0", "a", 1);
    check_broken(&r.items[1], "1", 2, ":2:17: trailing bytes after the array of records");
    mp_records_free(&r);
}

static void test_lines(void **state)
{
    (void)state;
    struct mp_records r =
        load("\xef\xbb\xbf{\"input\": \"a\"}\r\n\r\n  \t\r\n{\"input\": \"b\\r\\n\"}\r\n"
             "{\"id\": \"last\", \"input\": \"\"}",
             3);
    check_text(&r.items[0], "0", "a", 1);
    check_text(&r.items[1], "1", "b\r\n", 4);
    check_text(&r.items[2], "last", "", 5);
    mp_records_free(&r);
}

static void test_broken_lines_among_good_ones(void **state)
{
    (void)state;
    struct mp_records r = load("{\"input\": \"a\"}\n"
                               "{\"input\": \"b\"\n"
                               "{\"input\": \"c\"} x\n"
                               "{\"input\": \"d\"}\n"
                               "garbage\n"
                               "{\"input\": \"unclosed}\n"
                               "{\"id\": \"g\", \"input\": []}\n"
                               "7\n"
                               "{\"input\": \"h\"} {\"input\": \"i\"}\n"
                               "{\"input\": \"j\"}\n",
                               10);
    check_text(&r.items[0], "0", "a", 1);
    check_broken(&r.items[1], "1", 2, ":3:1: expected ',' or '}', found '{'");
    check_broken(&r.items[2], "2", 3, ":3:16: trailing bytes after the record");
    check_text(&r.items[3], "3", "d", 4);
    check_broken(&r.items[4], "4", 5, ":5:1: expected a value, found 'g'");
    check_broken(&r.items[5], "5", 6, "unescaped control character in a string");
    check_broken(&r.items[6], "g", 7, ":7: input: expected at least one token id");
    check_broken(&r.items[7], "7", 8, ":8: expected an object, found 7");
    check_broken(&r.items[8], "8", 9, ":9:16: trailing bytes after the record");
    check_text(&r.items[9], "9", "j", 10);
    mp_records_free(&r);
}

/* The objects inside a broken record are not records. */
static void test_broken_pretty_printed_record(void **state)
{
    (void)state;
    struct mp_records r =
        load("{\n  \"input\": \"a\",\n  \"others\": [\n    {\"input\": \"inner\"}\n"
             "    {\"input\": \"inner\"}\n  ]\n}\n{\n  \"input\": \"b\"\n}\n",
             2);
    check_broken(&r.items[0], "0", 1, ":5:5: expected ',' or ']'");
    check_text(&r.items[1], "1", "b", 8);
    mp_records_free(&r);
}

static void test_ids(void **state)
{
    (void)state;
    struct mp_records r = load("{\"input_ids\": [1, 2147483647, 0], \"input\": \"ignored\"}\n"
                               "{\"input\": [5], \"input_ids\": null, \"outputs\": \"yes\"}\n",
                               2);
    assert_null(r.items[0].error);
    assert_null(r.items[0].text);
    assert_int_equal(r.items[0].num_ids, 3);
    assert_int_equal(r.items[0].ids[1], INT32_MAX);
    assert_int_equal(r.items[1].num_ids, 1);
    assert_int_equal(r.items[1].ids[0], 5);
    assert_int_equal(r.items[1].num_outputs, 1);
    assert_string_equal(r.items[1].outputs[0], "yes");
    mp_records_free(&r);
}

/* A line as the benchmark RULER writes it, and the texts that its later versions keep apart. */
static void test_answer_prefix(void **state)
{
    (void)state;
    struct mp_records r =
        load("{\"index\": 4, \"input\": \"What is it?\", \"outputs\": [\"1\"], \"length\": 4090,"
             " \"length_w_model_temp\": 4090, \"answer_prefix\": \" It is\", \"truncation\": -1,"
             " \"others\": {\"id\": 7}, \"token_position_answer\": 3}\n"
             "{\"input\": \"a\", \"answer_prefix\": \"\"}\n"
             "{\"input\": \"a\", \"answer_prefix\": null}\n"
             "{\"input\": \"a\", \"answer_prefix\": 5}\n"
             "{\"input_ids\": [1], \"input\": \"a\", \"answer_prefix\": \"b\"}\n"
             "{\"input\": [1], \"answer_prefix\": \"b\"}\n",
             6);
    check_text(&r.items[0], "4", "What is it? It is", 1);
    check_text(&r.items[1], "1", "a", 2);
    check_text(&r.items[2], "2", "a", 3);
    check_broken(&r.items[3], "3", 4, ":4: answer_prefix: expected a string, found 5");
    check_broken(&r.items[4], "4", 5,
                 ":5: answer_prefix: found beside token ids, expected \"input\"");
    check_broken(&r.items[5], "5", 6, ":6: answer_prefix: found beside token ids");
    mp_records_free(&r);
}

/* A conversation is kept as it was written, to the comma. */
static void test_messages(void **state)
{
    (void)state;
    struct mp_records r = load("[ {\"messages\": [ {\"n\": 1.0} ] ,\"id\": \"a\"} ,\n"
                               "{\"messages\": null, \"input\": \"b\", \"answer_prefix\": \"cd\"}]",
                               2);
    assert_string_equal(r.items[0].chat, "{\"messages\": [ {\"n\": 1.0} ] ,\"id\": \"a\"}");
    assert_null(r.items[0].text);
    assert_null(r.items[0].error);
    assert_null(r.items[1].chat);
    assert_string_equal(r.items[1].text, "bcd");
    assert_int_equal(r.items[1].prefix_length, 2);
    mp_records_free(&r);
}

/* A record as LongBench has it: one text of two, and answers of which one is enough. */
static void test_longbench(void **state)
{
    (void)state;
    struct mp_records r = load(
        "{\"_id\": \"f0\", \"input\": \"Who?\", \"context\": \"A story.\", \"answers\": [\"x\", "
        "\"y\"], \"length\": 3, \"dataset\": \"qasper\", \"language\": \"en\", "
        "\"all_classes\": null}\n"
        "{\"input\": \"\", \"context\": \"A story.\", \"answer_prefix\": \" It\"}\n"
        "{\"input\": \"a\", \"outputs\": [\"x\"]}\n"
        "{\"input\": \"a\", \"outputs\": [\"x\"], \"task\": \"qa_1\"}\n",
        4);
    check_text(&r.items[0], "f0", "A story.\n\nWho?", 1);
    assert_int_equal(r.items[0].num_outputs, 2);
    assert_string_equal(r.items[0].outputs[1], "y");
    assert_true(r.items[0].any);
    check_text(&r.items[1], "1", "A story. It", 2);
    assert_false(r.items[1].any || r.items[2].any);
    assert_true(r.items[3].any);
    mp_records_free(&r);
}

static void test_own_settings(void **state)
{
    (void)state;
    struct mp_records r = load(
        "{\"input\": \"a\", \"max_tokens\": 7, \"stop\": \"x\", \"temperature\": 0.5, \"top_p\": "
        "0.25, \"top_k\": 3, \"seed\": 9007199254740992}\n"
        "{\"input\": \"a\", \"max_new_tokens\": 7, \"max_tokens\": 7, \"stop\": [\"x\", \"yz\"]}\n"
        "{\"input\": \"a\", \"stop\": null, \"temperature\": null, \"seed\": null}\n"
        "{\"input\": \"a\", \"seed\": 0}\n",
        4);
    const struct mp_record *first = &r.items[0];
    assert_int_equal(first->max_new_tokens, 7);
    assert_true(first->temperature == 0.5 && first->top_p == 0.25);
    assert_true(first->top_k == 3 && first->seed == INT64_C(1) << 53);
    assert_true(first->num_stop == 1 && strcmp(first->stop[0], "x") == 0);
    assert_true(mp_record_samples(first));
    assert_int_equal(r.items[1].max_new_tokens, 7);
    assert_true(r.items[1].num_stop == 2 && strcmp(r.items[1].stop[1], "yz") == 0);
    assert_false(mp_record_samples(&r.items[1]) || mp_record_samples(&r.items[2]));
    assert_true(isnan(r.items[2].temperature) && r.items[2].seed == -1);
    assert_true(r.items[2].num_stop == 0 && r.items[2].max_new_tokens == -1);
    assert_true(mp_record_samples(&r.items[3]));
    mp_records_free(&r);
}

/* Ids of the file first, in its order, then positions: those of broken records too. */
static void test_unique_ids(void **state)
{
    (void)state;
    static const char *const expected[] = {"0#2", "a",     "3",   "a#3", "a#2",
                                           "0",   "a#2#2", "a#4", "8",   "3#2"};
    struct mp_records r = load("{\"input\": \"x\"}\n"
                               "{\"id\": \"a\", \"input\": \"x\"}\n"
                               "{\"index\": 3, \"input\": \"x\"}\n"
                               "{\"id\": \"a\", \"input\": \"x\"}\n"
                               "{\"id\": \"a#2\", \"input\": 5}\n"
                               "{\"id\": \"0\", \"input\": \"x\"}\n"
                               "{\"id\": \"a#2\", \"input\": \"x\"}\n"
                               "{\"id\": \"a\", \"input\": \"x\"}\n"
                               "broken\n"
                               "{\"index\": 3, \"input\": \"x\"}\n",
                               10);
    mp_records_make_ids_unique(&r, "test");
    for (size_t i = 0; i < r.count; i++) {
        assert_string_equal(r.items[i].id, expected[i]);
    }
    assert_int_equal(r.items[8].line, 9);
    mp_records_free(&r);
}

static void test_standard_input(void **state)
{
    (void)state;
    char *path = mp_xasprintf("%s/stdin-%d.jsonl", MP_SCRATCH_DIR, (int)getpid());
    FILE *file = fopen(path, "w");
    fputs("{\"input\": \"from stdin\"}\n{\"input\": 1}\n", file);
    fclose(file);
    assert_non_null(freopen(path, "r", stdin));
    struct mp_records r;
    struct mp_error err;
    assert_int_equal(mp_records_load("-", &r, &err), MP_OK);
    assert_int_equal(r.count, 2);
    check_text(&r.items[0], "0", "from stdin", 1);
    check_broken(&r.items[1], "1", 2, "standard input:2: input: expected a string, found 1");
    mp_records_free(&r);
    unlink(path);
    free(path);
}

/* A bad file fails as a whole, or its only record is broken. */
static int load_bad(const char *path, struct mp_error *err)
{
    struct mp_records r;
    int rc = mp_records_load(path, &r, err);
    if (rc == MP_OK) {
        assert_int_equal(r.count, 1);
        assert_non_null(r.items[0].error);
        rc = mp_fail(err, MP_ERR_FORMAT, "%s", r.items[0].error);
        mp_records_free(&r);
    }
    return rc;
}

static void test_bad_files(void **state)
{
    (void)state;
    check_bad_files("records", load_bad);
    struct mp_error err;
    assert_int_equal(load_bad("/nowhere/records.jsonl", &err), MP_ERR_IO);
}

/* Every prefix of a file with several records loads or fails, and never crashes. */
static void test_every_prefix_is_survived(void **state)
{
    (void)state;
    static const char text[] = "[{\"input\": \"a\\ud83d\\ude00\", \"outputs\": [\"x\"]},\n"
                               " {\"input_ids\": [1, 2], \"id\": 1},\n {\"input\": \"c\"}]\n";
    for (size_t n = 0; n < sizeof text; n++) {
        struct mp_records r;
        struct mp_error err = {.code = MP_OK};
        int rc = load_bytes(text, n, &r, &err);
        if (rc == MP_OK) {
            assert_true(r.count >= 1 && r.count <= 3);
            mp_records_free(&r);
        } else {
            assert_int_equal(rc, MP_ERR_FORMAT);
        }
    }
}

/* Many records, every other one broken, and one of 16 MiB: linear time. */
static void test_huge(void **state)
{
    (void)state;
    enum { LINES = 40000, BYTES = 16 << 20 };
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    for (int i = 0; i < LINES; i++) {
        fprintf(out,
                i % 2 == 0 ? "{\"id\": %d, \"input\": \"x\"}\n" : "{\"id\": %d, \"input\": }\n", i);
    }
    fputs("{\"input\": \"", out);
    for (int i = 0; i < BYTES / 16; i++) {
        fputs("sixteen bytes!\\n", out);
    }
    fputs("\"}\n", out);
    fclose(out);

    struct mp_records r;
    struct mp_error err;
    double start = mp_clock_seconds();
    assert_int_equal(load_bytes(text, size, &r, &err), MP_OK);
    double seconds = mp_clock_seconds() - start;
    printf("%.1f MiB in %.3f s\n", (double)size / (1 << 20), seconds);
    assert_true(seconds < 20.0);
    assert_int_equal(r.count, LINES + 1);
    assert_non_null(r.items[1].error);
    check_text(&r.items[LINES - 2], "39998", "x", LINES - 1);
    assert_int_equal(r.items[LINES].text_length, BYTES / 16 * 15);
    mp_records_free(&r);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_object),
        cmocka_unit_test(test_pretty_printed_objects),
        cmocka_unit_test(test_array),
        cmocka_unit_test(test_array_with_syntax_errors),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_broken_lines_among_good_ones),
        cmocka_unit_test(test_broken_pretty_printed_record),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_answer_prefix),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_longbench),
        cmocka_unit_test(test_own_settings),
        cmocka_unit_test(test_unique_ids),
        cmocka_unit_test(test_standard_input),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_every_prefix_is_survived),
        cmocka_unit_test(test_huge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
