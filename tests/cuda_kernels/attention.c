#include "kernels.h"
static void nothing(void **state) { (void)state; }
const struct CMUnitTest attention_tests[] = {cmocka_unit_test(nothing)};
const size_t n_attention_tests = 1;
const struct CMUnitTest expert_tests[] = {cmocka_unit_test(nothing)};
const size_t n_expert_tests = 1;
const struct CMUnitTest step_tests[] = {cmocka_unit_test(nothing)};
const size_t n_step_tests = 1;
