#include "pipeline/generate/summary.h"

#include "core/base/memory.h"
#include "pipeline/engine/recording.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

void mp_summary_add(struct mp_summary *s, const struct mp_request *r, double score)
{
    if (s->num_layers == 0) {
        s->num_layers = r->num_layers;
        s->sampled_sum = mp_xcalloc((size_t)r->num_layers, sizeof *s->sampled_sum);
        s->sampled_count = mp_xcalloc((size_t)r->num_layers, sizeof *s->sampled_count);
        s->error_sum = mp_xcalloc((size_t)r->num_layers, sizeof *s->error_sum);
        s->error_count = mp_xcalloc((size_t)r->num_layers, sizeof *s->error_count);
    }
    s->requests++;
    s->prompt_tokens += r->prompt_tokens;
    s->cached_tokens += r->cached_tokens;
    s->generated_tokens += r->generated_tokens;
    s->prefill_seconds += r->prefill_seconds;
    s->first_token_seconds = fmax(s->first_token_seconds, r->prefill_seconds);
    if (!isnan(score)) {
        s->checked++;
        s->score_sum += score;
    }
    for (int l = 0; l < r->num_layers; l++) {
        if (!isnan(r->sampled[l])) {
            s->sampled_sum[l] += r->sampled[l];
            s->sampled_count[l]++;
        }
        if (!isnan(r->error[l])) {
            s->error_sum[l] += r->error[l];
            s->error_count[l]++;
        }
    }
}

void mp_summary_add_step(struct mp_summary *s, int rows, uint64_t begin_ns, uint64_t end_ns)
{
    s->decoded_tokens += rows;
    size_t n = s->num_steps++;
    s->step_seconds = mp_xrealloc(s->step_seconds, s->num_steps, sizeof *s->step_seconds);
    s->step_begin_ns = mp_xrealloc(s->step_begin_ns, s->num_steps, sizeof *s->step_begin_ns);
    s->step_seconds[n] = (double)(end_ns - begin_ns) * 1e-9;
    s->step_begin_ns[n] = begin_ns;
    if (mp_recording_is_on()) {
        mp_recording_take(&s->profile, begin_ns, end_ns);
    }
}

double mp_summary_sampled(const struct mp_summary *s, int layer)
{
    return s->sampled_count[layer] > 0 ? s->sampled_sum[layer] / (double)s->sampled_count[layer]
                                       : NAN;
}

double mp_summary_error(const struct mp_summary *s, int layer)
{
    return s->error_count[layer] > 0 ? s->error_sum[layer] / (double)s->error_count[layer] : NAN;
}

void mp_summary_free(struct mp_summary *s)
{
    free(s->step_seconds);
    free(s->step_begin_ns);
    mp_profile_free(&s->profile);
    free(s->sampled_sum);
    free(s->sampled_count);
    free(s->error_sum);
    free(s->error_count);
    *s = (struct mp_summary){0};
}

/* A share that layers have, in percent: the mean, then layer by layer. Those that have none attend
 * to all. Returns whether any has one. */
static bool print_shares(const struct mp_summary *s, const char *name, const char *of,
                         double (*share)(const struct mp_summary *, int))
{
    double sum = 0.0;
    int count = 0;
    for (int l = 0; l < s->num_layers; l++) {
        if (!isnan(share(s, l))) {
            sum += share(s, l);
            count++;
        }
    }
    if (count == 0) {
        return false;
    }
    fprintf(stderr, "  %-13s %.2f %% %s in the mean; per layer:", name, 100.0 * sum / count, of);
    for (int l = 0; l < s->num_layers; l++) {
        if (isnan(share(s, l))) {
            fprintf(stderr, " all");
        } else {
            fprintf(stderr, " %.2f", 100.0 * share(s, l));
        }
    }
    fputc('\n', stderr);
    return true;
}

static void print_sampled(const struct mp_summary *s)
{
    if (!print_shares(s, "sampled", "of the offloaded tokens", mp_summary_sampled)) {
        fprintf(stderr, "  sampled       nothing: every layer attended to all tokens\n");
    }
    print_shares(s, "error", "of the attention's output, estimated,", mp_summary_error);
}

static double decode_seconds(const struct mp_summary *s)
{
    double sum = 0.0;
    for (size_t i = 0; i < s->num_steps; i++) {
        sum += s->step_seconds[i];
    }
    return sum;
}

/* Who worked in a typical one of the decode steps that were recorded. */
static void print_devices(const struct mp_summary *s)
{
    struct mp_overlap o = mp_profile_typical(&s->profile);
    double cpu = o.busy[MP_TRACK_CPU];
    double gpu = o.busy[MP_TRACK_GPU];
    if (s->profile.num_intervals == 0) {
        return;
    }
    fprintf(stderr, "  devices       CPU busy %.0f %%", 100.0 * cpu / o.seconds);
    if (gpu > 0.0) {
        fprintf(stderr, ", GPU busy %.0f %%, both %.0f %%", 100.0 * gpu / o.seconds,
                100.0 * o.both / o.seconds);
    }
    fprintf(stderr, "; hand-over %.0f us a layer; step time over the busier one %.2f\n",
            1e6 * o.idle / s->num_layers, o.seconds / fmax(cpu, gpu));
}

void mp_summary_print(const struct mp_summary *s, const char *kernels, const struct mp_plan *plan)
{
    if (s->requests == 0) {
        return;
    }
    int64_t read = s->prompt_tokens - s->cached_tokens;
    fprintf(stderr, "  prompts       %lld request%s, %lld tokens", (long long)s->requests,
            s->requests == 1 ? "" : "s", (long long)s->prompt_tokens);
    if (s->cached_tokens > 0) {
        fprintf(stderr, ", of which %lld read, the others shared", (long long)read);
    }
    fprintf(stderr, " in %.2f s: %.0f tokens/s\n", s->prefill_seconds,
            (double)read / s->prefill_seconds);
    fprintf(stderr, "  first token   %.2f s%s\n", s->first_token_seconds,
            s->requests == 1 ? "" : " (slowest request)");
    fprintf(stderr, "  generated     %lld tokens", (long long)s->generated_tokens);
    if (s->num_steps > 0) {
        double seconds = decode_seconds(s);
        fprintf(stderr, "; decode %.2f ms a step, %.1f tokens/s",
                1e3 * seconds / (double)s->num_steps, (double)s->decoded_tokens / seconds);
    }
    fputc('\n', stderr);
    print_devices(s);
    if (s->waited > 0.05) {
        fprintf(stderr,
                "  cores         shared: a thread waited for one for up to %.0f %% of the time\n",
                100.0 * s->waited);
    }
    print_sampled(s);

    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    fprintf(stderr, "  memory        peak %.0f MiB, planned %.0f MiB\n",
            (double)usage.ru_maxrss / 1024.0, (double)plan->total[MP_PLAN_CPU] / (1024.0 * 1024.0));
    fprintf(stderr, "  kernels       %s\n", kernels);
    if (s->checked > 0) {
        fprintf(stderr, "  answers       %.1f of %lld contain what their records expect\n",
                s->score_sum, (long long)s->checked);
    }
}
