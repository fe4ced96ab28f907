/* The report of a run: what the engine and its session tell is filled in here. */
#include "core/base/memory.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/report/report.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

int mp_report_write_run(const struct mp_report *run, const struct mp_config *config,
                        const struct mp_engine *e, const struct mp_session *s, struct mp_error *err)
{
    if (config->report_path == NULL) {
        return 0;
    }
    char *attention = mp_attention_describe(config);
    cJSON *settings = mp_attention_json(config);
    struct mp_report r = *run;
    r.model = mp_engine_model(e);
    r.runtime = mp_engine_runtime(e);
    r.kernels = mp_engine_kernels(e);
    r.attention = attention;
    r.attention_settings = settings;
    r.num_layers = mp_engine_num_layers(e);
    r.batch = config->batch;
    r.micro_batches = mp_session_micro_batches(s);
    int code = mp_report_write(config->report_path, &r, err);
    cJSON_Delete(settings);
    free(attention);
    return code;
}
