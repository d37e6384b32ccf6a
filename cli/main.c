/* main.c: finds the verb and runs it. */
#include "cli.h"
#include "core/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static int help(void)
{
    printf(
        "Usage: tandem VERB [operands] [options]\n\n"
        "Tandem lowers a scenario (model, parallel layout, schedule, topology) to one plan and predicts what that\n"
        "plan does: its time, its communication, its memory.\n\nVerbs:\n");
    for (const tdm_verb *const *verb = tdm_verbs; *verb; verb++)
        printf("  %-8s %s\n", (*verb)->name, (*verb)->summary);
    printf("\ntandem help VERB describes a verb; tandem --version prints the version.\n"
           "Exit codes: 0 ok, 1 internal or input/output, 2 usage or invalid input,\n"
           "3 infeasible or a target missed, 4 outside tolerance, 5 device failure.\n");
    return tdm_cli_finish(TDM_OK);
}

static int version(void)
{
    printf(
        "tandem " TANDEM_VERSION "\n"
        "License GPL-3.0-or-later with an additional permission for NVIDIA's libraries; see LICENSE and\n"
        "LICENSE.exception. There is no warranty, to the extent permitted by law.\n");
    return tdm_cli_finish(TDM_OK);
}

static int unknown_verb(const char *word)
{
    const char *names[64] = {"help"};
    size_t n = 1;
    for (const tdm_verb *const *verb = tdm_verbs; *verb && n < TDM_COUNT(names); verb++)
        names[n++] = (*verb)->name;
    const char *nearest = tdm_suggest(word, names, n);
    if (nearest)
        return tdm_cli_complain(TDM_E_INVALID, "unknown verb '%s' (did you mean '%s'?)", word,
                                nearest);
    return tdm_cli_complain(TDM_E_INVALID, "unknown verb '%s' (tandem help lists them)", word);
}

/* A standard stream that is closed would lend its number to the next file opened, and reports would
 * end up in there. Opened the wrong way round, its uses fail as they should. */
static void occupy_standard_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv)
{
    occupy_standard_streams();
    signal(SIGXFSZ, SIG_IGN); /* a file too large is an error of write() */
    const char *word = argc > 1 ? argv[1] : "help";
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
        return version();
    bool wants_help =
        strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
    if (wants_help && argc <= 2)
        return help();
    const tdm_verb *verb = tdm_verb_find(wants_help ? argv[2] : word);
    if (!verb)
        return unknown_verb(wants_help ? argv[2] : word);
    if (wants_help) {
        char name[] = "help", option[] = "--help";
        char *words[] = {name, option, NULL};
        return verb->run(2, words);
    }
    return verb->run(argc - 1, argv + 1);
}
