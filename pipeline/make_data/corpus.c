/* Documents with questions, from the files of two data sets. */
#include "core/base/memory.h"
#include "core/json/json.h"
#include "pipeline/make_data/draw.h"
#include "pipeline/make_data/sources.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CORPUS_BYTES = 1 << 30 };

/* Of the random numbers that order the questions. */
#define QUESTION_STREAM UINT64_MAX

/* ---- a corpus that grows ---- */

static int32_t place_document(struct mp_corpus *c, const char *text, int32_t article)
{
    size_t count = c->documents.count;
    size_t index = mp_words_place(&c->documents, text);
    if (index == count) {
        /* Grown by doubling: the capacity is the power of two at or above count. */
        if ((count & (count - 1)) == 0) {
            c->articles = mp_xrealloc(c->articles, count == 0 ? 1 : 2 * count, sizeof *c->articles);
        }
        c->articles[index] = article;
    }
    return (int32_t)index;
}

/* An answer that every text contains. */
static bool is_blank(const char *answer)
{
    return answer[strspn(answer, " \t\r\n\v\f")] == '\0';
}

static struct mp_question *add_question(struct mp_corpus *c, const char *text, int32_t article)
{
    size_t count = c->num_questions;
    if ((count & (count - 1)) == 0) {
        c->questions = mp_xrealloc(c->questions, count == 0 ? 1 : 2 * count, sizeof *c->questions);
    }
    struct mp_question *q = &c->questions[c->num_questions++];
    *q = (struct mp_question){.text = mp_xstrdup(text), .article = article};
    return q;
}

static void ask_about(struct mp_question *q, int32_t document)
{
    for (size_t i = 0; i < q->num_documents; i++) {
        if (q->documents[i] == document) {
            return;
        }
    }
    q->documents = mp_xrealloc(q->documents, q->num_documents + 1, sizeof *q->documents);
    q->documents[q->num_documents++] = document;
}

void mp_corpus_free(struct mp_corpus *c)
{
    for (size_t i = 0; i < c->num_questions; i++) {
        free(c->questions[i].text);
        mp_words_free(&c->questions[i].answers);
        free(c->questions[i].documents);
    }
    free(c->questions);
    free(c->articles);
    mp_words_free(&c->documents);
    *c = (struct mp_corpus){0};
}

/* Reads a file with one of the functions below, and puts the questions into their order. */
static int load(const char *path, uint64_t seed,
                int (*read)(const struct mp_json *, struct mp_corpus *, struct mp_error *),
                struct mp_corpus *out, struct mp_error *err)
{
    *out = (struct mp_corpus){0};
    struct mp_json *doc = NULL;
    int code = mp_json_read_file(path, MAX_CORPUS_BYTES, &doc, err);
    if (code == 0) {
        code = read(doc, out, err);
        mp_json_free(doc);
    }
    if (code == 0 && out->num_questions == 0) {
        code = mp_fail(err, MP_ERR_FORMAT, "%s: found no question with an answer", path);
    }
    if (code != 0) {
        mp_corpus_free(out);
        return code;
    }
    struct mp_rng rng;
    mp_rng_init(&rng, seed, QUESTION_STREAM);
    for (size_t i = out->num_questions - 1; i > 0; i--) {
        size_t j = (size_t)mp_draw_below(&rng, (int64_t)i + 1);
        struct mp_question other = out->questions[j];
        out->questions[j] = out->questions[i];
        out->questions[i] = other;
    }
    return 0;
}

/* ---- SQuAD ---- */

static int read_squad_question(const struct mp_json *doc, const struct cJSON *qa, int32_t document,
                               int32_t article, struct mp_corpus *out, struct mp_error *err)
{
    const char *text, *answer;
    const struct cJSON *list;
    struct mp_words answers = {0};
    int code = mp_json_get_string(doc, qa, "question", &text, err);
    if (code == 0) {
        code = mp_json_get_array(doc, qa, "answers", &list, err);
    }
    for (const struct cJSON *a = code == 0 ? mp_json_first(list) : NULL; a != NULL && code == 0;
         a = mp_json_after(a)) {
        code = mp_json_get_string(doc, a, "text", &answer, err);
        if (code == 0 && !is_blank(answer)) {
            mp_words_add_new(&answers, answer);
        }
    }
    /* Questions without an answer test something else. */
    if (code != 0 || answers.count == 0) {
        mp_words_free(&answers);
        return code;
    }
    struct mp_question *q = add_question(out, text, article);
    q->answers = answers;
    ask_about(q, document);
    return 0;
}

static int read_squad_paragraph(const struct mp_json *doc, const struct cJSON *paragraph,
                                int32_t article, struct mp_corpus *out, struct mp_error *err)
{
    const char *context;
    const struct cJSON *qas;
    int code = mp_json_get_string(doc, paragraph, "context", &context, err);
    if (code == 0) {
        code = mp_json_get_array(doc, paragraph, "qas", &qas, err);
    }
    if (code != 0) {
        return code;
    }
    int32_t document = place_document(out, context, article);
    for (const struct cJSON *qa = mp_json_first(qas); qa != NULL && code == 0;
         qa = mp_json_after(qa)) {
        code = read_squad_question(doc, qa, document, article, out, err);
    }
    return code;
}

static int read_squad(const struct mp_json *doc, struct mp_corpus *out, struct mp_error *err)
{
    const struct cJSON *data;
    int code = mp_json_expect(doc, mp_json_root(doc), MP_JSON_OBJECT, err);
    if (code == 0) {
        code = mp_json_get_array(doc, mp_json_root(doc), "data", &data, err);
    }
    int32_t article = 0;
    for (const struct cJSON *a = code == 0 ? mp_json_first(data) : NULL; a != NULL && code == 0;
         a = mp_json_after(a), article++) {
        const struct cJSON *paragraphs;
        code = mp_json_get_array(doc, a, "paragraphs", &paragraphs, err);
        for (const struct cJSON *p = code == 0 ? mp_json_first(paragraphs) : NULL;
             p != NULL && code == 0; p = mp_json_after(p)) {
            code = read_squad_paragraph(doc, p, article, out, err);
        }
    }
    return code;
}

int mp_corpus_load_squad(const char *path, uint64_t seed, struct mp_corpus *out,
                         struct mp_error *err)
{
    return load(path, seed, read_squad, out, err);
}

/* ---- HotpotQA ---- */

/* ["title", ["sentence", ...]] as one text: the title on a line of its own; malloc'ed. */
static int join_paragraph(const struct mp_json *doc, const struct cJSON *pair, char **out,
                          struct mp_error *err)
{
    int code = mp_json_expect(doc, pair, MP_JSON_ARRAY, err);
    if (code == 0 && mp_json_count(pair) != 2) {
        code = mp_json_fail(doc, pair, err, "expected a title and an array of sentences");
    }
    const struct cJSON *title = code == 0 ? mp_json_first(pair) : NULL;
    const char *text;
    if (code == 0) {
        code = mp_json_as_string(doc, title, &text, err);
    }
    if (code == 0) {
        code = mp_json_expect(doc, mp_json_after(title), MP_JSON_ARRAY, err);
    }
    if (code != 0) {
        return code;
    }
    size_t length;
    FILE *joined = mp_xstream_open(out, &length);
    fprintf(joined, "%s\n", text);
    for (const struct cJSON *s = mp_json_first(mp_json_after(title)); s != NULL && code == 0;
         s = mp_json_after(s)) {
        code = mp_json_as_string(doc, s, &text, err);
        if (code == 0) {
            fputs(text, joined);
        }
    }
    mp_xstream_close(joined);
    if (code != 0) {
        free(*out);
    }
    return code;
}

static int read_hotpot_question(const struct mp_json *doc, const struct cJSON *item,
                                struct mp_corpus *out, struct mp_error *err)
{
    const char *text, *answer;
    const struct cJSON *context;
    int code = mp_json_get_string(doc, item, "question", &text, err);
    if (code == 0) {
        code = mp_json_get_string(doc, item, "answer", &answer, err);
    }
    if (code == 0) {
        code = mp_json_get_array(doc, item, "context", &context, err);
    }
    if (code != 0) {
        return code;
    }
    struct mp_question *q = NULL;
    if (!is_blank(answer)) {
        q = add_question(out, text, -1);
        mp_words_add_new(&q->answers, answer);
    }
    for (const struct cJSON *pair = mp_json_first(context); pair != NULL && code == 0;
         pair = mp_json_after(pair)) {
        char *document;
        code = join_paragraph(doc, pair, &document, err);
        if (code == 0) {
            int32_t index = place_document(out, document, -1);
            if (q != NULL) {
                ask_about(q, index);
            }
            free(document);
        }
    }
    return code;
}

static int read_hotpot(const struct mp_json *doc, struct mp_corpus *out, struct mp_error *err)
{
    int code = mp_json_expect(doc, mp_json_root(doc), MP_JSON_ARRAY, err);
    for (const struct cJSON *item = code == 0 ? mp_json_first(mp_json_root(doc)) : NULL;
         item != NULL && code == 0; item = mp_json_after(item)) {
        code = read_hotpot_question(doc, item, out, err);
    }
    return code;
}

int mp_corpus_load_hotpot(const char *path, uint64_t seed, struct mp_corpus *out,
                          struct mp_error *err)
{
    return load(path, seed, read_hotpot, out, err);
}
