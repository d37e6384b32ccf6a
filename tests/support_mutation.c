/* support_mutation.c: plants a fault and reads what verify says. */
#include "tests/support_mutation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

void mutation_check(const mutation *m)
{
    tdm_arena arena = {0};
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    tdm_scenario scenario = support_scenario(&arena, &m->spec);
    tdm_plan plan = support_plan(&arena, &scenario);
    tdm_plan copy = edit_copy(&arena, &plan);
    m->edit(&arena, &copy);
    tdm_verify_report report = {.n_ops = 1, .resident_comm = 77};
    if (tdm_verify_plan(&copy, &report, err) != TDM_E_INVALID)
        fail_msg("%s: not found", m->name);
    assert_int_equal(report.resident_comm, 77);
    for (size_t i = 0; i < TDM_COUNT(m->expected) && m->expected[i]; i++)
        if (!strstr(err->text, m->expected[i]))
            fail_msg("%s: no \"%s\" in:\n%s", m->name, m->expected[i], err->text);
    assert_int_equal(tdm_verify_plan(&plan, &report, NULL), TDM_OK); /* the copy was deep */
    tdm_arena_free(&arena);
}
