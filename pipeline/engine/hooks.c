#include "pipeline/engine/internal.h"

#include "codelets/common/task/task.h"
#include "models/chat/chat.h"
#include "models/presets.h"

#include <stdio.h>

int mp_hook_find_gpu(char *name, size_t size, struct mp_error *err)
{
    struct mp_gpu gpu;
    int code = mp_runtime_find_gpus(1, &gpu, err);
    if (code == 0 && name != NULL) {
        snprintf(name, size, "%s", gpu.name);
    }
    return code;
}

double mp_hook_waited(const struct mp_engine *e)
{
    return mp_runtime_waited(e->runtime);
}

const char *mp_hook_scheduler(int index)
{
    return mp_runtime_scheduler(index);
}

const char *mp_hook_shapes(void)
{
    return mp_preset_names();
}

int mp_hook_chat(const char *name, const char **before, const char **after, struct mp_error *err)
{
    return mp_chat_find(name, before, after, err);
}

const char *mp_hook_chat_names(void)
{
    return mp_chat_names();
}

void mp_hook_pause(void)
{
    mp_runtime_pause();
}

void mp_hook_resume(void)
{
    mp_runtime_resume();
}

int mp_hook_load_chat(const char *model_dir, struct mp_chat **out, struct mp_error *err)
{
    return mp_chat_load(model_dir, out, err);
}

void mp_hook_free_chat(struct mp_chat *chat)
{
    mp_chat_free(chat);
}

int mp_hook_chat_around(const struct mp_chat *chat, char **before, char **after,
                        struct mp_error *err)
{
    return mp_chat_around(chat, before, after, err);
}

char *mp_hook_chat_of_text(const char *text, size_t length)
{
    return mp_chat_of_text(text, length);
}

void mp_hook_one_task_at_a_time(bool on)
{
    mp_task_one_at_a_time(on);
}
