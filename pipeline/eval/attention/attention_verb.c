/* The verb eval attention: how exact settings of attention are, in minutes. */
#include "core/base/log.h"
#include "pipeline/eval/attention/attention.h"
#include "pipeline/eval/page/page.h"

#include <cjson/cJSON.h>
#include <stdio.h>

enum { DEFAULT_STEPS = 32 };

static int write_results(const struct mp_eval *e, const struct mp_attention_results *r,
                         struct mp_error *err)
{
    int code = 0;
    mp_attention_print(r, stdout);
    if (e->cli->csv != NULL) {
        code = mp_attention_write_csv(r, e->cli->csv, err);
    }
    if (e->cli->html != NULL && code == 0) {
        cJSON *data = mp_attention_results_json(r, e);
        code = mp_eval_page_write(e->cli->html, data, err);
        cJSON_Delete(data);
    }
    return code;
}

int mp_verb_eval_attention(const struct mp_cli *cli, struct mp_error *err)
{
    struct mp_eval e;
    struct mp_attention_results results = {0};
    if (cli->quiet) {
        mp_log_set_level(MP_LOG_WARNING);
    }
    int code = mp_items_check_options(cli, err);
    if (code != 0) {
        return code;
    }
    code = mp_eval_open(cli, 1, &e, err);
    if (code == 0) {
        code = mp_attention_measure(&e, cli->steps > 0 ? cli->steps : DEFAULT_STEPS, &results, err);
    }
    if (code == 0) {
        code = write_results(&e, &results, err);
    }
    if (code == 0) {
        code = mp_items_check_failed(&e.items, err);
    }
    mp_attention_results_free(&results);
    mp_eval_close(&e);
    return code;
}
