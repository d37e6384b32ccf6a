/* options.c: reads a verb's command line by its table of options, and prints the table as help. */
#include "cli.h"
#include "core/schema.h"

#include <stdio.h>
#include <string.h>

static void print_help(const tdm_verb *verb, const tdm_cli_option *options)
{
    printf("Usage: tandem %s %s\n%s\n\nOptions:\n", verb->name, verb->usage, verb->summary);
    for (const tdm_cli_option *option = options; option->name; option++) {
        char left[64];
        bool optional = option->flag && option->value;
        snprintf(left, sizeof left, optional ? "%s[=%s]" : "%s %s", option->name,
                 option->value_name ? option->value_name : "");
        printf("  %-26s %s%s", left, option->text, option->values ? " (may be repeated)" : "");
        for (size_t i = 0; option->choices && option->choices[i]; i++)
            printf("%s%s", i == 0 ? ": " : ", ", option->choices[i]);
        printf("\n");
    }
    printf("  %-26s %s\n", "--help", "this text");
}

static int unknown_option(const tdm_verb *verb, const tdm_cli_option *options, const char *word)
{
    const char *names[64] = {"--help"};
    size_t n = 1;
    for (const tdm_cli_option *option = options; option->name && n < TDM_COUNT(names); option++)
        names[n++] = option->name;
    const char *nearest = tdm_suggest(word, names, n);
    if (nearest)
        return tdm_cli_complain(TDM_E_INVALID, "%s: unknown option %s (did you mean %s?)",
                                verb->name, word, nearest);
    return tdm_cli_complain(TDM_E_INVALID, "%s: unknown option %s (tandem help %s lists them)",
                            verb->name, word, verb->name);
}

static int bad_choice(const tdm_verb *verb, const tdm_cli_option *option, const char *value)
{
    char list[256] = "";
    size_t length = 0;
    for (size_t i = 0; option->choices[i] && length < sizeof list; i++)
        length += (size_t)snprintf(list + length, sizeof list - length, "%s%s", i ? ", " : "",
                                   option->choices[i]);
    return tdm_cli_complain(TDM_E_INVALID, "%s: %s: '%s' is not one of %s", verb->name,
                            option->name, value, list);
}

static bool is_choice(const tdm_cli_option *option, const char *value)
{
    if (!option->choices)
        return true;
    for (size_t i = 0; option->choices[i]; i++)
        if (strcmp(option->choices[i], value) == 0)
            return true;
    return false;
}

/* The option that `word` names, with or without "=value". */
static const tdm_cli_option *find_option(const tdm_cli_option *options, const char *word)
{
    size_t length = strcspn(word, "=");
    for (const tdm_cli_option *option = options; option->name; option++)
        if (strlen(option->name) == length && strncmp(option->name, word, length) == 0)
            return option;
    return NULL;
}

/* Stores argv[*i], and its value from argv[*i + 1] where the option wants one. */
static int take_option(const tdm_verb *verb, const tdm_cli_option *option, int argc, char **argv,
                       int *i)
{
    const char *equals = strchr(argv[*i], '=');
    if (option->flag && option->value) {
        *option->flag = true;
        if (equals && !is_choice(option, equals + 1))
            return bad_choice(verb, option, equals + 1);
        if (equals)
            *option->value = equals + 1;
        return TDM_CLI_GO_ON;
    }
    if (option->flag) {
        if (equals)
            return tdm_cli_complain(TDM_E_INVALID, "%s: %s takes no value", verb->name,
                                    option->name);
        *option->flag = true;
        return TDM_CLI_GO_ON;
    }
    if (!equals && *i + 1 >= argc)
        return tdm_cli_complain(TDM_E_INVALID, "%s: %s needs a value (%s)", verb->name,
                                option->name, option->value_name);
    const char *value = equals ? equals + 1 : argv[++*i];
    if (!is_choice(option, value))
        return bad_choice(verb, option, value);
    if (option->values)
        option->values->items[option->values->n++] = value;
    else
        *option->value = value;
    return TDM_CLI_GO_ON;
}

static void allocate_lists(tdm_arena *arena, const tdm_cli_option *options, int argc,
                           tdm_cli_strings *operands)
{
    *operands = (tdm_cli_strings){.items = TDM_ALLOC(arena, const char *, argc)};
    for (const tdm_cli_option *option = options; option->name; option++)
        if (option->values)
            *option->values = (tdm_cli_strings){.items = TDM_ALLOC(arena, const char *, argc)};
}

int tdm_cli_parse(tdm_arena *arena, const tdm_verb *verb, const tdm_cli_option *options, int argc,
                  char **argv, size_t min_operands, size_t max_operands, tdm_cli_strings *operands)
{
    bool only_operands = false;
    allocate_lists(arena, options, argc, operands);
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (only_operands || word[0] != '-' || word[1] == '\0') {
            operands->items[operands->n++] = word;
        } else if (strcmp(word, "--") == 0) {
            only_operands = true;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            print_help(verb, options);
            return tdm_cli_finish(TDM_OK);
        } else {
            const tdm_cli_option *option = find_option(options, word);
            int code = option ? take_option(verb, option, argc, argv, &i)
                              : unknown_option(verb, options, word);
            if (code != TDM_CLI_GO_ON)
                return code;
        }
    }
    if (operands->n < min_operands)
        return tdm_cli_complain(TDM_E_INVALID, "%s: too few operands (usage: tandem %s %s)",
                                verb->name, verb->name, verb->usage);
    if (operands->n > max_operands)
        return tdm_cli_complain(TDM_E_INVALID,
                                "%s: one operand too many: '%s' (usage: tandem %s %s)", verb->name,
                                operands->items[max_operands], verb->name, verb->usage);
    return TDM_CLI_GO_ON;
}
