/* compare.h: two results, number by number: what was predicted (A) against what was measured (B).
 *
 * difference = predicted - measured; relative error = difference / measured. The step's difference
 * is split by the waterfall of the step (README.md, Figures), mean over the ranks compared: five
 * parts are taken as they are, and what is left is "optimizer and rest", so that the parts add up
 * to the difference exactly. */
#ifndef TDM_COMPARE_H
#define TDM_COMPARE_H

#include "side.h"
#include "table.h"

typedef enum tdm_compare_section {
    TDM_COMPARE_WATERFALL,
    TDM_COMPARE_FIGURES,
    TDM_COMPARE_CLASSES,
    TDM_COMPARE_COMMS,
    TDM_COMPARE_STAGES,
    TDM_COMPARE_RANKS,
    TDM_COMPARE_OPS,
    TDM_N_COMPARE_SECTIONS
} tdm_compare_section;

typedef struct tdm_compare_row {
    tdm_compare_section section;
    uint32_t index;   /* of a stage or rank, the stage of an op; UINT32_MAX: none */
    const char *name; /* "step_time_s", "gemm", "all-reduce tp", "F qkv"; "" for stages and ranks */
    const char *what; /* quantity: "busy_s"; "" where the name says it */
    const char *unit; /* as in tdm_figure_info */
    double predicted, measured;
} tdm_compare_row;

typedef struct tdm_comparison {
    const tdm_side *a, *b; /* predicted, measured */
    bool plans_known, same_plan;
    tdm_compare_row *rows; /* [n_rows] by section */
    uint32_t n_rows;
    double step_predicted_s, step_measured_s;
    bool has_interval; /* of the step's relative error: a side holds several steps */
    double interval_low, interval_high;
    uint32_t
        n_op_errors; /* ops with a mean time above 0 on both sides, and their |relative error| */
    double op_error_median, op_error_p95;
    const char *notes; /* lines; NULL: none */
} tdm_comparison;

#define TDM_COMPARE_CONFIDENCE 0.95
/* Two values this close (seconds, shares) differ by rounding. */
#define TDM_COMPARE_ROUNDING 1e-12

void tdm_compare(tdm_arena *arena, const tdm_side *a, const tdm_side *b, tdm_comparison *c);

static inline double tdm_compare_difference(const tdm_compare_row *row)
{
    return row->predicted - row->measured;
}
/* NAN where one is unknown or where it would be a division by 0; 0 where both are equal
 * but for rounding. */
double tdm_compare_error(double predicted, double measured);

/* The figures that have to be within the tolerance, and which of them are not. */
typedef struct tdm_tolerance {
    bool given;
    double share;
    const char *const *figures; /* [n_figures] */
    size_t n_figures;
} tdm_tolerance;
/* From "5%" or "0.05" (NULL: none) and a comma-separated list of figures (NULL: step_time_s).
 * Returns TDM_CLI_GO_ON, or the exit code after a message. */
int tdm_tolerance_parse(tdm_arena *arena, const char *verb, const char *share, const char *figures,
                        tdm_tolerance *tolerance);
/* Fails when a figure is unknown on one of the sides. */
tdm_code tdm_tolerance_check(const char *verb, const tdm_tolerance *tolerance,
                             const tdm_comparison *c, tdm_error *err);
bool tdm_tolerance_holds(const tdm_tolerance *tolerance, const tdm_comparison *c,
                         const char *figure, double *error);
bool tdm_tolerance_all(const tdm_tolerance *tolerance, const tdm_comparison *c);
/* The exit code: TDM_E_TOLERANCE past a tolerance that is given. */
int tdm_tolerance_verdict(const tdm_tolerance *tolerance, const tdm_comparison *c);

void tdm_compare_text(tdm_arena *arena, const tdm_comparison *c, const tdm_tolerance *tolerance,
                      const tdm_style *style, FILE *file);
/* Parts of it: what is compared, and the step; one section; the verdict on the tolerance's
 * figures. */
void tdm_compare_section_text(tdm_arena *arena, const tdm_comparison *c,
                              tdm_compare_section section, const tdm_style *style, FILE *file);
void tdm_compare_brief(tdm_arena *arena, const tdm_comparison *c, const tdm_style *style,
                       FILE *file);
void tdm_compare_verdict(const tdm_comparison *c, const tdm_tolerance *tolerance,
                         const tdm_style *style, FILE *file);
void tdm_compare_csv(const tdm_comparison *c, FILE *file);
/* The document's text, to be freed; NULL when memory is out. */
char *tdm_compare_json(const tdm_comparison *c, const tdm_tolerance *tolerance);
/* In one of the formats "text", "json", "csv" and "md", to the path (NULL: standard output). The
 * exit code. */
int tdm_compare_print(tdm_arena *arena, const char *format, const char *path,
                      const tdm_comparison *c, const tdm_tolerance *tolerance);

#endif
