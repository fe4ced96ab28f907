/* streaming: sink, window and generated tokens are all that is attended to (StreamingLLM, arXiv
 * 2309.17453, but with the positions that the tokens had). The tokens between are dropped. */
#include "tasks/methods/method.h"

const struct mp_method mp_method_streaming = {
    .name = "streaming",
    .summary = "sink, window and generated tokens alone; the others are dropped",
    .keys = (const char *const[]){NULL},
    .sparse = true,
};
