/* test_units.c: quantities in, quantities out. */
#include "core/units.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void reads_units_exactly(void **state)
{
    (void)state;
    const struct {
        const char *text;
        tdm_unit unit;
        double value;
    } cases[] = {
        {"25us", TDM_UNIT_SECONDS, 25e-6},
        {"18.5ms", TDM_UNIT_SECONDS, 0.0185},
        {"18.522 ms", TDM_UNIT_SECONDS, 0.018522},
        {"0.601ms", TDM_UNIT_SECONDS, 0.000601},
        {"1e3ns", TDM_UNIT_SECONDS, 1e-6},
        {"2min", TDM_UNIT_SECONDS, 120},
        {"0s", TDM_UNIT_SECONDS, 0},
        {"450GB/s", TDM_UNIT_BYTES_PER_S, 450e9},
        {"400Gbit/s", TDM_UNIT_BYTES_PER_S, 50e9},
        {"2.039TB/s", TDM_UNIT_BYTES_PER_S, 2.039e12},
        {"1GiB/s", TDM_UNIT_BYTES_PER_S, 1073741824},
        {"80GiB", TDM_UNIT_BYTES, 85899345920.0},
        {"64GB", TDM_UNIT_BYTES, 64e9},
        {"1.5KiB", TDM_UNIT_BYTES, 1536},
        {"7B", TDM_UNIT_BYTES, 7},
        {"312TFLOP/s", TDM_UNIT_FLOPS_PER_S, 312e12},
        {"1.979PFLOPS", TDM_UNIT_FLOPS_PER_S, 1.979e15},
        {"20000tokens/s", TDM_UNIT_TOKENS_PER_S, 20000},
        {"20%", TDM_UNIT_SHARE, 0.2},
        {"0.2", TDM_UNIT_SHARE, 0.2},
        {"-3.5e-2", TDM_UNIT_NONE, -0.035},
        {".5", TDM_UNIT_NONE, 0.5},
    };
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        double value = NAN;
        assert_int_equal(tdm_quantity_parse(cases[i].text, cases[i].unit, &value), TDM_QUANTITY_OK);
        assert_true(value == cases[i].value);
    }
}

static void refuses(void **state)
{
    (void)state;
    const struct {
        const char *text;
        tdm_unit unit;
        tdm_quantity_result result;
    } cases[] = {
        {"25", TDM_UNIT_SECONDS, TDM_QUANTITY_NO_UNIT},
        {"80", TDM_UNIT_BYTES, TDM_QUANTITY_NO_UNIT},
        {"25 sec", TDM_UNIT_SECONDS, TDM_QUANTITY_BAD_UNIT},
        {"25MS", TDM_UNIT_SECONDS, TDM_QUANTITY_BAD_UNIT},
        {"80GB", TDM_UNIT_SECONDS, TDM_QUANTITY_BAD_UNIT},
        {"80Gb", TDM_UNIT_BYTES, TDM_QUANTITY_BAD_UNIT},
        {"80GB ", TDM_UNIT_BYTES, TDM_QUANTITY_BAD_UNIT},
        {"3e", TDM_UNIT_NONE, TDM_QUANTITY_BAD_UNIT},
        {"20%", TDM_UNIT_NONE, TDM_QUANTITY_BAD_UNIT},
        {"0x10", TDM_UNIT_NONE, TDM_QUANTITY_BAD_UNIT},
        {"1,5ms", TDM_UNIT_SECONDS, TDM_QUANTITY_BAD_UNIT},
        {"1_000", TDM_UNIT_NONE, TDM_QUANTITY_BAD_UNIT},
        {"", TDM_UNIT_SECONDS, TDM_QUANTITY_NOT_A_NUMBER},
        {"ms", TDM_UNIT_SECONDS, TDM_QUANTITY_NOT_A_NUMBER},
        {"- 1ms", TDM_UNIT_SECONDS, TDM_QUANTITY_NOT_A_NUMBER},
        {".", TDM_UNIT_NONE, TDM_QUANTITY_NOT_A_NUMBER},
        {"nano", TDM_UNIT_NONE, TDM_QUANTITY_NOT_A_NUMBER},
        {"nan", TDM_UNIT_NONE, TDM_QUANTITY_NOT_FINITE},
        {".NaN", TDM_UNIT_SHARE, TDM_QUANTITY_NOT_FINITE},
        {"-inf", TDM_UNIT_SECONDS, TDM_QUANTITY_NOT_FINITE},
        {"+Infinity", TDM_UNIT_NONE, TDM_QUANTITY_NOT_FINITE},
        {"1e400", TDM_UNIT_NONE, TDM_QUANTITY_NOT_FINITE},
        {"1e300TB", TDM_UNIT_BYTES, TDM_QUANTITY_NOT_FINITE},
    };
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        double value = 42;
        assert_int_equal(tdm_quantity_parse(cases[i].text, cases[i].unit, &value), cases[i].result);
        assert_true(value == 42);
    }
}

static void writes_for_people(void **state)
{
    (void)state;
    const struct {
        double value;
        tdm_unit unit;
        int digits;
        const char *text;
    } cases[] = {
        {0.018522, TDM_UNIT_SECONDS, 4, "18.52 ms"},
        {25e-6, TDM_UNIT_SECONDS, 3, "25.0 us"},
        {1e-6, TDM_UNIT_SECONDS, 4, "1.000 us"},
        {999.996e-9, TDM_UNIT_SECONDS, 4, "1.000 us"},
        {0.9999999, TDM_UNIT_SECONDS, 3, "1.00 s"},
        {7200, TDM_UNIT_SECONDS, 2, "7200 s"},
        {0, TDM_UNIT_SECONDS, 3, "0.00 ns"},
        {-0.0021, TDM_UNIT_SECONDS, 2, "-2.1 ms"},
        {64e9, TDM_UNIT_BYTES, 3, "59.6 GiB"},
        {1023, TDM_UNIT_BYTES, 3, "1023 B"},
        {1024, TDM_UNIT_BYTES, 3, "1.00 KiB"},
        {450e9, TDM_UNIT_BYTES_PER_S, 3, "450 GB/s"},
        {312e12, TDM_UNIT_FLOPS_PER_S, 3, "312 TFLOP/s"},
        {1.0 / 9, TDM_UNIT_SHARE, 3, "11.1 %"},
        {1.0 / 9, TDM_UNIT_NONE, 4, "0.1111"},
        {123456.7, TDM_UNIT_TOKENS_PER_S, 4, "123457 tokens/s"},
        {INFINITY, TDM_UNIT_SECONDS, 3, "infinite"},
        {NAN, TDM_UNIT_BYTES, 3, "unknown"},
    };
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        char buffer[64];
        tdm_quantity_write(buffer, sizeof buffer, cases[i].value, cases[i].unit, cases[i].digits);
        assert_string_equal(buffer, cases[i].text);
    }
    char small[4]; /* cut, not overrun; the largest double is as safe */
    assert_int_equal(strlen(tdm_quantity_write(small, sizeof small, 1e308, TDM_UNIT_BYTES, 17)), 3);
}

/* What is written with enough digits reads back, for every unit with a name of its own. */
static void reads_back(void **state)
{
    (void)state;
    const tdm_unit units[] = {TDM_UNIT_SECONDS, TDM_UNIT_BYTES_PER_S, TDM_UNIT_FLOPS_PER_S,
                              TDM_UNIT_SHARE};
    for (size_t u = 0; u < TDM_COUNT(units); u++)
        for (double value = 1.2345678e-3; value < 1e16; value *= 7.3) {
            char buffer[64];
            double back = 0;
            tdm_quantity_write(buffer, sizeof buffer, value, units[u], 9);
            assert_int_equal(tdm_quantity_parse(buffer, units[u], &back), TDM_QUANTITY_OK);
            assert_true(fabs(back - value) <= 1e-8 * value);
        }
}

static void names_of_units(void **state)
{
    (void)state;
    assert_int_equal(tdm_unit_find("s"), TDM_UNIT_SECONDS);
    assert_int_equal(tdm_unit_find("bytes"), TDM_UNIT_BYTES);
    assert_int_equal(tdm_unit_find("tokens/s"), TDM_UNIT_TOKENS_PER_S);
    assert_int_equal(tdm_unit_find(""), TDM_UNIT_SHARE);
    assert_int_equal(tdm_unit_find("furlongs"), TDM_UNIT_NONE);
    for (unsigned unit = 0; unit < TDM_N_UNITS; unit++)
        assert_non_null(tdm_unit_expected((tdm_unit)unit));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_units_exactly), cmocka_unit_test(refuses),
        cmocka_unit_test(writes_for_people),   cmocka_unit_test(reads_back),
        cmocka_unit_test(names_of_units),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
