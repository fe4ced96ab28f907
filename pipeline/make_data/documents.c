/* qa_*: a question about documents, among others. */
#include "core/base/memory.h"
#include "pipeline/make_data/draw.h"
#include "pipeline/make_data/task.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t mp_most_documents(const struct mp_task *t, const struct mp_sources *s)
{
    const struct mp_corpus *corpus = mp_task_corpus(t, s);
    size_t needed = 0;
    for (size_t i = 0; i < corpus->num_questions; i++) {
        size_t count = corpus->questions[i].num_documents;
        needed = count > needed ? count : needed;
    }
    return (int64_t)(corpus->documents.count - needed);
}

/* all[0 .. count) gets the question's documents and then the others, in a drawn order in which
 * those of the same article come first. */
static void order_documents(struct mp_rng *rng, const struct mp_corpus *corpus,
                            const struct mp_question *q, int32_t *all)
{
    size_t count = corpus->documents.count;
    int32_t *drawn = mp_xcalloc(count, sizeof *drawn);
    bool *taken = mp_xcalloc(count, sizeof *taken);
    mp_draw_order(rng, drawn, (int64_t)count);
    size_t used = 0;
    for (size_t i = 0; i < q->num_documents; i++) {
        all[used++] = q->documents[i];
        taken[q->documents[i]] = true;
    }
    for (int others = 0; others < 2; others++) {
        for (size_t i = 0; i < count; i++) {
            int32_t document = drawn[i];
            bool is_near = q->article >= 0 && corpus->articles[document] == q->article;
            if (!taken[document] && (is_near || others == 1)) {
                all[used++] = document;
                taken[document] = true;
            }
        }
    }
    free(drawn);
    free(taken);
}

static void write_documents(FILE *out, struct mp_rng *rng, const struct mp_corpus *corpus,
                            const int32_t *documents, int64_t count)
{
    int32_t *order = mp_xcalloc((size_t)count, sizeof *order);
    mp_draw_order(rng, order, count);
    for (int64_t i = 0; i < count; i++) {
        fprintf(out, "Document %" PRId64 ":\n%s\n\n", i + 1,
                corpus->documents.items[documents[order[i]]]);
    }
    free(order);
}

int mp_write_documents(const struct mp_task *t, const struct mp_draft *d, struct mp_sample *out,
                       struct mp_error *err)
{
    (void)err;
    const struct mp_corpus *corpus = mp_task_corpus(t, d->sources);
    const struct mp_question *q = &corpus->questions[(size_t)d->turn % corpus->num_questions];
    struct mp_rng rng = d->rng;
    int32_t *all = mp_xcalloc(corpus->documents.count, sizeof *all);
    order_documents(&rng, corpus, q, all);

    size_t length;
    FILE *text = mp_xstream_open(&out->text, &length);
    fputs("Answer the question from the documents below. Give the answer alone, in no other words."
          "\n\n",
          text);
    write_documents(text, &rng, corpus, all, (int64_t)q->num_documents + d->units);
    fprintf(
        text,
        "Answer the question from the documents above. Give the answer alone, in no other words."
        "\n\nQuestion: %s",
        q->text);
    mp_xstream_close(text);
    out->answer_prefix = mp_xstrdup("Answer:");
    for (size_t i = 0; i < q->answers.count; i++) {
        mp_words_add(&out->outputs, q->answers.items[i], strlen(q->answers.items[i]));
    }
    free(all);
    return 0;
}
