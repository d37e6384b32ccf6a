/* cli.h: the command line: verbs, their options, and what they print on errors.
 *
 * A verb is one file, cli/verbs/NAME.c, that defines
 *
 *     const tdm_verb tdm_verb_NAME = {.name = "NAME", .usage = "SCENARIO [options]", .summary =
 * "...", .run = run};
 *
 * with `static int run(int argc, char **argv)`; the build collects the files in the table
 * tdm_verbs, so nothing else has to be edited. Code that several verbs share lives beside this
 * header in cli/NAME.c. */
#ifndef TDM_CLI_H
#define TDM_CLI_H

#include "core/base.h"

#include <stdio.h>

typedef struct tdm_verb {
    const char *name;
    const char *usage;   /* what follows the name on the command line: "SCENARIO [options]" */
    const char *summary; /* one line for `tandem help` */
    /* argv[0] is the verb's name. Returns the exit code, one of tdm_code. */
    int (*run)(int argc, char **argv);
} tdm_verb;

extern const tdm_verb *const tdm_verbs[]; /* NULL-terminated, generated, by name */
const tdm_verb *tdm_verb_find(const char *name);

/* Strings of an operand list or of an option that may be repeated. */
typedef struct tdm_cli_strings {
    const char **items; /* [n] */
    size_t n;
} tdm_cli_strings;

/* One option of a verb. Exactly one of flag, value and values is set: it says what the option is
 * and where it is stored. `--name value` and `--name=value` are both accepted. With flag and value
 * both, the value may be left out, and is given as `--name=value` only. */
typedef struct tdm_cli_option {
    const char *name;           /* "--engine"; NULL ends the table */
    const char *value_name;     /* "NAME", for the help text; NULL for a flag */
    const char *text;           /* one line for the help text */
    const char *const *choices; /* NULL-terminated list of valid values; NULL: any */
    bool *flag;
    const char **value;
    tdm_cli_strings *values; /* repeatable */
} tdm_cli_option;

#define TDM_CLI_GO_ON (-1)

/* Reads argv[1..] by the table; what is no option goes to operands. Between min_operands and
 * max_operands of them are wanted. Returns TDM_CLI_GO_ON, or the exit code: TDM_OK after printing
 * the help that
 * `--help` asks for, TDM_E_INVALID after printing what is wrong, suggestion included. */
int tdm_cli_parse(tdm_arena *arena, const tdm_verb *verb, const tdm_cli_option *options, int argc,
                  char **argv, size_t min_operands, size_t max_operands, tdm_cli_strings *operands);

/* The folder that holds scenarios/ and topologies/: TANDEM_ROOT if set, else share/tandem beside
 * the executable's bin folder, else the source tree. Returns NULL when none of them has scenarios/.
 */
const char *tdm_cli_root(tdm_arena *arena);

/* The file that an operand means: itself when it is there or looks like a path, else the scenario
 * of that name below root, as `tandem list scenarios` prints it. Root may be NULL. */
const char *tdm_cli_scenario(tdm_arena *arena, const char *root, const char *operand);

/* Whether the file is a plan rather than a scenario. What comes out of a pipe can be read only
 * once: it is a scenario. */
bool tdm_cli_is_plan_text(const char *path);

/* The words of a command, the verb first. */
typedef struct tdm_cli_command {
    char **words; /* [n] */
    int n;
} tdm_cli_command;
/* A word as a shell takes it back, and the command, in one line: line ends within words become
 * blanks. */
void tdm_cli_put_word(const char *word, FILE *file);
void tdm_cli_put_command(const tdm_cli_command *command, FILE *file);

/* Prints the collected messages on standard error and returns err's code as exit code
 * (TDM_E_INTERNAL when it holds none). */
int tdm_cli_fail(const tdm_error *err);

/* Prints each line of a scenario's notes as "warning: LINE" on standard error; NULL: none. */
void tdm_cli_warn(const char *notes);

/* "30.06 billion", "658.6 thousand". */
#define TDM_COUNT_SIZE 40u
const char *tdm_cli_count(char buffer[TDM_COUNT_SIZE], uint64_t count);

/* Prints "tandem: ..." and a newline on standard error and returns code. */
int tdm_cli_complain(tdm_code code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Flushes standard output; returns `code`, or TDM_E_INTERNAL after a message when writing failed
 * (full disk, closed pipe). The last call of a verb that prints. */
int tdm_cli_finish(int code);

/* Has print write to the file, or to standard output (path NULL or "-"); the exit code. */
int tdm_cli_print(const char *path, void (*print)(void *context, FILE *file), void *context);
/* The same with a text. */
int tdm_cli_put(const char *path, const char *text, size_t length);

#endif
