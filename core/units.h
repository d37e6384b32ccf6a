/* units.h: quantities as people write them ("25us", "450GB/s", "80GiB") and back.
 * Inside the program every quantity is in SI base units: seconds, bytes, bytes/s, flop/s. */
#ifndef TDM_UNITS_H
#define TDM_UNITS_H

#include "base.h"

typedef enum tdm_unit {
    TDM_UNIT_NONE,         /* a plain number */
    TDM_UNIT_SHARE,        /* a plain number or a percentage: 0.2 or 20% */
    TDM_UNIT_SECONDS,      /* ns us ms s min h */
    TDM_UNIT_BYTES,        /* B kB MB GB TB PB (powers of 1000), KiB MiB GiB TiB PiB (of 1024) */
    TDM_UNIT_BYTES_PER_S,  /* kB/s ... TB/s, KiB/s ... TiB/s, and in bits: kbit/s Mbit/s Gbit/s
                              Tbit/s */
    TDM_UNIT_FLOPS_PER_S,  /* GFLOP/s TFLOP/s PFLOP/s, also written GFLOPS TFLOPS PFLOPS */
    TDM_UNIT_TOKENS_PER_S, /* tokens/s, ktokens/s, Mtokens/s */
    TDM_N_UNITS
} tdm_unit;

typedef enum tdm_quantity_result {
    TDM_QUANTITY_OK,
    TDM_QUANTITY_NOT_A_NUMBER,
    TDM_QUANTITY_NOT_FINITE, /* nan, inf, or too large for a double */
    TDM_QUANTITY_NO_UNIT,    /* a bare number where a unit belongs */
    TDM_QUANTITY_BAD_UNIT,   /* a number followed by something that is no unit of this kind */
} tdm_quantity_result;

/* Reads a number and its unit into base units; blanks between the two are allowed, the case of
 * letters counts. Leaves *value untouched unless the result is OK. */
tdm_quantity_result tdm_quantity_parse(const char *text, tdm_unit unit, double *value);
/* The unit by its base name as figures give it: "s", "bytes", "bytes/s", "flop/s", "tokens/s", ""
 * (a share); TDM_UNIT_NONE for any other. */
tdm_unit tdm_unit_find(const char *base_name);

/* What is accepted, for messages: "a time with its unit, as 25us (ns, us, ms, s, min, h)". */
const char *tdm_unit_expected(tdm_unit unit);

/* Writes a quantity for people with `digits` significant digits and the unit that suits its size
 * ("18.52 ms", "59.6 GiB", "33.3 %"); returns buffer. */
const char *tdm_quantity_write(char *buffer, size_t capacity, double value, tdm_unit unit,
                               int digits);

#endif
