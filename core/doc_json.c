/* doc_json.c: what keeps JSON from being YAML: characters that are escaped in two halves. */
#include "doc.h"

#include <string.h>

bool tdm_doc_is_json(const char *path)
{
    size_t length = strlen(path);
    return length > 5 && strcmp(path + length - 5, ".json") == 0;
}

static uint32_t digit_value(char c)
{
    return c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
           : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
           : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                  : 16;
}

/* The code unit of an escape of six characters, \uXXXX; 0 when there is none. */
static uint32_t code_unit(const char *at, const char *end)
{
    uint32_t unit = 0;
    if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
        return 0;
    for (int i = 2; i < 6; i++) {
        uint32_t digit = digit_value(at[i]);
        if (digit == 16)
            return 0;
        unit = unit << 4 | digit;
    }
    return unit;
}

/* Source: RFC 8259, section 7; ISO/IEC 10646, UTF-16. */
size_t tdm_doc_join_surrogates(char *bytes, size_t n_bytes)
{
    static const char digits[] = "0123456789abcdef";
    const char *in = bytes, *end = bytes + n_bytes;
    char *out = bytes;
    while (in < end) {
        uint32_t high = code_unit(in, end), low = high ? code_unit(in + 6, end) : 0;
        if (high >= 0xd800 && high < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
            uint32_t code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            *out++ = '\\';
            *out++ = 'U';
            for (int shift = 28; shift >= 0; shift -= 4)
                *out++ = digits[code >> shift & 15];
            in += 12;
            continue;
        }
        if (*in == '\\' && in + 1 < end) /* whatever is escaped, a backslash too */
            *out++ = *in++;
        *out++ = *in++;
    }
    return (size_t)(out - bytes);
}
