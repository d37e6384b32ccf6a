/* plan_read.c: plan text back into a plan: the file, the header, and the order of the parts. */
#include "plan_read.h"
#include "plan_text.h"

#include <errno.h>
#include <string.h>

void *tdm_read_grow(tdm_arena *arena, void *items, uint32_t n, uint32_t *room, size_t size)
{
    if (n < *room)
        return items;
    *room = *room > 0 ? *room * 2 : 8;
    void *grown = tdm_arena_alloc(arena, *room * size);
    if (n > 0)
        memcpy(grown, items, n * size);
    return grown;
}

static bool read_magic(tdm_text_reader *r)
{
    char shown[TDM_SHOW_SIZE];
    if (!tdm_text_advance(r))
        return false;
    if (!tdm_token_is(r->word, "tandem-plan"))
        return tdm_text_fail(r, r->line,
                             "this is no plan text: it must open with `" TDM_PLAN_TEXT_MAGIC "`");
    tdm_token version = tdm_text_word(r);
    if (!tdm_token_is(version, strchr(TDM_PLAN_TEXT_MAGIC, ' ') + 1))
        return tdm_text_fail(r, version.at, "version '%s' is unknown: this program reads `%s`",
                             tdm_token_show(version, shown), TDM_PLAN_TEXT_MAGIC);
    return tdm_text_end_of_line(r) && tdm_text_advance(r);
}

/* The sizes must form the mesh that the derived numbers say. */
static bool check_mesh(tdm_plan_reader *reader)
{
    tdm_mesh *mesh = &reader->plan->mesh, derived;
    const uint32_t sizes[] = {mesh->tp, mesh->cp, mesh->dp, mesh->pp};
    uint64_t world = 1;
    for (size_t i = 0; i < TDM_COUNT(sizes) && world <= TDM_READ_MAX_RANKS; i++)
        world *= sizes[i];
    if (world == 0 || world > TDM_READ_MAX_RANKS)
        return tdm_text_fail(&reader->text, reader->text.line,
                             "mesh: tp x cp x dp x pp must be 1 to %d ranks", TDM_READ_MAX_RANKS);
    if (tdm_mesh_init(&derived, mesh->tp, mesh->cp, mesh->dp, mesh->pp, mesh->ep, mesh->etp,
                      NULL) != TDM_OK)
        return tdm_text_fail(&reader->text, reader->text.line,
                             "mesh: ep %u x etp %u does not divide the %u ranks of a stage",
                             mesh->ep, mesh->etp, mesh->tp * mesh->cp * mesh->dp);
    if (mesh->edp != derived.edp || mesh->world != derived.world)
        return tdm_text_fail(
            &reader->text, reader->text.line,
            "mesh: edp=%u world=%u do not follow from the sizes, which give edp=%u world=%u",
            mesh->edp, mesh->world, derived.edp, derived.world);
    if (mesh->copies == 1 || mesh->copies > TDM_READ_MAX_RANKS / mesh->world)
        return tdm_text_fail(&reader->text, reader->text.line,
                             "mesh: copies=%u of %u ranks: 2 or more, for %d ranks at most",
                             mesh->copies, mesh->world, TDM_READ_MAX_RANKS);
    derived.copies = mesh->copies;
    *mesh = derived;
    return true;
}

static bool check_microbatches(tdm_plan_reader *reader)
{
    uint32_t m = reader->plan->num_microbatches;
    if (m > 0 && m <= TDM_READ_MAX_MICROBATCHES)
        return true;
    return tdm_text_fail(&reader->text, reader->text.line, "num_microbatches: %u is not 1 to %d", m,
                         TDM_READ_MAX_MICROBATCHES);
}

static bool read_header(tdm_plan_reader *reader)
{
    tdm_text_reader *r = &reader->text;
    char shown[TDM_SHOW_SIZE];
    for (const tdm_text_section *section = tdm_text_sections; section->word; section++) {
        if (section->model && reader->plan->pass_times)
            continue;
        if (!tdm_token_is(r->word, section->word))
            return tdm_text_fail(r, r->word.at, "'%s' where the line `%s` belongs",
                                 tdm_token_show(r->word, shown), section->word);
        if (!tdm_text_fields(r, section->word, section->fields, reader->plan))
            return false;
        bool first = section == tdm_text_sections, last = !section[1].word;
        if ((first && !check_microbatches(reader)) || (last && !check_mesh(reader)) ||
            !tdm_text_advance(r))
            return false;
    }
    return true;
}

static bool check_ranks(tdm_plan_reader *reader)
{
    uint32_t world = reader->plan->mesh.world;
    for (uint32_t rank = 0; rank < world; rank++)
        if (reader->role_of[rank] == UINT16_MAX)
            return tdm_text_fail(&reader->text, reader->text.line, "no role has rank %u of %u",
                                 rank, world);
    return true;
}

static bool read_end(tdm_plan_reader *reader)
{
    tdm_text_reader *r = &reader->text;
    char shown[TDM_SHOW_SIZE];
    if (r->word.length == 0)
        return tdm_text_fail(r, r->line, "the text stops before its last line, `end`");
    if (!tdm_token_is(r->word, "end"))
        return tdm_text_fail(r, r->word.at,
                             "'%s' does not belong here: kinds, then roles, then at most one "
                             "routing-table, then `end`",
                             tdm_token_show(r->word, shown));
    if (reader->plan->routing.n_layers == 0 && reader->exchange)
        return tdm_text_fail(r, r->line,
                             "an all-to-all needs the routing table: where is `routing-table`?");
    if (!check_ranks(reader) || !tdm_text_end_of_line(r) || !tdm_text_advance(r))
        return false;
    if (r->word.length > 0)
        return tdm_text_fail(r, r->word.at, "'%s' after `end`", tdm_token_show(r->word, shown));
    return true;
}

static bool read_plan(tdm_plan_reader *reader)
{
    tdm_text_reader *r = &reader->text;
    if (!read_magic(r) || !read_header(reader))
        return false;
    reader->role_of = TDM_ALLOC(r->arena, uint16_t, reader->plan->mesh.world);
    memset(reader->role_of, 0xff, reader->plan->mesh.world * sizeof *reader->role_of);
    while (tdm_token_is(r->word, "kind"))
        if (!tdm_read_kind(reader))
            return false;
    while (tdm_token_is(r->word, "role"))
        if (!tdm_read_role(reader))
            return false;
    if (tdm_token_is(r->word, "routing-table") && !tdm_read_routing(reader))
        return false;
    return read_end(reader);
}

tdm_code tdm_plan_parse(tdm_arena *arena, const char *path, const char *text, size_t length,
                        tdm_plan *plan, tdm_error *err)
{
    tdm_plan result = {0};
    tdm_plan_reader reader = {
        .text = {.arena = arena, .path = path, .err = err, .next_line = text, .end = text + length},
        .plan = &result,
    };
    if (!read_plan(&reader))
        return TDM_E_INVALID;
    result.kinds = reader.kinds;
    result.n_kinds = reader.n_kinds;
    result.roles = reader.roles;
    result.n_roles = reader.n_roles;
    result.role_of = reader.role_of;
    *plan = result;
    return TDM_OK;
}

/* The whole file in the arena; NULL with errno on failure. */
static char *load(tdm_arena *arena, FILE *file, size_t *length)
{
    char *text = NULL;
    size_t room = 0, n = 0, got = 1;
    while (got > 0) {
        if (n == room) {
            size_t more = room > 0 ? 2 * room : 1u << 16;
            char *grown = tdm_arena_alloc(arena, more);
            if (n > 0)
                memcpy(grown, text, n);
            text = grown;
            room = more;
        }
        got = fread(text + n, 1, room - n, file);
        n += got;
    }
    *length = n;
    return ferror(file) ? NULL : text;
}

tdm_code tdm_plan_read(tdm_arena *arena, const char *path, tdm_plan *plan, tdm_error *err)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return tdm_error_add(err, TDM_E_INVALID, "%s: %s", path, strerror(errno));
    tdm_arena bytes = {0};
    size_t length = 0;
    const char *text = load(&bytes, file, &length);
    tdm_code code = text ? tdm_plan_parse(arena, path, text, length, plan, err)
                         : tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path, strerror(errno));
    fclose(file);
    tdm_arena_free(&bytes);
    return code;
}
