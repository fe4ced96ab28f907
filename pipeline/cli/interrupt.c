#include "pipeline/cli/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;
static volatile sig_atomic_t deferred;

static void on_signal(int signal_number)
{
    (void)signal_number;
    static const char now[] = "magicpig-pipe: error: interrupted\n";
    static const char soon[] = "magicpig-pipe: stopping soon; interrupt again to exit at once\n";
    int saved = errno;
    ssize_t ignored = 0;
    if (!deferred) {
        ignored = write(STDERR_FILENO, now, sizeof now - 1);
    }
    if (!deferred || interrupted) {
        _exit(MP_EXIT_INTERRUPTED);
    }
    interrupted = 1;
    ignored = write(STDERR_FILENO, soon, sizeof soon - 1);
    (void)ignored;
    errno = saved;
}

void mp_interrupt_install(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL); /* a limit on file sizes is an error of the write */
}

void mp_interrupt_defer(void)
{
    deferred = 1;
}

void mp_interrupt_ignore(void)
{
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    interrupted = 0;
}

bool mp_interrupted(void)
{
    return interrupted != 0;
}
