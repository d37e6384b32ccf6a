/* collective.c: which algorithm an op kind uses. Today the first registered one of that kind. */
#include "collective.h"

const tdm_collective *tdm_collective_for(tdm_op_kind kind)
{
    for (uint32_t i = 0; tdm_collectives[i]; i++)
        if (tdm_collectives[i]->kind == kind)
            return tdm_collectives[i];
    return NULL;
}
