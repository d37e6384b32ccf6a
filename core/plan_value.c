/* plan_value.c: typed values of plan text. */
#include "plan_token.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool digits(tdm_token token, uint64_t max, uint64_t *value)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < token.length; i++) {
        if (token.at[i] < '0' || token.at[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(token.at[i] - '0');
        if (sum > (UINT64_MAX - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return token.length > 0 && sum <= max;
}

bool tdm_text_number(tdm_text_reader *r, const char *key, tdm_token token, uint64_t max,
                     uint64_t *value)
{
    char shown[TDM_SHOW_SIZE];
    uint64_t result;
    if (!digits(token, max, &result))
        return tdm_text_fail(r, token.at, "%s: '%s' is not a whole number from 0 to %" PRIu64, key,
                             tdm_token_show(token, shown), max);
    *value = result;
    return true;
}

static bool read_real(tdm_text_reader *r, const char *key, tdm_token token, double *value)
{
    char text[48], shown[TDM_SHOW_SIZE], *end = text;
    double result = -1.0;
    bool fits = token.length > 0 && token.length < sizeof text;
    if (fits) {
        memcpy(text, token.at, token.length);
        text[token.length] = '\0';
        if (strspn(text, "0123456789.e+-") == token.length)
            result = strtod(text, &end);
    }
    if (!fits || *end != '\0' || !isfinite(result) || result < 0.0)
        return tdm_text_fail(r, token.at, "%s: '%s' is not a finite number of at least 0", key,
                             tdm_token_show(token, shown));
    *value = result;
    return true;
}

/* One term of a size: a number, or so many by token or by row received. Each kind comes once, in
 * this order: `last` is the kind of the term before. */
static bool read_term(tdm_token term, tdm_size *size, int *last)
{
    static const char *const suffixes[] = {"", "/token", "/received"};
    uint64_t *const places[] = {&size->fixed, &size->per_token, &size->per_received};
    int kind = (int)TDM_COUNT(suffixes) - 1;
    for (; kind > 0; kind--) {
        size_t n = strlen(suffixes[kind]);
        if (term.length >= n && memcmp(term.at + term.length - n, suffixes[kind], n) == 0) {
            term.length -= n;
            break;
        }
    }
    bool in_order = kind > *last;
    *last = kind;
    return in_order && digits(term, UINT64_MAX, places[kind]);
}

static bool read_size(tdm_text_reader *r, const char *key, tdm_token token, tdm_size *size)
{
    char shown[TDM_SHOW_SIZE];
    tdm_size result = {0};
    tdm_token rest = token;
    bool good = true, more = true;
    for (int last = -1; good && more;) {
        const char *plus = memchr(rest.at, '+', rest.length);
        size_t n = plus ? (size_t)(plus - rest.at) : rest.length;
        good = read_term((tdm_token){rest.at, n}, &result, &last);
        more = plus != NULL;
        if (more)
            rest = (tdm_token){plus + 1, rest.length - n - 1};
    }
    if (!good)
        return tdm_text_fail(r, token.at, "%s: '%s' is not a size: 4096, 32/token or 4096+32/token",
                             key, tdm_token_show(token, shown));
    *size = result;
    return true;
}

/* ---- names ---- */

static bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("_./-", c));
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Bytes of one escape, 0 when it is none; *c gets what it stands for. */
static size_t read_escape(const char *at, const char *end, char *c)
{
    if (end - at >= 2 && (at[1] == '"' || at[1] == '\\')) {
        *c = at[1];
        return 2;
    }
    if (end - at >= 4 && at[1] == 'x' && hex_digit(at[2]) >= 0 && hex_digit(at[3]) >= 0) {
        *c = (char)(hex_digit(at[2]) * 16 + hex_digit(at[3]));
        return *c != '\0' ? 4 : 0;
    }
    return 0;
}

static bool read_quoted(tdm_text_reader *r, const char *key, tdm_token token, const char **name)
{
    char *text = tdm_arena_alloc(r->arena, token.length);
    size_t n = 0;
    const char *at = token.at + 1, *end = token.at + token.length - 1;
    while (at < end) {
        size_t step = 1;
        text[n] = *at;
        if (*at == '\\')
            step = read_escape(at, end, &text[n]);
        if (step == 0)
            return tdm_text_fail(
                r, at, "%s: unknown escape (accepted: \\\" \\\\ and \\x01 to \\xff)", key);
        n++;
        at += step;
    }
    text[n] = '\0';
    *name = text;
    return true;
}

/* Whether the token is one pair of quotes with what is between them. */
static bool is_quoted(tdm_token token)
{
    if (token.length < 2 || token.at[0] != '"')
        return false;
    for (size_t i = 1; i < token.length; i++) {
        if (token.at[i] == '"')
            return i + 1 == token.length;
        if (token.at[i] == '\\')
            i++;
    }
    return false;
}

bool tdm_text_name(tdm_text_reader *r, const char *key, tdm_token token, const char **name)
{
    char shown[TDM_SHOW_SIZE];
    if (is_quoted(token))
        return read_quoted(r, key, token, name);
    size_t n = 0;
    while (n < token.length && is_word_char(token.at[n]))
        n++;
    if (token.length == 0)
        return tdm_text_fail(r, token.at, "%s is missing", key);
    if (n < token.length || token.at[0] == '-')
        return tdm_text_fail(
            r, token.at,
            "%s: '%s' is not a name: letters, digits, _ . / - or anything in double quotes", key,
            tdm_token_show(token, shown));
    *name = tdm_arena_strndup(r->arena, token.at, token.length);
    return true;
}

bool tdm_text_choice(tdm_text_reader *r, const char *key, tdm_token token,
                     const tdm_text_names *names, unsigned *value)
{
    char shown[TDM_SHOW_SIZE], list[256] = "";
    size_t length = 0;
    for (unsigned i = 0; i < names->n; i++) {
        if (tdm_token_is(token, names->name(i))) {
            *value = i;
            return true;
        }
        if (length < sizeof list)
            length += (size_t)snprintf(list + length, sizeof list - length, "%s%s",
                                       i > 0 ? ", " : "", names->name(i));
    }
    return tdm_text_fail(r, token.at, "%s: '%s' is not one of %s", key,
                         tdm_token_show(token, shown), list);
}

/* ---- fields ---- */

static bool read_bool(tdm_text_reader *r, const char *key, tdm_token token, bool *value)
{
    char shown[TDM_SHOW_SIZE];
    if (!tdm_token_is(token, "yes") && !tdm_token_is(token, "no"))
        return tdm_text_fail(r, token.at, "%s: '%s' is neither yes nor no", key,
                             tdm_token_show(token, shown));
    *value = tdm_token_is(token, "yes");
    return true;
}

static bool read_field(tdm_text_reader *r, const tdm_text_field *field, tdm_token value, void *at)
{
    uint64_t number = 0;
    switch (field->type) {
    case TDM_TEXT_U32:
        if (!tdm_text_number(r, field->key, value, UINT32_MAX, &number))
            return false;
        *(uint32_t *)at = (uint32_t)number;
        return true;
    case TDM_TEXT_U64:
        return tdm_text_number(r, field->key, value, UINT64_MAX, at);
    case TDM_TEXT_BOOL:
        return read_bool(r, field->key, value, at);
    case TDM_TEXT_REAL:
        return read_real(r, field->key, value, at);
    case TDM_TEXT_ENUM:
        return tdm_text_choice(r, field->key, value, field->names, at);
    case TDM_TEXT_SIZE:
        return read_size(r, field->key, value, at);
    case TDM_TEXT_STRING:
        return tdm_text_name(r, field->key, value, at);
    }
    assert(!"unknown field type");
    return false;
}

static void store_fallback(const tdm_text_field *field, void *at)
{
    uint64_t wide = field->fallback;
    double real = field->fallback;
    if (field->type == TDM_TEXT_BOOL)
        *(bool *)at = field->fallback != 0;
    else if (field->type == TDM_TEXT_U64)
        memcpy(at, &wide, sizeof wide);
    else if (field->type == TDM_TEXT_REAL)
        memcpy(at, &real, sizeof real);
    else
        memcpy(at, &field->fallback, sizeof field->fallback);
}

tdm_taken tdm_text_take(tdm_text_reader *r, tdm_token key, tdm_token value,
                        const tdm_text_field *fields, void *base, uint64_t *seen)
{
    for (uint32_t i = 0; fields[i].key; i++) {
        if (!tdm_token_is(key, fields[i].key))
            continue;
        if (*seen & UINT64_C(1) << i) {
            tdm_text_fail(r, key.at, "%s stands here twice", fields[i].key);
            return TDM_TAKE_FAILED;
        }
        *seen |= UINT64_C(1) << i;
        bool good = read_field(r, &fields[i], value, (char *)base + fields[i].offset);
        return good ? TDM_TAKEN : TDM_TAKE_FAILED;
    }
    return TDM_NOT_IN_TABLE;
}

bool tdm_text_complete(tdm_text_reader *r, const char *what, const tdm_text_field *fields,
                       void *base, uint64_t seen)
{
    for (uint32_t i = 0; fields[i].key; i++) {
        if (seen & UINT64_C(1) << i)
            continue;
        if (!fields[i].optional)
            return tdm_text_fail(r, r->line_end, "%s: %s= is missing", what, fields[i].key);
        store_fallback(&fields[i], (char *)base + fields[i].offset);
    }
    return true;
}

bool tdm_text_unknown(tdm_text_reader *r, const char *what, tdm_token word,
                      const tdm_text_field *fields)
{
    char shown[TDM_SHOW_SIZE], list[384] = "";
    size_t length = 0;
    for (uint32_t i = 0; fields[i].key && length < sizeof list; i++)
        length += (size_t)snprintf(list + length, sizeof list - length, "%s%s=", i > 0 ? " " : "",
                                   fields[i].key);
    return tdm_text_fail(r, word.at, "%s: '%s' is not one of its keys: %s", what,
                         tdm_token_show(word, shown), list);
}

bool tdm_text_fields(tdm_text_reader *r, const char *what, const tdm_text_field *fields, void *base)
{
    uint64_t seen = 0;
    for (tdm_token word = tdm_text_word(r); word.length > 0; word = tdm_text_word(r)) {
        tdm_token key, value;
        tdm_taken taken = TDM_NOT_IN_TABLE;
        if (tdm_token_split(word, &key, &value))
            taken = tdm_text_take(r, key, value, fields, base, &seen);
        if (taken == TDM_TAKE_FAILED)
            return false;
        if (taken == TDM_NOT_IN_TABLE)
            return tdm_text_unknown(r, what, word, fields);
    }
    return tdm_text_complete(r, what, fields, base, seen);
}
