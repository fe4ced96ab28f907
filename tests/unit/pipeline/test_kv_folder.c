/* What a folder of prompts may take, on disk and in memory. */
#define FOLDER MP_SCRATCH_DIR "/kv_folder"

#include "kv_files_test.h"

#include "core/base/log.h"
#include "pipeline/engine/prefixes/kv_dir.h"

#include <fcntl.h>
#include <time.h>

static void set_budget(const struct fixture *f, const int64_t bytes[MP_PLAN_DEVICES])
{
    memcpy(f->engine->prefixes->budget, bytes, MP_PLAN_DEVICES * sizeof *bytes);
}

/* Files that were not used for the longest time make room. */
static void test_limit(void **state)
{
    (void)state;
    int32_t tokens[NEW_TOKENS];
    char path[512];
    char size[32];
    struct stat st;
    empty_folder();
    run(METHODS[5], NULL, 0, 0, tokens);
    count_files(".kv", path, sizeof path);
    assert_int_equal(stat(path, &st), 0);
    snprintf(size, sizeof size, "%lld", (long long)(2 * st.st_size + st.st_size / 2));
    const char *const limit[] = {"kv-dir-size", size, NULL};
    assert_int_equal(run(METHODS[5], limit, 1, 0, tokens), 0);
    assert_true(run(METHODS[5], limit, 0, 1, tokens) > 0);
    assert_int_equal(run(METHODS[5], limit, 2, 0, tokens), 0);
    assert_int_equal(count_files(".kv", NULL, 0), 2);
    assert_true(run(METHODS[5], limit, 0, 2, tokens) > 0);
    assert_int_equal(run(METHODS[5], limit, 1, 1, tokens), 0);

    const char *const none[] = {"kv-dir-size", "1000", NULL};
    empty_folder();
    assert_int_equal(run(METHODS[5], none, 0, 0, tokens), 0);
    assert_int_equal(count_files(".kv", NULL, 0), 0);
}

/* Several prompts that end together keep to the limit, and one that cannot be kept removes none. */
static void test_limit_of_several(void **state)
{
    (void)state;
    int32_t tokens[NEW_TOKENS];
    char path[512];
    char size[32];
    struct stat st;
    struct mp_error err;
    struct fixture f;
    struct mp_session *session;
    empty_folder();
    run(METHODS[5], NULL, 0, 0, tokens);
    count_files(".kv", path, sizeof path);
    assert_int_equal(stat(path, &st), 0);
    snprintf(size, sizeof size, "%lld", (long long)(st.st_size + st.st_size / 2));
    empty_folder();

    f.engine = open_with(&f.config, METHODS[5],
                         (const char *const[]){"kv-dir-size", size, "batch", "4", NULL}, 400);
    ASSERT_OK(mp_session_open(f.engine, &session, &err));
    for (int i = 0; i < 4; i++) {
        struct mp_ids prompt = make_prompt(i, 0, QUESTION);
        generate(session, &prompt, 1);
        mp_ids_free(&prompt);
    }
    mp_session_close(session);
    close_fixture(&f);
    assert_int_equal(count_files(".kv", NULL, 0), 1);

    const char *const less[] = {"kv-dir-size", "1000", NULL};
    assert_int_equal(run(METHODS[5], less, 9, 0, tokens), 0);
    assert_int_equal(count_files(".kv", NULL, 0), 1);
    empty_folder();
}

/* Size of the file of a document's prompt, which is removed again. */
static size_t size_of_file(void)
{
    char path[512];
    struct stat st;
    write_file(5, false);
    assert_int_equal(count_files(".kv", path, sizeof path), 1);
    assert_int_equal(stat(path, &st), 0);
    empty_folder();
    return (size_t)st.st_size;
}

/* Others use the folder as well: what they have put there counts, and makes room as all else does;
 * what one of them is writing counts and stays. */
static void test_limit_with_others(void **state)
{
    (void)state;
    struct fixture f;
    struct mp_error err;
    struct mp_session *session;
    struct kv_new_file writing;
    char limit[32];
    size_t size = size_of_file();
    char *bytes = calloc(size, 1);
    snprintf(limit, sizeof limit, "%zu", size + size / 2);
    f.engine =
        open_with(&f.config, METHODS[5], (const char *const[]){"kv-dir-size", limit, NULL}, 400);
    ASSERT_OK(mp_session_open(f.engine, &session, &err));
    write_bytes(FOLDER "/other.kv", bytes, size);
    struct mp_ids prompt = make_prompt(0, 0, QUESTION);
    mp_session_remove(session, generate(session, &prompt, 1));
    mp_kv_folder_collect(f.engine->prefixes->folder, true);
    assert_int_equal(count_files(".kv", NULL, 0), 1);
    assert_int_equal(access(FOLDER "/other.kv", F_OK), -1);
    mp_ids_free(&prompt);

    ASSERT_OK(kv_file_create(FOLDER "/beside.kv", (int64_t)size, &writing, &err));
    prompt = make_prompt(1, 0, QUESTION);
    mp_session_remove(session, generate(session, &prompt, 1));
    mp_kv_folder_collect(f.engine->prefixes->folder, true);
    assert_int_equal(count_files(".kv", NULL, 0), 0);
    assert_int_equal(count_files(".new", NULL, 0), 1);
    mp_ids_free(&prompt);
    mp_new_file_close(&writing.file, MP_ERR_IO, &err);
    close(writing.lock);
    mp_session_close(session);
    close_fixture(&f);
    free(bytes);
    empty_folder();
}

/* What is being written is locked: it stays, while what nobody writes any more is removed. */
static void test_abandoned(void **state)
{
    (void)state;
    int32_t tokens[NEW_TOKENS];
    struct mp_error err;
    struct kv_new_file writing[2];
    empty_folder();
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(kv_file_create(FOLDER "/same.kv", 1000, &writing[i], &err));
    }
    write_bytes(FOLDER "/gone.kv.1.new", "half", 4);
    assert_int_equal(count_files(".new", NULL, 0), 3);
    run(METHODS[5], NULL, 0, 0, tokens);
    assert_int_equal(count_files(".new", NULL, 0), 2);
    for (int i = 0; i < 2; i++) {
        mp_new_file_close(&writing[i].file, MP_ERR_IO, &err);
        close(writing[i].lock);
    }
    assert_int_equal(count_files(".new", NULL, 0), 0);
    empty_folder();
}

static void count_warnings(void *user, enum mp_log_level level, const char *message)
{
    (void)message;
    *(int *)user += level <= MP_LOG_WARNING;
}

/* A file that another process has removed is forgotten without a warning: the prompt is read, and
 * written anew. */
static void test_gone(void **state)
{
    (void)state;
    int warnings = 0;
    struct fixture f;
    struct mp_error err;
    struct mp_session *session;
    struct mp_log_target target = {.sink = count_warnings, .user = &warnings};
    write_file(5, false);
    f.engine = open_with(&f.config, METHODS[5], NULL, 400);
    ASSERT_OK(mp_session_open(f.engine, &session, &err));
    empty_folder();
    mp_log_add_target(&target);
    set_budget(&f, (const int64_t[MP_PLAN_DEVICES]){0}); /* nothing stays in memory */
    struct mp_ids prompt = make_prompt(0, 0, QUESTION);
    for (int i = 0; i < 2; i++) {
        int slot = generate(session, &prompt, 1);
        assert_int_equal(mp_session_request(session, slot)->cached_tokens, 0);
        mp_session_remove(session, slot);
        mp_kv_folder_collect(f.engine->prefixes->folder, true);
        assert_int_equal(count_files(".kv", NULL, 0), 1);
        empty_folder();
    }
    mp_log_remove_target(&target);
    assert_int_equal(warnings, 0);
    mp_ids_free(&prompt);
    mp_session_close(session);
    close_fixture(&f);
    empty_folder();
}

/* The folder's own time, which changes with its files. */
static void set_folder_time(time_t seconds)
{
    const struct timespec times[2] = {{.tv_sec = seconds}, {.tv_sec = seconds}};
    assert_int_equal(utimensat(AT_FDCWD, FOLDER, times, 0), 0);
}

/* How much of a question about a document is known; nothing of it is kept in memory. */
static int64_t ask(const struct fixture *f, struct mp_session *session, int document, int question)
{
    set_budget(f, (const int64_t[MP_PLAN_DEVICES]){0});
    struct mp_ids prompt = make_prompt(document, question, QUESTION);
    int slot = generate(session, &prompt, 1);
    int64_t cached = mp_session_request(session, slot)->cached_tokens;
    mp_session_remove(session, slot);
    mp_kv_folder_collect(f->engine->prefixes->folder, true);
    mp_ids_free(&prompt);
    return cached;
}

/* A file that another process puts there is found by the next prompt, whether the folder was quiet
 * before or has changed just now; one that it writes badly is named once. */
static void test_written_by_others(void **state)
{
    (void)state;
    static const char elsewhere[] = FOLDER "/elsewhere";
    const int64_t known = 4 + (DOCUMENT - 4) / 64 * 64;
    for (int quiet = 0; quiet < 2; quiet++) {
        struct fixture f;
        struct mp_error err;
        struct mp_session *session;
        char path[512];
        int warnings = 0;
        struct mp_log_target target = {.sink = count_warnings, .user = &warnings};
        write_file(5, false);
        count_files(".kv", path, sizeof path);
        assert_int_equal(rename(path, elsewhere), 0);
        f.engine = open_with(&f.config, METHODS[5], NULL, 400);
        ASSERT_OK(mp_session_open(f.engine, &session, &err));
        assert_int_equal(ask(&f, session, 1, 0), 0);
        if (quiet == 1) {
            set_folder_time(1000);
            assert_int_equal(ask(&f, session, 2, 0), 0);
            set_folder_time(1000); /* it has written a file of its own */
            assert_true(ask(&f, session, 2, 1) > 0);
        }
        assert_int_equal(rename(elsewhere, path), 0);
        assert_int_equal(ask(&f, session, 0, 1), known);

        mp_log_add_target(&target);
        for (int i = 0; i < 2; i++) {
            write_bytes(elsewhere, "nothing", 7);
            assert_int_equal(rename(elsewhere, FOLDER "/bad.kv"), 0);
            assert_true(ask(&f, session, 0, 2) == known && ask(&f, session, 0, 3) == known);
            assert_int_equal(warnings, i + 1);
        }
        mp_log_remove_target(&target);
        mp_session_close(session);
        close_fixture(&f);
        empty_folder();
    }
}

/* While the folder's lock is held elsewhere nothing is written: what waits counts as memory, also
 * when another prompt begins with all of it, and a prompt waits once. */
static void test_waiting(void **state)
{
    (void)state;
    struct fixture f;
    struct mp_error err;
    struct mp_session *sessions[2];
    int slots[2];
    empty_folder();
    f.engine =
        open_with(&f.config, METHODS[1], (const char *const[]){"prefix-cache", "1GiB", NULL}, 500);
    int lock = kv_dir_lock(FOLDER);
    struct mp_ids prompt = make_prompt(0, 0, QUESTION);
    for (int i = 0; i < 2; i++) { /* neither knows of the other's */
        ASSERT_OK(mp_session_open(f.engine, &sessions[i], &err));
        slots[i] = generate(sessions[i], &prompt, 1);
    }
    for (int i = 0; i < 2; i++) {
        mp_session_remove(sessions[i], slots[i]);
    }
    int kept = 0;
    int writing = 0;
    for (const struct mp_segment *s = f.engine->prefixes->first; s != NULL; s = s->next) {
        kept++;
        writing += s->writing;
    }
    assert_int_equal(kept, 2);
    assert_int_equal(writing, 1);
    mp_ids_free(&prompt);

    prompt = make_prompt(0, 0, 150); /* begins with the first one */
    slots[0] = generate(sessions[0], &prompt, 1);
    const struct mp_segment *last = f.engine->prefixes->first;
    assert_int_equal(last->tokens, DOCUMENT + 150 - 16);
    assert_non_null(last->next);
    assert_true(last->next->writing);
    assert_int_equal(last->next->used, 0);
    assert_null(last->next->next);
    kv_dir_unlock(lock);
    mp_ids_free(&prompt);
    mp_session_close(sessions[0]);
    mp_session_close(sessions[1]);
    close_fixture(&f);
    assert_int_equal(count_files(".kv", NULL, 0), 1); /* the longer one's */
    empty_folder();
}

/* A file is loaded beside the steps of others, and is there for its prompt when that comes, however
 * little room there is for what nobody uses. */
static void test_loaded_beside(void **state)
{
    (void)state;
    for (int bad = 0; bad < 2; bad++) {
        struct fixture f;
        struct mp_error err;
        struct mp_session *session;
        int slot;
        int active;
        write_file(5, bad == 1);
        f.engine = open_with(&f.config, METHODS[5], (const char *const[]){"batch", "2", NULL}, 400);
        set_budget(&f, (const int64_t[MP_PLAN_DEVICES]){0});
        ASSERT_OK(mp_session_open(f.engine, &session, &err));
        struct mp_ids other = make_prompt(1, 0, QUESTION);
        ASSERT_OK(add_prompt(session, other.data, (int64_t)other.count, 100, 0, &slot, &err));
        while (!mp_session_can_add(session)) {
            ASSERT_OK(mp_session_step(session, &active, &err));
        }
        struct mp_ids prompt = make_prompt(0, 1, QUESTION);
        assert_false(mp_hook_prepare_prompt(session, prompt.data, (int64_t)prompt.count, 1));
        while (!mp_hook_prepare_prompt(session, prompt.data, (int64_t)prompt.count, 1)) {
            ASSERT_OK(mp_session_step(session, &active, &err));
        }
        mp_session_remove(session, slot);
        slot = generate(session, &prompt, 1);
        int64_t cached = mp_session_request(session, slot)->cached_tokens;
        assert_int_equal(cached, bad ? 0 : 4 + (DOCUMENT - 4) / 64 * 64);

        /* One whose prompt never comes. */
        mp_session_remove(session, slot);
        mp_hook_prepare_prompt(session, other.data, (int64_t)other.count, 1);
        mp_session_close(session);
        mp_ids_free(&other);
        mp_ids_free(&prompt);
        close_fixture(&f);
    }
    empty_folder();
}

/* A prompt of which nothing is offloaded but what belongs to the window has nothing to keep. */
static void test_little_offloaded(void **state)
{
    (void)state;
    int32_t tokens[NEW_TOKENS];
    static const char *const most[] = {"device-budget", "360", NULL};
    for (int m = 1; m < NUM_METHODS; m++) {
        empty_folder();
        assert_int_equal(run(METHODS[m], most, 0, 0, tokens), 0);
        assert_int_equal(count_files(".kv", NULL, 0), 0);
    }
}

/* What is in memory makes room for a file that then turns out to be bad: the prompt is read. */
static void test_room_for_a_bad_file(void **state)
{
    (void)state;
    struct fixture f;
    struct mp_error err;
    struct mp_session *session;
    write_file(1, true);
    f.engine = open_with(&f.config, METHODS[1], NULL, 500);
    ASSERT_OK(mp_session_open(f.engine, &session, &err));

    /* The document's first 300 tokens, and others, for which nothing is loaded; then all of it. */
    set_budget(&f, (const int64_t[MP_PLAN_DEVICES]){0});
    struct mp_ids prompt = make_prompt(0, 1, QUESTION);
    for (size_t i = 300; i < prompt.count; i++) {
        prompt.data[i] = 1;
    }
    int slot = generate(session, &prompt, 1);
    mp_ids_free(&prompt);
    assert_non_null(f.engine->prefixes->first);
    set_budget(&f, f.engine->prefixes->first->bytes);
    mp_session_remove(session, slot);
    prompt = make_prompt(0, 2, 150);
    slot = generate(session, &prompt, 1);
    assert_int_equal(mp_session_request(session, slot)->cached_tokens, 0);
    mp_ids_free(&prompt);
    mp_session_close(session);
    close_fixture(&f);
    empty_folder();
}

/* The KV of a file that is longer than any prompt of the plan is loaded only if there is memory for
 * it. */
static void test_longer_than_planned(void **state)
{
    (void)state;
    struct mp_error err;
    for (int i = 0; i < 3; i++) {
        struct fixture f;
        struct mp_session *session;
        write_file(0, false);
        f.engine = open_with(&f.config, METHODS[0], NULL, i == 0 ? 350 : 300);
        const int64_t budget = i == 1 ? INT64_C(1) << 30 : 0;
        set_budget(&f, (const int64_t[MP_PLAN_DEVICES]){budget, budget});
        ASSERT_OK(mp_session_open(f.engine, &session, &err));
        struct mp_ids prompt = make_prompt(0, 1, 0);
        prompt.count = 290;
        int slot = generate(session, &prompt, 1);
        assert_int_equal(mp_session_request(session, slot)->cached_tokens, i == 2 ? 0 : 289);
        mp_ids_free(&prompt);
        mp_session_close(session);
        close_fixture(&f);
    }
    empty_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_limit_of_several),
        cmocka_unit_test(test_limit_with_others),
        cmocka_unit_test(test_abandoned),
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_written_by_others),
        cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_loaded_beside),
        cmocka_unit_test(test_little_offloaded),
        cmocka_unit_test(test_room_for_a_bad_file),
        cmocka_unit_test(test_longer_than_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
