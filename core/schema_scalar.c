/* schema_scalar.c: reads one scalar as its field wants it. */
#include "schema.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define LARGEST_EXACT 9007199254740992.0 /* 2^53: every whole number up to here is a double */

/* "KEY: VALUE: expected WHAT", with the value as the user wrote it. */
static tdm_code reject(const tdm_node *node, tdm_error *err, const char *expected)
{
    char quoted[TDM_QUOTE_SIZE];
    return tdm_node_error(node, err, "%s: expected %s", tdm_node_quote(quoted, node->text),
                          expected);
}

static double upper_limit(const tdm_field *field)
{
    if (field->max != 0)
        return field->max;
    switch (field->type) {
    case TDM_FIELD_UINT32:
        return UINT32_MAX;
    case TDM_FIELD_UINT64:
    case TDM_FIELD_BYTES:
        return LARGEST_EXACT;
    default:
        return INFINITY;
    }
}

static tdm_code reject_whole(const tdm_field *field, const tdm_node *node, tdm_error *err)
{
    char expected[96];
    snprintf(expected, sizeof expected, "a whole number from %.0f to %.0f", field->min,
             upper_limit(field));
    return reject(node, err, expected);
}

static tdm_code read_whole(const tdm_field *field, const tdm_node *node, uint64_t *out,
                           tdm_error *err)
{
    uint64_t value = 0;
    const char *c = node->text;
    for (; *c >= '0' && *c <= '9' && value < (uint64_t)1 << 53; c++)
        value = value * 10 + (uint64_t)(*c - '0');
    if (c == node->text || *c || (double)value < field->min || (double)value > upper_limit(field))
        return reject_whole(field, node, err);
    *out = value;
    return TDM_OK;
}

/* A limit in the field's unit, as it is written: "1us", "0". */
static const char *write_limit(char *buffer, size_t capacity, double value, tdm_unit unit)
{
    if (unit == TDM_UNIT_NONE || unit == TDM_UNIT_SHARE || value == 0)
        snprintf(buffer, capacity, "%g", value);
    else
        tdm_quantity_write(buffer, capacity, value, unit, 4);
    return buffer;
}

static tdm_code reject_range(const tdm_field *field, tdm_unit unit, const tdm_node *node,
                             tdm_error *err)
{
    char low[64], high[64], expected[192];
    double largest = upper_limit(field);
    write_limit(low, sizeof low, field->min, unit);
    write_limit(high, sizeof high, largest, unit);
    if (field->positive && isfinite(largest))
        snprintf(expected, sizeof expected, "a value above 0 and at most %s", high);
    else if (field->positive)
        snprintf(expected, sizeof expected, "a value above 0");
    else if (isfinite(largest))
        snprintf(expected, sizeof expected, "a value from %s to %s", low, high);
    else
        snprintf(expected, sizeof expected, "a value of at least %s", low);
    return reject(node, err, expected);
}

static tdm_code read_quantity(const tdm_field *field, tdm_unit unit, const tdm_node *node,
                              double *out, tdm_error *err)
{
    double value = 0;
    char quoted[TDM_QUOTE_SIZE];
    const char *expected = tdm_unit_expected(unit);
    switch (tdm_quantity_parse(node->text, unit, &value)) {
    case TDM_QUANTITY_OK:
        break;
    case TDM_QUANTITY_NO_UNIT:
        return tdm_node_error(node, err, "%s: the unit is missing; expected %s",
                              tdm_node_quote(quoted, node->text), expected);
    case TDM_QUANTITY_BAD_UNIT:
        if (unit == TDM_UNIT_NONE)
            return reject(node, err, "a plain number without a unit");
        return tdm_node_error(node, err, "%s: unknown unit; expected %s",
                              tdm_node_quote(quoted, node->text), expected);
    case TDM_QUANTITY_NOT_FINITE:
        return tdm_node_error(node, err, "%s: not a finite number; expected %s",
                              tdm_node_quote(quoted, node->text), expected);
    case TDM_QUANTITY_NOT_A_NUMBER:
        return reject(node, err, expected);
    }
    if (value < field->min || value > upper_limit(field) || (field->positive && value <= 0))
        return reject_range(field, unit, node, err);
    *out = value;
    return TDM_OK;
}

static tdm_code read_bytes(const tdm_field *field, const tdm_node *node, uint64_t *out,
                           tdm_error *err)
{
    double value;
    tdm_code code = read_quantity(field, TDM_UNIT_BYTES, node, &value, err);
    if (code != TDM_OK)
        return code;
    *out = (uint64_t)llround(value);
    return TDM_OK;
}

static bool is_word(const char *text, const char *lower, const char *capital, const char *upper)
{
    return strcmp(text, lower) == 0 || strcmp(text, capital) == 0 || strcmp(text, upper) == 0;
}

static tdm_code read_bool(const tdm_node *node, bool *out, tdm_error *err)
{
    bool yes = is_word(node->text, "true", "True", "TRUE");
    if (!yes && !is_word(node->text, "false", "False", "FALSE"))
        return reject(node, err, "true or false");
    *out = yes;
    return TDM_OK;
}

static tdm_code reject_choice(const tdm_field *field, const tdm_node *node, tdm_error *err)
{
    enum { MAX_NAMES = 32 };
    const char *names[MAX_NAMES];
    char list[512] = "", quoted[TDM_QUOTE_SIZE];
    size_t n = 0, length = 0;
    for (const tdm_choice *choice = field->choices; choice->name && n < MAX_NAMES; choice++) {
        names[n++] = choice->name;
        if (!choice->hidden && length < sizeof list)
            length += (size_t)snprintf(list + length, sizeof list - length, "%s%s",
                                       length ? ", " : "", choice->name);
    }
    const char *near = tdm_suggest(node->text, names, n);
    return tdm_node_error(node, err, "%s: expected one of %s%s%s%s",
                          tdm_node_quote(quoted, node->text), list, near ? " (did you mean " : "",
                          near ? near : "", near ? "?)" : "");
}

static tdm_code read_choice(const tdm_field *field, const tdm_node *node, int *out, tdm_error *err)
{
    for (const tdm_choice *choice = field->choices; choice->name; choice++)
        if (strcmp(choice->name, node->text) == 0) {
            *out = choice->value;
            return TDM_OK;
        }
    return reject_choice(field, node, err);
}

static const char *expected_scalar(const tdm_field *field)
{
    switch (field->type) {
    case TDM_FIELD_NUMBER:
        return tdm_unit_expected(field->unit);
    case TDM_FIELD_BYTES:
        return tdm_unit_expected(TDM_UNIT_BYTES);
    case TDM_FIELD_TEXT:
        return "a text";
    case TDM_FIELD_BOOL:
        return "true or false";
    case TDM_FIELD_CHOICE:
        return "a single word";
    default:
        return "a whole number";
    }
}

tdm_code tdm_schema_scalar(tdm_arena *arena, const tdm_field *field, const tdm_node *node,
                           void *out, tdm_error *err)
{
    if (node->kind != TDM_NODE_SCALAR)
        return tdm_node_error(node, err, "a %s: expected %s",
                              node->kind == TDM_NODE_MAP ? "map" : "list", expected_scalar(field));
    if (!node->text[0])
        return tdm_node_error(node, err, "no value given: expected %s", expected_scalar(field));
    uint64_t whole = 0;
    switch (field->type) {
    case TDM_FIELD_TEXT:
        *(const char **)out = tdm_arena_strdup(arena, node->text);
        return TDM_OK;
    case TDM_FIELD_BOOL:
        return read_bool(node, out, err);
    case TDM_FIELD_UINT32:
        if (read_whole(field, node, &whole, err) != TDM_OK)
            return TDM_E_INVALID;
        *(uint32_t *)out = (uint32_t)whole;
        return TDM_OK;
    case TDM_FIELD_UINT64:
        return read_whole(field, node, out, err);
    case TDM_FIELD_NUMBER:
        return read_quantity(field, field->unit, node, out, err);
    case TDM_FIELD_BYTES:
        return read_bytes(field, node, out, err);
    case TDM_FIELD_CHOICE:
        return read_choice(field, node, out, err);
    default:
        assert(!"not a scalar field");
        return TDM_E_INTERNAL;
    }
}
