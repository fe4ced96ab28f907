#include "pipeline/eval/settings.h"

#include "core/base/memory.h"
#include "pipeline/generate/answer_key.h"

#include <stdlib.h>
#include <string.h>

/* ---- words ---- */

/* A configuration file: its attention counts, over what is set. */
static int take_file(struct mp_config *c, const char *path, struct mp_error *err)
{
    struct mp_config file;
    mp_config_init(&file);
    int code = mp_config_load(&file, path, err);
    if (code == 0) {
        mp_config_copy_attention(c, &file);
    }
    mp_config_free(&file);
    return code;
}

/* flag=value */
static int take_flag(struct mp_config *c, const char *word, struct mp_error *err)
{
    size_t length = strcspn(word, "=");
    char *flag = mp_xstrndup(word, length);
    int code;
    if (word[length] == '\0') {
        code =
            mp_fail(err, MP_ERR_USAGE, "found \"%s\", expected a .json file or flag=value", word);
    } else if (mp_config_flag_path(flag) != NULL && !mp_config_is_attention(flag)) {
        code = mp_fail(err, MP_ERR_USAGE, "found %s, which is the same for all settings: give --%s",
                       word, flag);
    } else {
        code = mp_config_set_flag(c, flag, word + length + 1, err);
    }
    free(flag);
    return code;
}

static bool is_file(const char *word)
{
    size_t n = strlen(word);
    return n > 5 && strcmp(word + n - 5, ".json") == 0 && strchr(word, '=') == NULL;
}

/* A method takes no flags of other methods. */
static int check_flags(const struct mp_config *c, const char *text, struct mp_error *err)
{
    int code = mp_config_check(c, err);
    if (code == 0) {
        code = mp_attention_check(c, err);
    }
    for (const char *at = text + strspn(text, " "); *at != '\0' && code == 0;
         at += strcspn(at, " "), at += strspn(at, " ")) {
        char *flag = mp_xstrndup(at, strcspn(at, "= "));
        const char *path = mp_config_flag_path(flag);
        if (path != NULL && !mp_attention_takes(c, path)) {
            char *attention = mp_attention_describe(c);
            code = mp_fail(err, MP_ERR_USAGE, "%s does not act for attention %s", flag, attention);
            free(attention);
        }
        free(flag);
    }
    return code;
}

static int parse(const char *text, struct mp_config *c, struct mp_error *err)
{
    char *words = mp_xstrdup(text);
    char *rest;
    int code = 0;
    for (char *word = strtok_r(words, " ", &rest); word != NULL && code == 0;
         word = strtok_r(NULL, " ", &rest)) {
        code = is_file(word) ? take_file(c, word, err) : take_flag(c, word, err);
    }
    free(words);
    return code == 0 ? check_flags(c, text, err) : code;
}

/* ---- names ---- */

/* " dense 0, 16", for layers that are dense with any method. */
static char *list_layers(const struct mp_config *c)
{
    char *list = mp_xstrdup(c->num_cache_layers == 0 ? "none dense" : "dense");
    for (int i = 0; i < c->num_cache_layers; i++) {
        char *longer = mp_xasprintf("%s%s %d", list, i > 0 ? "," : "", c->cache_layers[i]);
        free(list);
        list = longer;
    }
    return list;
}

static bool same_layers(const struct mp_config *a, const struct mp_config *b)
{
    return a->num_cache_layers == b->num_cache_layers &&
           (a->num_cache_layers == 0 ||
            memcmp(a->cache_layers, b->cache_layers,
                   (size_t)a->num_cache_layers * sizeof *a->cache_layers) == 0);
}

/* Adds to a name, which it takes over. */
static char *add(char *name, const char *text)
{
    char *longer = mp_xasprintf("%s; %s", name, text);
    free(name);
    return longer;
}

/* The method and its settings, and what else is not as the command line says. */
static char *name_of(const struct mp_config *c, const struct mp_config *usual)
{
    char *name = mp_attention_describe(c);
    if (mp_answer_is_exact(c)) {
        return name;
    }
    if (!same_layers(c, usual)) {
        char *layers = list_layers(c);
        name = add(name, layers);
        free(layers);
    }
    if (c->device_budget != usual->device_budget || c->window_size != usual->window_size) {
        char *tokens =
            mp_xasprintf("sink %lld, window %lld", (long long)(c->device_budget - c->window_size),
                         (long long)c->window_size);
        name = add(name, tokens);
        free(tokens);
    }
    if (c->attention_center != usual->attention_center) {
        name = add(name, c->attention_center ? "centered" : "not centered");
    }
    if (c->lsh_seed != usual->lsh_seed) {
        char *seed = mp_xasprintf("seed %llu", (unsigned long long)c->lsh_seed);
        name = add(name, seed);
        free(seed);
    }
    return name;
}

/* Settings that only their keys tell apart get numbers. */
static void make_unique(struct mp_settings *s)
{
    for (size_t i = 1; i < s->count; i++) {
        int same = 1;
        for (size_t j = 0; j < i; j++) {
            same += strcmp(s->items[j].name, s->items[i].name) == 0;
        }
        if (same > 1) {
            char *number = mp_xasprintf("setting %zu", i + 1);
            s->items[i].name = add(s->items[i].name, number);
            free(number);
        }
    }
}

/* ---- all of them ---- */

int mp_settings_parse(const struct mp_cli *cli, struct mp_settings *out, struct mp_error *err)
{
    char *exact = mp_xasprintf("attention=%s", mp_attention_exact());
    const char *usual[] = {exact, ""};
    const char *const *texts = cli->num_settings > 0 ? cli->settings : usual;
    size_t count = cli->num_settings > 0              ? (size_t)cli->num_settings
                   : mp_answer_is_exact(&cli->config) ? 1u
                                                      : 2u;
    int code = 0;
    *out = (struct mp_settings){.items = mp_xcalloc(count, sizeof *out->items)};
    for (size_t i = 0; i < count && code == 0; i++) {
        struct mp_setting *s = &out->items[out->count++];
        mp_config_copy(&s->config, &cli->config);
        code = parse(texts[i], &s->config, err);
        if (code != 0) {
            mp_fail_prefix(err, "--setting \"%s\"", texts[i]);
            code = MP_ERR_USAGE; /* whatever is wrong in its file */
            err->code = MP_ERR_USAGE;
        } else {
            s->name = name_of(&s->config, &cli->config);
        }
    }
    if (code == 0) {
        make_unique(out);
    }
    free(exact);
    return code;
}

int mp_settings_open(struct mp_settings *s, struct mp_engine *base, const char *sparse_from,
                     struct mp_error *err)
{
    int code = 0;
    char *model = mp_answer_model(base);
    for (size_t i = 0; i < s->count && code == 0; i++) {
        struct mp_setting *item = &s->items[i];
        code = mp_engine_open_variant(base, &item->config, &item->engine, err);
        if (code != 0) {
            mp_fail_prefix(err, "--setting: %s", item->name);
        } else {
            item->key = mp_answer_key(&item->config, model, sparse_from);
        }
        for (size_t j = 0; j < i && code == 0; j++) {
            if (strcmp(s->items[j].key, item->key) == 0) {
                code = mp_fail(err, MP_ERR_USAGE, "--setting: found %s twice", s->items[j].name);
            }
        }
    }
    free(model);
    return code;
}

void mp_settings_free(struct mp_settings *s)
{
    for (size_t i = 0; i < s->count; i++) {
        mp_engine_close(s->items[i].engine);
        mp_config_free(&s->items[i].config);
        free(s->items[i].name);
        free(s->items[i].key);
    }
    free(s->items);
    *s = (struct mp_settings){0};
}
