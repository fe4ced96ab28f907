/* The search of the tune verb on imagined machines, its axes and the files it writes. */
#include "tune_fixture.h"

#include "core/base/file.h"

#include <unistd.h>

static void assert_point(const struct mp_tune_point *p, size_t first, size_t second, size_t third)
{
    assert_int_equal(p->at[0], first);
    assert_int_equal(p->at[1], second);
    assert_int_equal(p->at[2], third);
}

/* ---- the search ---- */

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
        fake_init_joins(&f, cases[i].beside);
        ASSERT_OK(search(&f, &r, &err));
        assert_true(r.improved);
        assert_point(&r.best, 2, 1, 4);
        assert_int_equal(r.best.at[JOIN_AXIS], cases[i].best);
        assert_memory_equal(&f.accepted, &r.best, sizeof r.best);
        assert_int_equal(f.joins, cases[i].best == 0 ? 5 : 5 + 2 * 3);
    }
}

/* What can be measured is better than what cannot, and bounds what the others may take. */
static void test_share_that_cannot_run(void **state)
{
    (void)state;
    static const struct {
        size_t failing;
        size_t best;  /* of SHARES */
        int joins;    /* measurements */
        double limit; /* seconds, of the last one */
    } cases[] = {{1, 2, 5 + 2 * 3, 35.0}, {3, 3, 5 + 2 * 3, 35.0}, {5, 0, 5, 1800.0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fake f;
        struct mp_tune_result r;
        struct mp_error err;
        fake_init_joins(&f, 0.33);
        f.failing_shares = cases[i].failing;
        ASSERT_OK(search(&f, &r, &err));
        assert_point(&r.best, 2, 1, 4);
        assert_int_equal(r.best.at[JOIN_AXIS], cases[i].best);
        assert_memory_equal(&f.accepted, &r.best, sizeof r.best);
        assert_int_equal(f.joins, cases[i].joins);
        assert_true(f.limit == cases[i].limit);
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
    assert_int_equal(axes.count, 7);
    assert_values(&axes.items[0], "runtime.gpu_kv_layers", "-1 8 5 2 0");
    assert_values(&axes.items[1], "runtime.gather", "auto cpu gpu");
    assert_values(&axes.items[2], "runtime.micro_batches", "0 1 2 3 4 6 8");
    assert_values(&axes.items[3], "runtime.threads", "5 0 15 8 4");
    assert_values(&axes.items[4], "runtime.cpu_workers", "0 1");
    assert_string_equal(axes.items[5].path, "runtime.scheduler");
    assert_string_equal(axes.items[5].values[0], "prio");
    assert_true(axes.items[5].count > 3);
    assert_values(&axes.items[6], "runtime.prefill_share", "0.5 0.25 0.75");
    for (size_t a = 0; a < axes.count; a++) {
        assert_int_equal(axes.items[a].joins, a == 6);
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
    assert_non_null(strstr(err.message, "absent/x.json: cannot create"));
    mp_config_free(&cli.config);
}

/* The model_path that is written to `output` for the model "model" here. */
static void assert_written_model(const char *output, const char *expected)
{
    const struct mp_tune_axes none = {.count = 0};
    struct mp_cli cli = {.output = output};
    struct mp_config written;
    struct mp_error err;
    mp_config_init(&cli.config);
    mp_config_init(&written);
    ASSERT_OK(mp_config_set_flag(&cli.config, "model", "model", &err));
    ASSERT_OK(mp_tune_write_config(&cli, &none, &(struct mp_tune_point){0}, &err));
    ASSERT_OK(mp_config_load(&written, output, &err));
    assert_string_equal(written.model_path, expected);
    mp_config_free(&written);
    mp_config_free(&cli.config);
}

/* A relative one stays so only where it leads to the model from the file's own folder. */
static void test_written_model(void **state)
{
    (void)state;
    struct mp_error err;
    char *before = getcwd(NULL, 0);
    ASSERT_OK(mp_file_make_folders(MP_SCRATCH_DIR "/tune_model/work/model", &err));
    ASSERT_OK(mp_file_make_folders(MP_SCRATCH_DIR "/tune_model/other", &err));
    assert_int_equal(chdir(MP_SCRATCH_DIR "/tune_model/work"), 0);
    ASSERT_OK(mp_file_replace("model/config.json", "{}", &err)); /* what makes it a model's */
    char *model = realpath("model", NULL);
    assert_written_model("tuned.json", "model");
    assert_written_model("../other/tuned.json", model);
    assert_int_equal(chdir(before), 0);
    free(model);
    free(before);
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
        cmocka_unit_test(test_share_that_cannot_run),
        cmocka_unit_test(test_start_that_cannot_run),
        cmocka_unit_test(test_axes),
        cmocka_unit_test(test_written_configuration),
        cmocka_unit_test(test_written_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
