/* timeline.c: the schedule on a time axis: for the first rank of each stage a row of passes and
 * rows of communication; of two results both, aligned at the start of the step. */
#include "plot.h"

#include "core/files.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_STAGES = 64, MOST_ROWS = 24 };

enum { RANK, STAGE, STREAM, PASS, MICROBATCH, CHUNK, LAYER, OP, KIND, START, END, N_CELLS };

/* Colours of the picture. */
typedef enum colour { FORWARD, BACKWARD, WEIGHT, OPTIMIZER, COMM, N_COLOURS } colour;

/* Ops of one row that follow each other closely and belong together. */
typedef struct box {
    double from_ms, to_ms;
    colour colour;
    long microbatch, chunk;
    bool open, mixed; /* mixed: kernels of B and of W take turns */
} box;

typedef struct lane {
    bool used;
    box box;
} lane;

typedef struct writer {
    FILE *file;
    const tdm_side *side;
    int which; /* 0: the first result, 1: the second */
    double gap_ms, step_ms;
    long rank_of_stage[MOST_STAGES];
    lane lanes[MOST_STAGES][TDM_N_STREAMS];
    box passes[MOST_STAGES]; /* from a pass's first kernel to its last */
} writer;

static uint32_t stream_of(const char *name)
{
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        if (strcmp(tdm_stream_name((tdm_stream)s), name) == 0)
            return s;
    return TDM_N_STREAMS;
}

static colour colour_of(const char *pass, uint32_t stream)
{
    if (stream != TDM_STREAM_COMPUTE)
        return COMM;
    switch (pass[0]) {
    case 'F':
        return FORWARD;
    case 'B':
        return BACKWARD;
    case 'W':
        return WEIGHT;
    default:
        return OPTIMIZER;
    }
}

/* Passes have the numbers of colours behind those of kernels. */
static void flush(writer *w, uint32_t stage, uint32_t stream, box *b)
{
    int number = (int)(b->mixed ? BACKWARD : b->colour);
    if (b->open)
        fprintf(w->file, "%d\t%lu\t%lu\t%.6f\t%.6f\t%d\t%ld\n", w->which, (unsigned long)stage,
                (unsigned long)stream, b->from_ms, b->to_ms,
                number + (b == &w->passes[stage] ? N_COLOURS : 0), b->microbatch);
    b->open = false;
}

/* Whether the op goes on with the box: the same microbatch and chunk, no visible gap, and the same
 * colour, or B and W in turns. */
static bool continues(const writer *w, const box *b, const box *next, double gap_ms)
{
    if (!b->open || next->from_ms > b->to_ms + gap_ms)
        return false;
    if (next->colour == COMM)
        return b->colour == COMM;
    if (b->microbatch != next->microbatch || b->chunk != next->chunk)
        return false;
    bool back = (b->colour == BACKWARD || b->colour == WEIGHT) &&
                (next->colour == BACKWARD || next->colour == WEIGHT);
    return b->colour == next->colour ||
           (back && (b->mixed || next->from_ms - b->from_ms < w->step_ms / 200));
}

static void add_to(writer *w, uint32_t stage, uint32_t stream, box *b, const box *op, double gap_ms)
{
    if (!continues(w, b, op, gap_ms)) {
        flush(w, stage, stream, b);
        *b = *op;
        return;
    }
    b->mixed = b->mixed || b->colour != op->colour;
    b->to_ms = fmax(b->to_ms, op->to_ms);
}

static void add_op(writer *w, uint32_t stage, uint32_t stream, const box *op)
{
    w->lanes[stage][stream].used = true;
    add_to(w, stage, stream, &w->lanes[stage][stream].box, op, w->gap_ms);
    if (stream == TDM_STREAM_COMPUTE)
        add_to(w, stage, stream, &w->passes[stage], op, INFINITY);
}

static bool cut(char *line, char *cells[N_CELLS])
{
    size_t n = 0;
    for (char *at = line; at && n < N_CELLS; n++) {
        cells[n] = at;
        at = strchr(at, ',');
        if (at)
            *at++ = '\0';
    }
    return n == N_CELLS;
}

static void take_line(writer *w, char *line)
{
    char *cells[N_CELLS];
    if (!cut(line, cells))
        return;
    unsigned long stage = strtoul(cells[STAGE], NULL, 10);
    long rank = strtol(cells[RANK], NULL, 10);
    uint32_t stream = stream_of(cells[STREAM]);
    if (stage >= MOST_STAGES || stream == TDM_N_STREAMS)
        return;
    if (w->rank_of_stage[stage] < 0)
        w->rank_of_stage[stage] = rank;
    if (w->rank_of_stage[stage] != rank)
        return;
    box op = {.from_ms = 1e-3 * strtod(cells[START], NULL),
              .to_ms = 1e-3 * strtod(cells[END], NULL),
              .colour = colour_of(cells[PASS], stream),
              .microbatch = cells[MICROBATCH][0] ? strtol(cells[MICROBATCH], NULL, 10) : -1,
              .chunk = cells[CHUNK][0] ? strtol(cells[CHUNK], NULL, 10) : -1,
              .open = true};
    add_op(w, (uint32_t)stage, stream, &op);
}

static tdm_code put_boxes(const tdm_plot_input *input, writer *w, tdm_error *err)
{
    const char *path = tdm_file_join(input->arena, w->side->folder, "ops.csv");
    FILE *ops = fopen(path, "r");
    if (!ops)
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path, strerror(errno));
    char line[1024];
    w->step_ms = 1e3 * w->side->figures[tdm_side_figure("step_time_s")];
    w->gap_ms = w->step_ms / 1000;
    for (uint32_t s = 0; s < MOST_STAGES; s++)
        w->rank_of_stage[s] = -1;
    while (fgets(line, sizeof line, ops))
        take_line(w, line);
    fclose(ops);
    for (uint32_t stage = 0; stage < MOST_STAGES; stage++) {
        for (uint32_t stream = 0; stream < TDM_N_STREAMS; stream++)
            flush(w, stage, stream, &w->lanes[stage][stream].box);
        flush(w, stage, TDM_STREAM_COMPUTE, &w->passes[stage]);
    }
    return TDM_OK;
}

static void put_name(FILE *var, uint32_t row, uint32_t stage, uint32_t stream, bool all_comm)
{
    const char *name = all_comm ? "communication" : tdm_stream_name((tdm_stream)stream);
    fprintf(var, "row_name[%lu] = '", (unsigned long)row);
    if (stream == TDM_STREAM_COMPUTE)
        fprintf(var, "stage %lu  ", (unsigned long)stage);
    fprintf(var, "%s'\n", name);
}

/* Rows from the top: stages in order, in each compute first. Communication streams have rows of
 * their own unless that makes too many. */
static void put_rows(const writer *w, FILE *var)
{
    uint32_t n_rows = 0, n_stages = 0, n = 0;
    for (uint32_t stage = 0; stage < MOST_STAGES; stage++) {
        n_stages += w->rank_of_stage[stage] >= 0;
        for (uint32_t stream = 0; stream < TDM_N_STREAMS; stream++)
            n_rows += w->lanes[stage][stream].used;
    }
    bool by_stream = n_rows <= MOST_ROWS;
    fprintf(var, "array row[%d]\narray row_name[%d]\n", MOST_STAGES * TDM_N_STREAMS,
            MOST_STAGES * TDM_N_STREAMS);
    for (uint32_t stage = 0; stage < n_stages; stage++) {
        bool comm = false;
        for (uint32_t stream = 0; stream < TDM_N_STREAMS; stream++) {
            bool own = w->lanes[stage][stream].used && (by_stream || stream == 0);
            bool first_comm = !by_stream && stream > 0 && w->lanes[stage][stream].used && !comm;
            comm = comm || first_comm;
            if (own || first_comm)
                put_name(var, ++n, stage, stream, first_comm);
            fprintf(var, "row[%lu] = %lu\n", (unsigned long)(stage * TDM_N_STREAMS + stream + 1),
                    (unsigned long)n);
        }
    }
    fprintf(var, "n_rows = %lu\nn_streams = %d\n", (unsigned long)n, TDM_N_STREAMS);
}

static bool has_ops(const tdm_side *side)
{
    return side && side->folder && side->has_ops;
}

static tdm_code write(const tdm_plot_input *input, const char *base, const char **skipped,
                      tdm_error *err)
{
    const tdm_side *sides[2] = {input->a, input->b};
    if (!has_ops(sides[0])) {
        *skipped = "the result has no ops.csv";
        return TDM_OK;
    }
    int n = has_ops(sides[1]) ? 2 : 1;
    writer *w = TDM_ALLOC(input->arena, writer, 2);
    FILE *file = tdm_plot_open(input->arena, base, ".dat", err);
    tdm_code code = file ? TDM_OK : TDM_E_INTERNAL;
    for (int i = 0; i < n && code == TDM_OK; i++) {
        w[i] = (writer){.file = file, .side = sides[i], .which = i};
        code = put_boxes(input, &w[i], err);
    }
    if (file && tdm_plot_close(file, base, err) != TDM_OK)
        code = TDM_E_INTERNAL;
    FILE *var = code == TDM_OK ? tdm_plot_open(input->arena, base, ".var", err) : NULL;
    if (!var)
        return TDM_E_INTERNAL;
    fprintf(var, "n_results = %d\nend_ms = %.6f\n", n, fmax(w[0].step_ms, w[n - 1].step_ms));
    fprintf(var, "array step_ms[2]\nstep_ms[1] = %.6f\nstep_ms[2] = %.6f\n", w[0].step_ms,
            w[n - 1].step_ms);
    fputs("array title[2]\n", var);
    for (int i = 0; i < n; i++)
        tdm_plot_assign(var, i ? "title[2]" : "title[1]",
                        tdm_arena_printf(input->arena, "%s%s: %.2f ms (first rank of each stage)",
                                         n == 1   ? ""
                                         : i == 0 ? "predicted, "
                                                  : "measured, ",
                                         sides[i]->name, w[i].step_ms));
    put_rows(&w[0], var);
    return tdm_plot_close(var, base, err);
}

const tdm_plot_data tdm_plot_data_timeline = {
    .name = "timeline", .needs = TDM_PLOT_RESULT, .write = write};
