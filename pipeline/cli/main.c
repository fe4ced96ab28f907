#include "pipeline/cli/cli.h"

int main(int argc, char **argv)
{
    return mp_cli_main(argc, argv);
}
