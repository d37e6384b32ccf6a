/* support_rules.h: what must hold of every plan, trace and figure, recounted from the definitions
 * without the code that is tested. Each check fails the test, naming `what`. */
#ifndef TANDEM_TESTS_SUPPORT_RULES_H
#define TANDEM_TESTS_SUPPORT_RULES_H

#include "core/figures.h"

/* Fails the test, naming `what` and what was compared. */
#define RULE(what, condition, ...)                                                                 \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            print_error(__VA_ARGS__);                                                              \
            fail_msg("\n%s:%d: %s\nin %s", __FILE__, __LINE__, #condition, (what));                \
        }                                                                                          \
    } while (0)

/* Every rank runs F, then B and W or BW of every microbatch once, then O; what leaves a stage
 * arrives at its neighbour; routed pairs are neither lost nor made, and combine is the transpose of
 * dispatch. */
void rules_plan(const char *what, const tdm_plan *plan, const tdm_topology *topology);

/* Of rules_plan: rows over ETP groups, whose members together work on what each of them receives;
 * what the experts' products and parameters come to. */
void rules_etp(const char *what, const tdm_plan *plan, const tdm_topology *topology);

/* Rows that the rank sends to its experts in a layer that has some, before any is dropped. */
uint64_t rules_rows(const tdm_plan *plan);

/* The layout's figures equal a count over the flags of births and deaths. */
void rules_layout(const char *what, const tdm_plan *plan, const tdm_layout *layout);

/* An op starts when its issue, its stream and its waits allow, not later; a kernel takes its cost;
 * communication ends on all members together, no earlier than after its latency and its bytes on
 * the fullest link. alone: exactly then, as on idle links. Times are compared to relative
 * tolerance. Returns whether within every op each link carries one flow. */
bool rules_trace(const char *what, const tdm_plan *plan, const tdm_machine *machine,
                 const tdm_trace *trace, bool alone, double tolerance);

/* Waterfalls add up, shares are shares, bubbles follow from passes and spans, calls and bytes
 * equal a count. */
void rules_figures(const char *what, const tdm_plan *plan, const tdm_trace *trace,
                   const tdm_figures *figures);

#endif
