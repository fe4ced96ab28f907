/* What benchmark texts are made from: an essay, word lists, and documents with questions. */
#ifndef MP_PIPELINE_MAKE_DATA_SOURCES_H
#define MP_PIPELINE_MAKE_DATA_SOURCES_H

#include "core/base/error.h"
#include "pipeline/make_data/words.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A running text, cut at white space. */
struct mp_essay {
    struct mp_words words;
    size_t *sentences; /* [num_sentences] index of the word that each starts with, ascending */
    size_t num_sentences;
};

struct mp_question {
    char *text;
    struct mp_words answers; /* distinct, at least one, none blank: each alone is right */
    int32_t *documents;      /* [num_documents] distinct indices of those that it is asked about */
    size_t num_documents;
    int32_t article; /* its documents'; -1: they have none */
};

/* Questions about documents. */
struct mp_corpus {
    struct mp_words documents; /* distinct */
    int32_t *articles;         /* [documents.count] of which each is a part; -1: of none */
    struct mp_question *questions;
    size_t num_questions;
};

struct mp_sources {
    struct mp_essay essay;
    struct mp_words adjectives, nouns; /* of keys; no word twice in a list */
    struct mp_words words;             /* of any kind; no word twice */
    struct mp_corpus squad;            /* empty: not given */
    struct mp_corpus hotpot;           /* empty: not given */
};

/* Whether a word ends a sentence: with a full stop, question or exclamation mark, maybe followed by
 * quotation marks or brackets. */
bool mp_ends_sentence(const char *word);

/* The essay and the word lists: of the files, or those that are part of the program where the path
 * is NULL. A file of words has one a line; lines "[adjectives]", "[nouns]" and "[words]" say of
 * which list the following ones are, at first [words], and # starts a comment. Lists that it lacks
 * are the program's. MP_ERR_IO; MP_ERR_FORMAT names the line. *out: mp_sources_free, also after an
 * error. */
int mp_sources_load(const char *essay_path, const char *words_path, struct mp_sources *out,
                    struct mp_error *err);
void mp_sources_free(struct mp_sources *s);

/* Files as SQuAD 2.0 and HotpotQA publish them (JSON): of SQuAD the paragraphs, of HotpotQA the
 * paragraphs that each question comes with, titles first; and the questions that have an answer
 * that is not blank, in an order drawn from the seed. MP_ERR_IO; MP_ERR_FORMAT names file and key,
 * or says that there is no question. *out is empty after an error. */
int mp_corpus_load_squad(const char *path, uint64_t seed, struct mp_corpus *out,
                         struct mp_error *err);
int mp_corpus_load_hotpot(const char *path, uint64_t seed, struct mp_corpus *out,
                          struct mp_error *err);
void mp_corpus_free(struct mp_corpus *c);

#endif
