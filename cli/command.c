/* command.c: the command as it was given, for files that say what made them. */
#include "cli.h"

#include <string.h>

void tdm_cli_put_word(const char *word, FILE *file)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_./=:,+-%@";
    if (word[0] != '\0' && word[strspn(word, plain)] == '\0') {
        fputs(word, file);
        return;
    }
    fputc('\'', file);
    for (; *word != '\0'; word++)
        if (*word == '\'')
            fputs("'\\''", file);
        else
            fputc((unsigned char)*word < ' ' ? ' ' : *word, file);
    fputc('\'', file);
}

void tdm_cli_put_command(const tdm_cli_command *command, FILE *file)
{
    fputs("tandem", file);
    for (int i = 0; i < command->n; i++) {
        fputc(' ', file);
        tdm_cli_put_word(command->words[i], file);
    }
    fputc('\n', file);
}
