/* What the public interface (pipeline/engine/magicpig.h) shares with everything below it: codes of
 * errors, their messages, and levels of messages. Installed with it; C99 and C++. */
#ifndef MP_CORE_CODE_H
#define MP_CORE_CODE_H

/* A function that the shared library exports. */
#if defined(__GNUC__)
#define MP_API __attribute__((visibility("default")))
#else
#define MP_API
#endif

enum mp_code {
    MP_OK = 0,
    MP_ERR_USAGE,       /* bad flag, config key or value: the user can fix the command */
    MP_ERR_IO,          /* a file cannot be opened, read or written */
    MP_ERR_FORMAT,      /* a file's content is not what its format says */
    MP_ERR_UNSUPPORTED, /* valid, but not implemented here; the message names it */
    MP_ERR_MEMORY,      /* the plan or an allocation does not fit */
    MP_ERR_RUNTIME,     /* StarPU, CUDA, hwloc or the operating system refused */
    MP_ERR_INTERRUPTED, /* SIGINT: drained and flushed */
};

struct mp_error {
    enum mp_code code;
    char message[1024]; /* UTF-8, no trailing newline, truncated if longer */
};

/* Of a message for people. */
enum mp_log_level {
    MP_LOG_ERROR,   /* something that was asked for is not done */
    MP_LOG_WARNING, /* something is not as it may be meant */
    MP_LOG_INFO,    /* what runs here, and how */
};

#endif
