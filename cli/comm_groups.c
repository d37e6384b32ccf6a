/* comm_groups.c: groups of ranks on the command line, as NCCL_TESTS_SPLIT of nccl-tests makes them,
 * or as lists, and what they take at the same time. */
#include "comm.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct reader {
    tdm_arena *arena;
    const char *spec, *at;
    uint32_t n_ranks;
    const char *machine;
    uint32_t *group_of; /* [n_ranks] from 1; 0: in none */
    tdm_error *err;
} reader;

/* The groups' ranks in the order of the machine, or of the lists. */
static void as_lists(const reader *in, uint32_t n_groups, const uint32_t *order, uint32_t n_order,
                     tdm_comm_group *groups)
{
    uint32_t *ranks = TDM_ALLOC(in->arena, uint32_t, n_order + 1);
    uint32_t *at = TDM_ALLOC(in->arena, uint32_t, n_groups + 1);
    for (uint32_t i = 0; i < n_order; i++)
        groups[in->group_of[order[i]] - 1].n_ranks++;
    for (uint32_t g = 0; g < n_groups; g++) {
        groups[g].ranks = ranks + at[g];
        at[g + 1] = at[g] + groups[g].n_ranks;
    }
    for (uint32_t i = 0; i < n_order; i++)
        ranks[at[in->group_of[order[i]] - 1]++] = order[i];
}

static tdm_code no_spec(const reader *in)
{
    return tdm_error_add(in->err, TDM_E_INVALID,
                         "tandem: comm: --groups: '%.60s': expected /8 (groups of 8 in a row), %%2 "
                         "(every second rank), or lists of ranks as 0-3;4,6,8",
                         in->spec);
}

static bool read_number(reader *in, uint32_t *value)
{
    char *end;
    if (!isdigit((unsigned char)*in->at))
        return false;
    unsigned long number = strtoul(in->at, &end, 10);
    *value = number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
    in->at = end;
    return true;
}

/* Colours as nccl-tests: rank / n or rank % n. Source: nccl-tests, src/common.cu
 * (NCCL_TESTS_SPLIT). */
static tdm_code read_split(reader *in, uint32_t *n_groups, uint32_t *order)
{
    bool in_a_row = *in->at++ == '/';
    uint32_t n;
    if (!read_number(in, &n) || *in->at)
        return no_spec(in);
    if (n == 0)
        return tdm_error_add(in->err, TDM_E_INVALID,
                             "tandem: comm: --groups: '%.60s': expected 1 or more", in->spec);
    for (uint32_t r = 0; r < in->n_ranks; r++) {
        uint32_t group = in_a_row ? r / n : r % n;
        in->group_of[r] = group + 1;
        order[r] = r;
        *n_groups = group + 1 > *n_groups ? group + 1 : *n_groups;
    }
    return TDM_OK;
}

/* One rank of a list; *n_order -> its place. */
static tdm_code take(reader *in, uint32_t rank, uint32_t group, uint32_t *order, uint32_t *n_order)
{
    if (rank >= in->n_ranks)
        return tdm_error_add(in->err, TDM_E_INVALID,
                             "tandem: comm: --groups: rank %u: %s has ranks 0 to %u", rank,
                             in->machine, in->n_ranks - 1);
    if (in->group_of[rank] > 0)
        return tdm_error_add(in->err, TDM_E_INVALID, "tandem: comm: --groups: rank %u is %s", rank,
                             in->group_of[rank] == group ? "in its group twice" : "in two groups");
    in->group_of[rank] = group;
    order[(*n_order)++] = rank;
    return TDM_OK;
}

static tdm_code read_lists(reader *in, uint32_t *n_groups, uint32_t *order, uint32_t *n_order)
{
    for (*n_groups = 1;; in->at++) {
        uint32_t first, last;
        if (!read_number(in, &first))
            return no_spec(in);
        last = first;
        if (*in->at == '-' && (in->at++, !read_number(in, &last)))
            return no_spec(in);
        if (last < first)
            return tdm_error_add(in->err, TDM_E_INVALID,
                                 "tandem: comm: --groups: '%u-%u' counts down: expected %u-%u",
                                 first, last, last, first);
        for (uint32_t r = first; r <= last; r++) {
            tdm_code code = take(in, r, *n_groups, order, n_order);
            if (code != TDM_OK)
                return code;
        }
        if (!*in->at)
            return TDM_OK;
        if (*in->at == ';')
            ++*n_groups;
        else if (*in->at != ',')
            return no_spec(in);
    }
}

static tdm_code read_groups(tdm_arena *arena, const char *spec, const char *machine,
                            uint32_t n_ranks, tdm_comm_group **groups, uint32_t *n_groups,
                            tdm_error *err)
{
    reader in = {arena, spec, spec, n_ranks, machine, TDM_ALLOC(arena, uint32_t, n_ranks + 1), err};
    uint32_t *order = TDM_ALLOC(arena, uint32_t, n_ranks + 1), n_order = n_ranks, n = 0;
    tdm_code code;
    if (*spec == '/' || *spec == '%') {
        code = read_split(&in, &n, order);
    } else {
        n_order = 0;
        code = read_lists(&in, &n, order, &n_order);
    }
    if (code != TDM_OK)
        return code;
    tdm_comm_group *found = TDM_ALLOC(arena, tdm_comm_group, n);
    as_lists(&in, n, order, n_order, found);
    for (uint32_t g = 0; g < n; g++)
        if (found[g].n_ranks < 2)
            return tdm_error_add(
                err, TDM_E_INVALID,
                "tandem: comm: --groups: '%.60s': group %u is rank %u alone, which "
                "has nobody to talk to",
                spec, g, found[g].ranks[0]);
    *groups = found;
    *n_groups = n;
    return TDM_OK;
}

tdm_code tdm_comm_build_groups(tdm_arena *arena, const tdm_graph *graph, const char *gpus,
                               const char *spec, const tdm_nccl_settings *settings,
                               tdm_comm_table *table, tdm_error *err)
{
    uint32_t n;
    tdm_code code = tdm_comm_count_gpus("comm", gpus, graph, &n, err);
    if (code == TDM_OK && spec)
        code = read_groups(arena, spec, graph->name, n, &table->groups, &table->n_groups, err);
    if (code != TDM_OK)
        return code;
    if (!spec) {
        uint32_t *ranks = TDM_ALLOC(arena, uint32_t, n);
        for (uint32_t i = 0; i < n; i++)
            ranks[i] = i;
        table->n_groups = 1;
        table->groups = TDM_ALLOC(arena, tdm_comm_group, 1);
        table->groups[0] = (tdm_comm_group){.n_ranks = n, .ranks = ranks};
    }
    table->grouped = spec != NULL;
    for (uint32_t g = 0; g < table->n_groups; g++) {
        tdm_comm_group *group = &table->groups[g];
        code = tdm_nccl_comm_build(arena, graph, group->ranks, group->n_ranks, settings,
                                   &group->comm, err);
        if (code != TDM_OK)
            return code;
        group->comm.site = graph->site;
        group->user = (tdm_nccl_user){.comm = &group->comm, .func = table->func};
    }
    table->comm = table->groups[0].comm;
    return TDM_OK;
}

static tdm_code fill_row(tdm_arena *arena, tdm_comm_table *table, tdm_comm_row *row,
                         tdm_nccl_operation *operations, tdm_error *err)
{
    uint32_t n = table->n_groups;
    row->parts = TDM_ALLOC(arena, tdm_comm_part, n);
    for (uint32_t g = 0; g < n; g++)
        operations[g] = (tdm_nccl_operation){
            .user = &table->groups[g].user, .bytes = row->bytes, .launch_s = table->launch_s};
    for (uint32_t g = 0; g < n && n > 1; g++) {
        tdm_code code = tdm_nccl_run_together(arena, &operations[g], 1, err);
        if (code != TDM_OK)
            return code;
        row->parts[g].alone_s = operations[g].end_s;
    }
    tdm_code code = tdm_nccl_run_together(arena, operations, n, err);
    for (uint32_t g = 0; code == TDM_OK && g < n; g++) {
        row->parts[g].time_s = operations[g].end_s;
        row->parts[g].cost = operations[g].cost;
        if (n == 1)
            row->parts[g].alone_s = row->parts[g].time_s;
        if (row->parts[g].time_s > row->parts[row->slowest].time_s)
            row->slowest = g;
    }
    row->cost = row->parts[row->slowest].cost;
    row->time_s = row->parts[row->slowest].time_s;
    return code;
}

tdm_code tdm_comm_fill(tdm_arena *arena, tdm_comm_table *table, tdm_error *err)
{
    tdm_nccl_operation *operations = TDM_ALLOC(arena, tdm_nccl_operation, table->n_groups);
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; code == TDM_OK && i < table->n_rows; i++)
        code = fill_row(arena, table, &table->rows[i], operations, err);
    return code;
}
