/* The table and the bars that grow while the search runs. */
#include "pipeline/tune.h"

#include "core/memory.h"

#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Columns of a bar as long as the start's, and of the longest. */
enum { START_COLUMNS = 16, MOST_COLUMNS = 32 };

struct mp_tune_table {
    FILE *out;
    int batch;
    bool gpu;
    bool blocks;       /* the terminal's text is UTF-8 */
    double start_step; /* seconds; 0: not measured yet */
};

static bool locale_is_utf8(void)
{
    locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    if (locale == (locale_t)0) {
        return false;
    }
    bool utf8 = strcmp(nl_langinfo_l(CODESET, locale), "UTF-8") == 0;
    freelocale(locale);
    return utf8;
}

struct mp_tune_table *mp_tune_table_new(FILE *out, const struct mp_tune_machine *machine)
{
    struct mp_tune_table *t = mp_xcalloc(1, sizeof *t);
    *t = (struct mp_tune_table){
        .out = out, .batch = machine->batch, .gpu = machine->gpu, .blocks = locale_is_utf8()};
    fprintf(out, "%-22s %-30s %9s %9s %6s", "", "", "ms/step", "tokens/s", "CPU");
    if (t->gpu) {
        fprintf(out, " %6s %6s", "GPU", "both");
    }
    fprintf(out, " %9s\n", "change");
    fflush(out);
    return t;
}

void mp_tune_table_free(struct mp_tune_table *t)
{
    free(t);
}

/* In eighths of a column where there are characters for them. */
static void print_bar(const struct mp_tune_table *t, double step)
{
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    double columns = fmin(START_COLUMNS * step / t->start_step, MOST_COLUMNS);
    long parts = lround(8.0 * columns);
    if (!t->blocks) {
        parts = 8 * lround(columns);
    }
    for (long i = 0; i < parts / 8; i++) {
        fputs(t->blocks ? "█" : "#", t->out);
    }
    fputs(eighths[parts % 8], t->out);
}

void mp_tune_table_row(struct mp_tune_table *t, const char *what, const char *value,
                       const struct mp_tune_sample *sample, double best)
{
    fprintf(t->out, "%-22s %-30s ", what, value);
    if (isinf(sample->step)) {
        fprintf(t->out, "not possible: %s\n", sample->why);
        fflush(t->out);
        return;
    }
    if (t->start_step == 0.0) {
        t->start_step = sample->step;
    }
    fprintf(t->out, "%9.3f %9.1f %4.0f %%", 1e3 * sample->step, t->batch / sample->step,
            100.0 * sample->cpu_busy);
    if (t->gpu) {
        fprintf(t->out, " %4.0f %% %4.0f %%", 100.0 * sample->gpu_busy, 100.0 * sample->both);
    }
    if (best > 0.0 && best != sample->step) {
        fprintf(t->out, " %+7.1f %% ", 100.0 * (sample->step / best - 1.0));
    } else {
        fprintf(t->out, " %9s ", "");
    }
    print_bar(t, sample->step);
    fputc('\n', t->out);
    fflush(t->out);
}

void mp_tune_table_pair(struct mp_tune_table *t, const char *what, const char *value, double step,
                        double other_step, int runs, bool better)
{
    fprintf(t->out, "%-22s %-30s %9.3f against %.3f ms, medians of %d runs each in turns: %s\n",
            what, value, 1e3 * step, 1e3 * other_step, runs,
            better ? "better, kept" : "not better");
    fflush(t->out);
}
