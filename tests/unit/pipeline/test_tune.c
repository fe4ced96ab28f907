/* The search of the tune verb on imagined machines, its state and the files it writes. */
#include "engine_fixture.h"

#include "core/memory.h"
#include "core/rng.h"
#include "pipeline/tune.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <unistd.h>

/* ---- an imagined machine ---- */

static char *letters[] = {"a", "b", "c", "d", "e"};

static const struct mp_tune_axes AXES = {
    .items =
        {
            {.path = "runtime.first", .flag = "first", .values = letters, .count = 4},
            {.path = "runtime.second", .flag = "second", .values = letters, .count = 3},
            {.path = "runtime.third", .flag = "third", .values = letters, .count = 5},
        },
    .count = 3,
};

/* The same, and shares of the time for a prompt that joins. */
static const struct mp_tune_axes JOIN_AXES = {
    .items =
        {
            {.path = "runtime.first", .flag = "first", .values = letters, .count = 4},
            {.path = "runtime.second", .flag = "second", .values = letters, .count = 3},
            {.path = "runtime.third", .flag = "third", .values = letters, .count = 5},
            {.path = "runtime.share",
             .flag = "share",
             .joins = true,
             .values = letters,
             .count = 5},
        },
    .count = 4,
};
enum { JOIN_AXIS = 3 };
static const double SHARES[] = {0.5, 0.1, 0.25, 0.75, 1.0};

struct fake {
    const struct mp_tune_axes *axes;
    double (*step)(struct fake *f, const struct mp_tune_point *p); /* seconds */
    double beside; /* seconds of reading a prompt in a second of a step that do not lengthen it */
    int joins;     /* calls in which one joined */
    double noise;  /* steps vary by up to this share */
    struct mp_rng rng;
    int calls;
    int lucky_calls;  /* of the point that `lucky` favours */
    int interrupt_at; /* the call that is interrupted; -1: none */
    int change_at;    /* for landscapes that change: from this call on; -1: never */
    double slow_step; /* seconds, of the last request */
    double limit;
    struct mp_tune_point accepted;
    int num_accepted;
    struct mp_tune_state *state;
};

static void fake_init(struct fake *f, double (*step)(struct fake *, const struct mp_tune_point *))
{
    *f = (struct fake){.axes = &AXES, .step = step, .interrupt_at = -1, .change_at = -1};
    mp_rng_init(&f->rng, 11, 0);
}

/* A prompt that takes 5 s alone and may lengthen the steps by a share of the time. */
static void join(const struct fake *f, double share, struct mp_tune_sample *out)
{
    double step = out->step;
    out->step = share < 1.0 ? step / (1.0 - share) : 5.0;
    out->first_token = 5.0 * out->step / (out->step - (1.0 - f->beside) * step);
}

static int fake_measure(void *arg, const struct mp_tune_request *request,
                        struct mp_tune_sample *out, struct mp_error *err)
{
    struct fake *f = arg;
    if (f->calls == f->interrupt_at) {
        return mp_fail(err, MP_ERR_INTERRUPTED, "interrupted");
    }
    f->calls++;
    f->slow_step = request->slow_step;
    f->limit = request->limit;
    double uniform = (double)(mp_rng_next(&f->rng) >> 11) * 0x1p-53;
    *out = (struct mp_tune_sample){.cpu_busy = 0.5, .wall = 7.0};
    out->step = f->step(f, &request->point) * (1.0 + f->noise * (2.0 * uniform - 1.0));
    if (request->joins) {
        f->joins++;
        join(f, SHARES[request->point.at[JOIN_AXIS]], out);
    } else {
        assert_int_equal(request->point.at[JOIN_AXIS], 0); /* its decode steps are the same */
    }
    if (isinf(out->step)) {
        snprintf(out->why, sizeof out->why, "no \"such\" policy");
    }
    return 0;
}

static int fake_measure_with_state(void *arg, const struct mp_tune_request *request,
                                   struct mp_tune_sample *out, struct mp_error *err)
{
    struct fake *f = arg;
    return mp_tune_state_measure(f->state, f->axes, request, fake_measure, f, out, err);
}

static int fake_accept(void *arg, const struct mp_tune_point *point, struct mp_error *err)
{
    (void)err;
    struct fake *f = arg;
    f->accepted = *point;
    f->num_accepted++;
    return 0;
}

static int search(struct fake *f, struct mp_tune_result *out, struct mp_error *err)
{
    const struct mp_tune_machine machine = {.batch = 1};
    FILE *null = fopen("/dev/null", "w");
    struct mp_tune_table *table = mp_tune_table_new(null, &machine);
    const struct mp_tune_search s = {
        .axes = f->axes,
        .measure = f->state != NULL ? fake_measure_with_state : fake_measure,
        .accept = fake_accept,
        .arg = f,
        .table = table,
    };
    int code = mp_tune_search(&s, out, err);
    mp_tune_table_free(table);
    fclose(null);
    return code;
}

static void assert_point(const struct mp_tune_point *p, size_t first, size_t second, size_t third)
{
    assert_int_equal(p->at[0], first);
    assert_int_equal(p->at[1], second);
    assert_int_equal(p->at[2], third);
}

/* ---- the search ---- */

/* Best at (2, 1, 4); value 3 of the first axis cannot run, and value 1 of the third is hopeless. */
static double separable(struct fake *f, const struct mp_tune_point *p)
{
    (void)f;
    static const double first[] = {1.0, 1.1, 0.8, INFINITY};
    static const double second[] = {1.0, 0.9, 0.95};
    static const double third[] = {1.0, 9.0, 1.2, 0.9, 0.7};
    return 0.01 * first[p->at[0]] * second[p->at[1]] * third[p->at[2]];
}

static void test_finds_the_best_value_of_each_axis(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct fake f;
        struct mp_tune_result r;
        struct mp_error err;
        fake_init(&f, separable);
        mp_rng_init(&f.rng, seed, 0);
        f.noise = 0.02;
        ASSERT_OK(search(&f, &r, &err));
        assert_true(r.improved);
        assert_point(&r.best, 2, 1, 4);
        assert_point(&f.accepted, 2, 1, 4);
        assert_int_equal(f.num_accepted, 3);
        /* Its gain, 1 / (0.8 * 0.9 * 0.7), measured with noise. */
        assert_true(fabs(r.start_step / r.best_step * 0.504 - 1.0) < 0.05);
    }
}

/* Candidates get twice the best step so far, and a multiple of the start's whole time. */
static void test_bounds_what_a_candidate_may_take(void **state)
{
    (void)state;
    struct fake f;
    struct mp_tune_result r;
    struct mp_error err;
    fake_init(&f, separable);
    ASSERT_OK(search(&f, &r, &err));
    assert_true(fabs(f.slow_step - 2.0 * 0.00504) < 1e-9);
    assert_true(fabs(f.limit - 35.0) < 1e-9);
}

/* The second axis' best value depends on the third, which is searched later. */
static double coupled(struct fake *f, const struct mp_tune_point *p)
{
    (void)f;
    double step = p->at[2] == 3 ? 0.008 : 0.010;
    if (p->at[1] == 2) {
        step *= p->at[2] == 3 ? 0.5 : 1.5;
    }
    return step;
}

static void test_searches_again_after_a_change(void **state)
{
    (void)state;
    struct fake f;
    struct mp_tune_result r;
    struct mp_error err;
    fake_init(&f, coupled);
    ASSERT_OK(search(&f, &r, &err));
    assert_point(&r.best, 0, 2, 3);
}

static double flat(struct fake *f, const struct mp_tune_point *p)
{
    (void)f;
    (void)p;
    return 0.01;
}

/* (0, 1, 0) is lucky when it is measured first, and in two of the three pairs after that. */
static double lucky(struct fake *f, const struct mp_tune_point *p)
{
    if (p->at[1] != 1) {
        return 0.01;
    }
    return ++f->lucky_calls == 3 ? 0.0101 : 0.005;
}

static void test_accepts_no_noise(void **state)
{
    (void)state;
    struct fake f;
    struct mp_tune_result r;
    struct mp_error err;
    fake_init(&f, flat);
    f.noise = 0.01; /* at most 2 % between two runs */
    ASSERT_OK(search(&f, &r, &err));
    assert_int_equal(f.num_accepted, 0);
    assert_false(r.improved);
    /* The start, and every axis once: no second round, no pair. */
    assert_int_equal(f.calls, 1 + 4 + 3 + 5);

    fake_init(&f, lucky);
    ASSERT_OK(search(&f, &r, &err));
    assert_int_equal(f.num_accepted, 0);
    assert_point(&r.best, 0, 0, 0);
    assert_int_equal(f.calls, 1 + 4 + 3 + 5 + 2 * 3);
}

/* A gain that is gone once the machine has changed. */
static double passing(struct fake *f, const struct mp_tune_point *p)
{
    bool changed = f->change_at >= 0 && f->calls > f->change_at;
    return p->at[0] != 1 ? 0.01 : changed ? 0.011 : 0.008;
}

static void test_keeps_the_start_if_the_winner_is_not_faster(void **state)
{
    (void)state;
    struct fake f;
    struct mp_tune_result r;
    struct mp_error err;
    fake_init(&f, passing);
    ASSERT_OK(search(&f, &r, &err));
    assert_point(&r.best, 1, 0, 0);
    int last_pairs = f.calls - 2 * 3;
    fake_init(&f, passing);
    f.change_at = last_pairs;
    ASSERT_OK(search(&f, &r, &err));
    assert_false(r.improved);
    assert_point(&r.best, 0, 0, 0);
    assert_point(&f.accepted, 0, 0, 0);
    assert_int_equal(f.num_accepted, 2);
}

/* The share with the least product of the two times: a half, if reading and decoding only take
 * turns; less, if one runs beside the other. */
static void test_share_of_a_prompt_that_joins(void **state)
{
    (void)state;
    static const struct {
        double beside;
        size_t best; /* of SHARES */
    } cases[] = {{0.0, 0}, {0.1, 0}, {0.33, 2}, {0.45, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fake f;
        struct mp_tune_result r;
        struct mp_error err;
        fake_init(&f, separable);
        f.axes = &JOIN_AXES;
        f.beside = cases[i].beside;
        ASSERT_OK(search(&f, &r, &err));
        assert_true(r.improved);
        assert_point(&r.best, 2, 1, 4);
        assert_int_equal(r.best.at[JOIN_AXIS], cases[i].best);
        assert_memory_equal(&f.accepted, &r.best, sizeof r.best);
        assert_int_equal(f.joins, cases[i].best == 0 ? 5 : 5 + 2 * 3);
    }
}

static double impossible(struct fake *f, const struct mp_tune_point *p)
{
    (void)f;
    (void)p;
    return INFINITY;
}

static void test_start_that_cannot_run(void **state)
{
    (void)state;
    struct fake f;
    struct mp_tune_result r;
    struct mp_error err;
    fake_init(&f, impossible);
    assert_int_equal(search(&f, &r, &err), MP_ERR_RUNTIME);
    assert_non_null(strstr(err.message, "no \"such\" policy"));
    assert_int_equal(f.calls, 1);
}

/* ---- the state ---- */

#define STATE MP_SCRATCH_DIR "/tune.state"

static cJSON *subject(int batch)
{
    cJSON *s = cJSON_CreateObject();
    cJSON_AddNumberToObject(s, "runtime.batch", batch);
    return s;
}

static int open_state(struct fake *f, int batch, bool resume, struct mp_error *err)
{
    cJSON *s = subject(batch);
    f->state = NULL;
    int code = mp_tune_state_open(STATE, s, resume, &f->state, err);
    cJSON_Delete(s);
    return code;
}

static void append(const char *text)
{
    FILE *file = fopen(STATE, "a");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* However often it is interrupted, every measurement is made once, and the end is the same. */
static void test_resumes_where_it_was_interrupted(void **state)
{
    (void)state;
    struct fake whole;
    struct mp_tune_result expected;
    struct mp_error err;
    fake_init(&whole, separable);
    whole.axes = &JOIN_AXES;
    whole.noise = 0.02;
    whole.beside = 0.4;
    ASSERT_OK(search(&whole, &expected, &err));
    assert_int_equal(expected.best.at[JOIN_AXIS], 2);

    struct fake f;
    struct mp_tune_result r;
    fake_init(&f, separable);
    f.axes = &JOIN_AXES;
    f.noise = 0.02;
    f.beside = 0.4;
    unlink(STATE);
    int interrupts = 0;
    int code = MP_ERR_INTERRUPTED;
    while (code == MP_ERR_INTERRUPTED) {
        ASSERT_OK(open_state(&f, 1, interrupts > 0, &err));
        f.interrupt_at = f.calls + 5;
        code = search(&f, &r, &err);
        mp_tune_state_close(f.state);
        append("{\"settings\":{\"runtime.fir"); /* as if writing had been cut short */
        interrupts++;
    }
    ASSERT_OK(code);
    assert_int_equal(f.calls, whole.calls);
    assert_true(interrupts > 3);
    assert_memory_equal(&r.best, &expected.best, sizeof r.best);
    assert_true(r.best_step == expected.best_step && r.start_step == expected.start_step);

    /* Complete: nothing is measured any more. */
    ASSERT_OK(open_state(&f, 1, true, &err));
    f.interrupt_at = f.calls;
    ASSERT_OK(search(&f, &r, &err));
    assert_memory_equal(&r.best, &expected.best, sizeof r.best);
    mp_tune_state_close(f.state);
}

static void refuse(int batch, bool resume, const char *message)
{
    struct fake f;
    struct mp_error err = {0};
    assert_int_not_equal(open_state(&f, batch, resume, &err), 0);
    if (strstr(err.message, message) == NULL) {
        fail_msg("found \"%s\", expected \"%s\"", err.message, message);
    }
}

/* Files of the time before prompts joined hold the measurements of decode steps. */
static void test_resumes_from_decode_steps_alone(void **state)
{
    (void)state;
    struct fake f;
    struct mp_tune_result r;
    struct mp_error err;
    unlink(STATE);
    fake_init(&f, separable);
    ASSERT_OK(open_state(&f, 1, false, &err));
    ASSERT_OK(search(&f, &r, &err));
    mp_tune_state_close(f.state);
    int before = f.calls;

    f.axes = &JOIN_AXES;
    f.beside = 0.33;
    ASSERT_OK(open_state(&f, 1, true, &err));
    ASSERT_OK(search(&f, &r, &err));
    mp_tune_state_close(f.state);
    assert_point(&r.best, 2, 1, 4);
    assert_int_equal(r.best.at[JOIN_AXIS], 2);
    assert_int_equal(f.calls - before, f.joins);
}

static void test_refuses_foreign_states(void **state)
{
    (void)state;
    struct fake f;
    struct mp_tune_result r;
    struct mp_error err;
    unlink(STATE);
    fake_init(&f, flat);
    ASSERT_OK(open_state(&f, 1, false, &err));
    mp_tune_state_close(f.state);
    refuse(1, false, "exists and is not empty; add --resume");
    refuse(2, true, "measured with runtime.batch: found 1, expected 2");

    append("{\"settings\":{\"runtime.first\":\"b\"},\"step_seconds\":1}\n");
    ASSERT_OK(open_state(&f, 1, true, &err));
    assert_int_equal(search(&f, &r, &err), MP_ERR_USAGE);
    assert_non_null(strstr(err.message, "tune.state:2: found other settings"));
    mp_tune_state_close(f.state);

    unlink(STATE);
    append("not ours\n");
    refuse(1, true, "tune.state:1:1: ");
    unlink(STATE);
    append("no end of the line");
    refuse(1, true, "no line that tune has written");
}

/* ---- axes and files ---- */

static void assert_values(const struct mp_tune_axis *axis, const char *path, const char *values)
{
    char found[256] = "";
    for (size_t i = 0; i < axis->count; i++) {
        strcat(found, i > 0 ? " " : "");
        strcat(found, axis->values[i]);
    }
    assert_string_equal(axis->path, path);
    assert_string_equal(found, values);
}

static void test_axes(void **state)
{
    (void)state;
    struct mp_config config;
    struct mp_tune_axes axes;
    struct mp_error err;
    mp_config_init(&config);
    ASSERT_OK(mp_config_set_flag(&config, "batch", "8", &err));
    ASSERT_OK(mp_config_set_flag(&config, "threads", "5", &err));
    mp_tune_axes_make(
        &config,
        &(struct mp_tune_machine){
            .cores = 16, .numa_nodes = 2, .batch = 8, .gpu = true, .gpu_kv_layers = 11},
        &axes);
    assert_int_equal(axes.count, 6);
    assert_values(&axes.items[0], "runtime.gpu_kv_layers", "-1 8 5 2 0");
    assert_values(&axes.items[1], "runtime.micro_batches", "0 1 2 3 4 6 8");
    assert_values(&axes.items[2], "runtime.threads", "5 0 15 8 4");
    assert_values(&axes.items[3], "runtime.cpu_workers", "0 1");
    assert_string_equal(axes.items[4].path, "runtime.scheduler");
    assert_string_equal(axes.items[4].values[0], "prio");
    assert_true(axes.items[4].count > 3);
    assert_values(&axes.items[5], "runtime.prefill_share", "0.5 0.25 0.75");
    for (size_t a = 0; a < axes.count; a++) {
        assert_int_equal(axes.items[a].joins, a == 5);
    }
    mp_tune_axes_free(&axes);
    mp_config_free(&config);

    /* One core and one request leave the schedulers, whatever share a prompt has of the time. */
    mp_config_init(&config);
    ASSERT_OK(mp_config_set_flag(&config, "prefill-share", "0.3", &err));
    mp_tune_axes_make(&config, &(struct mp_tune_machine){.cores = 1, .numa_nodes = 1, .batch = 1},
                      &axes);
    assert_int_equal(axes.count, 1);
    assert_string_equal(axes.items[0].path, "runtime.scheduler");
    mp_tune_axes_free(&axes);

    /* The share that is set comes first, and joins the usual ones. */
    mp_tune_axes_make(&config, &(struct mp_tune_machine){.cores = 1, .numa_nodes = 1, .batch = 2},
                      &axes);
    assert_values(&axes.items[axes.count - 1], "runtime.prefill_share", "0.3 0.25 0.5 0.75");
    mp_tune_axes_free(&axes);
    mp_config_free(&config);
}

#define BASE MP_SCRATCH_DIR "/tune_base.json"
#define TUNED MP_SCRATCH_DIR "/tune_tuned.json"

/* The file's keys, the flags over them, the values of the point. */
static void test_written_configuration(void **state)
{
    (void)state;
    FILE *file = fopen(BASE, "w");
    fputs("{\"lsh_K\": 8, \"eos\": [2], \"runtime\": {\"threads\": 3, \"isa\": \"avx2\"}}", file);
    fclose(file);
    struct mp_cli cli = {.config_path = BASE, .output = TUNED};
    struct mp_config written;
    struct mp_error err;
    mp_config_init(&cli.config);
    ASSERT_OK(mp_config_load(&cli.config, BASE, &err));
    ASSERT_OK(mp_config_set_flag(&cli.config, "batch", "2", &err));
    ASSERT_OK(mp_config_set_flag(&cli.config, "eos", "model", &err));
    char *threads[] = {"3", "1"};
    char *schedulers[] = {"prio", "lws"};
    const struct mp_tune_axes axes = {
        .items = {{.path = "runtime.threads", .flag = "threads", .values = threads, .count = 2},
                  {.path = "runtime.scheduler", .flag = "sched", .values = schedulers, .count = 2}},
        .count = 2,
    };
    ASSERT_OK(mp_tune_write_config(&cli, &axes, &(struct mp_tune_point){.at = {1, 1}}, &err));
    mp_config_init(&written);
    ASSERT_OK(mp_config_load(&written, TUNED, &err));
    assert_int_equal(written.lsh_K, 8);
    assert_int_equal(written.lsh_L, 150);
    assert_int_equal(written.num_eos, -1);
    assert_int_equal(written.batch, 2);
    assert_int_equal(written.threads, 1);
    assert_string_equal(written.scheduler, "lws");
    assert_string_equal(written.isa, "avx2");
    mp_config_free(&written);

    cli.output = MP_SCRATCH_DIR "/absent/x.json";
    assert_int_equal(mp_tune_write_config(&cli, &axes, &(struct mp_tune_point){0}, &err),
                     MP_ERR_IO);
    assert_non_null(strstr(err.message, "absent/x.json: cannot write"));
    mp_config_free(&cli.config);
}

static struct mp_tune_table *table_in_memory(int batch, char **text, size_t *length, FILE **out)
{
    setenv("LC_ALL", "C", 1);
    *out = open_memstream(text, length);
    return mp_tune_table_new(*out, &(struct mp_tune_machine){.batch = batch, .join_tokens = 8192});
}

static void test_table(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *out;
    struct mp_tune_table *t = table_in_memory(4, &text, &length, &out);
    mp_tune_table_row(t, "start", "", &(struct mp_tune_sample){.step = 0.01, .cpu_busy = 0.9}, 0.0);
    mp_tune_table_row(t, "runtime.threads", "1", &(struct mp_tune_sample){.step = 0.015}, 0.01);
    mp_tune_table_row(t, "runtime.threads", "2", &(struct mp_tune_sample){.step = 1.0}, 0.01);
    mp_tune_table_row(t, "runtime.threads", "9",
                      &(struct mp_tune_sample){.step = INFINITY, .why = "9 threads"}, 0.01);
    mp_tune_table_pair(t, "runtime.threads", "1", &(struct mp_tune_sample){.step = 0.015},
                       &(struct mp_tune_sample){.step = 0.01}, 3, false);
    mp_tune_table_free(t);
    fclose(out);
    assert_null(strstr(text, "GPU"));
    assert_null(strstr(text, "joins"));
    assert_non_null(strstr(text, "   10.000     400.0   90 %           ################\n"));
    assert_non_null(
        strstr(text, "   15.000     266.7    0 %   +50.0 % ########################\n"));
    assert_non_null(strstr(text, "% ################################\n"));
    assert_non_null(strstr(text, " not possible: 9 threads\n"));
    assert_non_null(
        strstr(text, " 15.000 against 10.000 ms, medians of 3 runs each in turns: not "));
    free(text);
}

/* Where a prompt joins, its wait and the step of those that decode count alike. */
static void test_table_of_joins(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *out;
    const struct mp_tune_sample half = {.step = 0.01, .first_token = 4.0};
    const struct mp_tune_sample quarter = {.step = 0.005, .first_token = 18.0};
    struct mp_tune_table *t = table_in_memory(4, &text, &length, &out);
    mp_tune_table_row(t, "start", "", &(struct mp_tune_sample){.step = 0.002}, 0.0);
    mp_tune_table_join(t);
    mp_tune_table_row(t, "runtime.prefill_share", "0.75",
                      &(struct mp_tune_sample){.step = INFINITY, .why = "no memory"}, INFINITY);
    mp_tune_table_row(t, "runtime.prefill_share", "0.5", &half, INFINITY);
    mp_tune_table_row(t, "runtime.prefill_share", "0.25", &quarter, 0.2);
    mp_tune_table_pair(t, "runtime.prefill_share", "0.5", &half, &quarter, 3, true);
    mp_tune_table_free(t);
    fclose(out);
    assert_non_null(strstr(text, "A prompt of 8192 tokens joins 3 requests decoding."));
    assert_non_null(strstr(text, " not possible: no memory\n"));
    assert_non_null(
        strstr(text, "   10.000     300.0           4.000           ################\n"));
    assert_non_null(strstr(text, "    5.000     600.0          18.000   +50.0 % ################"));
    assert_non_null(
        strstr(text, " 10.000 against 5.000 ms, 4.000 against 18.000 s, medians of 3 "));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_the_best_value_of_each_axis),
        cmocka_unit_test(test_bounds_what_a_candidate_may_take),
        cmocka_unit_test(test_searches_again_after_a_change),
        cmocka_unit_test(test_accepts_no_noise),
        cmocka_unit_test(test_keeps_the_start_if_the_winner_is_not_faster),
        cmocka_unit_test(test_share_of_a_prompt_that_joins),
        cmocka_unit_test(test_start_that_cannot_run),
        cmocka_unit_test(test_resumes_where_it_was_interrupted),
        cmocka_unit_test(test_resumes_from_decode_steps_alone),
        cmocka_unit_test(test_refuses_foreign_states),
        cmocka_unit_test(test_axes),
        cmocka_unit_test(test_written_configuration),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_table_of_joins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
