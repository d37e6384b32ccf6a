/* op_class.h: the classes in which ops of a plan and kernels of a foreign trace meet, so that what
 * was predicted and what was measured can be laid side by side. */
#ifndef TDM_OP_CLASS_H
#define TDM_OP_CLASS_H

#include "plan.h"

typedef enum tdm_op_class {
    TDM_CLASS_OF_GEMM,
    TDM_CLASS_OF_GROUPED_GEMM,
    TDM_CLASS_OF_ATTENTION, /* forward and backward */
    TDM_CLASS_OF_NORM,
    TDM_CLASS_OF_MEMORY, /* whatever else is bound by the bytes it touches */
    TDM_CLASS_OF_OPTIMIZER,
    TDM_CLASS_OF_TIMED, /* whole passes of given duration */
    TDM_CLASS_OF_ALL_REDUCE,
    TDM_CLASS_OF_ALL_GATHER,
    TDM_CLASS_OF_REDUCE_SCATTER,
    TDM_CLASS_OF_ALL_TO_ALL,
    TDM_CLASS_OF_BROADCAST,
    TDM_CLASS_OF_TRANSFER, /* send and receive */
    TDM_CLASS_OF_OTHER,    /* a kernel that no rule knows */
    TDM_N_OP_CLASSES
} tdm_op_class;

const char *tdm_op_class_name(tdm_op_class class_); /* "gemm", "all-reduce", ... */
/* By name; false when there is no such class. */
bool tdm_op_class_find(const char *name, tdm_op_class *class_);
bool tdm_op_class_is_comm(tdm_op_class class_);

/* Class of an op of a plan, by kind, by the phase that its time counts as, and by name. */
tdm_op_class tdm_op_class_of(tdm_op_kind kind, tdm_pass_kind phase, const char *name);

/* The kind of op that stands for a kernel of the class. */
tdm_op_kind tdm_op_class_kind(tdm_op_class class_);

#endif
