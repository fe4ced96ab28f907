#include "pipeline/make_data/workshop.h"

#include "core/tokenizer/tokenizer.h"
#include "pipeline/engine/hooks.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_SAMPLES = 100 };

static int choose_tasks(const struct mp_cli *cli, struct mp_workshop *w, struct mp_error *err)
{
    int code = mp_tasks_parse(cli->task, w->chosen, err);
    for (int i = 0; i < MP_NUM_TASKS && code == 0; i++) {
        const char *source = mp_tasks[i].source;
        bool missing = source != NULL && ((strcmp(source, "--squad") == 0 && cli->squad == NULL) ||
                                          (strcmp(source, "--hotpot") == 0 && cli->hotpot == NULL));
        if (w->chosen[i] && missing) {
            code = mp_fail(err, MP_ERR_USAGE, "--task: %s needs %s FILE; see --help",
                           mp_tasks[i].name, source);
        }
    }
    return code;
}

static uint64_t seed_of(const struct mp_cli *cli)
{
    return cli->data_seed < 0 ? 0 : (uint64_t)cli->data_seed;
}

static int open_sources(const struct mp_cli *cli, struct mp_workshop *w, struct mp_error *err)
{
    uint64_t seed = seed_of(cli);
    int code = mp_sources_load(cli->essay, cli->words, &w->sources, err);
    if (code == 0 && cli->squad != NULL) {
        code = mp_corpus_load_squad(cli->squad, seed, &w->sources.squad, err);
    }
    if (code == 0 && cli->hotpot != NULL) {
        code = mp_corpus_load_hotpot(cli->hotpot, seed, &w->sources.hotpot, err);
    }
    return code;
}

/* What stands around a user's text: of a form by name, or of the model's chat template. */
static int open_form(const struct mp_cli *cli, struct mp_workshop *w, struct mp_error *err)
{
    const char *name = cli->chat_template != NULL ? cli->chat_template : "none";
    if (strcmp(name, "model") != 0) {
        return mp_hook_chat(name, &w->maker.before, &w->maker.after, err);
    }
    struct mp_tokenizer *tokenizer = NULL;
    struct mp_chat *chat = NULL;
    int code = mp_cli_open_tokenizer(cli, &tokenizer, &chat, err);
    if (code == 0) {
        code = mp_hook_chat_around(chat, &w->before, &w->after, err);
    }
    w->maker.before = w->before;
    w->maker.after = w->after;
    mp_hook_free_chat(chat);
    mp_tokenizer_free(tokenizer);
    return code;
}

int mp_workshop_open(const struct mp_cli *cli, struct mp_workshop *out, struct mp_error *err)
{
    *out = (struct mp_workshop){
        .samples = cli->samples > 0 ? cli->samples : DEFAULT_SAMPLES,
        .maker = {.sources = &out->sources, .seed = seed_of(cli)},
    };
    int code = choose_tasks(cli, out, err);
    if (code == 0 && open_form(cli, out, err) != 0) {
        code = mp_fail_prefix(err, "--template");
    }
    return code == 0 ? open_sources(cli, out, err) : code;
}

void mp_workshop_close(struct mp_workshop *w)
{
    mp_sources_free(&w->sources);
    free(w->before);
    free(w->after);
}
