#include "pipeline/eval/compare.h"

#include "core/base/memory.h"
#include "core/json/json.h"
#include "core/json/json_print.h"
#include "pipeline/eval/predictions.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SHOWN = 40, TEXT_WIDTH = 60 };

struct file {
    struct mp_line *lines; /* [count] */
    size_t count;
};

double mp_sign_test(size_t fewer, size_t more)
{
    size_t n = fewer + more;
    size_t least = fewer < more ? fewer : more;
    double sum = 0.0;
    for (size_t k = 0; k <= least; k++) {
        sum += exp(lgamma((double)n + 1.0) - lgamma((double)k + 1.0) -
                   lgamma((double)(n - k) + 1.0) - (double)n * log(2.0));
    }
    return fmin(1.0, 2.0 * sum);
}

/* The setting without what is the same in a whole run: set-up and model. The caller's. */
static char *attention_of(const char *setting)
{
    cJSON *json = cJSON_Parse(setting);
    cJSON_DeleteItemFromObjectCaseSensitive(json, "sparse_from");
    cJSON_DeleteItemFromObjectCaseSensitive(json, "model");
    char *text = mp_json_key_text(json);
    cJSON_Delete(json);
    return text;
}

static void keep_attention(struct file *f)
{
    for (size_t i = 0; i < f->count; i++) {
        char *attention = attention_of(f->lines[i].setting);
        free(f->lines[i].setting);
        f->lines[i].setting = attention;
    }
}

static bool one_setting(const struct file *f)
{
    for (size_t i = 1; i < f->count; i++) {
        if (strcmp(f->lines[i].setting, f->lines[0].setting) != 0) {
            return false;
        }
    }
    return true;
}

/* The line of the other file that is about the same; NULL. Each counts once. */
static struct mp_line *find(struct file *f, const struct mp_line *line, bool by_setting)
{
    for (size_t i = 0; i < f->count; i++) {
        struct mp_line *other = &f->lines[i];
        if (!other->taken && other->fingerprint == line->fingerprint &&
            strcmp(other->id, line->id) == 0 &&
            (!by_setting || strcmp(other->setting, line->setting) == 0)) {
            other->taken = true;
            return other;
        }
    }
    return NULL;
}

/* The beginning of an answer, in one line, up to the end of a character. */
static void print_text(FILE *out, const char *name, const char *text)
{
    const size_t nul = strlen(MP_JSON_NUL);
    const char *c = text;
    fprintf(out, "      %s: ", name);
    while (*c != '\0' && (c - text < TEXT_WIDTH || (*c & 0xc0) == 0x80)) {
        bool is_nul = strncmp(c, MP_JSON_NUL, nul) == 0;
        fputc(is_nul || (unsigned char)*c < 0x20 ? ' ' : *c, out);
        c += is_nul ? nul : 1;
    }
    fputs(*c != '\0' ? "...\n" : "\n", out);
}

struct tally {
    size_t pairs, better[2];
    size_t lines[2]; /* of each file */
    double sum[2];   /* of scores */
};

static void compare_pair(const struct mp_line *a, const struct mp_line *b, struct tally *t,
                         FILE *out)
{
    double x = a->prediction.score;
    double y = b->prediction.score;
    t->pairs++;
    t->sum[0] += x;
    t->sum[1] += y;
    if (x == y) {
        return;
    }
    t->better[y > x]++;
    if (t->better[0] + t->better[1] <= MOST_SHOWN) {
        fprintf(out, "  %s %s: %.1f -> %.1f\n", a->task, a->id, 100.0 * x, 100.0 * y);
        print_text(out, "a", a->text);
        print_text(out, "b", b->text);
    }
}

static void print_tally(const struct tally *t, const char *const paths[2], FILE *out)
{
    size_t differ = t->better[0] + t->better[1];
    if (differ > MOST_SHOWN) {
        fprintf(out, "  and %zu more\n", differ - MOST_SHOWN);
    }
    fprintf(out, "a: %s, score %.1f\nb: %s, score %.1f\n", paths[0],
            100.0 * t->sum[0] / (double)t->pairs, paths[1], 100.0 * t->sum[1] / (double)t->pairs);
    fprintf(out, "%zu answer%s in both: a is better in %zu, b in %zu; sign test p = %.3g\n",
            t->pairs, t->pairs == 1 ? "" : "s", t->better[0], t->better[1],
            mp_sign_test(t->better[0], t->better[1]));
    for (int i = 0; i < 2; i++) {
        if (t->lines[i] > t->pairs) {
            size_t alone = t->lines[i] - t->pairs;
            fprintf(out, "%zu answer%s in %c alone\n", alone, alone == 1 ? "" : "s", 'a' + i);
        }
    }
}

int mp_eval_compare(const char *const paths[2], FILE *out, struct mp_error *err)
{
    struct file files[2] = {{0}};
    struct tally tally = {0};
    int code = 0;
    for (int i = 0; i < 2 && code == 0; i++) {
        code = mp_lines_read(paths[i], &files[i].lines, &files[i].count, NULL, err);
        keep_attention(&files[i]);
    }
    bool by_setting = code == 0 && !(one_setting(&files[0]) && one_setting(&files[1]));
    for (size_t i = 0; i < files[0].count && code == 0; i++) {
        const struct mp_line *line = &files[0].lines[i];
        const struct mp_line *other = find(&files[1], line, by_setting);
        if (other != NULL) {
            compare_pair(line, other, &tally, out);
        }
    }
    if (code == 0 && tally.pairs == 0) {
        code = mp_fail(err, MP_ERR_USAGE, "--compare: %s and %s have no prompt%s in common",
                       paths[0], paths[1], by_setting ? " with the same setting" : "");
    }
    tally.lines[0] = files[0].count;
    tally.lines[1] = files[1].count;
    if (code == 0) {
        print_tally(&tally, paths, out);
    }
    for (int i = 0; i < 2; i++) {
        mp_lines_free(files[i].lines, files[i].count);
    }
    return code;
}
