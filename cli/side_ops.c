/* side_ops.c: ops.csv, summed up by class and by op. */
#include "side.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANK, STAGE, STREAM, PASS, MICROBATCH, CHUNK, LAYER, OP, KIND, START, END, N_CELLS };

enum { N_BUCKETS = 4096 };

/* Sums by op, found by hash: a result has hundreds of ops and millions of rows. */
typedef struct entry {
    tdm_side_op op;
    struct entry *next;
} entry;

typedef struct reader {
    tdm_arena *arena;
    const char *path;
    tdm_side *side;
    entry *buckets[N_BUCKETS];
    uint32_t n_entries;
    uint32_t *rank_place; /* [n_places] index into side->ranks, UINT32_MAX: none */
    uint32_t n_places;
} reader;

/* Cuts a line at its commas; the names of ops have none. Returns how many cells were found. */
static size_t cut(char *line, char *cells[N_CELLS])
{
    size_t n = 0;
    for (char *at = line; at && n < N_CELLS; n++) {
        cells[n] = at;
        at = strchr(at, ',');
        if (at)
            *at++ = '\0';
    }
    return n;
}

static bool parse_uint(const char *text, uint32_t *value)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (end == text || *end || errno || number >= UINT32_MAX || text[0] == '-')
        return false;
    *value = (uint32_t)number;
    return true;
}

static bool parse_us(const char *text, double *seconds)
{
    char *end;
    *seconds = 1e-6 * strtod(text, &end);
    return end != text && *end == '\0' && *seconds >= 0 && *seconds < 1e9;
}

static bool find_kind(const char *name, tdm_op_kind *kind)
{
    for (uint32_t k = 0; k < TDM_N_OP_KINDS; k++) {
        if (strcmp(tdm_op_kind_name((tdm_op_kind)k), name) == 0) {
            *kind = (tdm_op_kind)k;
            return true;
        }
    }
    return false;
}

static tdm_side_op *find_op(reader *r, uint32_t stage, char *cells[N_CELLS])
{
    uint32_t hash = stage + 17;
    const char *const texts[] = {cells[PASS], cells[OP], cells[KIND]};
    for (size_t t = 0; t < TDM_COUNT(texts); t++)
        for (const char *c = texts[t]; *c; c++)
            hash = hash * 31 + (unsigned char)*c;
    entry **bucket = &r->buckets[hash % N_BUCKETS];
    for (entry *e = *bucket; e; e = e->next)
        if (e->op.stage == stage && strcmp(e->op.phase, cells[PASS]) == 0 &&
            strcmp(e->op.name, cells[OP]) == 0 && strcmp(e->op.kind, cells[KIND]) == 0)
            return &e->op;
    tdm_op_kind kind;
    if (!find_kind(cells[KIND], &kind))
        return NULL;
    entry *e = TDM_ALLOC(r->arena, entry, 1);
    e->op = (tdm_side_op){
        .stage = stage,
        .phase = tdm_arena_strdup(r->arena, cells[PASS]),
        .name = tdm_arena_strdup(r->arena, cells[OP]),
        .kind = tdm_arena_strdup(r->arena, cells[KIND]),
        .class_ = tdm_op_class_of(kind, strcmp(cells[PASS], "O") == 0 ? TDM_PASS_O : TDM_PASS_F,
                                  cells[OP]),
    };
    e->next = *bucket;
    *bucket = e;
    r->n_entries++;
    return &e->op;
}

static bool add_row(reader *r, char *line)
{
    char *cells[N_CELLS];
    uint32_t rank, stage;
    double start_s, end_s;
    if (cut(line, cells) != N_CELLS || !parse_uint(cells[RANK], &rank) ||
        !parse_uint(cells[STAGE], &stage) || !parse_us(cells[START], &start_s))
        return false;
    if (!parse_us(cells[END], &end_s) || end_s < start_s)
        return false;
    tdm_side_op *op = find_op(r, stage, cells);
    if (!op)
        return false;
    op->n++;
    op->total_s += end_s - start_s;
    if (rank < r->n_places && r->rank_place[rank] != UINT32_MAX)
        r->side->ranks[r->rank_place[rank]].class_s[op->class_] += end_s - start_s;
    return true;
}

static void place_ranks(reader *r)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < r->side->n_ranks; i++)
        most = r->side->ranks[i].rank > most ? r->side->ranks[i].rank : most;
    r->n_places = most < 1u << 20 ? most + 1 : 1u << 20;
    r->rank_place = TDM_ALLOC(r->arena, uint32_t, r->n_places);
    for (uint32_t i = 0; i < r->n_places; i++)
        r->rank_place[i] = UINT32_MAX;
    for (uint32_t i = 0; i < r->side->n_ranks; i++)
        if (r->side->ranks[i].rank < r->n_places)
            r->rank_place[r->side->ranks[i].rank] = i;
}

static int by_stage_phase_name(const void *a, const void *b)
{
    const tdm_side_op *x = a, *y = b;
    if (x->stage != y->stage)
        return x->stage < y->stage ? -1 : 1;
    int order = strcmp(x->phase, y->phase);
    order = order ? order : strcmp(x->name, y->name);
    return order ? order : strcmp(x->kind, y->kind);
}

static void collect(reader *r)
{
    tdm_side *side = r->side;
    side->ops = TDM_ALLOC(r->arena, tdm_side_op, r->n_entries);
    for (uint32_t b = 0; b < N_BUCKETS; b++)
        for (const entry *e = r->buckets[b]; e; e = e->next)
            side->ops[side->n_ops++] = e->op;
    qsort(side->ops, side->n_ops, sizeof *side->ops, by_stage_phase_name);
    side->has_ops = side->has_classes = true;
}

static tdm_code read_lines(reader *r, FILE *file, tdm_error *err)
{
    static const char head[] =
        "rank,stage,stream,pass,microbatch,chunk,layer,op,kind,start_us,end_us";
    char line[1024];
    if (!fgets(line, sizeof line, file) || strncmp(line, head, sizeof head - 1) != 0)
        return tdm_error_add(err, TDM_E_INVALID, "%s:1: not the head of tandem's ops.csv: %s...",
                             r->path, head);
    for (uint32_t n = 2; fgets(line, sizeof line, file); n++) {
        line[strcspn(line, "\r\n")] = '\0';
        if (!add_row(r, line))
            return tdm_error_add(err, TDM_E_INVALID,
                                 "%s:%lu: not a row of tandem's ops.csv (write the result again)",
                                 r->path, (unsigned long)n);
    }
    return TDM_OK;
}

tdm_code tdm_side_read_ops(tdm_arena *arena, const char *path, tdm_side *side, tdm_error *err)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return tdm_error_add(err, TDM_E_INVALID, "%s: %s", path, strerror(errno));
    tdm_arena scratch = {0};
    reader *r = TDM_ALLOC(&scratch, reader, 1);
    *r = (reader){.arena = arena, .path = path, .side = side};
    place_ranks(r);
    tdm_code code = read_lines(r, file, err);
    if (code == TDM_OK && ferror(file))
        code = tdm_error_add(err, TDM_E_INTERNAL, "%s: cannot be read", path);
    fclose(file);
    if (code == TDM_OK)
        collect(r);
    tdm_arena_free(&scratch);
    return code;
}
