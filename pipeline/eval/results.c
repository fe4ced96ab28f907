#include "pipeline/eval/results.h"

#include "core/base/memory.h"
#include "core/base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 1000 };

/* ---- which tasks and lengths there are ---- */

static void add_task(struct mp_results *r, const char *task)
{
    for (size_t i = 0; i < r->num_tasks; i++) {
        if (strcmp(r->tasks[i], task) == 0) {
            return;
        }
    }
    r->tasks = mp_xrealloc(r->tasks, r->num_tasks + 1, sizeof *r->tasks);
    r->tasks[r->num_tasks++] = mp_xstrdup(task);
}

static void add_context(struct mp_results *r, int64_t context)
{
    size_t at = 0;
    while (at < r->num_contexts && r->contexts[at] < context) {
        at++;
    }
    if (at < r->num_contexts && r->contexts[at] == context) {
        return;
    }
    r->contexts = mp_xrealloc(r->contexts, r->num_contexts + 1, sizeof *r->contexts);
    memmove(r->contexts + at + 1, r->contexts + at, (r->num_contexts - at) * sizeof *r->contexts);
    r->contexts[at] = context;
    r->num_contexts++;
}

/* ---- means ---- */

/* A mean of what is not NAN. */
struct mean {
    double sum;
    double count;
};

static void add(struct mean *m, double value, double weight)
{
    if (!isnan(value)) {
        m->sum += value * weight;
        m->count += weight;
    }
}

static double mean_of(const struct mean *m)
{
    return m->count > 0.0 ? m->sum / m->count : NAN;
}

/* The answers of a setting to the prompts of one length and one task, or of all. A prompt that
 * failed with one setting counts for none. */
struct cell {
    const struct mp_prediction **answers; /* [count] */
    size_t count;
};

static struct cell collect(const struct mp_eval *e, size_t setting, int64_t context,
                           const char *task)
{
    struct cell c = {.answers = mp_xcalloc(e->items.count + 1, sizeof *c.answers)};
    for (size_t i = 0; i < e->items.count; i++) {
        const struct mp_item *item = &e->items.items[i];
        const struct mp_prediction *p = mp_predictions_get(e->predictions, setting, i);
        if (p->done && item->error == NULL && item->context == context &&
            (task == NULL || strcmp(item->task, task) == 0)) {
            c.answers[c.count++] = p;
        }
    }
    return c;
}

/* Everything but the interval. */
static void average(const struct cell *c, struct mp_result *out)
{
    struct mean score = {0}, sampled = {0}, rows = {0}, bytes = {0}, ms = {0};
    for (size_t i = 0; i < c->count; i++) {
        const struct mp_prediction *p = c->answers[i];
        add(&score, p->score, 1.0);
        add(&sampled, p->sampled, 1.0);
        add(&rows, p->rows, 1.0);
        add(&bytes, p->bytes, (double)p->steps);
        if (p->steps > 0) {
            add(&ms, 1e3 * p->seconds / (double)p->steps, (double)p->steps);
        }
    }
    *out = (struct mp_result){
        .prompts = c->count,
        .score = mean_of(&score),
        .sampled = mean_of(&sampled),
        .rows = mean_of(&rows),
        .bytes = mean_of(&bytes),
        .ms = mean_of(&ms),
    };
}

/* ---- intervals ---- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The mean of the tasks' means, of as many answers as each has, drawn anew from them. */
static double draw(const struct cell *tasks, size_t count, struct mp_rng *rng)
{
    struct mean of_tasks = {0};
    for (size_t t = 0; t < count; t++) {
        struct mean scores = {0};
        for (size_t i = 0; i < tasks[t].count; i++) {
            size_t drawn = (size_t)(mp_rng_uniform(rng) * (double)tasks[t].count);
            add(&scores, tasks[t].answers[drawn]->score, 1.0);
        }
        add(&of_tasks, mean_of(&scores), 1.0);
    }
    return mean_of(&of_tasks);
}

static void find_interval(const struct cell *tasks, size_t count, struct mp_result *out)
{
    double scores[RESAMPLES];
    struct mp_rng rng;
    mp_rng_init(&rng, 0, 0);
    for (int i = 0; i < RESAMPLES; i++) {
        scores[i] = draw(tasks, count, &rng);
    }
    qsort(scores, RESAMPLES, sizeof *scores, compare_doubles);
    out->low = scores[(int)(0.025 * RESAMPLES)];
    out->high = scores[(int)(0.975 * RESAMPLES) - 1];
}

/* ---- all ---- */

static struct mp_result *at(const struct mp_results *r, size_t setting, size_t context, int task)
{
    return &r->all[(setting * r->num_contexts + context) * (1 + r->num_tasks) + (size_t)(task + 1)];
}

const struct mp_result *mp_results_get(const struct mp_results *r, size_t setting, size_t context,
                                       int task)
{
    return at(r, setting, context, task);
}

/* A setting at one length: each task, then all of them. */
static void fill(const struct mp_eval *e, struct mp_results *r, size_t setting, size_t context)
{
    struct cell *tasks = mp_xcalloc(r->num_tasks + 1, sizeof *tasks);
    struct mean score = {0};
    for (size_t t = 0; t < r->num_tasks; t++) {
        struct mp_result *out = at(r, setting, context, (int)t);
        tasks[t] = collect(e, setting, r->contexts[context], r->tasks[t]);
        average(&tasks[t], out);
        find_interval(&tasks[t], 1, out);
        add(&score, out->score, 1.0);
    }
    struct mp_result *out = at(r, setting, context, -1);
    struct cell all = collect(e, setting, r->contexts[context], NULL);
    average(&all, out);
    out->score = mean_of(&score);
    find_interval(tasks, r->num_tasks, out);
    for (size_t t = 0; t < r->num_tasks; t++) {
        free(tasks[t].answers);
    }
    free(tasks);
    free(all.answers);
}

void mp_results_make(const struct mp_eval *e, struct mp_results *out)
{
    *out = (struct mp_results){.settings = &e->settings, .batch = e->config.batch};
    for (size_t i = 0; i < e->items.count; i++) {
        if (e->items.items[i].error == NULL) {
            add_task(out, e->items.items[i].task);
            add_context(out, e->items.items[i].context);
        }
    }
    out->all = mp_xcalloc(e->settings.count * out->num_contexts * (1 + out->num_tasks) + 1,
                          sizeof *out->all);
    for (size_t s = 0; s < e->settings.count; s++) {
        for (size_t c = 0; c < out->num_contexts; c++) {
            fill(e, out, s, c);
        }
    }
}

void mp_results_free(struct mp_results *r)
{
    for (size_t i = 0; i < r->num_tasks; i++) {
        free(r->tasks[i]);
    }
    free(r->tasks);
    free(r->contexts);
    free(r->all);
    *r = (struct mp_results){0};
}
