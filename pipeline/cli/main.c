#include "core/machine/waiting.h"
#include "pipeline/cli/cli.h"

int main(int argc, char **argv)
{
    mp_waiting_limit(argv);
    return mp_cli_main(argc, argv);
}
