/* A call as server-sent events. */
#ifndef MP_SERVE_STREAM_H
#define MP_SERVE_STREAM_H

#include "pipeline/serve/server.h"

struct mp_stream; /* opaque */

/* Of a call that has been submitted; both are the caller's: first mp_stream_close, then the call.
 */
struct mp_stream *mp_stream_open(struct mp_call *call);
void mp_stream_close(struct mp_stream *s);

/* The next bytes, up to `size`: waits until there are some. Where there is nothing to tell for a
 * while, they are a comment. 0: there are no more. */
size_t mp_stream_read(struct mp_stream *s, char *out, size_t size);

#endif
