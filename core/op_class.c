/* op_class.c: classes of ops. */
#include "op_class.h"

#include <assert.h>
#include <string.h>

static const struct {
    const char *name;
    tdm_op_kind kind;
} classes[TDM_N_OP_CLASSES] = {
    [TDM_CLASS_OF_GEMM] = {"gemm", TDM_OP_GEMM},
    [TDM_CLASS_OF_GROUPED_GEMM] = {"grouped-gemm", TDM_OP_GROUPED_GEMM},
    [TDM_CLASS_OF_ATTENTION] = {"attention", TDM_OP_ATTENTION},
    [TDM_CLASS_OF_NORM] = {"norm", TDM_OP_MEMORY},
    [TDM_CLASS_OF_MEMORY] = {"memory", TDM_OP_MEMORY},
    [TDM_CLASS_OF_OPTIMIZER] = {"optimizer", TDM_OP_MEMORY},
    [TDM_CLASS_OF_TIMED] = {"pass", TDM_OP_TIMED},
    [TDM_CLASS_OF_ALL_REDUCE] = {"all-reduce", TDM_OP_ALL_REDUCE},
    [TDM_CLASS_OF_ALL_GATHER] = {"all-gather", TDM_OP_ALL_GATHER},
    [TDM_CLASS_OF_REDUCE_SCATTER] = {"reduce-scatter", TDM_OP_REDUCE_SCATTER},
    [TDM_CLASS_OF_ALL_TO_ALL] = {"all-to-all", TDM_OP_ALL_TO_ALL},
    [TDM_CLASS_OF_BROADCAST] = {"broadcast", TDM_OP_BROADCAST},
    [TDM_CLASS_OF_TRANSFER] = {"send-recv", TDM_OP_SEND},
    [TDM_CLASS_OF_OTHER] = {"other", TDM_OP_MEMORY},
};

const char *tdm_op_class_name(tdm_op_class class_)
{
    assert((unsigned)class_ < TDM_N_OP_CLASSES);
    return classes[class_].name;
}

bool tdm_op_class_find(const char *name, tdm_op_class *class_)
{
    for (size_t i = 0; i < TDM_N_OP_CLASSES; i++) {
        if (strcmp(classes[i].name, name) == 0) {
            *class_ = (tdm_op_class)i;
            return true;
        }
    }
    return false;
}

bool tdm_op_class_is_comm(tdm_op_class class_)
{
    return class_ >= TDM_CLASS_OF_ALL_REDUCE && class_ <= TDM_CLASS_OF_TRANSFER;
}

tdm_op_kind tdm_op_class_kind(tdm_op_class class_)
{
    assert((unsigned)class_ < TDM_N_OP_CLASSES);
    return classes[class_].kind;
}

tdm_op_class tdm_op_class_of(tdm_op_kind kind, tdm_pass_kind phase, const char *name)
{
    if (kind == TDM_OP_ATTENTION_BACKWARD)
        return TDM_CLASS_OF_ATTENTION;
    if (kind == TDM_OP_RECV)
        return TDM_CLASS_OF_TRANSFER;
    if (kind == TDM_OP_MEMORY && phase == TDM_PASS_O)
        return TDM_CLASS_OF_OPTIMIZER;
    if (kind == TDM_OP_MEMORY && strncmp(name, "norm", 4) == 0)
        return TDM_CLASS_OF_NORM;
    for (size_t i = 0; i < TDM_N_OP_CLASSES; i++)
        if (classes[i].kind == kind && i != TDM_CLASS_OF_NORM)
            return (tdm_op_class)i;
    return TDM_CLASS_OF_OTHER;
}
