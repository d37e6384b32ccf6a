/* support_order.h: happens-before by brute force: a matrix of which op precedes which, from the
 * definition alone. */
#ifndef TANDEM_TESTS_SUPPORT_ORDER_H
#define TANDEM_TESTS_SUPPORT_ORDER_H

#include "core/plan.h"

typedef struct order {
    uint32_t n_ops;
    tdm_instance *ops; /* [n_ops] of rank 0 */
    bool *before;      /* [a * n_ops + b]: a has ended before b starts */
} order;

order order_of(tdm_arena *arena, const tdm_plan *plan);

#endif
