/* The verb plan: what a run would take, and what its steps would. */
#include "core/base/log.h"
#include "core/json/json_print.h"
#include "pipeline/bench/bench.h"
#include "pipeline/cli/cli.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/generate/prompts.h"
#include "pipeline/plan/prediction.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The longest prompt of --input that can run; fails with the first record's error if none can. */
static int longest_prompt(const struct mp_cli *cli, struct mp_engine *e, int64_t *tokens,
                          struct mp_error *err)
{
    struct mp_prompts prompts;
    int code = mp_prompts_load(cli, e, &prompts, err);
    if (code != 0) {
        return code;
    }
    mp_prompts_check(&prompts, cli, e);
    *tokens = mp_prompts_longest(&prompts);
    if (*tokens == 0) {
        code = mp_fail(err, MP_ERR_USAGE, "no record can run: %s", prompts.records.items[0].error);
    }
    for (size_t i = 0; i < prompts.records.count && code == 0; i++) {
        if (prompts.records.items[i].error != NULL) {
            mp_log(MP_LOG_WARNING, "left out: %s", prompts.records.items[i].error);
        }
    }
    mp_prompts_free(&prompts);
    return code;
}

static void print_exchange(const struct mp_plan *plan, const struct mp_network *network)
{
    char sent[MP_SIZE_TEXT];
    char received[MP_SIZE_TEXT];
    printf("ranks: this is one of %d; a step sends %s in %d layers and receives %s\n", plan->ranks,
           mp_size_text(plan->sent, sent), plan->kept_layers,
           mp_size_text(plan->received, received));
    if (network != NULL) {
        double latency;
        double all = mp_network_seconds(network, plan, &latency);
        printf("network: %.3f ms a step, of which latency %.3f ms\n", 1e3 * all, 1e3 * latency);
    }
}

static int check_plan(const struct mp_cli *cli, struct mp_error *err)
{
    if ((cli->context == 0) == (cli->input == NULL)) {
        return mp_fail(err, MP_ERR_USAGE, "plan needs either --context N or --input FILE");
    }
    if (cli->shape != NULL && cli->input != NULL) {
        return mp_fail(err, MP_ERR_USAGE, "--input needs --model: a shape has no tokenizer");
    }
    if (cli->network != NULL && cli->plan_ranks == 0) {
        return mp_fail(err, MP_ERR_USAGE, "--network needs --ranks N");
    }
    if (cli->rates != NULL && cli->config.parallel == MP_PARALLEL_TENSOR) {
        return mp_fail(err, MP_ERR_USAGE,
                       "--rates: found with runtime.parallel tensor, expected layers");
    }
    return mp_bench_check_model(cli, err);
}

/* What a plan is printed with. */
struct planned {
    const struct mp_cli *cli;
    const char *model; /* mp_engine_model */
    struct mp_plan plan;
    const struct mp_network *network;       /* NULL: not given */
    const struct mp_step_rates *rates;      /* NULL: not given; then neither .. */
    const struct mp_prediction *prediction; /* .. is this */
};

static void print_text(const struct planned *p)
{
    printf("model: %s\n", p->model);
    mp_plan_print(&p->plan, &p->cli->config, stdout);
    if (p->plan.ranks > 1) {
        print_exchange(&p->plan, p->network);
    }
    if (p->prediction != NULL) {
        mp_prediction_print(p->prediction, &p->plan, p->rates, stdout);
    }
}

static int print_json(const struct planned *p, struct mp_error *err)
{
    cJSON *o = mp_plan_json(&p->plan, &p->cli->config);
    cJSON_AddStringToObject(o, "model", p->model);
    if (p->network != NULL) {
        cJSON_AddNumberToObject(o, "network_seconds",
                                mp_network_seconds(p->network, &p->plan, NULL));
    }
    if (p->prediction != NULL) {
        cJSON_AddItemToObject(o, "step", mp_prediction_json(p->prediction));
    }
    char *text = mp_json_print(o, MP_JSON_INDENTED, "--json", err);
    cJSON_Delete(o);
    if (text == NULL) {
        return MP_ERR_MEMORY;
    }
    printf("%s\n", text);
    free(text);
    return 0;
}

/* The plan for so many tokens, with what is given of network and rates. */
static int show(const struct mp_cli *cli, const struct mp_engine *e, int64_t tokens,
                const struct mp_network *network, const struct mp_step_rates *rates,
                struct mp_error *err)
{
    struct planned p = {
        .cli = cli, .model = mp_engine_model(e), .network = network, .rates = rates};
    struct mp_prediction prediction = {0};
    mp_engine_plan(e, tokens, cli->config.gen_len, &p.plan);
    if (rates != NULL) {
        struct mp_step_work work;
        bool same = mp_attention_has_chance(&cli->config); /* whatever the length */
        mp_plan_count_step(e, &p.plan, same ? rates->sampled : NAN, &work);
        mp_predict(&work, &p.plan, rates, network, &prediction);
        mp_profile_free(&work.all);
        mp_profile_free(&work.selecting);
        p.prediction = &prediction;
    }
    int code = 0;
    if (cli->json_output) {
        code = print_json(&p, err);
    } else {
        print_text(&p);
    }
    mp_prediction_free(&prediction);
    return code == 0 ? mp_plan_check(&p.plan, &cli->config, err) : code;
}

int mp_verb_plan(const struct mp_cli *cli, struct mp_error *err)
{
    struct mp_engine *engine = NULL;
    struct mp_network network;
    struct mp_step_rates rates = {0};
    int64_t tokens = cli->context;
    int code = check_plan(cli, err);
    if (code == 0 && cli->network != NULL) {
        code = mp_network_read(cli->network, &network, err);
    }
    if (code == 0) {
        code = mp_cli_open_engine(cli, &cli->config, &engine, err);
    }
    if (code == 0 && cli->plan_ranks > 0) {
        code = mp_engine_plan_ranks(engine, (int)cli->plan_ranks, err);
    }
    if (code == 0 && cli->rates != NULL) {
        code = mp_rates_read(cli->rates, &cli->config, &rates, err);
    }
    if (code == 0 && cli->input != NULL) {
        code = longest_prompt(cli, engine, &tokens, err);
    }
    if (code == 0) {
        code = mp_engine_check_length(engine, tokens, err);
    }
    if (code == 0) {
        code = show(cli, engine, tokens, cli->network != NULL ? &network : NULL,
                    cli->rates != NULL ? &rates : NULL, err);
    }
    mp_rates_free(&rates);
    mp_engine_close(engine);
    return code;
}
