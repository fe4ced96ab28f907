/* Completions and chats. */
#include "pipeline/serve/api/answer.h"
#include "pipeline/serve/http/http.h"

/* Waits for all jobs, or for the first that failed. */
static const struct mp_job *wait_for_end(struct mp_call *call)
{
    pthread_mutex_lock(&call->server->lock);
    while (!mp_call_ended(call) && mp_call_failed(call) == NULL) {
        pthread_cond_wait(&call->changed, &call->server->lock);
    }
    const struct mp_job *failed = mp_call_failed(call);
    pthread_mutex_unlock(&call->server->lock);
    return failed;
}

static int client_socket(const struct mp_exchange *x)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info != NULL ? info->connect_fd : -1;
}

static enum MHD_Result answer(struct mp_exchange *x, enum mp_ask_kind kind)
{
    struct mp_api_error error = {0};
    struct mp_ask ask;
    if (mp_ask_read(kind, x->body, x->length, &ask, &error) != 0) {
        return mp_reply_error(x, &error);
    }
    x->call = mp_call_open(x->server, &ask);
    if (mp_call_prepare(x->call, &error) != 0 ||
        mp_call_submit(x->call, client_socket(x), &error) != 0) {
        return mp_reply_error(x, &error);
    }
    if (x->call->ask.stream) {
        x->stream = mp_stream_open(x->call);
        return mp_reply_stream(x);
    }
    const struct mp_job *failed = wait_for_end(x->call);
    return failed != NULL ? mp_reply_error(x, &failed->error)
                          : mp_reply_json(x, MP_HTTP_OK, mp_answer_whole(x->call));
}

enum MHD_Result mp_answer_completions(struct mp_exchange *x)
{
    return answer(x, MP_ASK_COMPLETION);
}

enum MHD_Result mp_answer_chat(struct mp_exchange *x)
{
    return answer(x, MP_ASK_CHAT);
}
