/* side_trace.c: traces as a side of a comparison: their step of median time. */
#include "side_trace.h"

#include "core/files.h"
#include "core/measured.h"
#include "core/stats.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FILES = 65536, MOST_UNKNOWN = 3 };

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_trace_name(const char *name)
{
    size_t n = strlen(name);
    return name[0] != '.' && ((n > 5 && strcmp(name + n - 5, ".json") == 0) ||
                              (n > 8 && strcmp(name + n - 8, ".json.gz") == 0));
}

size_t tdm_side_trace_files(tdm_arena *arena, const char *folder, const char *const **paths)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return 0;
    size_t n = 0, capacity = 64;
    const char **list = TDM_ALLOC(arena, const char *, capacity);
    for (const struct dirent *entry = readdir(dir); entry && n < MOST_FILES; entry = readdir(dir)) {
        if (!is_trace_name(entry->d_name))
            continue;
        if (n == capacity) {
            const char **larger = TDM_ALLOC(arena, const char *, 2 * capacity);
            memcpy(larger, list, sizeof *list * n);
            list = larger;
            capacity *= 2;
        }
        list[n++] = tdm_file_join(arena, folder, entry->d_name);
    }
    closedir(dir);
    qsort(list, n, sizeof *list, by_name);
    *paths = list;
    return n;
}

/* ---- notes ---- */

static void note(tdm_arena *arena, tdm_side *side, const char *text)
{
    side->notes = tdm_arena_printf(arena, "%s%s\n", side->notes ? side->notes : "", text);
}

typedef struct unknown {
    const char *name;
    double seconds;
} unknown;

static int by_seconds(const void *a, const void *b)
{
    const unknown *x = a, *y = b;
    if (x->seconds != y->seconds)
        return x->seconds > y->seconds ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Kernels that no rule knows, the longest first. */
static void note_unknown(tdm_arena *arena, const tdm_kineto *kineto, tdm_side *side)
{
    unknown *sums = TDM_ALLOC(arena, unknown, kineto->n_names);
    double total_s = 0, all_s = 0;
    for (size_t i = 0; i < kineto->n_events; i++) {
        const tdm_kineto_event *event = &kineto->events[i];
        double seconds = 1e-9 * (double)(event->end_ns - event->start_ns);
        all_s += seconds;
        if (event->class_ != TDM_CLASS_OF_OTHER)
            continue;
        sums[event->name].name = kineto->names[event->name];
        sums[event->name].seconds += seconds;
        total_s += seconds;
    }
    if (total_s <= 0)
        return;
    uint32_t n = 0;
    for (uint32_t i = 0; i < kineto->n_names; i++)
        if (sums[i].name)
            sums[n++] = sums[i];
    qsort(sums, n, sizeof *sums, by_seconds);
    const char *list = "";
    for (uint32_t i = 0; i < n && i < MOST_UNKNOWN; i++)
        list = tdm_arena_printf(arena, "%s%s%.60s", list, i ? ", " : "", sums[i].name);
    note(arena, side,
         tdm_arena_printf(
             arena,
             "%.1f %% of the kernels' time has no rule (class other): %s%s; add rules with --rules",
             100 * total_s / all_s, list, n > MOST_UNKNOWN ? " ..." : ""));
}

static void note_measured(tdm_arena *arena, const tdm_kineto *kineto, const tdm_measured *m,
                          tdm_side *side)
{
    if (m->n_unmatched)
        note(
            arena, side,
            tdm_arena_printf(
                arena,
                "%llu collective kernels lack members (traces of all ranks, with process groups, are needed): waiting in them counts as communication",
                (unsigned long long)m->n_unmatched));
    if (m->n_transfers_unmatched)
        note(arena, side,
             tdm_arena_printf(arena,
                              "%llu sends and receives have no known peer: they count as bubble",
                              (unsigned long long)m->n_transfers_unmatched));
    if (m->n_squeezed)
        note(arena, side,
             tdm_arena_printf(
                 arena, "%llu communication kernels run beside seven others and are cut short",
                 (unsigned long long)m->n_squeezed));
    if (m->n_outside)
        note(arena, side,
             tdm_arena_printf(arena, "%llu kernels are in no step that all ranks have",
                              (unsigned long long)m->n_outside));
    if (!kineto->engine && kineto->n_marks == 0)
        note(arena, side, "no ProfilerStep marks: the whole trace is taken as one step");
    if (!m->knows_issue)
        note(arena, side, "no launches in the trace: issue gaps count as bubble");
    note_unknown(arena, kineto, side);
}

/* ---- the median step ---- */

static void take_ranks(tdm_arena *arena, const tdm_kineto *kineto, const tdm_measured_step *step,
                       tdm_side *side)
{
    side->n_ranks = kineto->n_ranks;
    side->ranks = TDM_ALLOC(arena, tdm_side_rank, side->n_ranks);
    for (uint32_t r = 0; r < side->n_ranks; r++) {
        const tdm_rank_figures *from = &step->figures.ranks[r];
        side->ranks[r] = (tdm_side_rank){.rank = kineto->ranks[r],
                                         .stage = UINT32_MAX,
                                         .waterfall = from->waterfall,
                                         .compute_busy_s = from->compute_busy_s,
                                         .comm_busy_s = from->comm_busy_s,
                                         .peak_memory_bytes = NAN};
        memcpy(side->ranks[r].class_s, step->class_s[r], sizeof side->ranks[r].class_s);
    }
}

static tdm_side_comm comm_of(const tdm_comm_figures *from)
{
    return (tdm_side_comm){
        .kind = tdm_op_kind_name(from->kind),
        .group = tdm_op_is_p2p(from->kind)         ? "pp"
                 : from->group < TDM_N_GROUP_KINDS ? tdm_group_kind_name(from->group)
                                                   : "unknown",
        .n_calls = (double)from->n_calls,
        .bytes_per_rank = (double)from->bytes,
        .busy_s = from->busy_s,
        .exposed_s = from->exposed_s,
        .avg_s = from->avg_s,
        .max_s = from->max_s,
    };
}

/* A figure that needs more than a trace has stays unknown. */
static double figure_of(const tdm_figures *f, const char *name)
{
    return strcmp(name, "peak_memory_bytes") == 0 ? NAN : tdm_figures_get(f, name);
}

static void fill(tdm_arena *arena, const tdm_kineto *kineto, const tdm_measured *m, tdm_side *side)
{
    side->steps_s = TDM_ALLOC(arena, double, m->n_steps);
    for (uint32_t s = 0; s < m->n_steps; s++)
        side->steps_s[side->n_steps++] = m->steps[s].figures.step_time_s;
    const tdm_measured_step *step = &m->steps[tdm_stats_median_place(side->steps_s, m->n_steps)];
    const tdm_figures *f = &step->figures;
    take_ranks(arena, kineto, step, side);
    side->waterfall = f->waterfall;
    side->comms = TDM_ALLOC(arena, tdm_side_comm, f->n_comms);
    for (uint32_t i = 0; i < f->n_comms; i++)
        side->comms[side->n_comms++] = comm_of(&f->comms[i]);
    for (uint32_t i = 0; tdm_figure_infos[i].name; i++)
        side->figures[i] = figure_of(f, tdm_figure_infos[i].name);
    side->has_classes = true;
}

static tdm_code load_rules(tdm_arena *arena, tdm_side_reader *reader, tdm_error *err)
{
    if (reader->tried)
        return reader->code;
    reader->tried = true;
    if (!reader->rules_path && !reader->root)
        return reader->code = tdm_error_add(
                   err, TDM_E_INVALID,
                   "no folder with rules/kineto.yaml (set TANDEM_ROOT, or name rules with --rules)");
    const char *path = reader->rules_path ? reader->rules_path
                                          : tdm_file_join(arena, reader->root, "rules/kineto.yaml");
    return reader->code = tdm_kernel_rules_load(arena, path, &reader->rules, err);
}

tdm_code tdm_side_read_traces(tdm_arena *arena, tdm_side_reader *reader, const char *const *paths,
                              size_t n_paths, tdm_side *side, tdm_error *err)
{
    tdm_kineto kineto;
    tdm_measured measured;
    tdm_arena scratch = {0};
    tdm_error *own = TDM_ALLOC(arena, tdm_error, 1);
    tdm_code code = load_rules(arena, reader, err);
    if (code == TDM_OK)
        code = tdm_kineto_read(&scratch, paths, n_paths, &reader->rules, &kineto, err);
    if (code == TDM_OK) {
        code = tdm_measured_compute(&scratch, &kineto, &measured, own);
        if (code != TDM_OK)
            tdm_error_add(err, code, "%s: %.*s", side->path, (int)strcspn(own->text, "\n"),
                          own->text);
    }
    if (code == TDM_OK) {
        side->is_trace = true;
        side->engine = kineto.engine ? tdm_arena_strdup(arena, kineto.engine) : "PyTorch";
        fill(arena, &kineto, &measured, side);
        note_measured(arena, &kineto, &measured, side);
    }
    tdm_arena_free(&scratch);
    return code;
}
