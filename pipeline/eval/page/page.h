/* The HTML page of what `eval` found: one page that needs nothing else. */
#ifndef MP_PIPELINE_EVAL_PAGE_H
#define MP_PIPELINE_EVAL_PAGE_H

#include "core/base/error.h"

struct cJSON;

/* Writes the page that shows `data`, an object of one of two kinds. Both have "kind", "command",
 * "version", "model" (strings), "sparse_from" ("answer" or "question": what goes through the
 * method) and "settings" (array). Any number may be null; shares and errors are fractions. Strings
 * are UTF-8 and may hold any character.
 *
 * "kind" is "scores": accuracy.
 *   "settings"  objects with "name"
 *   "tasks"     names
 *   "lengths"   tokens of a prompt
 *   "results"   objects with "setting", "length", "task": indices into these three, task -1 for the
 *               mean of the tasks; "prompts"; "score", 0 to 100, with its interval "low" to "high";
 *               "rows" (offloaded tokens that a query head attends to in a layer and step) and
 *               "sampled" (their share), null if the method does not select; "bytes" that attention
 *               moves for a token and "ms" of a step of the batch
 *
 * "kind" is "attention": distance of the attention's output from exact attention.
 *   "prompts", "tokens", "layers", "heads"   how many
 *   "settings"  objects with "name"; "error", mean relative L2; "rows", "sampled", "bytes" as
 * above; "layer_error" [layers] and "head_error" [layers][heads], null for a dense layer;
 *               "keep_dense", layers that are better dense; "error_if_dense", the mean with them
 *
 * MP_ERR_IO names the file, of which then nothing is left. */
int mp_eval_page_write(const char *path, const struct cJSON *data, struct mp_error *err);

#endif
