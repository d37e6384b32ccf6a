/* plan_read_role.c: roles: their ranks, chunks and blocks, and the order of passes. */
#include "plan_read.h"

#include <string.h>

/* ---- ranks ---- */

/* RANK or FIRST-LAST */
static bool read_range(tdm_plan_reader *reader, uint32_t stage, tdm_token item)
{
    tdm_text_reader *r = &reader->text;
    const tdm_mesh *mesh = &reader->plan->mesh;
    const char *dash = memchr(item.at, '-', item.length);
    tdm_token left = {item.at, dash ? (size_t)(dash - item.at) : item.length};
    uint64_t first = 0, last = 0;
    if (!tdm_text_number(r, "ranks", left, mesh->world - 1, &first))
        return false;
    last = first;
    if (dash) {
        tdm_token right = {dash + 1, item.length - left.length - 1};
        if (!tdm_text_number(r, "ranks", right, mesh->world - 1, &last))
            return false;
    }
    if (last < first)
        return tdm_text_fail(r, item.at, "ranks: %u-%u runs backwards", (unsigned)first,
                             (unsigned)last);
    for (uint32_t rank = (uint32_t)first; rank <= last; rank++) {
        if (reader->role_of[rank] != UINT16_MAX)
            return tdm_text_fail(r, item.at, "ranks: rank %u has a role already", rank);
        if (tdm_mesh_stage(mesh, rank) != stage)
            return tdm_text_fail(r, item.at, "ranks: rank %u is of stage %u, not %u", rank,
                                 tdm_mesh_stage(mesh, rank), stage);
        reader->role_of[rank] = (uint16_t)reader->n_roles;
    }
    return true;
}

/* `role stage=0 ranks=0-7` */
static bool read_role_line(tdm_plan_reader *reader, tdm_role *role)
{
    tdm_text_reader *r = &reader->text;
    char shown[TDM_SHOW_SIZE];
    tdm_token key, value, item, stage = tdm_text_word(r);
    uint64_t number = 0;
    if (!tdm_token_split(stage, &key, &value) || !tdm_token_is(key, "stage"))
        return tdm_text_fail(r, stage.at, "'%s' where `stage=` of the role belongs",
                             tdm_token_show(stage, shown));
    if (!tdm_text_number(r, "stage", value, reader->plan->mesh.pp - 1, &number))
        return false;
    role->stage = (uint32_t)number;
    tdm_token ranks = tdm_text_word(r);
    if (ranks.length > 0) { /* a role without ranks is idle, not wrong */
        if (!tdm_token_split(ranks, &key, &value) || !tdm_token_is(key, "ranks"))
            return tdm_text_fail(r, ranks.at, "'%s' where `ranks=` of the role belongs",
                                 tdm_token_show(ranks, shown));
        while (tdm_token_item(&value, &item))
            if (!read_range(reader, role->stage, item))
                return false;
    }
    return tdm_text_end_of_line(r) && tdm_text_advance(r);
}

/* ---- chunks ---- */

static bool find_kind(tdm_plan_reader *reader, tdm_token token, uint16_t *kind)
{
    char shown[TDM_SHOW_SIZE];
    const char *name;
    if (!tdm_text_name(&reader->text, "kind of the block", token, &name))
        return false;
    for (uint32_t i = 0; i < reader->n_kinds; i++)
        if (strcmp(reader->kinds[i].name, name) == 0) {
            *kind = (uint16_t)i;
            return true;
        }
    return tdm_text_fail(&reader->text, token.at, "there is no kind '%s'",
                         tdm_token_show(token, shown));
}

/* Slots that ops of `kind` use of the following position must exist there; following: NULL where
 * the chunk ends. at: the line that is to blame. */
static bool check_next(const tdm_plan_reader *reader, tdm_text_reader *at, uint16_t kind,
                       const tdm_kind *following)
{
    uint32_t wanted = reader->needs[kind].next_slots;
    const char *name = reader->kinds[kind].name;
    if (wanted > 0 && !following)
        return tdm_text_fail(at, at->line,
                             "ops of kind %s use the following position, but the chunk ends here",
                             name);
    if (wanted > 0 && wanted > following->n_slots)
        return tdm_text_fail(
            at, at->line,
            "ops of kind %s use slot #%u of the following position, but kind %s has %u slots", name,
            wanted - 1, following->name, following->n_slots);
    return true;
}

/* The block must fit behind the one before it, and behind itself when repeated. */
static bool check_block(tdm_plan_reader *reader, const tdm_chunk *chunk, const tdm_block *block)
{
    tdm_text_reader *r = &reader->text;
    const tdm_kind *kind = &reader->kinds[block->kind];
    const tdm_kind_needs *needs = &reader->needs[block->kind];
    uint64_t end = (uint64_t)block->first_layer + block->count;
    if (block->count == 0 || (uint64_t)chunk->n_positions + block->count > TDM_READ_MAX_POSITIONS)
        return tdm_text_fail(r, r->line,
                             "count: a block has at least 1 position, a chunk at most %d",
                             TDM_READ_MAX_POSITIONS);
    if (end > UINT32_MAX)
        return tdm_text_fail(r, r->line, "first_layer: %u is out of range", block->first_layer);
    if (chunk->n_blocks > 0 &&
        !check_next(reader, r, chunk->blocks[chunk->n_blocks - 1].kind, kind))
        return false;
    if (block->count > 1 && !check_next(reader, r, block->kind, kind))
        return false;
    if (needs->tokens && end > reader->n_layers)
        reader->n_layers = (uint32_t)end;
    reader->exchange |= needs->exchange;
    return true;
}

/* last: then stands at the last block's line. */
static bool read_chunk(tdm_plan_reader *reader, tdm_chunk *chunk, tdm_text_reader *last)
{
    tdm_text_reader *r = &reader->text;
    tdm_block *blocks = NULL;
    uint32_t room = 0;
    if (!tdm_text_fields(r, "chunk", tdm_text_chunk_fields, chunk) || !tdm_text_advance(r))
        return false;
    while (tdm_token_is(r->word, "block")) {
        tdm_block block = {0};
        if (!find_kind(reader, tdm_text_word(r), &block.kind) ||
            !tdm_text_fields(r, "block", tdm_text_block_fields, &block) ||
            !check_block(reader, chunk, &block))
            return false;
        TDM_READ_GROW(r->arena, blocks, chunk->n_blocks, &room);
        blocks[chunk->n_blocks++] = block;
        chunk->blocks = blocks;
        chunk->n_positions += block.count;
        *last = *r;
        if (!tdm_text_advance(r))
            return false;
    }
    if (chunk->n_blocks == 0)
        return tdm_text_fail(r, r->line, "a chunk needs at least one block");
    return true;
}

/* What follows the end of each chunk on the same stage; ends: their last blocks' lines. */
static bool check_ends(const tdm_plan_reader *reader, const tdm_role *role, tdm_text_reader *ends)
{
    for (uint32_t c = 0; c < role->n_chunks; c++) {
        const tdm_chunk *chunk = &role->chunks[c];
        uint32_t turn = tdm_plan_turn(role, c);
        const tdm_kind *following =
            turn < role->n_chunks ? &reader->kinds[role->chunks[turn].blocks[0].kind] : NULL;
        if (!check_next(reader, &ends[c], chunk->blocks[chunk->n_blocks - 1].kind, following))
            return false;
    }
    return true;
}

static bool read_chunks(tdm_plan_reader *reader, tdm_role *role)
{
    tdm_text_reader *r = &reader->text;
    tdm_text_reader highest = *r; /* stands at the line with the highest virtual stage */
    tdm_text_reader ends[TDM_READ_MAX_CHUNKS];
    tdm_chunk *chunks = NULL;
    uint32_t room = 0, highest_stage = 0;
    while (tdm_token_is(r->word, "chunk")) {
        tdm_text_reader place = *r;
        tdm_chunk chunk = {0};
        if (role->n_chunks == TDM_READ_MAX_CHUNKS)
            return tdm_text_fail(r, r->line, "more than %d chunks in one role",
                                 TDM_READ_MAX_CHUNKS);
        if (!read_chunk(reader, &chunk, &ends[role->n_chunks]))
            return false;
        TDM_READ_GROW(r->arena, chunks, role->n_chunks, &room);
        chunks[role->n_chunks++] = chunk;
        role->chunks = chunks;
        if (chunk.virtual_stage > highest_stage) {
            highest_stage = chunk.virtual_stage;
            highest = place;
        }
    }
    if (role->n_chunks > 0 && highest_stage >= role->n_chunks * reader->plan->mesh.pp)
        return tdm_text_fail(&highest, highest.line,
                             "virtual_stage: %u of a role with %u chunks on %u stages",
                             highest_stage, role->n_chunks, reader->plan->mesh.pp);
    if (role->n_chunks == 0)
        return tdm_text_fail(r, r->line, "a role needs at least one chunk");
    return check_ends(reader, role, ends);
}

/* ---- passes ---- */

/* Bytes of the token, from `from` on, that are digits. */
static size_t count_digits(tdm_token token, size_t from)
{
    size_t n = 0;
    while (from + n < token.length && token.at[from + n] >= '0' && token.at[from + n] <= '9')
        n++;
    return n;
}

/* F0, or 1F0 for chunk 1 where there are several, or O */
static bool read_cell(tdm_plan_reader *reader, const tdm_role *role, tdm_token cell, tdm_pass *pass)
{
    tdm_text_reader *r = &reader->text;
    char shown[TDM_SHOW_SIZE];
    if (tdm_token_is(cell, "O")) {
        *pass = (tdm_pass){.kind = TDM_PASS_O};
        return true;
    }
    size_t prefix = count_digits(cell, 0), end = cell.length;
    while (end > prefix && count_digits((tdm_token){cell.at, end}, end - 1) == 1)
        end--;
    tdm_token chunk = {cell.at, prefix}, name = {cell.at + prefix, end - prefix},
              microbatch = {cell.at + end, cell.length - end};
    uint64_t c = 0, m = 0;
    unsigned kind = 0;
    while (kind < TDM_PASS_O && !tdm_token_is(name, tdm_pass_kind_name((tdm_pass_kind)kind)))
        kind++;
    if (kind == TDM_PASS_O || microbatch.length == 0 || (prefix > 0) != (role->n_chunks > 1))
        return tdm_text_fail(
            r, cell.at, "'%s' is not a pass: O, or F, B, W or BW with the microbatch behind%s",
            tdm_token_show(cell, shown),
            role->n_chunks > 1 ? " and the chunk in front, as in 0F3" : ", as in F3");
    if (!tdm_text_number(r, "microbatch", microbatch, reader->plan->num_microbatches - 1, &m) ||
        (prefix > 0 && !tdm_text_number(r, "chunk", chunk, role->n_chunks - 1, &c)))
        return false;
    *pass = (tdm_pass){(tdm_pass_kind)kind, (uint16_t)c, (uint32_t)m};
    return true;
}

static bool read_passes(tdm_plan_reader *reader, tdm_role *role)
{
    tdm_text_reader *r = &reader->text;
    char shown[TDM_SHOW_SIZE];
    tdm_pass *passes = NULL;
    uint32_t room = 0;
    if (!tdm_token_is(r->word, "passes"))
        return tdm_text_fail(r, r->word.at, "'%s' where the line `passes` of the role belongs",
                             tdm_token_show(r->word, shown));
    for (tdm_token cell = tdm_text_word(r); cell.length > 0; cell = tdm_text_word(r)) {
        TDM_READ_GROW(r->arena, passes, role->n_passes, &room);
        if (!read_cell(reader, role, cell, &passes[role->n_passes]))
            return false;
        role->n_passes++;
    }
    role->passes = passes;
    return tdm_text_advance(r);
}

static bool read_optimizer(tdm_plan_reader *reader, tdm_role *role)
{
    tdm_text_reader *r = &reader->text;
    char shown[TDM_SHOW_SIZE];
    tdm_kind_needs needs = {0};
    if (!tdm_token_is(r->word, "pass"))
        return true;
    tdm_token name = tdm_text_word(r);
    if (!tdm_token_is(name, "O"))
        return tdm_text_fail(r, name.at,
                             "pass '%s': a role has pass O alone, the others are of kinds",
                             tdm_token_show(name, shown));
    if (!tdm_text_end_of_line(r) || !tdm_text_advance(r))
        return false;
    const char *first = r->line;
    if (!tdm_read_template(reader, NULL, &needs, TDM_PASS_O, &role->optimizer))
        return false;
    if (needs.tokens)
        return tdm_text_fail(r, first < r->line ? r->line : first,
                             "pass O above: its ops have no layer, so no tokens of experts either");
    return true;
}

bool tdm_read_role(tdm_plan_reader *reader)
{
    tdm_text_reader *r = &reader->text;
    tdm_role role = {0};
    if (reader->n_roles == TDM_READ_MAX_ROLES)
        return tdm_text_fail(r, r->line, "more than %d roles", TDM_READ_MAX_ROLES);
    if (!read_role_line(reader, &role) || !read_chunks(reader, &role) ||
        !read_passes(reader, &role) || !read_optimizer(reader, &role))
        return false;
    TDM_READ_GROW(r->arena, reader->roles, reader->n_roles, &reader->roles_room);
    reader->roles[reader->n_roles++] = role;
    return true;
}
