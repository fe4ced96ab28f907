/* The text of what was made with cJSON. Its functions that add to a tree leave out what they find
 * no memory for; here that is an error, so that nothing is written with members missing. */
#ifndef MP_CORE_JSON_PRINT_H
#define MP_CORE_JSON_PRINT_H

#include "core/base/error.h"

struct cJSON;

/* Makes cJSON say what memory it did not get. For the program, at its start; libraries leave cJSON
 * as it is for everybody, and see only that a whole text could not be had. */
void mp_json_watch_memory(void);

enum mp_json_layout {
    MP_JSON_LINE,    /* all in one line */
    MP_JSON_INDENTED /* as people write it */
};

/* The text of a value that this thread has made; free it with free(). NULL with MP_ERR_MEMORY if it
 * is out of memory, or has been since the last text; `what` stands for the text in the message. */
char *mp_json_print(const struct cJSON *value, enum mp_json_layout layout, const char *what,
                    struct mp_error *err);

/* In one line, of something small: ends the program instead (core/base/memory.h). */
char *mp_json_key_text(const struct cJSON *value);

/* Memory that was lost has been reported otherwise. */
void mp_json_forget_lost_memory(void);

#endif
