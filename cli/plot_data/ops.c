/* ops.c: mean time of each op, predicted and measured. */
#include "plot.h"

#include <string.h>

/* Groups that the scatter plot tells apart. */
static uint32_t family(tdm_op_class class_)
{
    if (class_ == TDM_CLASS_OF_GEMM || class_ == TDM_CLASS_OF_GROUPED_GEMM)
        return 0;
    if (class_ == TDM_CLASS_OF_ATTENTION)
        return 1;
    return tdm_op_class_is_comm(class_) ? 3 : 2;
}

static const tdm_side_op *find_op(const tdm_side *side, const tdm_compare_row *row)
{
    size_t length = strcspn(row->name, " ");
    for (uint32_t i = 0; i < side->n_ops; i++) {
        const tdm_side_op *op = &side->ops[i];
        if (op->stage == row->index && strlen(op->phase) == length &&
            strncmp(op->phase, row->name, length) == 0 &&
            strcmp(op->name, row->name + length + 1) == 0)
            return op;
    }
    return NULL;
}

static tdm_code write(const tdm_plot_input *input, const char *base, const char **skipped,
                      tdm_error *err)
{
    static const char *const families[] = {"matrix products", "attention", "memory-bound",
                                           "communication"};
    const tdm_comparison *c = input->comparison;
    if (c->n_op_errors == 0) {
        *skipped = "ops are compared only between two results of one plan";
        return TDM_OK;
    }
    FILE *file = tdm_plot_open(input->arena, base, ".dat", err);
    if (!file)
        return TDM_E_INTERNAL;
    for (uint32_t f = 0; f < TDM_COUNT(families); f++) {
        /* One block of lines per family: gnuplot takes them by index. */
        fprintf(file, "%s\"%s\"\n", f ? "\n\n" : "", families[f]);
        for (uint32_t i = 0; i < c->n_rows; i++) {
            const tdm_compare_row *row = &c->rows[i];
            if (row->section != TDM_COMPARE_OPS || strcmp(row->what, "mean_s") != 0 ||
                row->predicted <= 0 || row->measured <= 0)
                continue;
            const tdm_side_op *op = find_op(input->a, row);
            if (op && family(op->class_) == f)
                fprintf(file, "%.6f\t%.6f\t%s\n", 1e6 * row->measured, 1e6 * row->predicted,
                        row->name);
        }
    }
    tdm_code code = tdm_plot_close(file, base, err);
    if (code != TDM_OK || !(file = tdm_plot_open(input->arena, base, ".var", err)))
        return TDM_E_INTERNAL;
    tdm_plot_assign(file, "remark",
                    tdm_arena_printf(input->arena,
                                     "%lu ops, median error %.1f %%, 95 %% of them within %.1f %%",
                                     (unsigned long)c->n_op_errors, 100 * c->op_error_median,
                                     100 * c->op_error_p95));
    return tdm_plot_close(file, base, err);
}

const tdm_plot_data tdm_plot_data_ops = {.name = "ops", .needs = TDM_PLOT_PAIR, .write = write};
