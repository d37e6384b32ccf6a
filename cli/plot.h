/* plot.h: pictures of results, drawn by gnuplot.
 *
 * A picture is one file plots/NAME.gp. Its opening comments say what it shows and which data it is
 * drawn from:
 *
 *     # description: one line for people
 *     # data: NAME
 *
 * A data function is one file cli/plot_data/NAME.c that defines
 *
 *     const tdm_plot_data tdm_plot_data_NAME = {.name = "NAME", .needs = ..., .write = write};
 *
 * the build collects them in tdm_plot_datas. It writes tables for gnuplot, columns apart by tabs,
 * to FOLDER/NAME.dat and the like, and what the script has to know besides (titles, limits) as
 * assignments to FOLDER/NAME.var. gnuplot is called as
 *
 *     gnuplot -c plots/NAME.gp plots/style.gp FORMAT OUTPUT FOLDER/NAME
 *
 * and plots/style.gp, which each script calls after setting width and height, sets the terminal. */
#ifndef TDM_PLOT_H
#define TDM_PLOT_H

#include "cli.h"
#include "compare.h"

/* A CSV file (RFC 4180). */
typedef struct tdm_plot_table {
    const char *path;
    uint32_t n_columns, n_rows;
    const char **heads; /* [n_columns] */
    const char **cells; /* [n_rows][n_columns] */
} tdm_plot_table;

tdm_code tdm_plot_table_read(tdm_arena *arena, const char *path, tdm_plot_table *table,
                             tdm_error *err);
/* Column by its head; UINT32_MAX when there is none. */
uint32_t tdm_plot_column(const tdm_plot_table *table, const char *head);
static inline const char *tdm_plot_cell(const tdm_plot_table *table, uint32_t row, uint32_t column)
{
    return table->cells[(size_t)row * table->n_columns + column];
}
/* The cell as a number; NAN when it is none. */
double tdm_plot_number(const tdm_plot_table *table, uint32_t row, uint32_t column);

/* What is drawn. */
typedef enum tdm_plot_needs {
    TDM_PLOT_RESULT, /* one result, and the other beside it when there are two */
    TDM_PLOT_PAIR,   /* two results */
    TDM_PLOT_SWEEP,
    TDM_PLOT_COMM, /* predicted and measured times of a collective by size */
    TDM_N_PLOT_NEEDS
} tdm_plot_needs;

typedef struct tdm_plot_input {
    tdm_arena *arena;
    const tdm_side *a, *b;            /* NULL: not given */
    const tdm_comparison *comparison; /* of both */
    const tdm_plot_table *sweep, *comm;
    const char *title; /* NULL: the picture's own */
} tdm_plot_input;

typedef struct tdm_plot_data {
    const char *name;
    tdm_plot_needs needs;
    /* base: FOLDER/NAME, to which endings are added. Sets *skipped to the reason when the input
     * lacks what is to be drawn. */
    tdm_code (*write)(const tdm_plot_input *input, const char *base, const char **skipped,
                      tdm_error *err);
} tdm_plot_data;

extern const tdm_plot_data *const tdm_plot_datas[]; /* NULL-terminated, generated, by name */

/* For data functions: opens base + ending; closes it and reports what could not be written. */
FILE *tdm_plot_open(tdm_arena *arena, const char *base, const char *ending, tdm_error *err);
tdm_code tdm_plot_close(FILE *file, const char *base, tdm_error *err);
/* NAME = 'text' as gnuplot reads it. */
void tdm_plot_assign(FILE *file, const char *name, const char *text);

/* A picture that can be drawn. */
typedef struct tdm_plot {
    const char *name, *path, *description;
    const tdm_plot_data *data;
} tdm_plot;
/* The scripts of root/plots, by name. */
tdm_code tdm_plot_list(tdm_arena *arena, const char *root, tdm_plot **plots, uint32_t *n,
                       tdm_error *err);

/* What the operands of a command are; reads them. */
tdm_code tdm_plot_read(tdm_arena *arena, const char *root, const tdm_cli_strings *operands,
                       tdm_plot_input *input, tdm_error *err);
bool tdm_plot_suits(const tdm_plot *plot, const tdm_plot_input *input);
/* Writes the picture's data below folder and draws folder/NAME.FORMAT ("png", "svg" or "both").
 * *skipped: why there is nothing to draw. */
tdm_code tdm_plot_draw(tdm_arena *arena, const char *root, const tdm_plot *plot,
                       const tdm_plot_input *input, const char *folder, const char *format,
                       const char **skipped, tdm_error *err);

/* Pictures to draw. */
typedef struct tdm_plot_job {
    const char *root, *folder, *format;
    tdm_cli_strings only; /* their names; none: all that suit the input */
    bool quiet;           /* says nothing about those that are left out */
} tdm_plot_job;
/* Draws those of the plots [n] that the job wants; *n_drawn grows by their number. */
tdm_code tdm_plot_draw_all(tdm_arena *arena, const tdm_plot_job *job, const tdm_plot *plots,
                           uint32_t n, const tdm_plot_input *input, uint32_t *n_drawn,
                           tdm_error *err);
/* Whether no gnuplot is on the PATH. */
bool tdm_plot_gnuplot_missing(tdm_arena *arena);

#endif
