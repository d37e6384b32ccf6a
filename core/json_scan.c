/* json_scan.c: a pull scanner for JSON. Source: RFC 8259. */
#include "json_scan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

tdm_json tdm_json_begin(const char *text, size_t n_bytes)
{
    return (tdm_json){.begin = text, .at = text, .end = text + n_bytes};
}

static tdm_json_piece bad(tdm_json *json, const char *problem)
{
    if (!json->problem)
        json->problem = problem;
    return TDM_JSON_BAD;
}

static void skip_blanks(tdm_json *json)
{
    while (json->at < json->end &&
           (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t'))
        json->at++;
}

/* The text between quotes; `at` stands on the first one. */
static bool take_string(tdm_json *json)
{
    const char *from = ++json->at;
    while (json->at < json->end && *json->at != '"') {
        bool escaped = *json->at == '\\' && json->end - json->at > 1;
        json->at += escaped ? 2 : 1;
    }
    if (json->at == json->end)
        return false;
    json->text = from;
    json->length = (size_t)(json->at - from);
    json->at++;
    return true;
}

static bool is_plain(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '-' || c == '+';
}

static tdm_json_piece take_plain(tdm_json *json)
{
    const char *from = json->at;
    while (json->at < json->end && is_plain(*json->at))
        json->at++;
    json->text = from;
    json->length = (size_t)(json->at - from);
    if (json->length == 0)
        return bad(json, "a value was expected");
    json->after_value = true;
    return (*from >= '0' && *from <= '9') || *from == '-' ? TDM_JSON_NUMBER : TDM_JSON_WORD;
}

static tdm_json_piece open_level(tdm_json *json, bool object)
{
    if (json->depth == TDM_JSON_MAX_DEPTH)
        return bad(json, "nested too deeply");
    json->at++;
    json->is_object[json->depth++] = object;
    json->after_value = json->after_key = false;
    return object ? TDM_JSON_OBJECT : TDM_JSON_ARRAY;
}

static tdm_json_piece close_level(tdm_json *json, bool object)
{
    if (json->depth == 0 || json->is_object[json->depth - 1] != object || json->after_key)
        return bad(json, "a bracket closes what is not open");
    json->at++;
    json->depth--;
    json->after_value = true;
    json->after_key = false;
    return object ? TDM_JSON_OBJECT_END : TDM_JSON_ARRAY_END;
}

static tdm_json_piece take_key(tdm_json *json)
{
    if (*json->at != '"')
        return bad(json, "a key in quotes was expected");
    if (!take_string(json))
        return bad(json, "the text ends inside a string");
    const char *text = json->text;
    size_t length = json->length;
    skip_blanks(json);
    if (json->at == json->end || *json->at != ':')
        return bad(json, "a colon was expected");
    json->at++;
    json->text = text;
    json->length = length;
    json->after_key = true;
    return TDM_JSON_KEY;
}

static tdm_json_piece take_value(tdm_json *json)
{
    json->after_key = false;
    if (*json->at == '{' || *json->at == '[')
        return open_level(json, *json->at == '{');
    if (*json->at != '"')
        return take_plain(json);
    if (!take_string(json))
        return bad(json, "the text ends inside a string");
    json->after_value = true;
    return TDM_JSON_STRING;
}

tdm_json_piece tdm_json_next(tdm_json *json)
{
    if (json->problem)
        return TDM_JSON_BAD;
    skip_blanks(json);
    if (json->depth == 0 && json->after_value)
        return json->at == json->end ? TDM_JSON_END : bad(json, "text after the end");
    if (json->at == json->end)
        return bad(json, "the text ends too early");
    if (*json->at == '}' || *json->at == ']')
        return close_level(json, *json->at == '}');
    if (json->after_value) {
        if (*json->at != ',')
            return bad(json, "a comma was expected");
        json->at++;
        json->after_value = false;
        skip_blanks(json);
        if (json->at == json->end)
            return bad(json, "the text ends too early");
    }
    bool wants_key = json->depth > 0 && json->is_object[json->depth - 1] && !json->after_key;
    return wants_key ? take_key(json) : take_value(json);
}

bool tdm_json_skip(tdm_json *json)
{
    uint32_t depth = json->depth;
    do {
        tdm_json_piece piece = tdm_json_next(json);
        if (piece == TDM_JSON_BAD || piece == TDM_JSON_END)
            return false;
    } while (json->depth > depth || json->after_key);
    return true;
}

bool tdm_json_is(const tdm_json *json, const char *word)
{
    return strlen(word) == json->length && memcmp(word, json->text, json->length) == 0;
}

/* Digits from *at on, appended to *value; those beyond the first `most` are passed over. False when
 * there is none, or when the value does not fit. */
static bool take_digits(const char **at, const char *end, size_t most, int64_t *value)
{
    size_t n = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++, n++) {
        if (n >= most)
            continue;
        if (*value > INT64_MAX / 10 - 1)
            return false;
        *value = 10 * *value + (**at - '0');
    }
    for (size_t missing = n; missing < most && most < SIZE_MAX; missing++) {
        if (*value > INT64_MAX / 10 - 1)
            return false;
        *value *= 10;
    }
    return n > 0;
}

/* With an exponent, the precision of a double has to do. */
static bool through_double(const tdm_json *json, int64_t *value)
{
    char text[64], *end;
    if (json->length >= sizeof text)
        return false;
    memcpy(text, json->text, json->length);
    text[json->length] = '\0';
    double number = 1000 * strtod(text, &end);
    if (*end || !(fabs(number) < 9e18))
        return false;
    *value = (int64_t)floor(number);
    return true;
}

bool tdm_json_thousandths(const tdm_json *json, int64_t *value)
{
    const char *at = json->text, *end = json->text + json->length;
    if (memchr(at, 'e', json->length) || memchr(at, 'E', json->length))
        return through_double(json, value);
    bool negative = at < end && *at == '-';
    int64_t sum = 0;
    at += negative;
    if (!take_digits(&at, end, SIZE_MAX, &sum))
        return false;
    bool fraction = at < end && *at == '.';
    at += fraction;
    static const char no_digits[] = "000";
    const char *zeros = no_digits;
    if (!take_digits(fraction ? &at : &zeros, fraction ? end : zeros + 3, 3, &sum) || at != end)
        return false;
    *value = negative ? -sum : sum;
    return true;
}

bool tdm_json_int(const tdm_json *json, int64_t *value)
{
    const char *at = json->text, *end = json->text + json->length;
    bool negative = at < end && *at == '-';
    int64_t sum = 0;
    at += negative;
    if (!take_digits(&at, end, SIZE_MAX, &sum) || at != end)
        return false;
    *value = negative ? -sum : sum;
    return true;
}

uint32_t tdm_json_line(const tdm_json *json)
{
    uint32_t line = 1;
    for (const char *c = json->begin; c < json->at && c < json->end; c++)
        line += *c == '\n';
    return line;
}
