/* side_trace.c: traces as a side of a comparison: means over their steps. */
#include "side_trace.h"

#include "core/files.h"
#include "core/measured.h"

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

/* ---- means over steps ---- */

static void add_waterfall(tdm_waterfall *sum, const tdm_waterfall *w, double share)
{
    sum->compute_s += share * w->compute_s;
    sum->exposed_transfer_s += share * w->exposed_transfer_s;
    sum->peer_wait_s += share * w->peer_wait_s;
    sum->bubble_s += share * w->bubble_s;
    sum->issue_gap_s += share * w->issue_gap_s;
    sum->optimizer_s += share * w->optimizer_s;
    sum->optimizer_transfer_s += share * w->optimizer_transfer_s;
    sum->optimizer_wait_s += share * w->optimizer_wait_s;
}

static void add_step_ranks(tdm_side *side, const tdm_measured_step *step, double share)
{
    for (uint32_t r = 0; r < side->n_ranks; r++) {
        const tdm_rank_figures *from = &step->figures.ranks[r];
        tdm_side_rank *rank = &side->ranks[r];
        add_waterfall(&rank->waterfall, &from->waterfall, share);
        rank->compute_busy_s += share * from->compute_busy_s;
        rank->comm_busy_s += share * from->comm_busy_s;
        for (uint32_t k = 0; k < TDM_N_OP_CLASSES; k++)
            rank->class_s[k] += share * step->class_s[r][k];
    }
}

static tdm_side_comm *find_comm(tdm_side *side, const tdm_comm_figures *comm)
{
    const char *kind = tdm_op_kind_name(comm->kind);
    const char *group = tdm_op_is_p2p(comm->kind)         ? "pp"
                        : comm->group < TDM_N_GROUP_KINDS ? tdm_group_kind_name(comm->group)
                                                          : "unknown";
    for (uint32_t i = 0; i < side->n_comms; i++)
        if (strcmp(side->comms[i].kind, kind) == 0 && strcmp(side->comms[i].group, group) == 0)
            return &side->comms[i];
    side->comms[side->n_comms] = (tdm_side_comm){.kind = kind, .group = group};
    return &side->comms[side->n_comms++];
}

static void add_step_comms(tdm_side *side, const tdm_figures *f, double share)
{
    for (uint32_t i = 0; i < f->n_comms; i++) {
        const tdm_comm_figures *from = &f->comms[i];
        tdm_side_comm *comm = find_comm(side, from);
        comm->n_calls += share * (double)from->n_calls;
        comm->bytes_per_rank += share * (double)from->bytes;
        comm->busy_s += share * from->busy_s;
        comm->exposed_s += share * from->exposed_s;
        comm->avg_s += share * from->avg_s;
        comm->max_s = fmax(comm->max_s, from->max_s);
    }
}

/* A figure that needs more than a trace has stays unknown. */
static double figure_of(const tdm_figures *f, const char *name)
{
    return strcmp(name, "peak_memory_bytes") == 0 ? NAN : tdm_figures_get(f, name);
}

static void fill(tdm_arena *arena, const tdm_kineto *kineto, const tdm_measured *m, tdm_side *side)
{
    double share = 1.0 / m->n_steps;
    side->n_ranks = kineto->n_ranks;
    side->ranks = TDM_ALLOC(arena, tdm_side_rank, side->n_ranks);
    side->comms = TDM_ALLOC(arena, tdm_side_comm, TDM_N_OP_KINDS * (TDM_N_GROUP_KINDS + 1));
    side->steps_s = TDM_ALLOC(arena, double, m->n_steps);
    for (uint32_t r = 0; r < side->n_ranks; r++) {
        side->ranks[r].rank = kineto->ranks[r];
        side->ranks[r].stage = UINT32_MAX;
        side->ranks[r].peak_memory_bytes = NAN;
    }
    for (uint32_t i = 0; tdm_figure_infos[i].name; i++)
        side->figures[i] = 0;
    for (uint32_t s = 0; s < m->n_steps; s++) {
        const tdm_figures *f = &m->steps[s].figures;
        side->steps_s[side->n_steps++] = f->step_time_s;
        add_waterfall(&side->waterfall, &f->waterfall, share);
        add_step_ranks(side, &m->steps[s], share);
        add_step_comms(side, f, share);
        for (uint32_t i = 0; tdm_figure_infos[i].name; i++)
            side->figures[i] += share * figure_of(f, tdm_figure_infos[i].name);
    }
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
