/* units.c: reads and writes quantities by one table of units. */
#include "units.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NUMBER = 100 }; /* characters of a number; longer ones are noise */

typedef struct unit_name {
    tdm_unit unit;
    const char *name;
    int exponent;  /* one of these is factor x 10^exponent base units */
    double factor; /* a power of two, so that it changes no digit, or a small whole number */
    bool shown;    /* used when writing; ascending within a unit */
} unit_name;

#define KIB 1024.0
#define MIB (1024.0 * KIB)
#define GIB (1024.0 * MIB)
#define TIB (1024.0 * GIB)
#define PIB (1024.0 * TIB)
#define BIT 0.125

static const unit_name unit_names[] = {
    {TDM_UNIT_NONE, "", 0, 1, true},

    {TDM_UNIT_SHARE, "", 0, 1, false},
    {TDM_UNIT_SHARE, "%", -2, 1, true},

    {TDM_UNIT_SECONDS, "ns", -9, 1, true},
    {TDM_UNIT_SECONDS, "us", -6, 1, true},
    {TDM_UNIT_SECONDS, "\xc2\xb5s", -6, 1, false}, /* micro sign */
    {TDM_UNIT_SECONDS, "\xce\xbcs", -6, 1, false}, /* Greek mu */
    {TDM_UNIT_SECONDS, "ms", -3, 1, true},
    {TDM_UNIT_SECONDS, "s", 0, 1, true},
    {TDM_UNIT_SECONDS, "min", 0, 60, false},
    {TDM_UNIT_SECONDS, "h", 0, 3600, false},

    {TDM_UNIT_BYTES, "B", 0, 1, true},
    {TDM_UNIT_BYTES, "kB", 3, 1, false},
    {TDM_UNIT_BYTES, "KB", 3, 1, false},
    {TDM_UNIT_BYTES, "MB", 6, 1, false},
    {TDM_UNIT_BYTES, "GB", 9, 1, false},
    {TDM_UNIT_BYTES, "TB", 12, 1, false},
    {TDM_UNIT_BYTES, "PB", 15, 1, false},
    {TDM_UNIT_BYTES, "KiB", 0, KIB, true},
    {TDM_UNIT_BYTES, "MiB", 0, MIB, true},
    {TDM_UNIT_BYTES, "GiB", 0, GIB, true},
    {TDM_UNIT_BYTES, "TiB", 0, TIB, true},
    {TDM_UNIT_BYTES, "PiB", 0, PIB, true},

    {TDM_UNIT_BYTES_PER_S, "B/s", 0, 1, true},
    {TDM_UNIT_BYTES_PER_S, "kB/s", 3, 1, true},
    {TDM_UNIT_BYTES_PER_S, "MB/s", 6, 1, true},
    {TDM_UNIT_BYTES_PER_S, "GB/s", 9, 1, true},
    {TDM_UNIT_BYTES_PER_S, "TB/s", 12, 1, true},
    {TDM_UNIT_BYTES_PER_S, "kBps", 3, 1, false},
    {TDM_UNIT_BYTES_PER_S, "MBps", 6, 1, false},
    {TDM_UNIT_BYTES_PER_S, "GBps", 9, 1, false},
    {TDM_UNIT_BYTES_PER_S, "TBps", 12, 1, false},
    {TDM_UNIT_BYTES_PER_S, "KiB/s", 0, KIB, false},
    {TDM_UNIT_BYTES_PER_S, "MiB/s", 0, MIB, false},
    {TDM_UNIT_BYTES_PER_S, "GiB/s", 0, GIB, false},
    {TDM_UNIT_BYTES_PER_S, "TiB/s", 0, TIB, false},
    {TDM_UNIT_BYTES_PER_S, "kbit/s", 3, BIT, false},
    {TDM_UNIT_BYTES_PER_S, "Mbit/s", 6, BIT, false},
    {TDM_UNIT_BYTES_PER_S, "Gbit/s", 9, BIT, false},
    {TDM_UNIT_BYTES_PER_S, "Tbit/s", 12, BIT, false},
    {TDM_UNIT_BYTES_PER_S, "Mbps", 6, BIT, false},
    {TDM_UNIT_BYTES_PER_S, "Gbps", 9, BIT, false},
    {TDM_UNIT_BYTES_PER_S, "Tbps", 12, BIT, false},

    {TDM_UNIT_FLOPS_PER_S, "GFLOP/s", 9, 1, true},
    {TDM_UNIT_FLOPS_PER_S, "TFLOP/s", 12, 1, true},
    {TDM_UNIT_FLOPS_PER_S, "PFLOP/s", 15, 1, true},
    {TDM_UNIT_FLOPS_PER_S, "GFLOPS", 9, 1, false},
    {TDM_UNIT_FLOPS_PER_S, "TFLOPS", 12, 1, false},
    {TDM_UNIT_FLOPS_PER_S, "PFLOPS", 15, 1, false},

    {TDM_UNIT_TOKENS_PER_S, "tokens/s", 0, 1, true},
    {TDM_UNIT_TOKENS_PER_S, "ktokens/s", 3, 1, false},
    {TDM_UNIT_TOKENS_PER_S, "Mtokens/s", 6, 1, false},
};

static const char *const expected[TDM_N_UNITS] = {
    [TDM_UNIT_NONE] = "a number",
    [TDM_UNIT_SHARE] = "a share, as 0.2 or 20%",
    [TDM_UNIT_SECONDS] = "a time with its unit, as 25us (ns, us, ms, s, min, h)",
    [TDM_UNIT_BYTES] =
        "a size with its unit, as 80GiB (B, kB, MB, GB, TB, PB; KiB, MiB, GiB, TiB, PiB)",
    [TDM_UNIT_BYTES_PER_S] =
        "a bandwidth with its unit, as 450GB/s or 400Gbit/s (kB/s to TB/s, KiB/s to TiB/s, "
        "kbit/s to Tbit/s)",
    [TDM_UNIT_FLOPS_PER_S] =
        "a compute rate with its unit, as 312TFLOP/s (GFLOP/s, TFLOP/s, PFLOP/s)",
    [TDM_UNIT_TOKENS_PER_S] =
        "a token rate with its unit, as 20000tokens/s (tokens/s, ktokens/s, Mtokens/s)",
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Length of the decimal number that text starts with, 0 for none. strtod alone would also take
 * hexadecimal numbers, "inf" and "nan", and an 'e' that belongs to a unit. */
static size_t number_length(const char *text)
{
    size_t i = text[0] == '+' || text[0] == '-';
    size_t n_digits = 0;
    for (; is_digit(text[i]); i++)
        n_digits++;
    if (text[i] == '.')
        for (i++; is_digit(text[i]); i++)
            n_digits++;
    if (n_digits == 0)
        return 0;
    if (text[i] == 'e' || text[i] == 'E') {
        size_t j = i + 1 + (text[i + 1] == '+' || text[i + 1] == '-');
        if (is_digit(text[j])) {
            for (i = j; is_digit(text[i]); i++)
                ;
        }
    }
    return i;
}

static bool names_no_number(const char *text)
{
    static const char *const words[] = {"nan", ".nan", "inf", ".inf", "infinity"};
    char word[16];
    size_t i = 0;
    for (text += *text == '-' || *text == '+'; text[i] && i + 1 < sizeof word; i++)
        word[i] = (char)tolower((unsigned char)text[i]);
    word[i] = '\0';
    for (i = 0; i < TDM_COUNT(words); i++)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

static const unit_name *find_name(tdm_unit unit, const char *name)
{
    for (size_t i = 0; i < TDM_COUNT(unit_names); i++)
        if (unit_names[i].unit == unit && strcmp(unit_names[i].name, name) == 0)
            return &unit_names[i];
    return NULL;
}

/* The double nearest to number x 10^exponent: 18.522ms is to be 0.018522 to the last bit,
 * which 18.522 / 1000 is not. `text` starts with a number of `length` characters. */
static double read_scaled(const char *text, size_t length, int exponent)
{
    char shifted[MAX_NUMBER + 32];
    size_t mantissa = strcspn(text, "eE");
    if (mantissa < length) {
        long own = strtol(text + mantissa + 1, NULL, 10);
        exponent += (int)(own > 9999 ? 9999 : own < -9999 ? -9999 : own);
    } else {
        mantissa = length;
    }
    snprintf(shifted, sizeof shifted, "%.*se%d", (int)mantissa, text, exponent);
    return strtod(shifted, NULL);
}

tdm_quantity_result tdm_quantity_parse(const char *text, tdm_unit unit, double *value)
{
    size_t length = number_length(text);
    if (length == 0)
        return names_no_number(text) ? TDM_QUANTITY_NOT_FINITE : TDM_QUANTITY_NOT_A_NUMBER;
    if (length > MAX_NUMBER)
        return TDM_QUANTITY_NOT_A_NUMBER;
    const char *name = text + length;
    while (*name == ' ')
        name++;
    const unit_name *found = find_name(unit, name);
    if (!found)
        return name[0] ? TDM_QUANTITY_BAD_UNIT : TDM_QUANTITY_NO_UNIT;
    double scaled = read_scaled(text, length, found->exponent) * found->factor;
    if (!isfinite(scaled))
        return TDM_QUANTITY_NOT_FINITE;
    *value = scaled;
    return TDM_QUANTITY_OK;
}

tdm_unit tdm_unit_find(const char *base_name)
{
    static const struct {
        const char *name;
        tdm_unit unit;
    } bases[] = {
        {"", TDM_UNIT_SHARE},
        {"s", TDM_UNIT_SECONDS},
        {"bytes", TDM_UNIT_BYTES},
        {"bytes/s", TDM_UNIT_BYTES_PER_S},
        {"flop/s", TDM_UNIT_FLOPS_PER_S},
        {"tokens/s", TDM_UNIT_TOKENS_PER_S},
    };
    for (size_t i = 0; i < TDM_COUNT(bases); i++)
        if (strcmp(bases[i].name, base_name) == 0)
            return bases[i].unit;
    return TDM_UNIT_NONE;
}

const char *tdm_unit_expected(tdm_unit unit)
{
    assert((unsigned)unit < TDM_N_UNITS);
    return expected[unit];
}

/* Writes with `digits` significant digits, without an exponent. */
static void write_number(char *buffer, size_t capacity, double value, int digits)
{
    char scientific[64]; /* rounding may carry into the next power of ten: ask printf */
    snprintf(scientific, sizeof scientific, "%.*e", digits > 1 ? digits - 1 : 0, value);
    int decimals = digits - 1 - (int)strtol(strchr(scientific, 'e') + 1, NULL, 10);
    if (decimals < 0)
        decimals = 0;
    if (decimals > 24)
        decimals = 24;
    snprintf(buffer, capacity, "%.*f", decimals, value);
}

/* The value in units of `name`. */
static double in_units(double value, const unit_name *name)
{
    double power = pow(10, abs(name->exponent));
    return (name->exponent < 0 ? value * power : value / power) / name->factor;
}

const char *tdm_quantity_write(char *buffer, size_t capacity, double value, tdm_unit unit,
                               int digits)
{
    assert((unsigned)unit < TDM_N_UNITS && capacity > 0 && digits > 0 && digits <= 17);
    if (!isfinite(value)) {
        snprintf(buffer, capacity, "%s",
                 isnan(value) ? "unknown"
                 : value > 0  ? "infinite"
                              : "-infinite");
        return buffer;
    }
    char number[352]; /* the largest double has 309 digits before its point */
    const unit_name *chosen = NULL;
    double step = unit == TDM_UNIT_BYTES ? 1024 : 1000;
    for (size_t i = 0; i < TDM_COUNT(unit_names); i++) {
        const unit_name *name = &unit_names[i];
        if (name->unit != unit || !name->shown)
            continue;
        if (chosen && fabs(strtod(number, NULL)) < step)
            break; /* as written, so that 999.996 ns becomes 1.000 us */
        chosen = name;
        write_number(number, sizeof number, in_units(value, name), digits);
    }
    assert(chosen);
    if (unit == TDM_UNIT_BYTES && chosen->factor == 1)
        snprintf(number, sizeof number, "%.0f", value);
    snprintf(buffer, capacity, "%s%s%s", number, chosen->name[0] ? " " : "", chosen->name);
    return buffer;
}
