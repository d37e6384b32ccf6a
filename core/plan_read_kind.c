/* plan_read_kind.c: kinds: parameters, slots, and the ops of each pass. */
#include "plan_read.h"
#include "program.h"

#include <string.h>

/* ---- waits and tensors of an op ---- */

/* Lists of the op being read; they move to the arena's exact size when its line is done. */
typedef struct op_lists {
    tdm_wait *waits;
    tdm_ref *refs;
    uint32_t n_waits, waits_room, n_refs, refs_room;
} op_lists;

/* Cuts the ending that tells a wait's kind from a stream's name. */
static tdm_wait_kind cut_suffix(tdm_token *name)
{
    static const char *const suffixes[TDM_N_WAIT_KINDS] = {
        [TDM_WAIT_PASS] = "@pass", [TDM_WAIT_FORWARD] = "@F", [TDM_WAIT_BACKWARD] = "@B"};
    for (int kind = 0; kind < TDM_N_WAIT_KINDS; kind++) {
        size_t n = suffixes[kind] ? strlen(suffixes[kind]) : 0;
        if (n == 0 || name->length <= n || memcmp(name->at + name->length - n, suffixes[kind], n))
            continue;
        name->length -= n;
        return (tdm_wait_kind)kind;
    }
    return TDM_WAIT_TAIL;
}

/* STREAM, STREAM~n, STREAM@pass, STREAM@pass~n, STREAM@F, STREAM@B */
static bool read_wait(tdm_text_reader *r, tdm_token item, tdm_wait *wait)
{
    unsigned stream = 0;
    uint64_t n = 0;
    tdm_token name = item;
    const char *tilde = memchr(item.at, '~', item.length);
    if (tilde) {
        name.length = (size_t)(tilde - item.at);
        tdm_token number = {tilde + 1, item.length - name.length - 1};
        if (!tdm_text_number(r, "wait", number, UINT32_MAX, &n))
            return false;
    }
    wait->kind = cut_suffix(&name);
    if (!tdm_text_choice(r, "wait", name, &tdm_text_streams, &stream))
        return false;
    wait->stream = (tdm_stream)stream;
    wait->n = (uint32_t)n;
    return true;
}

static bool read_waits(tdm_text_reader *r, tdm_token list, op_lists *lists)
{
    tdm_token item;
    while (tdm_token_item(&list, &item)) {
        TDM_READ_GROW(r->arena, lists->waits, lists->n_waits, &lists->waits_room);
        if (!read_wait(r, item, &lists->waits[lists->n_waits]))
            return false;
        lists->n_waits++;
    }
    return true;
}

static bool find_slot(tdm_text_reader *r, const tdm_kind *kind, const char *key, tdm_token token,
                      uint16_t *slot)
{
    char shown[TDM_SHOW_SIZE];
    const char *name;
    if (!tdm_text_name(r, key, token, &name))
        return false;
    for (uint32_t i = 0; i < kind->n_slots; i++)
        if (strcmp(kind->slots[i].name, name) == 0) {
            *slot = (uint16_t)i;
            return true;
        }
    return tdm_text_fail(r, token.at, "%s: kind %s has no slot '%s'", key, kind->name,
                         tdm_token_show(token, shown));
}

/* [+][-][next.]SLOT */
static bool read_ref(tdm_text_reader *r, const tdm_kind *kind, const char *key, tdm_token item,
                     tdm_ref *ref)
{
    static const char next[] = "next.";
    if (item.length > 0 && item.at[0] == '+') {
        ref->birth = true;
        item = (tdm_token){item.at + 1, item.length - 1};
    }
    if (item.length > 0 && item.at[0] == '-') {
        ref->death = true;
        item = (tdm_token){item.at + 1, item.length - 1};
    }
    if (item.length > strlen(next) && memcmp(item.at, next, strlen(next)) == 0) {
        ref->next = true;
        item = (tdm_token){item.at + strlen(next), item.length - strlen(next)};
    }
    if (item.length > 1 &&
        item.at[0] == '#') { /* by number, where the own kind has no slot of that number */
        uint64_t slot = 0;
        uint64_t last = ref->next ? TDM_READ_MAX_SLOTS - 1 : kind->n_slots - 1;
        if (!ref->next && kind->n_slots == 0)
            return tdm_text_fail(r, item.at, "%s: kind %s has no slots", key, kind->name);
        if (!tdm_text_number(r, key, (tdm_token){item.at + 1, item.length - 1}, last, &slot))
            return false;
        ref->slot = (uint16_t)slot;
        return true;
    }
    return find_slot(r, kind, key, item, &ref->slot);
}

static bool read_refs(tdm_text_reader *r, const tdm_kind *kind, const char *key, tdm_ref use,
                      tdm_token list, op_lists *lists)
{
    tdm_token item;
    if (!kind)
        return tdm_text_fail(r, list.at, "%s: ops of pass O name no slots: they belong to no block",
                             key);
    while (tdm_token_item(&list, &item)) {
        TDM_READ_GROW(r->arena, lists->refs, lists->n_refs, &lists->refs_room);
        tdm_ref *ref = &lists->refs[lists->n_refs];
        *ref = use;
        if (!read_ref(r, kind, key, item, ref))
            return false;
        lists->n_refs++;
    }
    return true;
}

/* Keys that are in no table. */
static tdm_taken take_list(tdm_text_reader *r, const tdm_kind *kind, tdm_token key, tdm_token value,
                           tdm_op *op, op_lists *lists)
{
    static const struct {
        const char *key;
        tdm_ref use;
    } uses[] = {
        {"read", {.read = true}},
        {"write", {.write = true}},
        {"update", {.read = true, .write = true}},
        {"touch", {.read = false}},
    };
    for (size_t i = 0; i < TDM_COUNT(uses); i++)
        if (tdm_token_is(key, uses[i].key))
            return read_refs(r, kind, uses[i].key, uses[i].use, value, lists) ? TDM_TAKEN
                                                                              : TDM_TAKE_FAILED;
    if (tdm_token_is(key, "wait"))
        return read_waits(r, value, lists) ? TDM_TAKEN : TDM_TAKE_FAILED;
    if (tdm_token_is(key, "pass")) {
        unsigned pass = op->pass;
        bool good = tdm_text_choice(r, "pass", value, &tdm_text_passes, &pass);
        op->pass = (tdm_pass_kind)pass;
        return good ? TDM_TAKEN : TDM_TAKE_FAILED;
    }
    return TDM_NOT_IN_TABLE;
}

/* ---- ops ---- */

static bool read_op(tdm_text_reader *r, const tdm_kind *kind, tdm_op *op, op_lists *lists)
{
    uint64_t shape_seen = 0, common_seen = 0;
    unsigned op_kind = 0;
    if (!tdm_text_choice(r, "op", r->word, &tdm_text_op_kinds, &op_kind) ||
        !tdm_text_name(r, "name of the op", tdm_text_word(r), &op->name))
        return false;
    op->kind = (tdm_op_kind)op_kind;
    const tdm_text_field *shape = tdm_text_shape_fields(op->kind);
    const char *what = tdm_op_kind_name(op->kind);
    for (tdm_token word = tdm_text_word(r); word.length > 0; word = tdm_text_word(r)) {
        tdm_token key, value;
        tdm_taken taken = TDM_NOT_IN_TABLE;
        if (tdm_token_split(word, &key, &value)) {
            taken = tdm_text_take(r, key, value, shape, op, &shape_seen);
            if (taken == TDM_NOT_IN_TABLE)
                taken = tdm_text_take(r, key, value, tdm_text_op_fields, op, &common_seen);
            if (taken == TDM_NOT_IN_TABLE)
                taken = take_list(r, kind, key, value, op, lists);
        }
        if (taken == TDM_TAKE_FAILED)
            return false;
        if (taken == TDM_NOT_IN_TABLE)
            return tdm_text_unknown(r, what, word, shape);
    }
    return tdm_text_complete(r, what, shape, op, shape_seen) &&
           tdm_text_complete(r, what, tdm_text_op_fields, op, common_seen);
}

/* What only some ops of a kind can be sized by. */
static bool check_sizes(tdm_text_reader *r, const tdm_op *op)
{
    if (op->kind == TDM_OP_MEMORY && op->u.memory.bytes.per_received > 0)
        return tdm_text_fail(r, r->line, "%s: sizes by row received are for slots, not for ops",
                             op->name);
    if (tdm_op_is_routed_gather(op) && op->u.collective.group != TDM_GROUP_ETP)
        return tdm_text_fail(r, r->line, "%s: token_bytes goes with group=etp only", op->name);
    return true;
}

static void note_needs(const tdm_op *op, tdm_kind_needs *needs)
{
    for (uint32_t i = 0; i < op->n_refs; i++)
        if (op->refs[i].next && op->refs[i].slot >= needs->next_slots)
            needs->next_slots = op->refs[i].slot + 1u;
    needs->tokens |= tdm_op_is_routed(op);
    needs->exchange |= op->kind == TDM_OP_ALL_TO_ALL || tdm_op_is_routed_gather(op);
}

/* Words that end a template: whatever else a line may open with. */
static bool ends_template(tdm_token word)
{
    static const char *const words[] = {"pass",  "param", "slot",   "kind",          "role",
                                        "chunk", "block", "passes", "routing-table", "end"};
    for (size_t i = 0; i < TDM_COUNT(words); i++)
        if (tdm_token_is(word, words[i]))
            return true;
    return word.length == 0;
}

bool tdm_read_template(tdm_plan_reader *reader, const tdm_kind *kind, tdm_kind_needs *needs,
                       tdm_pass_kind pass, tdm_template *template)
{
    tdm_text_reader *r = &reader->text;
    tdm_op *ops = NULL;
    uint32_t n = 0, room = 0;
    while (!ends_template(r->word)) {
        op_lists lists = {0};
        TDM_READ_GROW(r->arena, ops, n, &room);
        ops[n] = (tdm_op){.pass = tdm_text_default_pass(pass)};
        if (!read_op(r, kind, &ops[n], &lists) || !check_sizes(r, &ops[n]))
            return false;
        ops[n].waits = lists.waits;
        ops[n].n_waits = lists.n_waits;
        ops[n].refs = lists.refs;
        ops[n].n_refs = lists.n_refs;
        note_needs(&ops[n], needs);
        if (++n > TDM_READ_MAX_OPS)
            return tdm_text_fail(r, r->line, "more than %d ops in one pass", TDM_READ_MAX_OPS);
        if (!tdm_text_advance(r))
            return false;
    }
    *template = (tdm_template){ops, n};
    return true;
}

/* ---- kinds ---- */

typedef struct kind_lists {
    tdm_slot *slots;
    tdm_param *params;
    uint32_t slots_room, params_room;
} kind_lists;

static bool read_slot(tdm_text_reader *r, tdm_kind *kind, kind_lists *lists)
{
    TDM_READ_GROW(r->arena, lists->slots, kind->n_slots, &lists->slots_room);
    tdm_slot *slot = &lists->slots[kind->n_slots];
    tdm_token name = tdm_text_word(r);
    if (!tdm_text_name(r, "name of the slot", name, &slot->name))
        return false;
    for (uint32_t i = 0; i < kind->n_slots; i++)
        if (strcmp(lists->slots[i].name, slot->name) == 0)
            return tdm_text_fail(r, name.at, "kind %s has a slot %s already", kind->name,
                                 slot->name);
    kind->slots = lists->slots;
    if (++kind->n_slots > TDM_READ_MAX_SLOTS)
        return tdm_text_fail(r, name.at, "more than %d slots in one kind", TDM_READ_MAX_SLOTS);
    return tdm_text_fields(r, "slot", tdm_text_slot_fields, slot);
}

static bool read_param(tdm_text_reader *r, tdm_kind *kind, kind_lists *lists)
{
    TDM_READ_GROW(r->arena, lists->params, kind->n_params, &lists->params_room);
    tdm_param *param = &lists->params[kind->n_params];
    tdm_token name = tdm_text_word(r);
    if (!tdm_text_name(r, "name of the parameter", name, &param->name))
        return false;
    kind->params = lists->params;
    if (++kind->n_params > TDM_READ_MAX_SLOTS)
        return tdm_text_fail(r, name.at, "more than %d parameters in one kind", TDM_READ_MAX_SLOTS);
    return tdm_text_fields(r, "param", tdm_text_param_fields, param);
}

/* `pass F` and its ops; reads up to the line after them. */
static bool read_pass(tdm_plan_reader *reader, tdm_kind *kind, tdm_kind_needs *needs)
{
    tdm_text_reader *r = &reader->text;
    unsigned pass = 0;
    tdm_token name = tdm_text_word(r);
    if (!tdm_text_choice(r, "pass", name, &tdm_text_passes, &pass) || !tdm_text_end_of_line(r))
        return false;
    if (pass == TDM_PASS_O)
        return tdm_text_fail(r, name.at, "pass O belongs to a role, not to a kind");
    if (kind->templates[pass].n_ops > 0)
        return tdm_text_fail(r, name.at, "kind %s has a pass %s already", kind->name,
                             tdm_pass_kind_name((tdm_pass_kind)pass));
    return tdm_text_advance(r) &&
           tdm_read_template(reader, kind, needs, (tdm_pass_kind)pass, &kind->templates[pass]);
}

static bool read_kind_name(tdm_plan_reader *reader, tdm_kind *kind)
{
    tdm_text_reader *r = &reader->text;
    tdm_token name = tdm_text_word(r);
    if (!tdm_text_name(r, "name of the kind", name, &kind->name) || !tdm_text_end_of_line(r))
        return false;
    for (uint32_t i = 0; i < reader->n_kinds; i++)
        if (strcmp(reader->kinds[i].name, kind->name) == 0)
            return tdm_text_fail(r, name.at, "there is a kind %s already", kind->name);
    if (reader->n_kinds == TDM_READ_MAX_KINDS)
        return tdm_text_fail(r, name.at, "more than %d kinds", TDM_READ_MAX_KINDS);
    return tdm_text_advance(r);
}

bool tdm_read_kind(tdm_plan_reader *reader)
{
    tdm_text_reader *r = &reader->text;
    tdm_kind kind = {0};
    tdm_kind_needs needs = {0};
    kind_lists lists = {0};
    bool good = read_kind_name(reader, &kind);
    while (good) {
        bool has_ops = kind.templates[TDM_PASS_F].n_ops + kind.templates[TDM_PASS_B].n_ops +
                           kind.templates[TDM_PASS_W].n_ops + kind.templates[TDM_PASS_BW].n_ops >
                       0;
        if (tdm_token_is(r->word, "pass")) {
            good = read_pass(reader, &kind, &needs);
        } else if (tdm_token_is(r->word, "slot") && !has_ops) {
            good = read_slot(r, &kind, &lists) && tdm_text_advance(r);
        } else if (tdm_token_is(r->word, "param") && !has_ops) {
            good = read_param(r, &kind, &lists) && tdm_text_advance(r);
        } else {
            break;
        }
    }
    for (uint32_t i = 0; i < kind.n_slots; i++)
        needs.tokens |= tdm_size_varies(kind.slots[i].bytes);
    uint32_t needs_room = reader->kinds_room; /* both arrays grow together */
    TDM_READ_GROW(r->arena, reader->needs, reader->n_kinds, &needs_room);
    TDM_READ_GROW(r->arena, reader->kinds, reader->n_kinds, &reader->kinds_room);
    reader->needs[reader->n_kinds] = needs;
    reader->kinds[reader->n_kinds++] = kind;
    return good;
}
