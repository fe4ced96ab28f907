#include "pipeline/serve/metrics.h"

#include "core/base/clock.h"
#include "pipeline/serve/server.h"

#include <math.h>
#include <unistd.h>

/* Upper bounds of the buckets in seconds; the one after them has no bound. */
static const double BOUNDS[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1,
                                0.15,  0.25,   0.5,   0.75, 1.0,   2.5,  5.0,   10.0,
                                20.0,  40.0,   80.0,  160., 320.0, 640., 1280.0};
enum { NUM_BOUNDS = sizeof BOUNDS / sizeof BOUNDS[0] };
_Static_assert(NUM_BOUNDS + 1 <= MP_MOST_BUCKETS, "a bucket for each bound and one above");

void mp_histogram_add(struct mp_histogram *h, double seconds)
{
    int i = 0;
    while (i < NUM_BOUNDS && seconds > BOUNDS[i]) {
        i++;
    }
    h->counts[i]++;
    h->sum += seconds;
}

enum mp_outcome mp_job_outcome(const struct mp_job *job)
{
    switch (job->finish) {
    case MP_FINISH_EOS:
    case MP_FINISH_STOP:
        return MP_OUTCOME_STOP;
    case MP_FINISH_LENGTH:
        return MP_OUTCOME_LENGTH;
    case MP_FINISH_CANCELLED:
        return MP_OUTCOME_ABORT;
    default:
        return MP_OUTCOME_ERROR;
    }
}

const char *mp_outcome_name(enum mp_outcome outcome)
{
    static const char *const names[] = {[MP_OUTCOME_STOP] = "stop",
                                        [MP_OUTCOME_LENGTH] = "length",
                                        [MP_OUTCOME_ABORT] = "abort",
                                        [MP_OUTCOME_ERROR] = "error"};
    return names[outcome];
}

void mp_metrics_take(struct mp_metrics *m, const struct mp_job *job)
{
    double now = mp_clock_seconds();
    m->outcomes[mp_job_outcome(job)]++;
    if (job->first_token == 0.0) {
        return;
    }
    mp_histogram_add(&m->whole, now - job->arrived);
    mp_histogram_add(&m->queued, job->started - job->arrived);
    mp_histogram_add(&m->prefill, job->first_token - job->started);
    mp_histogram_add(&m->decode, job->last_token - job->first_token);
    if (!isnan(job->sampled_share)) {
        m->sampled_sum += job->sampled_share;
        m->sampled_count++;
    }
    if (!isnan(job->estimated_error)) {
        m->error_sum += job->estimated_error;
        m->error_count++;
    }
}

/* ---- Prometheus' text ---- */

struct printer {
    FILE *out;
    const char *model; /* label of vLLM's */
};

static void head(const struct printer *p, const char *name, const char *type, const char *help)
{
    fprintf(p->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void print_one(const struct printer *p, const char *name, const char *type, double value,
                      const char *help)
{
    head(p, name, type, help);
    fprintf(p->out, "%s{model_name=\"%s\"} %.15g\n", name, p->model, value);
}

static void print_histogram(const struct printer *p, const char *name, const struct mp_histogram *h,
                            const char *help)
{
    head(p, name, "histogram", help);
    int64_t total = 0;
    for (int i = 0; i <= NUM_BOUNDS; i++) {
        total += h->counts[i];
        fprintf(p->out, "%s_bucket{model_name=\"%s\",le=\"", name, p->model);
        if (i < NUM_BOUNDS) {
            fprintf(p->out, "%g", BOUNDS[i]);
        } else {
            fputs("+Inf", p->out);
        }
        fprintf(p->out, "\"} %lld\n", (long long)total);
    }
    fprintf(p->out, "%s_sum{model_name=\"%s\"} %.9g\n", name, p->model, h->sum);
    fprintf(p->out, "%s_count{model_name=\"%s\"} %lld\n", name, p->model, (long long)total);
}

/* Share of the tokens that there is room for which requests hold. */
static double cache_use(const struct mp_server *s)
{
    double held = 0.0;
    for (int i = 0; i < s->config->batch; i++) {
        const struct mp_job *job = s->running[i];
        held += job != NULL ? (double)(job->read_tokens + job->generated_tokens) : 0.0;
    }
    return held / ((double)s->max_model_len * s->config->batch);
}

/* The names of vLLM's, old and new, so that its dashboards work. */
static void print_as_vllm(const struct printer *p, const struct mp_server *s)
{
    const struct mp_metrics *m = &s->metrics;
    print_one(p, "vllm:num_requests_running", "gauge", s->num_running, "Requests that run.");
    print_one(p, "vllm:num_requests_waiting", "gauge", s->num_waiting, "Requests in the queue.");
    print_one(p, "vllm:kv_cache_usage_perc", "gauge", cache_use(s), "KV in use, 1 is all.");
    print_one(p, "vllm:gpu_cache_usage_perc", "gauge", cache_use(s), "KV in use, 1 is all.");
    print_one(p, "vllm:prefix_cache_queries_total", "counter", (double)m->prompt_tokens,
              "Prompt tokens that were looked for in the prefix cache.");
    print_one(p, "vllm:prefix_cache_hits_total", "counter", (double)m->cached_tokens,
              "Prompt tokens that were found there.");
    print_one(p, "vllm:prompt_tokens_total", "counter", (double)m->prompt_tokens,
              "Prompt tokens of requests.");
    print_one(p, "vllm:generation_tokens_total", "counter", (double)m->generated_tokens,
              "Tokens generated.");
    head(p, "vllm:request_success_total", "counter", "Requests by how they ended.");
    for (int i = 0; i < MP_OUTCOMES; i++) {
        fprintf(p->out,
                "vllm:request_success_total{model_name=\"%s\",finished_reason=\"%s\"} %lld\n",
                p->model, mp_outcome_name((enum mp_outcome)i), (long long)m->outcomes[i]);
    }
    print_histogram(p, "vllm:time_to_first_token_seconds", &m->first_token,
                    "From a request's arrival to its first token.");
    print_histogram(p, "vllm:inter_token_latency_seconds", &m->inter_token,
                    "Between a request's tokens.");
    print_histogram(p, "vllm:time_per_output_token_seconds", &m->inter_token,
                    "Between a request's tokens.");
    print_histogram(p, "vllm:e2e_request_latency_seconds", &m->whole,
                    "From a request's arrival to its end.");
    print_histogram(p, "vllm:request_queue_time_seconds", &m->queued, "In the queue.");
    print_histogram(p, "vllm:request_prefill_time_seconds", &m->prefill, "Reading the prompt.");
    print_histogram(p, "vllm:request_decode_time_seconds", &m->decode, "After the first token.");
}

int64_t mp_resident_bytes(void)
{
    long long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file != NULL) {
        if (fscanf(file, "%lld %lld", &total, &resident) != 2) {
            resident = 0;
        }
        fclose(file);
    }
    return resident * sysconf(_SC_PAGESIZE);
}

static void print_prompt_progress(const struct printer *p, const struct mp_server *s)
{
    int64_t read = 0, total = 0;
    for (int i = 0; i < s->config->batch; i++) {
        const struct mp_job *job = s->running[i];
        if (job != NULL && job->state == MP_JOB_READING) {
            read += job->read_tokens;
            total += job->prompt_tokens;
        }
    }
    print_one(p, "magicpig:prompt_tokens_being_read", "gauge", (double)total,
              "Tokens of the prompts that are being read.");
    print_one(p, "magicpig:prompt_tokens_read", "gauge", (double)read, "Of these, read so far.");
}

static double mean(double sum, int64_t count)
{
    return count > 0 ? sum / (double)count : NAN;
}

void mp_metrics_print(struct mp_server *s, FILE *out)
{
    const struct printer p = {out, s->model};
    pthread_mutex_lock(&s->lock);
    const struct mp_metrics *m = &s->metrics;
    print_as_vllm(&p, s);
    print_prompt_progress(&p, s);
    print_one(&p, "magicpig:slots", "gauge", s->config->batch, "Requests that can run at a time.");
    print_one(&p, "magicpig:steps_total", "counter", (double)m->steps, "Steps of the session.");
    print_one(&p, "magicpig:requests_refused_total", "counter", (double)m->refused,
              "Requests that found the queue full.");
    print_one(&p, "magicpig:sampled_share", "gauge", mean(m->sampled_sum, m->sampled_count),
              "Mean share of the offloaded tokens that requests attended to.");
    print_one(&p, "magicpig:attention_error", "gauge", mean(m->error_sum, m->error_count),
              "Mean error of the attention's output, as estimated.");
    print_one(&p, "magicpig:uptime_seconds", "gauge", mp_clock_seconds() - s->started,
              "Since the server was started.");
    pthread_mutex_unlock(&s->lock);
    head(&p, "process_resident_memory_bytes", "gauge", "Memory of the process.");
    fprintf(out, "process_resident_memory_bytes %lld\n", (long long)mp_resident_bytes());
}
