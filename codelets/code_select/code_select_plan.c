#include "codelets/code_select/code_select_plan.h"

#include "codelets/common/scratch.h"

/* Bytes of logits that a thread keeps in its caches. */
enum { BYTES_PER_THREAD = 1 << 20 };

static bool is_unit(const struct code_select_args *a, int64_t r)
{
    return code_select_tokens(a, r) > a->samples[r];
}

static int64_t logits_bytes(const struct code_unit *u, int group)
{
    return group * u->stride * (int64_t)sizeof(float);
}

/* The unit, but for where its scratch is. */
static struct code_unit unit_of(const struct code_select_args *a, int64_t r, int h)
{
    const struct key_codes *codes = a->codes[r];
    return (struct code_unit){
        .codes = codes,
        .row = r,
        .kv_head = h,
        .samples = a->samples[r],
        .chunks = code_select_chunks(codes->count),
        .stride = codes_blocks(codes->count) * CODES_BLOCK,
    };
}

/* Place `slot` of the row's scratch; units of one row in one wave have different ones. */
static void place(const struct code_select_args *a, struct code_unit *u, int group, int slot)
{
    int64_t tokens = u->codes->count;
    float *at = a->scratch[u->row];
    u->logits = at + slot * code_select_floats(group, tokens, u->samples);
    u->sums = (uint64_t *)(void *)(u->logits + group * u->stride);
    u->large = (float *)(void *)(u->sums + u->chunks);
}

/* Units from the first on that make a wave; gives them their scratch. Returns the end. */
static int fill_wave(const struct code_select_args *a, struct code_unit *units, int first, int end,
                     int group, int64_t most_bytes)
{
    int64_t bytes = 0;
    int slot = 0;
    int i = first;
    for (; i < end; i++) {
        int64_t more = logits_bytes(&units[i], group);
        if (i > first && bytes + more > most_bytes) {
            break;
        }
        bytes += more;
        slot = i > first && units[i].row == units[i - 1].row ? slot + 1 : 0;
        place(a, &units[i], group, slot);
    }
    return i;
}

/* Cuts the wave's chunks in one run for each thread, and runs where units end. Returns the end of
 * the parts. */
static int deal(struct code_plan *plan, struct code_wave *w, int threads, int part)
{
    int64_t chunks = 0;
    for (int i = w->first_unit; i < w->end_unit; i++) {
        chunks += plan->units[i].chunks;
    }
    int unit = w->first_unit;
    int64_t before = 0; /* chunks of the units before it */
    plan->units[unit].first_part = part;
    for (int t = 0; t < threads; t++) {
        int64_t at = chunks * t / threads;
        int64_t end = chunks * (t + 1) / threads;
        w->first_part[t] = part;
        while (at < end) {
            struct code_unit *u = &plan->units[unit];
            int64_t stop = end < before + u->chunks ? end : before + u->chunks;
            plan->parts[part].unit = unit;
            plan->parts[part].first = at - before;
            plan->parts[part].end = stop - before;
            part++;
            u->num_parts++;
            at = stop;
            if (stop == before + u->chunks) {
                before = stop;
                unit++;
                if (unit < w->end_unit) {
                    plan->units[unit].first_part = part;
                }
            }
        }
    }
    w->first_part[threads] = part;
    return part;
}

/* Sums of the parts, each in cache lines of its own. */
static void place_sums(struct code_part *parts, size_t n, int group)
{
    size_t line = ((size_t)group + 15) / 16 * 16;
    float *max = mp_scratch(n * line, sizeof *max);
    uint64_t *z = mp_scratch(n * line, sizeof *z);
    for (size_t i = 0; i < n; i++) {
        parts[i].max = max + i * line;
        parts[i].z = z + i * line;
    }
}

struct code_plan code_plan_make(const struct code_select_args *a, int threads)
{
    struct code_plan plan = {.group = a->num_heads / a->num_kv_heads};
    size_t most = (size_t)(a->rows * a->num_kv_heads);
    mp_scratch_reset();
    plan.units = mp_scratch(most, sizeof *plan.units);
    plan.waves = mp_scratch(most, sizeof *plan.waves);
    int units = 0;
    for (int64_t r = 0; r < a->rows; r++) {
        for (int h = 0; is_unit(a, r) && h < a->num_kv_heads; h++) {
            plan.units[units++] = unit_of(a, r, h);
        }
    }
    for (int i = 0; i < units;) {
        struct code_wave *w = &plan.waves[plan.num_waves++];
        w->first_unit = i;
        i = fill_wave(a, plan.units, i, units, plan.group, (int64_t)threads * BYTES_PER_THREAD);
        w->end_unit = i;
    }
    size_t waves = (size_t)plan.num_waves;
    size_t parts = waves * (size_t)threads + (size_t)units;
    int *first_parts = mp_scratch(waves * (size_t)(threads + 1), sizeof *first_parts);
    plan.parts = mp_scratch(parts, sizeof *plan.parts);
    place_sums(plan.parts, parts, plan.group);
    int part = 0;
    for (size_t w = 0; w < waves; w++) {
        plan.waves[w].first_part = first_parts + w * (size_t)(threads + 1);
        part = deal(&plan, &plan.waves[w], threads, part);
    }
    return plan;
}
