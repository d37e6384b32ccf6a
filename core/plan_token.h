/* plan_token.h: the tokenizer of plan text: lines, words, key=value pairs and typed values, with a
 * message at path:line:column for whatever does not fit. Private to plan_read*.c. Functions that
 * return bool return false after adding a message. */
#ifndef TDM_PLAN_TOKEN_H
#define TDM_PLAN_TOKEN_H

#include "plan_format.h"

/* A piece of the text; length 0: none. */
typedef struct tdm_token {
    const char *at;
    size_t length;
} tdm_token;

typedef struct tdm_text_reader {
    tdm_arena *arena;
    const char *path;
    tdm_error *err;
    const char *next_line, *end; /* of the text */
    const char *line, *line_end; /* the current line */
    const char *next;            /* its next word starts here or later */
    uint32_t line_number;
    tdm_token word; /* first word of the current line; length 0 at the end of the text */
} tdm_text_reader;

/* Goes to the next line that holds a word, takes its first word into r->word. */
bool tdm_text_advance(tdm_text_reader *r);
/* The next word of the line; length 0 at its end. Blanks inside quotes do not end a word. */
tdm_token tdm_text_word(tdm_text_reader *r);
/* Fails when the line goes on. */
bool tdm_text_end_of_line(tdm_text_reader *r);
/* Adds path:line:column and the message; `at` lies on the current line. */
bool tdm_text_fail(tdm_text_reader *r, const char *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

bool tdm_token_is(tdm_token token, const char *text);
/* Splits key=value; false (no message) when there is no '='. */
bool tdm_token_split(tdm_token token, tdm_token *key, tdm_token *value);
/* Takes the first item of a comma-separated list off it; false when the list is used up. */
bool tdm_token_item(tdm_token *list, tdm_token *item);
/* The token for a message: printable, cut when long. */
enum { TDM_SHOW_SIZE = 64 };
const char *tdm_token_show(tdm_token token, char buffer[TDM_SHOW_SIZE]);

/* Values. `key` is what messages call the value. */
bool tdm_text_number(tdm_text_reader *r, const char *key, tdm_token token, uint64_t max,
                     uint64_t *value);
bool tdm_text_name(tdm_text_reader *r, const char *key, tdm_token token, const char **name);
bool tdm_text_choice(tdm_text_reader *r, const char *key, tdm_token token,
                     const tdm_text_names *names, unsigned *value);

/* Stores the pair when its key is in the table, and marks the field in *seen. */
typedef enum tdm_taken { TDM_TAKEN, TDM_NOT_IN_TABLE, TDM_TAKE_FAILED } tdm_taken;
tdm_taken tdm_text_take(tdm_text_reader *r, tdm_token key, tdm_token value,
                        const tdm_text_field *fields, void *base, uint64_t *seen);
/* Gives optional fields that were not seen their fallback; fails when another is missing. */
bool tdm_text_complete(tdm_text_reader *r, const char *what, const tdm_text_field *fields,
                       void *base, uint64_t seen);
/* Message for a word that no table has. */
bool tdm_text_unknown(tdm_text_reader *r, const char *what, tdm_token word,
                      const tdm_text_field *fields);
/* Reads the rest of the line as the fields of one table. */
bool tdm_text_fields(tdm_text_reader *r, const char *what, const tdm_text_field *fields,
                     void *base);

#endif
