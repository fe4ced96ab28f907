/* Answers as lines of the form that OpenAI's batches and vLLM's run-batch have:
 * {"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}. */
#ifndef MP_PIPELINE_BATCH_OUTPUT_H
#define MP_PIPELINE_BATCH_OUTPUT_H

#include "pipeline/generate/output.h"
#include "pipeline/generate/records/records.h"

/* A finished request, with status 200 and a body as the record's url has it: an object
 * "chat.completion" or "text_completion", with the answer text[0 .. length), why it ended ("stop"
 * or "length") and the numbers of tokens. model: what the body calls the model where the record
 * does not. In one line, malloc'ed; NULL with MP_ERR_MEMORY. */
char *mp_batch_answer(const struct mp_record *r, const struct mp_answer_id *id, const char *model,
                      const char *text, size_t length, const struct mp_request *request,
                      struct mp_error *err);

/* A record that could not be run, with status 400 and no body; its error says why. */
char *mp_batch_failure(const struct mp_record *r, struct mp_error *err);

#endif
