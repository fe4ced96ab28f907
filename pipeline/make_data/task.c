#include "pipeline/make_data/task.h"

#include "core/base/memory.h"
#include "core/config/config.h"

#include <stdlib.h>
#include <string.h>

const char mp_noise_line[] =
    "The bread is warm. The lamp is lit. The door is open. We sat down. The rain kept on.";

#define HIDES(text, key, value, k, v, q)                                                           \
    .write = mp_write_needles, .new_tokens = 128, .least = 1,                                      \
    .hides = {MP_HAYSTACK_##text, MP_NEEDLE_##key, MP_NEEDLE_##value, (k), (v), (q)}

const struct mp_task mp_tasks[MP_NUM_TASKS] = {
    {"niah_single_1", "lines", HIDES(NOISE, WORDS, NUMBERS, 1, 1, 1)},
    {"niah_single_2", "words", HIDES(ESSAY, WORDS, NUMBERS, 1, 1, 1)},
    {"niah_single_3", "words", HIDES(ESSAY, WORDS, UUIDS, 1, 1, 1)},
    {"niah_multikey_1", "words", HIDES(ESSAY, WORDS, NUMBERS, 4, 1, 1)},
    {"niah_multikey_2", "needles", HIDES(NEEDLES, WORDS, NUMBERS, 1, 1, 1)},
    {"niah_multikey_3", "needles", HIDES(NEEDLES, UUIDS, UUIDS, 1, 1, 1)},
    {"niah_multivalue", "words", HIDES(ESSAY, WORDS, NUMBERS, 1, 4, 1)},
    {"niah_multiquery", "words", HIDES(ESSAY, WORDS, NUMBERS, 4, 1, 4)},
    {"vt", "lines", .write = mp_write_chain, .new_tokens = 30, .least = 1},
    {"cwe", "words", "--words", .write = mp_write_common_words, .most = mp_most_common_words,
     .new_tokens = 120, .least = 1},
    /* With fewer words the coded ones of ranks 4 and 5 may come equally often. */
    {"fwe", "words", .write = mp_write_coded_words, .new_tokens = 50, .least = 100},
    {"qa_1", "documents", "--squad", .write = mp_write_documents, .most = mp_most_documents,
     .new_tokens = 32, .least = 0},
    {"qa_2", "documents", "--hotpot", .write = mp_write_documents, .most = mp_most_documents,
     .new_tokens = 32, .least = 0},
};

void mp_sample_free(struct mp_sample *s)
{
    free(s->text);
    free(s->answer_prefix);
    mp_words_free(&s->outputs);
    *s = (struct mp_sample){0};
}

const struct mp_corpus *mp_task_corpus(const struct mp_task *t, const struct mp_sources *s)
{
    return t->source != NULL && strcmp(t->source, "--squad") == 0 ? &s->squad : &s->hotpot;
}

static int unknown_task(const char *name, struct mp_error *err)
{
    char *all = mp_xstrdup("all");
    const char *nearest = NULL;
    size_t distance = mp_farthest_meant(name);
    for (int i = 0; i < MP_NUM_TASKS; i++) {
        char *longer = mp_xasprintf("%s, %s", all, mp_tasks[i].name);
        free(all);
        all = longer;
        size_t d = mp_edit_distance(name, mp_tasks[i].name);
        if (d < distance) {
            distance = d;
            nearest = mp_tasks[i].name;
        }
    }
    int code = mp_fail(err, MP_ERR_USAGE, "--task: found \"%s\"%s%s%s, expected one of %s", name,
                       nearest != NULL ? " (nearest: " : "", nearest != NULL ? nearest : "",
                       nearest != NULL ? ")" : "", all);
    free(all);
    return code;
}

int mp_tasks_parse(const char *names, bool chosen[MP_NUM_TASKS], struct mp_error *err)
{
    bool all = strcmp(names, "all") == 0;
    for (int i = 0; i < MP_NUM_TASKS; i++) {
        chosen[i] = all;
    }
    int code = 0;
    for (const char *at = names; !all && code == 0;) {
        size_t length = strcspn(at, ",");
        char *name = mp_xstrndup(at, length);
        int i = 0;
        while (i < MP_NUM_TASKS && strcmp(mp_tasks[i].name, name) != 0) {
            i++;
        }
        if (i == MP_NUM_TASKS) {
            code = unknown_task(name, err);
        } else if (chosen[i]) {
            code = mp_fail(err, MP_ERR_USAGE, "--task: found %s twice", name);
        } else {
            chosen[i] = true;
        }
        free(name);
        if (at[length] == '\0') {
            break;
        }
        at += length + 1;
    }
    return code;
}
