/* The verb eval: how accurate settings of attention are, and what they cost. */
#include "core/base/log.h"
#include "pipeline/eval/compare.h"
#include "pipeline/eval/page/page.h"
#include "pipeline/eval/results.h"

#include <cjson/cJSON.h>
#include <stdio.h>

/* Whether anything is left to be answered. */
static bool is_complete(const struct mp_eval *e)
{
    for (size_t s = 0; s < e->settings.count; s++) {
        for (size_t i = 0; i < e->items.count; i++) {
            if (e->items.items[i].error == NULL &&
                !mp_predictions_get(e->predictions, s, i)->done) {
                return false;
            }
        }
    }
    return true;
}

static int open_predictions(struct mp_eval *e, struct mp_error *err)
{
    size_t left;
    int code =
        mp_predictions_open(e->cli->output, &e->items, &e->settings, &e->predictions, &left, err);
    if (code == 0 && left > 0) {
        mp_log(MP_LOG_INFO, "%s: %zu answer%s there of other prompts or settings", e->cli->output,
               left, left == 1 ? " is" : "s are");
    }
    return code;
}

static int write_results(const struct mp_eval *e, struct mp_error *err)
{
    struct mp_results results;
    int code = 0;
    mp_results_make(e, &results);
    mp_results_print(&results, stdout);
    if (e->cli->csv != NULL) {
        code = mp_results_write_csv(&results, e->cli->csv, err);
    }
    if (e->cli->html != NULL && code == 0) {
        cJSON *data = mp_results_json(&results, e);
        code = mp_eval_page_write(e->cli->html, data, err);
        cJSON_Delete(data);
    }
    mp_results_free(&results);
    return code;
}

static int run(struct mp_eval *e, struct mp_error *err)
{
    int code = mp_items_report_errors(&e->items, err);
    if (code == 0) {
        code = open_predictions(e, err);
    }
    if (code == 0 && !is_complete(e)) {
        code = mp_eval_start(e, err);
        if (code == 0) {
            code = mp_eval_run(e, err);
        }
    }
    if (code == 0) {
        code = write_results(e, err);
    }
    return code == 0 ? mp_items_check_failed(&e->items, err) : code;
}

/* It takes nothing else. */
static int check_compare(const struct mp_cli *cli, struct mp_error *err)
{
    bool more = cli->config_path != NULL || cli->input != NULL || cli->output != NULL ||
                cli->task != NULL || cli->tokens != NULL || cli->csv != NULL || cli->html != NULL ||
                cli->sparse_from != NULL || cli->num_settings > 0 || cli->num_flags > 0 ||
                cli->samples > 0 || cli->data_seed >= 0 || cli->chat_template != NULL ||
                cli->essay != NULL || cli->words != NULL || cli->squad != NULL ||
                cli->hotpot != NULL;
    return more ? mp_fail(err, MP_ERR_USAGE,
                          "--compare: found other options beside it, expected "
                          "--quiet at most")
                : 0;
}

int mp_verb_eval(const struct mp_cli *cli, struct mp_error *err)
{
    struct mp_eval e;
    if (cli->quiet) {
        mp_log_set_level(MP_LOG_WARNING);
    }
    if (cli->compared[0] != NULL) {
        int refused = check_compare(cli, err);
        return refused != 0 ? refused : mp_eval_compare(cli->compared, stdout, err);
    }
    int code = mp_items_check_options(cli, err);
    if (code != 0) {
        return code;
    }
    code = mp_eval_open(cli, cli->config.batch, &e, err);
    if (code == 0) {
        code = run(&e, err);
    }
    int close_code = mp_predictions_close(e.predictions, code == 0 ? err : NULL);
    mp_eval_close(&e);
    return code == 0 ? close_code : code;
}
