/* The table and the bars that grow while the search runs. */
#include "pipeline/tune/tune.h"

#include "core/base/memory.h"

#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Columns of a bar as long as the first one, and of the longest. */
enum { FIRST_COLUMNS = 16, MOST_COLUMNS = 32 };

struct mp_tune_table {
    FILE *out;
    int batch;
    int64_t join_tokens;
    bool gpu;
    bool joins;        /* a prompt joins in the measurements */
    bool blocks;       /* the terminal's text is UTF-8 */
    double first_cost; /* seconds, of the first row; 0: not measured yet */
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
        .out = out,
        .batch = machine->batch,
        .join_tokens = machine->join_tokens,
        .gpu = machine->gpu,
        .blocks = locale_is_utf8(),
    };
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

void mp_tune_table_join(struct mp_tune_table *t)
{
    t->joins = true;
    t->first_cost = 0.0;
    fprintf(t->out,
            "\nA prompt of %lld tokens joins %d request%s decoding. The less the time to its first "
            "token\ntimes the step of the others meanwhile, the better.\n\n",
            (long long)t->join_tokens, t->batch - 1, t->batch == 2 ? "" : "s");
    fprintf(t->out, "%-22s %-30s %9s %9s %15s %9s\n", "", "", "ms/step", "tokens/s",
            "s to 1st token", "change");
    fflush(t->out);
}

/* In eighths of a column where there are characters for them. */
static void print_bar(const struct mp_tune_table *t, double cost)
{
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    double columns = fmin(FIRST_COLUMNS * cost / t->first_cost, MOST_COLUMNS);
    long parts = lround(8.0 * columns);
    if (!t->blocks) {
        parts = 8 * lround(columns);
    }
    for (long i = 0; i < parts / 8; i++) {
        fputs(t->blocks ? "█" : "#", t->out);
    }
    fputs(eighths[parts % 8], t->out);
}

/* The figures of what was measured. While a prompt is read it generates nothing. */
static void print_figures(const struct mp_tune_table *t, const struct mp_tune_sample *sample)
{
    int decoding = t->joins ? t->batch - 1 : t->batch;
    fprintf(t->out, "%9.3f %9.1f", 1e3 * sample->step, decoding / sample->step);
    if (t->joins) {
        fprintf(t->out, " %15.3f", sample->first_token);
        return;
    }
    fprintf(t->out, " %4.0f %%", 100.0 * sample->cpu_busy);
    if (t->gpu) {
        fprintf(t->out, " %4.0f %% %4.0f %%", 100.0 * sample->gpu_busy, 100.0 * sample->both);
    }
}

void mp_tune_table_row(struct mp_tune_table *t, const char *what, const char *value,
                       const struct mp_tune_sample *sample, double best)
{
    double cost = mp_tune_cost(sample);
    fprintf(t->out, "%-22s %-30s ", what, value);
    if (isinf(cost)) {
        fprintf(t->out, "not possible: %s\n", sample->why);
        fflush(t->out);
        return;
    }
    if (t->first_cost == 0.0) {
        t->first_cost = cost;
    }
    print_figures(t, sample);
    if (best > 0.0 && isfinite(best) && best != cost) {
        fprintf(t->out, " %+7.1f %% ", 100.0 * (cost / best - 1.0));
    } else {
        fprintf(t->out, " %9s ", "");
    }
    print_bar(t, cost);
    fputc('\n', t->out);
    fflush(t->out);
}

/* One side of a pair. width: columns of its first number. */
static void print_side(const struct mp_tune_table *t, const struct mp_tune_sample *sample,
                       int width)
{
    if (isinf(sample->step)) {
        fprintf(t->out, "not possible");
    } else if (t->joins) {
        fprintf(t->out, "%*.3f ms and %.3f s", width, 1e3 * sample->step, sample->first_token);
    } else {
        fprintf(t->out, "%*.3f ms", width, 1e3 * sample->step);
    }
}

void mp_tune_table_pair(struct mp_tune_table *t, const char *what, const char *value,
                        const struct mp_tune_sample *sample, const struct mp_tune_sample *other,
                        int runs, bool better)
{
    fprintf(t->out, "%-22s %-30s ", what, value);
    print_side(t, sample, 9);
    fprintf(t->out, " against ");
    print_side(t, other, 0);
    fprintf(t->out, ", medians of %d runs each in turns: %s\n", runs,
            better ? "better, kept" : "not better");
    fflush(t->out);
}
