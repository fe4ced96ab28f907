/* The benchmark of a prompt that is read while other requests decode. */
#include "core/base/clock.h"
#include "pipeline/bench/bench.h"
#include "pipeline/cli/interrupt.h"

#include <stdlib.h>

enum {
    WARMUP = 8, /* steps before the prompt joins */
    STEPS = 32, /* measured at least, unless the command line says */
    UNITS = 2,  /* measured at least: one alone would come at a time that is only estimated */
    /* Steps that may pass besides, until those units and the one of the warm-up are read. How many
     * do is known only afterwards: a unit that takes as long as n steps is read every
     * n (1 - s) / s of them, at a share s of the time, and n may be less than 1 on a fast GPU and
     * near 100 on a few cores. These are enough for a quarter there; a measurement that would need
     * more is given up. It is one number for all shares, so that they are compared with the same
     * plan, and thereby the same placement. */
    MOST_WAITING = 1024
};

struct join {
    const struct mp_cli *cli;
    const struct mp_config *config;
    struct mp_engine *engine;
    struct mp_session *session;
    struct mp_rng rng; /* of the tokens that are fed in */
    int32_t *ids;      /* [tokens] of the prompt */
    int64_t tokens;
    int64_t least_steps; /* to measure */
    int64_t new_tokens;  /* that each of the others generates at most */
    int slot;            /* where the prompt is read */
    int units;           /* it is made of: one a layer */
    int64_t read;        /* units read */
    int64_t steps;       /* meanwhile */
    double seconds;      /* meanwhile */
};

int64_t mp_bench_join_tokens(const struct mp_cli *cli, const struct mp_config *config)
{
    return cli->context < config->chunk_size ? cli->context : config->chunk_size;
}

/* ---- the requests ---- */

static int add_others(struct join *j, struct mp_error *err)
{
    const struct mp_cli *cli = j->cli;
    int code = 0;
    for (int i = 0; i < j->config->batch - 1 && code == 0; i++) {
        int slot;
        code = mp_session_add_synthetic(j->session, cli->context, j->new_tokens,
                                        mp_bench_sampled(cli), cli->sampled == 0.0, &slot, err);
    }
    return code;
}

/* They end together, at new_tokens or where the model's positions do. */
static bool others_decode(const struct join *j)
{
    return mp_session_request(j->session, 0)->finish == MP_FINISH_NONE;
}

static int add_prompt(struct join *j, struct mp_error *err)
{
    int code = mp_bench_add_prompt(j->session, j->ids, j->tokens, 1, &j->slot, err);
    j->units = mp_session_units_left(j->session);
    return code;
}

/* ---- measuring ---- */

static int step(struct join *j, struct mp_error *err)
{
    int active;
    int left = mp_session_units_left(j->session);
    for (int slot = 0; slot < j->config->batch - 1; slot++) {
        mp_session_feed(j->session, slot, mp_bench_draw_token(j->engine, &j->rng));
    }
    int code = mp_session_step(j->session, &active, err);
    j->steps++;
    j->read += left - mp_session_units_left(j->session);
    return code == 0 ? mp_bench_check_interrupted(err) : code;
}

/* Reads a prompt, and once it is read the same one again, until so many steps and units are done.
 * It ends with a unit: the steps before one make up for its time. */
static int read_prompts(struct join *j, int64_t steps, int64_t units, struct mp_error *err)
{
    j->read = 0;
    j->steps = 0;
    double begin = mp_clock_seconds();
    int code = add_prompt(j, err);
    bool enough = false;
    while (code == 0 && others_decode(j) && !enough) {
        if (mp_session_units_left(j->session) == 0) {
            mp_session_remove(j->session, j->slot);
            code = add_prompt(j, err);
        }
        int64_t before = j->read;
        code = code == 0 ? step(j, err) : code;
        code = code == 0 ? mp_bench_check_prompt(j->session, j->slot, err) : code;
        enough = j->steps >= steps && j->read >= units && j->read > before;
    }
    j->seconds = mp_clock_seconds() - begin;
    if (code == 0 && j->read < units) {
        code = mp_fail(err, MP_ERR_RUNTIME, "%d of %d units of the prompt read in %d steps",
                       (int)j->read, (int)units, (int)j->steps);
    }
    return code;
}

/* A prompt that joins is read at the pace of those before it: the first steps tell how long one
 * takes, and one unit of a prompt that then starts anew. */
static int warm_up(struct join *j, struct mp_error *err)
{
    int code = 0;
    for (int i = 0; i < WARMUP && code == 0; i++) {
        code = step(j, err);
    }
    if (code == 0) {
        code = read_prompts(j, 1, 1, err);
    }
    if (code == 0) {
        mp_session_remove(j->session, j->slot);
    }
    return code;
}

/* With a share of 1 the others wait for the whole prompt, which is one step. */
static int measure(struct join *j, struct mp_error *err)
{
    return read_prompts(j, j->config->prefill_share == 1.0f ? 1 : j->least_steps, UNITS, err);
}

static int start(struct join *j, struct mp_error *err)
{
    int code = mp_cli_open_engine(j->cli, j->config, &j->engine, err);
    if (code == 0) {
        mp_interrupt_defer();
        code = mp_engine_start(j->engine, j->cli->context, j->new_tokens, err);
    }
    return code == 0 ? mp_session_open(j->engine, &j->session, err) : code;
}

int mp_bench_join(const struct mp_cli *cli, const struct mp_config *config,
                  struct mp_bench_join *out, struct mp_error *err)
{
    struct join j = {.cli = cli, .config = config, .tokens = mp_bench_join_tokens(cli, config)};
    j.least_steps = cli->steps > 0 ? cli->steps : STEPS;
    j.new_tokens = WARMUP + j.least_steps + MOST_WAITING;
    mp_rng_init(&j.rng, 2, 0);
    int code = start(&j, err);
    if (code == 0) {
        j.ids = mp_bench_draw_prompt(j.engine, j.tokens);
        code = add_others(&j, err);
    }
    if (code == 0) {
        code = warm_up(&j, err);
    }
    if (code == 0) {
        code = measure(&j, err);
    }
    if (code == 0) {
        out->step = j.seconds / (double)j.steps;
        out->first_token = j.seconds * j.units / (double)j.read;
    }
    free(j.ids);
    mp_session_close(j.session);
    mp_engine_close(j.engine);
    return code;
}
