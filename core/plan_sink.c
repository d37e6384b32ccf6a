/* plan_sink.c: what plan text is made of: characters, numbers, names, fields. */
#include "plan_sink.h"

#include <string.h>

/* Prime of FNV-1a, 64 bits. Source: isthe.com/chongo/tech/comp/fnv. */
#define FNV_PRIME UINT64_C(0x100000001b3)

void tdm_sink_flush(tdm_sink *s)
{
    if (s->file)
        fwrite(s->buffer, 1, s->used, s->file);
    uint64_t hash = s->hash;
    for (size_t i = 0; s->hashes && i < s->used; i++)
        hash = (hash ^ (unsigned char)s->buffer[i]) * FNV_PRIME;
    s->hash = hash;
    s->used = 0;
}

void tdm_put_char(tdm_sink *s, char c)
{
    if (s->used == sizeof s->buffer)
        tdm_sink_flush(s);
    s->buffer[s->used++] = c;
}

void tdm_put(tdm_sink *s, const char *text)
{
    for (; *text; text++)
        tdm_put_char(s, *text);
}

void tdm_put_number(tdm_sink *s, uint64_t value)
{
    char digits[20];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n > 0)
        tdm_put_char(s, digits[--n]);
}

static bool is_bare_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("_./-", c));
}

/* Whether the reader takes the name for a name without quotes around it. */
static bool is_bare(const char *name)
{
    if (name[0] == '\0' || name[0] == '-' || strncmp(name, "next.", 5) == 0)
        return false;
    while (is_bare_char(*name))
        name++;
    return *name == '\0';
}

void tdm_put_name(tdm_sink *s, const char *name)
{
    if (!name)
        name = "";
    if (is_bare(name)) {
        tdm_put(s, name);
        return;
    }
    static const char hex[] = "0123456789abcdef";
    tdm_put_char(s, '"');
    for (; *name; name++) {
        unsigned char c = (unsigned char)*name;
        if (c == '"' || c == '\\') {
            tdm_put_char(s, '\\');
            tdm_put_char(s, (char)c);
        } else if (c < 0x20 || c == 0x7f) {
            tdm_put(s, "\\x");
            tdm_put_char(s, hex[c >> 4]);
            tdm_put_char(s, hex[c & 15]);
        } else {
            tdm_put_char(s, (char)c);
        }
    }
    tdm_put_char(s, '"');
}

static void put_real(tdm_sink *s, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.17g", value);
    tdm_put(s, text);
}

static void put_size(tdm_sink *s, tdm_size size)
{
    const struct {
        uint64_t number;
        const char *suffix;
    } terms[] = {{size.fixed, ""}, {size.per_token, "/token"}, {size.per_received, "/received"}};
    bool first = true;
    for (size_t i = 0; i < TDM_COUNT(terms); i++) {
        if (terms[i].number == 0 && (i > 0 || tdm_size_varies(size)))
            continue;
        if (!first)
            tdm_put_char(s, '+');
        first = false;
        tdm_put_number(s, terms[i].number);
        tdm_put(s, terms[i].suffix);
    }
}

/* An integer, bool or enum at this place. */
static uint64_t load(const tdm_text_field *field, const void *at)
{
    uint32_t u32;
    uint64_t u64;
    bool flag;
    switch (field->type) {
    case TDM_TEXT_U64:
        memcpy(&u64, at, sizeof u64);
        return u64;
    case TDM_TEXT_BOOL:
        memcpy(&flag, at, sizeof flag);
        return flag;
    default:
        memcpy(&u32, at, sizeof u32);
        return u32;
    }
}

/* Whether an optional field has the value that reading assumes without it. */
static bool has_fallback(const tdm_text_field *field, const void *at)
{
    double real;
    if (field->type != TDM_TEXT_REAL)
        return load(field, at) == field->fallback;
    memcpy(&real, at, sizeof real);
    return !(real < field->fallback) && !(real > field->fallback);
}

static void put_value(tdm_sink *s, const tdm_text_field *field, const void *at)
{
    switch (field->type) {
    case TDM_TEXT_U32:
    case TDM_TEXT_U64:
        tdm_put_number(s, load(field, at));
        break;
    case TDM_TEXT_BOOL:
        tdm_put(s, load(field, at) ? "yes" : "no");
        break;
    case TDM_TEXT_REAL:
        put_real(s, *(const double *)at);
        break;
    case TDM_TEXT_ENUM:
        tdm_put(s, field->names->name((unsigned)load(field, at)));
        break;
    case TDM_TEXT_SIZE:
        put_size(s, *(const tdm_size *)at);
        break;
    case TDM_TEXT_STRING:
        tdm_put_name(s, *(const char *const *)at);
        break;
    }
}

void tdm_put_fields(tdm_sink *s, const tdm_text_field *fields, const void *base)
{
    for (const tdm_text_field *field = fields; field->key; field++) {
        const void *at = (const char *)base + field->offset;
        if (field->optional && has_fallback(field, at))
            continue;
        tdm_put_char(s, ' ');
        tdm_put(s, field->key);
        tdm_put_char(s, '=');
        put_value(s, field, at);
    }
}
