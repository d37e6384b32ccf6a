/* plan_write.c: the plan as text, and the hash of that text. */
#include "plan_sink.h"
#include "plan_text.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* ---- kinds ---- */

static void put_waits(tdm_sink *s, const tdm_op *op)
{
    for (uint32_t i = 0; i < op->n_waits; i++) {
        const tdm_wait *wait = &op->waits[i];
        tdm_put(s, i == 0 ? " wait=" : ",");
        tdm_put(s, tdm_stream_name(wait->stream));
        if (wait->kind == TDM_WAIT_PASS)
            tdm_put(s, "@pass");
        else if (wait->kind == TDM_WAIT_FORWARD)
            tdm_put(s, "@F");
        else if (wait->kind == TDM_WAIT_BACKWARD)
            tdm_put(s, "@B");
        if (wait->n > 0) {
            tdm_put_char(s, '~');
            tdm_put_number(s, wait->n);
        }
    }
}

static const char *ref_key(const tdm_ref *ref)
{
    if (ref->read)
        return ref->write ? "update" : "read";
    return ref->write ? "write" : "touch";
}

/* Tensors in the op's order; neighbours with the same use share one key. kind: NULL in the O pass.
 */
static void put_refs(tdm_sink *s, const tdm_kind *kind, const tdm_op *op)
{
    const char *key = "";
    for (uint32_t i = 0; i < op->n_refs; i++) {
        const tdm_ref *ref = &op->refs[i];
        if (strcmp(key, ref_key(ref)) == 0) {
            tdm_put_char(s, ',');
        } else {
            key = ref_key(ref);
            tdm_put_char(s, ' ');
            tdm_put(s, key);
            tdm_put_char(s, '=');
        }
        if (ref->birth)
            tdm_put_char(s, '+');
        if (ref->death)
            tdm_put_char(s, '-');
        if (ref->next)
            tdm_put(s, "next.");
        if (kind && ref->slot < kind->n_slots) {
            tdm_put_name(s, kind->slots[ref->slot].name);
        } else {
            tdm_put_char(s, '#');
            tdm_put_number(s, ref->slot);
        }
    }
}

static void put_op(tdm_sink *s, const tdm_kind *kind, tdm_pass_kind template_kind, const tdm_op *op)
{
    tdm_put(s, "    ");
    tdm_put(s, tdm_op_kind_name(op->kind));
    tdm_put_char(s, ' ');
    tdm_put_name(s, op->name);
    tdm_put_fields(s, tdm_text_shape_fields(op->kind), op);
    if (op->pass != tdm_text_default_pass(template_kind)) {
        tdm_put(s, " pass=");
        tdm_put(s, tdm_pass_kind_name(op->pass));
    }
    tdm_put_fields(s, tdm_text_op_fields, op);
    put_waits(s, op);
    put_refs(s, kind, op);
    tdm_put_char(s, '\n');
}

static void put_kind(tdm_sink *s, const tdm_kind *kind)
{
    tdm_put(s, "\nkind ");
    tdm_put_name(s, kind->name);
    tdm_put_char(s, '\n');
    for (uint32_t i = 0; i < kind->n_params; i++) {
        tdm_put(s, "  param ");
        tdm_put_name(s, kind->params[i].name);
        tdm_put_fields(s, tdm_text_param_fields, &kind->params[i]);
        tdm_put_char(s, '\n');
    }
    for (uint32_t i = 0; i < kind->n_slots; i++) {
        tdm_put(s, "  slot ");
        tdm_put_name(s, kind->slots[i].name);
        tdm_put_fields(s, tdm_text_slot_fields, &kind->slots[i]);
        tdm_put_char(s, '\n');
    }
    for (int p = 0; p < TDM_PASS_O; p++) {
        const tdm_template *template = &kind->templates[p];
        if (template->n_ops == 0)
            continue;
        tdm_put(s, "  pass ");
        tdm_put(s, tdm_pass_kind_name((tdm_pass_kind)p));
        tdm_put_char(s, '\n');
        for (uint32_t i = 0; i < template->n_ops; i++)
            put_op(s, kind, (tdm_pass_kind)p, &template->ops[i]);
    }
}

/* ---- roles ---- */

/* Ranks of a role as 0-7,12. */
static void put_ranks(tdm_sink *s, const tdm_plan *plan, uint32_t role)
{
    bool first = true;
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        if (plan->role_of[rank] != role)
            continue;
        uint32_t last = rank;
        while (last + 1 < plan->mesh.world && plan->role_of[last + 1] == role)
            last++;
        tdm_put(s, first ? " ranks=" : ",");
        tdm_put_number(s, rank);
        if (last > rank) {
            tdm_put_char(s, '-');
            tdm_put_number(s, last);
        }
        first = false;
        rank = last;
    }
}

static void put_passes(tdm_sink *s, const tdm_role *role)
{
    tdm_put(s, "  passes");
    for (uint32_t i = 0; i < role->n_passes; i++) {
        const tdm_pass *pass = &role->passes[i];
        tdm_put_char(s, ' ');
        if (pass->kind == TDM_PASS_O) {
            tdm_put_char(s, 'O');
            continue;
        }
        if (role->n_chunks > 1)
            tdm_put_number(s, pass->chunk);
        tdm_put(s, tdm_pass_kind_name(pass->kind));
        tdm_put_number(s, pass->microbatch);
    }
    tdm_put_char(s, '\n');
}

static void put_role(tdm_sink *s, const tdm_plan *plan, uint32_t index)
{
    const tdm_role *role = &plan->roles[index];
    tdm_put(s, "\nrole stage=");
    tdm_put_number(s, role->stage);
    put_ranks(s, plan, index);
    tdm_put_char(s, '\n');
    for (uint32_t c = 0; c < role->n_chunks; c++) {
        const tdm_chunk *chunk = &role->chunks[c];
        tdm_put(s, "  chunk");
        tdm_put_fields(s, tdm_text_chunk_fields, chunk);
        tdm_put_char(s, '\n');
        for (uint32_t b = 0; b < chunk->n_blocks; b++) {
            assert(chunk->blocks[b].kind < plan->n_kinds);
            tdm_put(s, "    block ");
            tdm_put_name(s, plan->kinds[chunk->blocks[b].kind].name);
            tdm_put_fields(s, tdm_text_block_fields, &chunk->blocks[b]);
            tdm_put_char(s, '\n');
        }
    }
    put_passes(s, role);
    if (role->optimizer.n_ops == 0)
        return;
    tdm_put(s, "  pass O\n");
    for (uint32_t i = 0; i < role->optimizer.n_ops; i++)
        put_op(s, NULL, TDM_PASS_O, &role->optimizer.ops[i]);
}

/* ---- routing ---- */

/* Runs of at least this many equal values are written as COUNT*VALUE. */
enum { MIN_RUN = 4 };

static void put_counts(tdm_sink *s, const char *word, const uint32_t *values, uint64_t n)
{
    tdm_put(s, word);
    for (uint64_t i = 0; i < n;) {
        uint64_t run = 1;
        while (i + run < n && values[i + run] == values[i])
            run++;
        run = run < MIN_RUN ? 1 : run;
        tdm_put_char(s, ' ');
        if (run > 1) {
            tdm_put_number(s, run);
            tdm_put_char(s, '*');
        }
        tdm_put_number(s, values[i]);
        i += run;
    }
}

static void put_routing(tdm_sink *s, const tdm_routing_table *table)
{
    if (table->n_layers == 0)
        return;
    tdm_put(s, "\nrouting-table");
    tdm_put_fields(s, tdm_text_routing_fields, table);
    tdm_put_char(s, '\n');
    uint64_t n_sent = (uint64_t)table->ep * table->ep;
    uint64_t n_rows = (uint64_t)table->n_replicas * table->n_layers * table->n_microbatches;
    for (uint64_t row = 0; row < n_rows;) {
        const uint32_t *sent = table->sent + row * n_sent;
        const uint32_t *experts = table->experts + row * table->n_experts;
        uint64_t end = row + 1;
        while (end < n_rows &&
               memcmp(sent, table->sent + end * n_sent, n_sent * sizeof *sent) == 0 &&
               memcmp(experts, table->experts + end * table->n_experts,
                      table->n_experts * sizeof *experts) == 0)
            end++;
        tdm_put(s, "  row ");
        tdm_put_number(s, row / table->n_microbatches / table->n_layers);
        tdm_put_char(s, '/');
        tdm_put_number(s, row / table->n_microbatches % table->n_layers);
        tdm_put_char(s, '/');
        tdm_put_number(s, row % table->n_microbatches);
        if (end - row > 1) {
            tdm_put(s, " x");
            tdm_put_number(s, end - row);
        }
        put_counts(s, " sent", sent, n_sent);
        put_counts(s, " experts", experts, table->n_experts);
        tdm_put_char(s, '\n');
        row = end;
    }
}

/* ---- the whole ---- */

static const char legend[] =
    "# First the kinds of blocks, one op per line in issue order; then, by role, blocks and passes.\n"
    "# on=STREAM. wait=tp: until the last op issued so far on stream tp has ended; tp~1: the last\n"
    "# but one; tp@pass: the last one issued before this pass began; tp@pass~1: before the previous\n"
    "# pass began; tp@F, tp@B: the last one of this microbatch's F or B pass. Tensors by use: + its bytes are taken when the op starts, - given back when it\n"
    "# ends; next.x: slot x of the following position. bytes=4096+32/token: 32 more for each\n"
    "# token-expert pair received. Routing table: replica/layer/microbatch, xN: N rows alike; sent\n"
    "# from each rank of the group to each, then received by each expert; N*V: N times V.\n";

/* Only where there are such sizes: other plans keep their text, and so their hash. */
static const char etp_legend[] =
    "# 32/received: 32 more for each pair that comes to this rank itself; its experts work on those of\n"
    "# the whole etp group. token_bytes of a gather over etp: for each pair of the group.\n";
static const char pad_legend[] = "# sent counts rows, padding included.\n";

static void put_plan(tdm_sink *s, const tdm_plan *plan)
{
    tdm_put(s, TDM_PLAN_TEXT_MAGIC "\n");
    tdm_put(s, legend);
    if (plan->mesh.etp > 1)
        tdm_put(s, etp_legend);
    if (plan->routing_spec.pad_to_capacity)
        tdm_put(s, pad_legend);
    for (const tdm_text_section *section = tdm_text_sections; section->word; section++) {
        if (section->model && plan->pass_times)
            continue;
        tdm_put(s, section->word);
        tdm_put_fields(s, section->fields, plan);
        tdm_put_char(s, '\n');
    }
    for (uint32_t i = 0; i < plan->n_kinds; i++)
        put_kind(s, &plan->kinds[i]);
    for (uint32_t i = 0; i < plan->n_roles; i++)
        put_role(s, plan, i);
    put_routing(s, &plan->routing);
    tdm_put(s, "\nend\n");
    tdm_sink_flush(s);
}

/* The offset basis of FNV-1a, 64 bits; source: isthe.com/chongo/tech/comp/fnv. */
static const uint64_t fnv_basis = UINT64_C(0xcbf29ce484222325);

static tdm_code write_to(tdm_sink *s, const tdm_plan *plan, tdm_error *err)
{
    errno = 0;
    put_plan(s, plan);
    if (fflush(s->file) != 0 || ferror(s->file))
        return tdm_error_add(err, TDM_E_INTERNAL, "writing the plan failed: %s", strerror(errno));
    return TDM_OK;
}

tdm_code tdm_plan_write(const tdm_plan *plan, FILE *file, tdm_error *err)
{
    tdm_sink s = {.file = file};
    return write_to(&s, plan, err);
}

tdm_code tdm_plan_write_hashed(const tdm_plan *plan, FILE *file, uint64_t *hash, tdm_error *err)
{
    tdm_sink s = {.file = file, .hashes = true, .hash = fnv_basis};
    tdm_code code = write_to(&s, plan, err);
    if (code == TDM_OK)
        *hash = s.hash;
    return code;
}

uint64_t tdm_plan_hash(const tdm_plan *plan)
{
    tdm_sink s = {.hashes = true, .hash = fnv_basis};
    put_plan(&s, plan);
    return s.hash;
}
