/* Items of a command line of eval. */
#ifndef MP_TESTS_ITEMS_FIXTURE_H
#define MP_TESTS_ITEMS_FIXTURE_H

#include "eval_fixture.h"

#include "pipeline/eval/items.h"

struct loaded {
    struct mp_cli cli;
    struct mp_engine *engine;
    struct mp_items items;
    char *path; /* of the records; NULL: there are none */
};

/* records: text of the file for --input; NULL: none. Whatever comes, free_loaded. */
static inline int load_items(struct loaded *l, const char *records, const char *const *arguments,
                             struct mp_error *err)
{
    const char *all[MOST_ARGUMENTS] = {NULL};
    int count = 0;
    *l = (struct loaded){.path = records != NULL ? scratch_path("items.jsonl") : NULL};
    if (records != NULL) {
        write_file(l->path, records, strlen(records));
        all[count++] = "--input";
        all[count++] = l->path;
    }
    for (int i = 0; arguments[i] != NULL; i++) {
        all[count++] = arguments[i];
    }
    parse_command(&l->cli, all);
    l->engine = open_command(&l->cli);
    return mp_items_load(&l->cli, l->engine, &l->items, err);
}

static inline void free_loaded(struct loaded *l)
{
    mp_items_free(&l->items);
    mp_engine_close(l->engine);
    mp_cli_free(&l->cli);
    if (l->path != NULL) {
        remove_file(l->path);
    }
}

/* Loads so many items, which must go well. */
static inline void load(struct loaded *l, size_t count, const char *records,
                        const char *const *arguments)
{
    struct mp_error err;
    ASSERT_OK(load_items(l, records, arguments, &err));
    assert_int_equal(l->items.count, count);
}

#define WITH(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NOTHING ((const char *const[]){NULL})

static inline const struct mp_item *item_of(const struct loaded *l, size_t index)
{
    assert_true(index < l->items.count);
    const struct mp_item *item = &l->items.items[index];
    if (item->error != NULL) {
        fail_msg("prompt %zu: %s", index, item->error);
    }
    return item;
}

static inline void check_error(const struct loaded *l, size_t index, const char *part)
{
    assert_true(index < l->items.count);
    const struct mp_item *item = &l->items.items[index];
    assert_non_null(item->error);
    assert_contains(item->error, part);
    assert_true(item->ids.count == 0 && item->outputs == NULL && item->num_outputs == 0);
}

#endif
