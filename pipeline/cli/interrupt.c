#include "pipeline/cli/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void on_signal(int signal_number)
{
    (void)signal_number;
    if (interrupted) {
        _exit(MP_EXIT_INTERRUPTED);
    }
    interrupted = 1;
    static const char message[] = "magicpig-pipe: stopping soon; interrupt again to exit at once\n";
    int saved = errno;
    ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
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
