#include "pipeline/engine/session/micro_batches.h"

#include <string.h>

/* A trial compares the shortest of its steps, which noise only makes longer; the first step after a
 * change is not counted. */
enum { TRIAL_STEPS = 5, SHORTEST_PAUSE = 64, LONGEST_PAUSE = 4096 };

/* A gain below this is noise. */
static const double GAIN = 0.01;

static int clamp(int x, int least, int most)
{
    return x < least ? least : x > most ? most : x;
}

static void begin_trial(struct mp_micro_batches *m, int count)
{
    m->count = count;
    m->steps = 0;
    m->least = 0.0;
}

int mp_most_micro_batches(const struct mp_config *config, bool searches)
{
    if (config->micro_batches > 0) {
        return config->micro_batches < config->batch ? config->micro_batches : config->batch;
    }
    return searches ? clamp(config->batch, 1, MP_MOST_MICRO_BATCHES) : 1;
}

void mp_micro_batches_init(struct mp_micro_batches *m, const struct mp_config *config,
                           bool searches)
{
    int most = mp_most_micro_batches(config, searches);
    bool search = config->micro_batches == 0 && most > 1;
    *m = (struct mp_micro_batches){
        .most = most,
        .best = search ? 1 : most,
        .settled = 1,
        .direction = search ? 1 : 0,
        .pause = search ? SHORTEST_PAUSE : 0, /* 0: never a trial */
    };
    begin_trial(m, m->best);
}

int mp_micro_batches_count(struct mp_micro_batches *m, int rows)
{
    if (rows != m->rows) {
        m->rows = rows;
        if (m->pause > 0) {
            m->best_seconds = 0.0;
            memset(m->tried, 0, sizeof m->tried);
            m->direction = 1;
            m->pause = SHORTEST_PAUSE;
            begin_trial(m, clamp(m->best, 1, rows));
        }
    }
    return clamp(m->count, 1, rows);
}

/* Stays with the best until it is time to look at its neighbours again. */
static void settle(struct mp_micro_batches *m)
{
    begin_trial(m, m->best);
    m->direction = 0;
    if (m->best != m->settled) {
        m->pause = SHORTEST_PAUSE;
    } else if (m->pause < LONGEST_PAUSE) {
        m->pause *= 2;
    }
    m->settled = m->best;
}

/* The next count in the direction of the search, which goes up first, then down. */
static void step_on(struct mp_micro_batches *m)
{
    int most = m->rows < m->most ? m->rows : m->most;
    if (m->direction > 0 && m->best + 1 > most) {
        m->direction = -1;
    }
    int next = m->best + m->direction;
    if (next < 1) {
        settle(m);
    } else {
        begin_trial(m, next);
    }
}

static void end_trial(struct mp_micro_batches *m)
{
    m->tried[m->count] = m->least;
    bool first = m->best_seconds == 0.0 || m->count == m->best;
    if (first || m->least < (1.0 - GAIN) * m->best_seconds) {
        m->best = m->count;
        m->best_seconds = m->least;
        step_on(m);
    } else if (m->direction > 0) {
        m->direction = -1;
        step_on(m);
    } else {
        settle(m);
    }
}

void mp_micro_batches_took(struct mp_micro_batches *m, double seconds)
{
    if (m->pause == 0) {
        return;
    }
    m->steps++;
    if (m->direction == 0) {
        if (m->steps >= m->pause) {
            /* Time goes by and requests grow: the best is measured anew before its neighbours. */
            m->direction = 1;
            begin_trial(m, m->best);
        }
        return;
    }
    if (m->steps > 1 && (m->least == 0.0 || seconds < m->least)) {
        m->least = seconds;
    }
    if (m->steps == TRIAL_STEPS) {
        end_trial(m);
    }
}
