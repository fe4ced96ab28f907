#include "pipeline/cli/progress.h"

#include "core/base/log.h"

#include "core/base/clock.h"
#include "core/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BAR_WIDTH = 24 };

static const double REDRAW_SECONDS = 0.1;

struct mp_progress {
    char *label;
    char *unit;
    int64_t total;  /* units; 0 counts as finished */
    double started; /* mp_clock_seconds */
    double drawn;   /* the same, of the last redraw */
};

struct mp_progress *mp_progress_start(const char *label, const char *unit, int64_t total)
{
    if (!isatty(STDERR_FILENO) || !mp_log_enabled(MP_LOG_INFO)) {
        return NULL;
    }
    struct mp_progress *p = mp_xcalloc(1, sizeof *p);
    p->label = mp_xstrdup(label);
    p->unit = mp_xstrdup(unit);
    p->total = total;
    p->started = mp_clock_seconds();
    p->drawn = p->started;
    return p;
}

/* "842", "12.3K", "4.0M" */
static void format_rate(char *out, size_t size, double rate)
{
    if (rate < 1e3) {
        snprintf(out, size, "%.0f", rate);
    } else if (rate < 1e6) {
        snprintf(out, size, "%.1fK", rate / 1e3);
    } else {
        snprintf(out, size, "%.1fM", rate / 1e6);
    }
}

static void draw(const struct mp_progress *p, int64_t done, double elapsed)
{
    double part = p->total > 0 ? (double)done / (double)p->total : 1.0;
    part = part < 0.0 ? 0.0 : part > 1.0 ? 1.0 : part;

    char bar[BAR_WIDTH + 1];
    int filled = (int)(part * BAR_WIDTH);
    memset(bar, '#', (size_t)filled);
    memset(bar + filled, ' ', (size_t)(BAR_WIDTH - filled));
    bar[BAR_WIDTH] = '\0';

    char rate[32];
    format_rate(rate, sizeof rate, (double)done / elapsed);
    fprintf(stderr, "\r\033[K%s [%s] %.0f%% %s %s/s", p->label, bar, 100.0 * part, rate, p->unit);
    if (part > 0.0) {
        fprintf(stderr, ", %.0f s left", elapsed * (1.0 - part) / part);
    }
    fflush(stderr);
}

void mp_progress_set(struct mp_progress *p, int64_t done)
{
    if (p == NULL) {
        return;
    }
    double now = mp_clock_seconds();
    if (now - p->drawn >= REDRAW_SECONDS) {
        p->drawn = now;
        draw(p, done, now - p->started);
    }
}

void mp_progress_end(struct mp_progress *p)
{
    if (p == NULL) {
        return;
    }
    fputs("\r\033[K", stderr);
    free(p->label);
    free(p->unit);
    free(p);
}
