/* One key of the configuration, and how its value is read from JSON or from the command line.
 * Private to core/config. */
#ifndef MP_CORE_CONFIG_KEY_H
#define MP_CORE_CONFIG_KEY_H

#include "core/config/config.h"
#include "core/json/json.h"

enum config_type {
    CONFIG_INT,    /* int */
    CONFIG_INT64,  /* int64_t */
    CONFIG_SEED,   /* uint64_t */
    CONFIG_FLOAT,  /* float */
    CONFIG_BOOL,   /* bool; also written 0 and 1 */
    CONFIG_STRING, /* char *, not empty */
    CONFIG_CHOICE, /* char *, one of choices */
    CONFIG_ENUM,   /* int: index of the word in choices */
    CONFIG_LIST,   /* int *, with its int count at count_offset; JSON: an integer or an array */
    CONFIG_BYTES,  /* int64_t; a number or a string such as "8GiB" */
};

struct config_key {
    const char *path; /* in the file: "lsh_K", "runtime.threads" */
    const char *flag; /* on the command line, without dashes */
    enum config_type type;
    unsigned verbs;      /* enum mp_verb, or'ed: those that the key acts for */
    bool attention;      /* it says which tokens a step attends to */
    size_t offset;       /* of the field in struct mp_config */
    size_t count_offset; /* of a list's count */
    double min, max;     /* of numbers, inclusive; of a list's elements */
    const char *choices; /* "a|b|c" */
    const char *initial; /* the default, as it would be typed; NULL: not given */
    const char *unset;   /* a list's word for a count of -1, e.g. "model"; NULL: it has none */
    const char *help;
};

/* Set the field from a value of a document (MP_ERR_FORMAT) or from typed text (MP_ERR_USAGE; the
 * message does not name the key). The field keeps its value on failure. */
int config_key_set_json(const struct config_key *key, struct mp_config *c,
                        const struct mp_json *doc, const struct cJSON *value, struct mp_error *err);
int config_key_set_text(const struct config_key *key, struct mp_config *c, const char *text,
                        struct mp_error *err);

/* The field as a value of a file; null for what is not given. The caller's. */
struct cJSON *config_key_json(const struct config_key *key, const struct mp_config *c);

/* The field of *to becomes a copy of that of *from. */
void config_key_copy(const struct config_key *key, struct mp_config *to,
                     const struct mp_config *from);

/* "an integer from 0 to 16": what the key takes, for messages. */
void config_key_describe(const struct config_key *key, char *out, size_t size);

/* Frees what the field owns. */
void config_key_free(const struct config_key *key, struct mp_config *c);

#endif
