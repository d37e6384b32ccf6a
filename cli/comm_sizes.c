/* comm_sizes.c: ranges of sizes on the command line, as nccl-tests' -b, -e, -f and -i in one word.
 */
#include "comm.h"
#include "core/units.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* A size: whole bytes, or a number and its unit. The empty word is none. */
static bool read_size(const char *word, size_t length, uint64_t *bytes)
{
    char text[40];
    double value;
    char *end;
    if (length == 0 || length >= sizeof text)
        return false;
    memcpy(text, word, length);
    text[length] = '\0';
    if (!isdigit((unsigned char)text[0]))
        return false;
    value = strtod(text, &end);
    if (*end && tdm_quantity_parse(text, TDM_UNIT_BYTES, &value) != TDM_QUANTITY_OK)
        return false;
    if (!(value >= 1 && value <= 9e15))
        return false;
    *bytes = (uint64_t)value;
    return true;
}

bool tdm_comm_sizes(const char *text, uint64_t *first, uint64_t *last, uint64_t *factor,
                    uint64_t *step)
{
    size_t n = strcspn(text, ":");
    *factor = 2;
    *step = 0;
    if (!read_size(text, n, first))
        return false;
    *last = *first;
    if (!text[n])
        return true;
    text += n + 1;
    n = strcspn(text, ":+");
    if (!read_size(text, n, last) || *last < *first)
        return false;
    if (text[n] == '+')
        return read_size(text + n + 1, strlen(text + n + 1), step);
    if (text[n] == ':') {
        char *end;
        unsigned long value = strtoul(text + n + 1, &end, 10);
        if (!isdigit((unsigned char)text[n + 1]) || *end || value < 2 || value > 1000000)
            return false;
        *factor = value;
    }
    return true;
}
