/* Measurements of the tune verb with the demo model, in processes of their own. */
#include "engine_fixture.h"

#include "pipeline/cli/interrupt.h"
#include "pipeline/engine/recording.h"
#include "pipeline/tune/tune.h"

#include <math.h>
#include <signal.h>
#include <unistd.h>

#define CALIBRATION MP_SCRATCH_DIR "/test_tune_measure.json"

static void test_measures_in_a_process_of_its_own(void **state)
{
    (void)state;
    struct mp_cli cli = {.verb = "tune", .context = 300, .steps = 2, .warmup = 1};
    struct mp_tune_machine machine;
    struct mp_tune_sample sample;
    struct mp_error err;
    mp_config_init(&cli.config);
    set_placement(&cli.config);
    ASSERT_OK(mp_config_set_flag(&cli.config, "model", DEMO_MODEL, &err));
    ASSERT_OK(mp_config_set_flag(&cli.config, "calibration", CALIBRATION, &err));
    ASSERT_OK(mp_config_set_flag(&cli.config, "sched", "dmda", &err));
    unlink(CALIBRATION);
    ASSERT_OK(mp_recording_start(false, NULL, &err));
    ASSERT_OK(mp_tune_probe(&cli, &machine, &err));
    assert_true(machine.cores >= 1 && machine.numa_nodes >= 1 && machine.batch == 1);
    assert_non_null(strstr(machine.model, "8 layers"));

    char *threads[] = {"0", "65536"};
    const struct mp_tune_axes axes = {
        .items = {{.path = "runtime.threads", .flag = "threads", .values = threads, .count = 2}},
        .count = 1,
    };
    struct mp_tune_request request = {0};
    ASSERT_OK(mp_tune_measure_point(&cli, &axes, &request, &sample, &err));
    assert_true(sample.step > 0.0 && sample.step < sample.wall);
    assert_true(sample.cpu_busy > 0.0 && sample.cpu_busy <= 1.0);
    assert_int_equal(access(CALIBRATION, F_OK), -1); /* the next one finds the same estimates */

    /* What cannot run, and what does not end, are answers: the search goes on. */
    request.point.at[0] = 1;
    ASSERT_OK(mp_tune_measure_point(&cli, &axes, &request, &sample, &err));
    assert_true(isinf(sample.step));
    assert_non_null(strstr(sample.why, "65536 threads"));
    request = (struct mp_tune_request){.limit = 0.001};
    ASSERT_OK(mp_tune_measure_point(&cli, &axes, &request, &sample, &err));
    assert_true(isinf(sample.step));
    assert_non_null(strstr(sample.why, "not done after"));

    cli.context = 70000;
    assert_int_equal(mp_tune_probe(&cli, &machine, &err), MP_ERR_USAGE);
    assert_non_null(strstr(err.message, "70000 tokens"));
    mp_config_free(&cli.config);
}

static void join(const struct mp_cli *cli, char **shares, size_t value,
                 struct mp_tune_sample *sample)
{
    struct mp_error err;
    const struct mp_tune_axes axes = {
        .items = {{.path = "runtime.prefill_share",
                   .flag = "prefill-share",
                   .joins = true,
                   .values = shares,
                   .count = 3}},
        .count = 1,
    };
    const struct mp_tune_request request = {.point = {.at = {value}}, .joins = true};
    ASSERT_OK(mp_tune_measure_point(cli, &axes, &request, sample, &err));
    assert_string_equal(sample->why, "");
}

/* A part of the prompt tells of all; with all of the time it is read in one step. An interrupt that
 * has come already does not spoil the measurement: this test is last. */
static void test_measures_a_prompt_that_joins(void **state)
{
    (void)state;
    struct mp_cli cli = {.verb = "tune", .context = 300, .steps = 2};
    struct mp_tune_sample sample;
    struct mp_tune_machine machine;
    struct mp_error err;
    char *shares[] = {"0.5", "0.9", "1"};
    mp_config_init(&cli.config);
    set_placement(&cli.config);
    ASSERT_OK(mp_config_set_flag(&cli.config, "model", DEMO_MODEL, &err));
    ASSERT_OK(mp_config_set_flag(&cli.config, "batch", "3", &err));
    ASSERT_OK(mp_tune_probe(&cli, &machine, &err));
    assert_int_equal(machine.join_tokens, 300);
    for (size_t i = 0; i < 2; i++) {
        join(&cli, shares, i, &sample);
        assert_true(sample.step > 0.0 && sample.step < sample.wall);
        assert_true(sample.first_token > 0.0);
    }
    mp_interrupt_install();
    mp_interrupt_defer();
    raise(SIGINT);
    assert_true(mp_interrupted());
    join(&cli, shares, 2, &sample);
    assert_true(sample.step == sample.first_token && sample.first_token < sample.wall);

    ASSERT_OK(mp_config_set_flag(&cli.config, "chunk-size", "64", &err));
    ASSERT_OK(mp_tune_probe(&cli, &machine, &err));
    assert_int_equal(machine.join_tokens, 64);
    mp_config_free(&cli.config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_measures_in_a_process_of_its_own),
        cmocka_unit_test(test_measures_a_prompt_that_joins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
