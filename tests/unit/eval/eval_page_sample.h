/* Results that never were, for tests of their page: every figure follows from its place by a
 * formula, and some are missing. */
#ifndef MP_TESTS_EVAL_PAGE_SAMPLE_H
#define MP_TESTS_EVAL_PAGE_SAMPLE_H

#include <cjson/cJSON.h>
#include <math.h>

enum { MOST_SETTINGS = 12, MOST_TASKS = 13, MOST_LENGTHS = 5, MEAN = -1 };

/* The first selects nothing: a line across the chart. */
static const char *const sample_settings[MOST_SETTINGS] = {
    "full",
    "magicpig, (K, L) = (10, 150)",
    "magicpig, (K, L) = (10, 300)",
    "magicpig, (K, L) = (9, 120)",
    "magicpig, (K, L) = (8, 75)",
    "quest, 1,024 tokens in pages of 16",
    "quest, 2,048 tokens in pages of 16",
    "quest, 2,048 tokens in pages of 64",
    "</script><!-- <script>no()",
    "été € 🐋 \"quoted\" \\ &amp;",
    "top-k, 2 %",
    "sink and window",
};

static const char *const sample_tasks[MOST_TASKS] = {"niah_single_1",
                                                     "niah_single_2",
                                                     "niah_single_3",
                                                     "niah_multikey_1",
                                                     "niah_multikey_2",
                                                     "niah_multikey_3",
                                                     "niah_multiquery",
                                                     "niah_multivalue",
                                                     "vt",
                                                     "cwe",
                                                     "fwe",
                                                     "qa_1",
                                                     "qa_2"};

static inline void put_header(cJSON *data, const char *kind, const char *sparse_from)
{
    cJSON_AddStringToObject(data, "kind", kind);
    cJSON_AddStringToObject(
        data, "command", "magicpig-pipe eval --note \"</script><!-- <script>no()\" <b>&amp;</b>");
    cJSON_AddStringToObject(data, "version", "0.1.0");
    cJSON_AddStringToObject(data, "model", "sample </script>, 32 layers, 32/8 heads of 128");
    cJSON_AddStringToObject(data, "sparse_from", sparse_from);
}

/* The number, or null for NAN. */
static inline void put_number(cJSON *object, const char *key, double value)
{
    cJSON_AddItemToObject(object, key,
                          isnan(value) ? cJSON_CreateNull() : cJSON_CreateNumber(value));
}

/* Rows that setting s reads of 8192 << length tokens; the last setting none at all. */
static inline double sample_rows(int s, int length)
{
    return s == 0 ? NAN : s == MOST_SETTINGS - 1 ? 0 : 40 * pow(1.5, s) * (1 + 0.25 * length);
}

/* From 98 downwards, the more so for settings that read little and for long prompts. */
static inline double sample_score(int s, int length, int task)
{
    double lost = s == 0 ? 0 : s == MOST_SETTINGS - 1 ? 45 : 30.0 / (s + 1);
    double hard = task == MEAN ? 6 : task;
    return fmax(0, 98 - lost * (1 + 0.2 * length) - hard * (1 + 0.25 * length));
}

/* `index` is the place of the length in the list of lengths. */
static inline void put_result(cJSON *results, int s, int index, int length, int task)
{
    double score = sample_score(s, length, task), rows = sample_rows(s, length);
    double half = task == MEAN ? 3 : 9;
    cJSON *result = cJSON_CreateObject();
    put_number(result, "setting", s);
    put_number(result, "length", index);
    put_number(result, "task", task);
    put_number(result, "prompts", task == MEAN ? 260 : 20);
    put_number(result, "score", score);
    put_number(result, "low", s == 6 ? NAN : fmax(0, score - half));
    put_number(result, "high", s == 6 ? NAN : fmin(100, score + half));
    put_number(result, "rows", rows);
    put_number(result, "sampled", rows / (8192 << length));
    put_number(result, "bytes", s == 3 ? NAN : s == 0 ? 4e9 : 1e6 * (s + 0.25));
    put_number(result, "ms", s == 4 ? NAN : 3.25 + s);
    cJSON_AddItemToArray(results, result);
}

/* Of the settings, tasks and lengths (8192 and up, the longest first) so many; setting 5 was not
 * measured on the longest. */
static inline cJSON *sample_scores(int settings, int tasks, int lengths)
{
    cJSON *data = cJSON_CreateObject();
    put_header(data, "scores", "answer");
    cJSON *names = cJSON_AddArrayToObject(data, "settings");
    for (int s = 0; s < settings; s++) {
        cJSON *setting = cJSON_CreateObject();
        cJSON_AddStringToObject(setting, "name", sample_settings[s]);
        cJSON_AddItemToArray(names, setting);
    }
    cJSON_AddItemToObject(data, "tasks", cJSON_CreateStringArray(sample_tasks, tasks));
    cJSON *tokens = cJSON_AddArrayToObject(data, "lengths");
    cJSON *results = cJSON_AddArrayToObject(data, "results");
    for (int i = 0; i < lengths; i++) {
        int length = lengths - 1 - i;
        cJSON_AddItemToArray(tokens, cJSON_CreateNumber(8192 << length));
        for (int s = 0; s < settings; s++) {
            for (int task = MEAN; task < tasks && !(s == 5 && i == 0); task++) {
                put_result(results, s, i, length, task);
            }
        }
    }
    return data;
}

/* Setting s is off by 1 / (15 s + 15), more so in deep layers and odd heads; every twelfth layer is
 * dense. */
static inline double sample_error(int s, int layer, int head)
{
    return layer % 12 == 0 ? NAN : (1 + 0.1 * layer + 0.5 * (head % 2)) / (15 * (s + 1));
}

static inline void put_errors(cJSON *setting, int s, int layers, int heads)
{
    cJSON *means = cJSON_AddArrayToObject(setting, "layer_error");
    cJSON *rows = cJSON_AddArrayToObject(setting, "head_error");
    for (int layer = 0; layer < layers; layer++) {
        double mean = (sample_error(s, layer, 0) + sample_error(s, layer, 1)) / 2;
        cJSON_AddItemToArray(means, isnan(mean) ? cJSON_CreateNull() : cJSON_CreateNumber(mean));
        cJSON *row = cJSON_CreateArray();
        for (int head = 0; head < heads; head++) {
            double error = sample_error(s, layer, head);
            cJSON_AddItemToArray(row,
                                 isnan(error) ? cJSON_CreateNull() : cJSON_CreateNumber(error));
        }
        cJSON_AddItemToArray(rows, row);
    }
}

/* Setting 0 has no error and no layers, as exact attention; 1 is better off with two dense layers,
 * 2 with one, the others with none. */
static inline cJSON *sample_attention(int settings, int layers, int heads)
{
    cJSON *data = cJSON_CreateObject();
    put_header(data, "attention", "question");
    put_number(data, "prompts", 5);
    put_number(data, "tokens", 160);
    put_number(data, "layers", layers);
    put_number(data, "heads", heads);
    cJSON *list = cJSON_AddArrayToObject(data, "settings");
    for (int s = 0; s < settings; s++) {
        cJSON *setting = cJSON_CreateObject();
        cJSON_AddStringToObject(setting, "name", sample_settings[s]);
        put_number(setting, "error", s == 0 ? NAN : 0.186 / (s + 1));
        put_number(setting, "rows", sample_rows(s, 0));
        put_number(setting, "sampled", sample_rows(s, 0) / 8192);
        put_number(setting, "bytes", s == 3 ? NAN : 1.2e6 * (s + 1));
        if (s == 0) {
            cJSON_AddNullToObject(setting, "layer_error");
            cJSON_AddNullToObject(setting, "head_error");
        } else {
            put_errors(setting, s, layers, heads);
        }
        const int keep[] = {1, layers - 3};
        cJSON_AddItemToObject(setting, "keep_dense",
                              cJSON_CreateIntArray(keep, s == 1   ? 2
                                                         : s == 2 ? 1
                                                                  : 0));
        put_number(setting, "error_if_dense", s == 1 ? 0.07 : s == 2 ? 0.0555 : NAN);
        cJSON_AddItemToArray(list, setting);
    }
    return data;
}

#endif
