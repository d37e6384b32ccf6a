/* support_text.h: plans as text in memory, for tests. */
#ifndef TANDEM_TESTS_SUPPORT_TEXT_H
#define TANDEM_TESTS_SUPPORT_TEXT_H

#include "core/plan_text.h"
#include "tests/support.h"

typedef struct support_text {
    char *bytes; /* free() them */
    size_t length;
} support_text;

support_text support_write(const tdm_plan *plan);
/* Clears *err first; messages call the text p.txt. */
tdm_code support_parse(tdm_arena *arena, const char *bytes, size_t length, tdm_plan *plan,
                       tdm_error *err);
/* Fails the test where the text does not read. */
tdm_plan support_read(tdm_arena *arena, const char *bytes, size_t length);

/* A small plan by hand, as an editor might leave it: comments, blank lines, keys in another order.
 */
extern const char support_text_base[];

#endif
