#include "pipeline/eval/attention/attention.h"

#include "core/base/memory.h"
#include "core/base/shape.h"
#include "pipeline/cli/interrupt.h"
#include "pipeline/cli/progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct measure {
    struct mp_eval *eval;
    struct mp_engine *exact; /* a variant with full attention */
    const struct mp_shape *shape;
    int64_t most; /* tokens of a prompt */
    struct mp_attention_results *out;
    struct mp_session *reader;
    struct mp_probe *steps; /* [num_steps] of the present prompt, exact */
    int64_t num_steps;
};

/* ---- answers ---- */

/* The expected answer as the prompt's next tokens. */
static int append_answer(const struct mp_tokenizer *t, struct mp_item *item, struct mp_error *err)
{
    char *text = mp_xstrdup("");
    for (size_t i = 0; i < item->num_outputs && (i == 0 || !item->any); i++) {
        char *longer = mp_xasprintf("%s%s %s", text, i > 0 ? "," : "", item->outputs[i]);
        free(text);
        text = longer;
    }
    int code = mp_tokenizer_encode(t, text, strlen(text), false, &item->ids, err);
    item->max_new_tokens = 1;
    free(text);
    return code;
}

static int append_answers(struct mp_eval *e, struct mp_error *err)
{
    struct mp_tokenizer *t;
    int code = mp_cli_open_tokenizer(e->cli, &t, NULL, err);
    for (size_t i = 0; i < e->items.count && code == 0; i++) {
        if (e->items.items[i].error == NULL) {
            code = append_answer(t, &e->items.items[i], err);
        }
    }
    mp_tokenizer_free(t);
    if (code == 0) {
        mp_items_check(&e->items, e->engine);
    }
    return code;
}

/* ---- one prompt ---- */

static size_t x_size(const struct measure *m)
{
    return (size_t)m->shape->num_hidden_layers * (size_t)m->shape->hidden_size;
}

static size_t o_size(const struct measure *m)
{
    return (size_t)m->shape->num_hidden_layers * (size_t)mp_shape_q_width(m->shape);
}

static size_t head_count(const struct measure *m)
{
    return (size_t)m->shape->num_hidden_layers * (size_t)m->shape->num_attention_heads;
}

static struct mp_probe new_probe(const struct measure *m)
{
    return (struct mp_probe){mp_xcalloc(x_size(m), sizeof(float)),
                             mp_xcalloc(o_size(m), sizeof(float)),
                             mp_xcalloc(head_count(m), sizeof(float))};
}

static void free_probe(struct mp_probe *p)
{
    free(p->x);
    free(p->o);
    free(p->error);
}

static int adopt(const struct measure *m, const struct mp_item *item, struct mp_engine *engine,
                 struct mp_session **out, struct mp_error *err)
{
    struct mp_adoption a = {.from = m->reader, .exact = item->exact, .max_new_tokens = 1};
    int slot;
    int code = mp_session_open(engine, out, err);
    return code == 0 ? mp_session_adopt(*out, &a, &slot, err) : code;
}

static int read_prompt(struct measure *m, const struct mp_item *item, struct mp_error *err)
{
    struct mp_request_options options = {
        .size = sizeof options,
        .ids = item->ids.data,
        .count = (int64_t)item->ids.count,
        .max_new_tokens = 1,
    };
    int slot;
    int code = mp_session_open(m->eval->engine, &m->reader, err);
    if (code == 0) {
        code = mp_session_add(m->reader, &options, &slot, err);
    }
    if (code == 0) {
        code = mp_session_read(m->reader, err);
    }
    if (code == 0 && mp_session_request(m->reader, 0)->finish == MP_FINISH_FAILED) {
        *err = mp_session_request(m->reader, 0)->failure;
        code = err->code;
    }
    return code;
}

/* What exact attention computes. */
static int probe_exact(struct measure *m, const struct mp_item *item, struct mp_error *err)
{
    struct mp_session *s = NULL;
    int code = adopt(m, item, m->exact, &s, err);
    for (int64_t i = 0; i < m->num_steps && code == 0; i++) {
        m->steps[i] = new_probe(m);
        code = mp_session_probe(s, NULL, &m->steps[i], err);
    }
    mp_session_close(s);
    return code;
}

static double relative_error(const float *o, const float *exact, int n)
{
    double difference = 0.0;
    double norm = 0.0;
    for (int i = 0; i < n; i++) {
        double d = (double)o[i] - (double)exact[i];
        difference += d * d;
        norm += (double)exact[i] * (double)exact[i];
    }
    return norm > 0.0 ? sqrt(difference / norm) : 0.0;
}

/* Of one layer and prompt, over its steps and heads. */
struct squares {
    double error;
    double estimate; /* NAN: there is none */
};

/* Adds the errors of a step to the sums, and their squares to those of the prompt [layers]. */
static void add_errors(const struct measure *m, const struct mp_probe *exact,
                       const struct mp_probe *probe, double *sums, struct squares *squares)
{
    size_t d = (size_t)m->shape->head_dim;
    size_t heads = (size_t)m->shape->num_attention_heads;
    for (size_t h = 0; h < head_count(m); h++) {
        double error = relative_error(probe->o + h * d, exact->o + h * d, (int)d);
        double estimate = (double)probe->error[h];
        sums[h] += error;
        squares[h / heads].error += error * error;
        squares[h / heads].estimate += estimate * estimate;
    }
}

/* What a prompt says of the estimates. */
static void add_estimates(const struct measure *m, const struct squares *squares,
                          struct mp_attention_result *r)
{
    double count = (double)(m->num_steps * m->shape->num_attention_heads);
    for (int l = 0; l < m->shape->num_hidden_layers; l++) {
        double estimate = sqrt(squares[l].estimate / count);
        double error = sqrt(squares[l].error / count);
        if (!isnan(estimate)) {
            r->estimate += estimate;
            r->rms += error;
            r->estimates += 1.0;
            r->calibrated += estimate <= 1.5 * error && error <= 1.5 * estimate ? 1.0 : 0.0;
        }
    }
}

/* What a setting makes of the same inputs; sums over prompts, for now. */
static int probe_setting(struct measure *m, const struct mp_item *item, size_t setting,
                         struct mp_error *err)
{
    struct mp_attention_result *r = &m->out->items[setting];
    const struct mp_setting *of = &m->eval->settings.items[setting];
    struct mp_session *s = NULL;
    struct mp_probe probe = new_probe(m);
    struct squares *squares = mp_xcalloc((size_t)m->shape->num_hidden_layers, sizeof *squares);
    int code = adopt(m, item, of->engine, &s, err);
    for (int64_t i = 0; i < m->num_steps && code == 0; i++) {
        code = mp_session_probe(s, m->steps[i].x, &probe, err);
        if (code == 0) {
            add_errors(m, &m->steps[i], &probe, r->head_error, squares);
        }
    }
    if (code == 0) {
        const struct mp_request *request = mp_session_request(s, 0);
        int64_t offloaded =
            item->exact > of->config.device_budget ? item->exact - of->config.device_budget : 0;
        r->bytes += mp_session_attention_bytes(s);
        add_estimates(m, squares, r);
        if (!isnan(request->sampled_mean)) {
            r->selecting += (double)m->num_steps;
            r->sampled += request->sampled_mean * (double)m->num_steps;
            r->rows += request->sampled_mean * (double)offloaded * (double)m->num_steps;
        }
    }
    mp_session_close(s);
    free_probe(&probe);
    free(squares);
    return code;
}

static int measure_prompt(struct measure *m, const struct mp_item *item, struct mp_error *err)
{
    int64_t left = (int64_t)item->ids.count - item->exact;
    m->num_steps = left < m->most ? left : m->most;
    m->steps = mp_xcalloc((size_t)m->num_steps, sizeof *m->steps);
    int code = read_prompt(m, item, err);
    if (code == 0) {
        code = probe_exact(m, item, err);
    }
    for (size_t s = 0; s < m->eval->settings.count && code == 0; s++) {
        code = mp_interrupted() ? mp_fail(err, MP_ERR_INTERRUPTED, "interrupted")
                                : probe_setting(m, item, s, err);
    }
    for (int64_t i = 0; i < m->num_steps; i++) {
        free_probe(&m->steps[i]);
    }
    free(m->steps);
    mp_session_close(m->reader);
    m->reader = NULL;
    m->out->prompts++;
    m->out->tokens += m->num_steps;
    return code;
}

/* ---- what it comes to ---- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of the layers that are not dense. */
static double median_error(const struct mp_attention_result *r, int layers)
{
    double sorted[layers];
    size_t n = 0;
    for (int l = 0; l < layers; l++) {
        if (!isnan(r->layer_error[l])) {
            sorted[n++] = r->layer_error[l];
        }
    }
    qsort(sorted, n, sizeof *sorted, compare_doubles);
    return n == 0 ? NAN : (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0;
}

/* Layers with a larger error; of those with the same the first one counts as worst. */
static int count_worse(const struct mp_attention_result *r, int layers, int layer)
{
    int n = 0;
    for (int l = 0; l < layers; l++) {
        n += r->layer_error[l] > r->layer_error[layer] ||
             (l < layer && r->layer_error[l] == r->layer_error[layer]);
    }
    return n;
}

void mp_attention_conclude(struct mp_attention_result *r, int layers, int heads)
{
    double sum = 0.0;
    double rest = 0.0;
    int sparse = 0;
    r->layer_error = mp_xcalloc((size_t)layers, sizeof *r->layer_error);
    r->keep_dense = mp_xcalloc((size_t)layers, sizeof *r->keep_dense);
    for (int l = 0; l < layers; l++) {
        for (int h = 0; h < heads; h++) {
            r->layer_error[l] += r->head_error[l * heads + h] / heads;
        }
        if (!isnan(r->layer_error[l])) {
            sum += r->layer_error[l];
            sparse++;
        }
    }
    double median = median_error(r, layers);
    for (int l = 0; l < layers; l++) {
        if (r->layer_error[l] > 1.5 * median && count_worse(r, layers, l) < layers / 4) {
            r->keep_dense[r->num_keep_dense++] = l;
        } else if (!isnan(r->layer_error[l])) {
            rest += r->layer_error[l];
        }
    }
    r->error = sparse > 0 ? sum / sparse : NAN;
    r->error_if_dense = sparse > 0 ? rest / sparse : NAN;
}

/* Sums become means; dense layers have none. */
static void conclude(struct measure *m, size_t setting)
{
    struct mp_attention_result *r = &m->out->items[setting];
    double tokens = (double)m->out->tokens;
    int heads = m->out->heads;
    for (int l = 0; l < m->out->layers; l++) {
        bool dense = mp_engine_is_dense(m->eval->settings.items[setting].engine, l);
        for (int h = 0; h < heads; h++) {
            double *error = &r->head_error[l * heads + h];
            *error = dense || tokens == 0.0 ? NAN : *error / tokens;
        }
    }
    r->sampled = r->selecting > 0.0 ? r->sampled / r->selecting : NAN;
    r->rows = r->selecting > 0.0 ? r->rows / r->selecting : NAN;
    r->bytes /= tokens;
    r->calibrated = r->estimates > 0.0 ? r->calibrated / r->estimates : NAN;
    r->estimate = r->estimates > 0.0 ? r->estimate / r->estimates : NAN;
    r->rms = r->estimates > 0.0 ? r->rms / r->estimates : NAN;
    mp_attention_conclude(r, m->out->layers, heads);
}

static int measure_all(struct measure *m, struct mp_error *err)
{
    struct mp_eval *e = m->eval;
    struct mp_progress *progress = mp_progress_start("prompts", "prompt", (int64_t)e->items.count);
    int code = 0;
    for (size_t i = 0; i < e->items.count && code == 0; i++) {
        if (e->items.items[i].error == NULL) {
            code = measure_prompt(m, &e->items.items[i], err);
        }
        mp_progress_set(progress, (int64_t)i + 1);
    }
    mp_progress_end(progress);
    for (size_t s = 0; s < e->settings.count; s++) {
        conclude(m, s);
    }
    return code;
}

int mp_attention_measure(struct mp_eval *e, int64_t most, struct mp_attention_results *out,
                         struct mp_error *err)
{
    struct measure m = {.eval = e, .most = most, .out = out, .shape = mp_engine_shape(e->engine)};
    size_t count = e->settings.count;
    *out = (struct mp_attention_results){
        .settings = &e->settings,
        .items = mp_xcalloc(count, sizeof *out->items),
        .layers = m.shape->num_hidden_layers,
        .heads = m.shape->num_attention_heads,
    };
    for (size_t s = 0; s < count; s++) {
        out->items[s].head_error =
            mp_xcalloc((size_t)(out->layers * out->heads), sizeof *out->items[s].head_error);
    }
    int code = append_answers(e, err);
    if (code == 0) {
        code = mp_items_report_errors(&e->items, err);
    }
    if (code == 0) {
        code = mp_engine_open_variant(e->engine, &e->config, &m.exact, err);
    }
    if (code == 0) {
        code = mp_eval_start(e, err);
    }
    if (code == 0) {
        code = measure_all(&m, err);
    }
    mp_engine_close(m.exact);
    return code;
}

void mp_attention_results_free(struct mp_attention_results *r)
{
    for (size_t s = 0; r->items != NULL && s < r->settings->count; s++) {
        free(r->items[s].head_error);
        free(r->items[s].layer_error);
        free(r->items[s].keep_dense);
    }
    free(r->items);
    *r = (struct mp_attention_results){0};
}
