/* plan_token.c: lines and words of plan text, and messages about them. */
#include "plan_token.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool tdm_text_fail(tdm_text_reader *r, const char *at, const char *format, ...)
{
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    tdm_error_add(r->err, TDM_E_INVALID, "%s:%u:%zu: %s", r->path, r->line_number,
                  (size_t)(at - r->line) + 1, message);
    return false;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Where the quoted text that opens at `at` goes on after its closing quote; NULL when it is not
 * closed. */
static const char *after_quotes(const char *at, const char *end)
{
    for (at++; at < end; at++) {
        if (*at == '"')
            return at + 1;
        if (*at == '\\')
            at++;
    }
    return NULL;
}

/* Control characters and open quotes are refused here, so that words cannot fail. */
static bool check_line(tdm_text_reader *r)
{
    for (const char *c = r->line; c < r->line_end; c++)
        if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
            return tdm_text_fail(
                r, c, "control character 0x%02x: lines end with 0x0a alone, text is printable",
                (unsigned)(unsigned char)*c);
    for (const char *c = r->line; c < r->line_end;) {
        const char *after = *c == '"' ? after_quotes(c, r->line_end) : c + 1;
        if (!after)
            return tdm_text_fail(r, c, "the quotes are not closed on this line");
        c = after;
    }
    return true;
}

tdm_token tdm_text_word(tdm_text_reader *r)
{
    while (r->next < r->line_end && is_blank(*r->next))
        r->next++;
    tdm_token word = {.at = r->next};
    while (r->next < r->line_end && !is_blank(*r->next))
        r->next = *r->next == '"' ? after_quotes(r->next, r->line_end) : r->next + 1;
    word.length = (size_t)(r->next - word.at);
    return word;
}

bool tdm_text_advance(tdm_text_reader *r)
{
    while (r->next_line < r->end) {
        const char *newline = memchr(r->next_line, '\n', (size_t)(r->end - r->next_line));
        r->line = r->next = r->next_line;
        r->line_end = newline ? newline : r->end;
        r->next_line = newline ? newline + 1 : r->end;
        r->line_number++;
        while (r->next < r->line_end && is_blank(*r->next))
            r->next++;
        if (r->next < r->line_end && *r->next == '#')
            continue;
        if (!check_line(r))
            return false;
        r->word = tdm_text_word(r);
        if (r->word.length > 0)
            return true;
    }
    r->line = r->line_end = r->next = r->end;
    r->line_number++;
    r->word = (tdm_token){.at = r->end};
    return true;
}

bool tdm_text_end_of_line(tdm_text_reader *r)
{
    char shown[TDM_SHOW_SIZE];
    tdm_token word = tdm_text_word(r);
    if (word.length == 0)
        return true;
    return tdm_text_fail(r, word.at, "'%s' is too much: the line should end here",
                         tdm_token_show(word, shown));
}

bool tdm_token_is(tdm_token token, const char *text)
{
    return strlen(text) == token.length && memcmp(text, token.at, token.length) == 0;
}

bool tdm_token_split(tdm_token token, tdm_token *key, tdm_token *value)
{
    const char *equals = memchr(token.at, '=', token.length);
    if (!equals)
        return false;
    *key = (tdm_token){token.at, (size_t)(equals - token.at)};
    *value = (tdm_token){equals + 1, token.length - key->length - 1};
    return true;
}

bool tdm_token_item(tdm_token *list, tdm_token *item)
{
    if (!list->at)
        return false;
    const char *c = list->at, *end = list->at + list->length;
    while (c < end && *c != ',')
        c = *c == '"' && after_quotes(c, end) ? after_quotes(c, end) : c + 1;
    *item = (tdm_token){list->at, (size_t)(c - list->at)};
    *list = c < end ? (tdm_token){c + 1, (size_t)(end - c - 1)} : (tdm_token){0};
    return true;
}

const char *tdm_token_show(tdm_token token, char buffer[TDM_SHOW_SIZE])
{
    enum { LONGEST = 40 };
    size_t n = token.length < LONGEST ? token.length : LONGEST;
    for (size_t i = 0; i < n; i++)
        if (token.at[i] < 0x20 || token.at[i] >= 0x7f)
            buffer[i] = '?';
        else
            buffer[i] = token.at[i];
    snprintf(buffer + n, TDM_SHOW_SIZE - n, "%s", token.length > n ? "..." : "");
    return buffer;
}
