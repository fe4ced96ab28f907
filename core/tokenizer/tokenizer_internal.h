/* What the files of the tokenizer share. Private to core/tokenizer.
 *
 * Encoding: added tokens are cut out of the text (tokenizer_added.c); what is left between them is
 * normalized, cut into words (both are lists of steps, tokenizer_steps.c) and each word becomes ids
 * by byte pair encoding (tokenizer_bpe.c). Decoding is a chain of stages (tokenizer_decode.c). */
#ifndef MP_CORE_TOKENIZER_INTERNAL_H
#define MP_CORE_TOKENIZER_INTERNAL_H

#include "core/base/utf8.h"
#include "core/tokenizer/tokenizer.h"

enum { MP_TOKENIZER_MAX_ID = (1 << 22) - 1 }; /* bounds the tables a bad file can ask for */

/* ---- bytes (tokenizer_bytes.c) ---- */

/* A growing byte string. Start from {0}; data is NULL until something is appended and has a NUL
 * after its last byte from then on. */
struct mp_bytes {
    char *data;
    size_t length;
    size_t capacity;
};
void mp_bytes_append(struct mp_bytes *b, const char *data, size_t length);
void mp_bytes_free(struct mp_bytes *b);

/* The byte-level alphabet: every byte as one printable character. Appends that of byte. */
void mp_byte_char_append(struct mp_bytes *b, unsigned char byte);
/* The byte of the character at text (valid UTF-8), or -1 if it is none of the alphabet. */
int mp_byte_char_decode(const char *text);

/* ---- work (tokenizer_work.c) ---- */

/* What every loop over a text reports to: so that none runs on when it should stop, and so that the
 * tests can count what each does. */
struct mp_work {
    mp_tokenizer_stop *stop; /* NULL: nothing stops it */
    void *user;
    size_t pending; /* operations since stop was asked */
    size_t given;   /* bytes of the text that the steps under way started from */
    struct mp_error *err;
};
/* Counts operations: MP_ERR_INTERRUPTED if stop says so. */
int mp_work_count(struct mp_work *w, size_t operations);

/* The steps of a list may make a text this many times as long, with some bytes more for short ones:
 * steps that are meant for texts need a few times, and a chain that doubles the text, doubled
 * again, no machine can hold. */
enum { MP_TOKENIZER_MAX_GROWTH = 16, MP_TOKENIZER_FREE_BYTES = 64 };
/* MP_ERR_RUNTIME if `bytes` are too many for a step to have made. */
int mp_work_check_growth(struct mp_work *w, size_t bytes);

/* ---- patterns (tokenizer_pattern.c) ---- */

struct mp_pattern; /* a compiled regular expression or literal string; immutable */

/* NULL if text is no valid pattern; why[0..size) then says what is wrong. */
struct mp_pattern *mp_pattern_new(const char *text, size_t length, bool literal, char *why,
                                  size_t size);
void mp_pattern_free(struct mp_pattern *p);

/* Walks over the matches in text[0..length), valid UTF-8, from left to right without overlap. An
 * empty match right after another match does not count. It must not move while it is used. */
struct mp_matches {
    const struct mp_pattern *pattern;
    const char *text;
    size_t length;
    size_t at;       /* where the next search starts; > length: no more */
    size_t last_end; /* of the last match; SIZE_MAX: none yet */
    size_t start;    /* the match just found: [start, end) */
    size_t end;
    struct mp_work *work;
    int stopped; /* the error of work, once it has had one */
    void *data;  /* of the regular expression library, as limits */
    void *limits;
};
void mp_matches_begin(struct mp_matches *m, const struct mp_pattern *pattern, const char *text,
                      size_t length, struct mp_work *w);
/* *found tells whether there is one more. MP_ERR_RUNTIME if matching takes too many steps;
 * MP_ERR_INTERRUPTED. */
int mp_matches_next(struct mp_matches *m, bool *found);
/* Makes [start, end), found by a search from m->at on, the match. *found: whether it counts.
 * MP_ERR_RUNTIME if no search from there can match so: whoever copies what is between matches
 * relies on their order. */
int mp_matches_take(struct mp_matches *m, size_t start, size_t end, bool *found);
void mp_matches_end(struct mp_matches *m);

/* ---- steps (tokenizer_steps.c) ---- */

/* What a text is cut into: spans, in order, without overlap. */
struct mp_pieces {
    struct mp_bytes text;
    struct mp_piece {
        size_t start;
        size_t end;
    } * items; /* [count] */
    size_t count;
    size_t capacity;
};
void mp_pieces_push(struct mp_pieces *p, size_t start, size_t end);
void mp_pieces_free(struct mp_pieces *p);

/* All normalizers and pre-tokenizers are sequences of these five. */
enum mp_step_kind {
    MP_STEP_NFC,     /* Unicode normalization form C */
    MP_STEP_PREPEND, /* content before each piece that is not empty */
    MP_STEP_REPLACE, /* every match of pattern by content */
    MP_STEP_SPLIT,   /* cuts each piece at the matches of pattern */
    MP_STEP_BYTES,   /* every byte by its character of the byte-level alphabet */
};

/* Where a split puts its matches. */
enum mp_split_behavior {
    MP_SPLIT_ISOLATED, /* pieces of their own */
    MP_SPLIT_REMOVED,
    MP_SPLIT_MERGED_WITH_PREVIOUS,
    MP_SPLIT_MERGED_WITH_NEXT,
    MP_SPLIT_CONTIGUOUS, /* neighbouring matches are one piece */
};

struct mp_step {
    enum mp_step_kind kind;
    struct mp_pattern *pattern; /* replace, split */
    struct mp_bytes content;    /* prepend, replace */
    bool unless_present;        /* prepend: not where the piece starts with content */
    bool first_only;            /* prepend: only to the piece at the start of the whole text */
    enum mp_split_behavior behavior;
    bool invert; /* split: matches and what is between them change roles */
};

struct mp_steps {
    const char *name;      /* for messages */
    struct mp_step *items; /* [count] */
    size_t count;
};
/* Takes over what step points to. */
void mp_steps_push(struct mp_steps *steps, struct mp_step step);
void mp_steps_free(struct mp_steps *steps);

/* Runs all steps on pieces. at_start: the first piece is where the user's text starts.
 * MP_ERR_RUNTIME names the step that takes too many steps or makes too much of the text;
 * MP_ERR_INTERRUPTED. */
int mp_steps_run(const struct mp_steps *steps, struct mp_pieces *pieces, bool at_start,
                 struct mp_work *w);

/* ---- added tokens (tokenizer_added.c) ---- */

struct mp_added_token {
    struct mp_bytes content; /* what is looked for */
    int32_t id;
    bool single_word; /* not inside a word */
    bool lstrip;      /* takes the white space before it along */
    bool rstrip;      /* and after it */
    bool special;
};

/* Added tokens that are looked for in the same text. */
struct mp_added_set {
    struct mp_added_token *items; /* [count], sorted by content */
    size_t count;
    size_t capacity;
    bool starts[256]; /* first bytes of all contents */
};
/* Takes over token.content. */
void mp_added_push(struct mp_added_set *set, struct mp_added_token token);
/* Sorts; call once, after the last push. A token whose content is there twice, or NULL. */
const struct mp_added_token *mp_added_finish(struct mp_added_set *set);
void mp_added_free(struct mp_added_set *set);

/* A part of a text: one added token, or what is between two of them. */
struct mp_segment {
    size_t start;
    size_t end;
    int32_t id; /* of the added token; -1: text */
};
struct mp_segments {
    struct mp_segment *items; /* [count]; free() */
    size_t count;
    size_t capacity;
};
/* Appends to out the segments of text, leftmost longest match first. Segments of text are never
 * empty. content [length]: special tokens are not found where a byte of it is not 0; NULL: they are
 * everywhere. MP_ERR_INTERRUPTED. */
int mp_added_split(const struct mp_added_set *set, const char *text, const char *content,
                   size_t length, struct mp_segments *out, struct mp_work *w);

/* ---- vocabulary (tokenizer_vocab.c) ---- */

struct mp_token {
    char *text; /* [length], NUL-terminated; NULL: no token has this id */
    size_t length;
    bool special;
};

struct mp_vocab {
    struct mp_token *tokens; /* [size], by id */
    int32_t size;
    int32_t capacity;
    int32_t *slots;    /* [slot_count] ids by hash of text, -1: free; only tokens of the model */
    size_t slot_count; /* a power of two */
};
/* Gives id a text, which it takes over; false if id has one already. */
bool mp_vocab_set(struct mp_vocab *v, int32_t id, char *text, size_t length);
/* Makes all texts set so far findable; call once. */
void mp_vocab_index(struct mp_vocab *v);
/* The id of a token of the model, or -1. */
int32_t mp_vocab_find(const struct mp_vocab *v, const char *text, size_t length);
/* The token of an id, or NULL. */
const struct mp_token *mp_vocab_token(const struct mp_vocab *v, int64_t id);
void mp_vocab_free(struct mp_vocab *v);

/* What two neighbouring tokens become. */
struct mp_merge {
    int32_t left; /* -1: a free slot */
    int32_t right;
    int32_t merged;
    uint32_t rank; /* lower ones are done first */
};

struct mp_merges {
    struct mp_merge *slots; /* [slot_count] by hash of (left, right) */
    size_t slot_count;      /* a power of two */
};
/* Room for count merges. */
void mp_merges_init(struct mp_merges *m, size_t count);
/* A pair that is there already gets the new rank. */
void mp_merges_set(struct mp_merges *m, struct mp_merge merge);
/* NULL if left and right do not merge. */
const struct mp_merge *mp_merges_find(const struct mp_merges *m, int32_t left, int32_t right);
void mp_merges_free(struct mp_merges *m);

/* ---- the whole ---- */

enum mp_stage_kind {
    MP_STAGE_REPLACE,       /* every pattern in a token by content */
    MP_STAGE_STRIP,         /* up to start and stop times content off each token's ends */
    MP_STAGE_STRIP_START,   /* the same, off the start of the whole text */
    MP_STAGE_METASPACE,     /* content by a space, except (if skip_first) in the first token */
    MP_STAGE_BYTE_FALLBACK, /* runs of tokens <0xAB> by their bytes */
    MP_STAGE_BYTE_LEVEL,    /* characters of the byte-level alphabet by their bytes */
};

/* One stage of the decoder. */
struct mp_stage {
    enum mp_stage_kind kind;
    struct mp_bytes pattern; /* replace */
    struct mp_bytes content; /* replace; strip and metaspace: one character */
    size_t start;
    size_t stop;
    bool skip_first;
};

struct mp_tokenizer {
    mp_tokenizer_stop *stop; /* NULL: nothing stops it */
    void *stop_user;

    struct mp_vocab vocab;
    struct mp_merges merges;
    int32_t byte_ids[256]; /* tokens <0x00> to <0xFF>, -1: missing; all -1 without byte_fallback */
    int32_t unk_id;        /* -1: unknown characters are dropped */
    bool fuse_unk;         /* neighbouring unknown characters are one unk_id */
    bool ignore_merges;    /* a word that is a token is that token */

    struct mp_added_set added_raw;        /* looked for in the text as given */
    struct mp_added_set added_normalized; /* looked for after normalization */
    struct mp_steps normalizer;
    struct mp_steps pre_tokenizer;

    struct mp_ids prefix; /* what add_special puts before */
    struct mp_ids suffix; /* and after */

    struct mp_stage *stages; /* [stage_count] */
    size_t stage_count;
};

/* ---- byte pair encoding (tokenizer_bpe.c) ---- */

/* Working memory of one mp_tokenizer_encode. */
struct mp_bpe;
/* Ids go to the end of out, which must only grow while the mp_bpe lives. */
struct mp_bpe *mp_bpe_new(const struct mp_tokenizer *t, struct mp_ids *out, struct mp_work *w);
/* MP_ERR_INTERRUPTED. */
int mp_bpe_word(struct mp_bpe *b, const char *word, size_t length);
void mp_bpe_free(struct mp_bpe *b);

/* ---- loading (tokenizer_load*.c) ---- */

struct mp_json;
struct cJSON;

struct mp_loader {
    struct mp_tokenizer *t;
    const struct mp_json *doc;
    struct mp_error *err;
    int32_t next_added; /* id of the next added token that the model does not have */
    bool fused;         /* decoder: from here on the tokens' texts are one text */
    size_t growth;      /* decoder: how many times as long a token's text can get, so far */
};

/* Each reads one top-level value of the file (NULL: missing) into l->t. */
int mp_load_model(struct mp_loader *l, const struct cJSON *model);
int mp_load_added_tokens(struct mp_loader *l, const struct cJSON *tokens);
int mp_load_normalizer(struct mp_loader *l, const struct cJSON *normalizer);
int mp_load_pre_tokenizer(struct mp_loader *l, const struct cJSON *pre_tokenizer);
int mp_load_post_processor(struct mp_loader *l, const struct cJSON *post_processor);
int mp_load_decoder(struct mp_loader *l, const struct cJSON *decoder);

/* MP_ERR_UNSUPPORTED "file: key.path: message". */
int mp_load_unsupported(struct mp_loader *l, const struct cJSON *value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A required string member with its NULs, appended to out. */
int mp_load_bytes(struct mp_loader *l, const struct cJSON *object, const char *key,
                  struct mp_bytes *out);
/* The same for a member that must be one character. */
int mp_load_character(struct mp_loader *l, const struct cJSON *object, const char *key,
                      struct mp_bytes *out);

/* The members of a Metaspace, which is a pre-tokenizer and a decoder. */
struct mp_metaspace {
    struct mp_bytes replacement; /* one character, instead of spaces; the caller frees it */
    bool prepend;                /* one more before each piece of text, */
    bool prepend_first;          /* only before the first */
    bool split;                  /* each starts a new piece */
};
int mp_load_metaspace(struct mp_loader *l, const struct cJSON *object, struct mp_metaspace *m);

/* {"type": "Sequence", <key>: [...]}: calls load on each element. */
int mp_load_sequence(struct mp_loader *l, const struct cJSON *sequence, const char *key,
                     int (*load)(struct mp_loader *l, const struct cJSON *element));

#endif
