/* Answers the prompt in a file, token by token: example MODEL_DIR PROMPT_FILE
 *     cc example.c $(pkg-config --cflags --libs magicpig) -o example */
#include <magicpig.h>
#include <stdio.h>
#include <stdlib.h>

enum { NEW_TOKENS = 64, MAX_BYTES = 1 << 24 };

static void print_piece(void *user, int slot, int32_t id, const char *piece, size_t length)
{
    (void)slot;
    (void)id;
    fwrite(piece, 1, length, user);
    fflush(user);
}

/* Reads the prompt in ids and prints what follows it. */
static int answer(struct mp_engine *e, const int32_t *ids, int64_t count, struct mp_error *err)
{
    struct mp_request_options request = {.size = sizeof request, .ids = ids, .count = count};
    request.max_new_tokens = NEW_TOKENS;
    request.on_token = print_piece;
    request.user = stdout;
    struct mp_session *session = NULL;
    int slot, active = 1;
    int code = mp_engine_start(e, count, NEW_TOKENS, err);
    code = code == 0 ? mp_session_open(e, &session, err) : code;
    code = code == 0 ? mp_session_add(session, &request, &slot, err) : code;
    while (code == 0 && active > 0) {
        code = mp_session_step(session, &active, err);
    }
    mp_session_close(session);
    return code;
}

int main(int argc, char **argv)
{
    FILE *file = argc == 3 ? fopen(argv[2], "rb") : NULL;
    char *text = malloc(MAX_BYTES);
    if (file == NULL || text == NULL) {
        fprintf(stderr, "usage: %s MODEL_DIR PROMPT_FILE\n", argv[0]);
        return 2;
    }
    size_t length = fread(text, 1, MAX_BYTES, file);
    fclose(file);
    struct mp_engine_options options = {.size = sizeof options, .model = argv[1]};
    struct mp_engine *engine = NULL;
    struct mp_error err;
    int32_t *ids = NULL;
    int64_t count;
    int code = mp_engine_open(&options, &engine, &err);
    code = code == 0 ? mp_engine_encode(engine, text, length, &ids, &count, &err) : code;
    code = code == 0 ? answer(engine, ids, count, &err) : code;
    puts(code == 0 ? "" : err.message);
    mp_free(ids);
    free(text);
    mp_engine_close(engine);
    return code == 0 ? 0 : 1;
}
