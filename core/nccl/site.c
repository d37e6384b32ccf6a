/* site.c: reads and writes the block `site` of a topology file. */
#include "core/nccl/site.h"

#include "core/schema.h"

#include <stdio.h>

typedef struct source {
    const char *text;
    int grade;
    tdm_value launch, network_efficiency;
    tdm_list ramps;
} source;

typedef struct ramp_source {
    int algo, proto, function, nodes;
    tdm_nccl_ramp ramp;
} ramp_source;

/* Names as NCCL_ALGO and NCCL_PROTO have them, in small letters. */
static const tdm_choice algos[] = {
    {"tree", TDM_NCCL_TREE, false},
    {"ring", TDM_NCCL_RING, false},
    {"nvls", TDM_NCCL_NVLS, false},
    {"nvlstree", TDM_NCCL_NVLS_TREE, false},
    {"pat", TDM_NCCL_PAT, false},
    {"p2p", TDM_NCCL_P2P, false},
    {NULL, 0, false},
};
static const tdm_choice protos[] = {
    {"ll", TDM_NCCL_LL, false},
    {"ll128", TDM_NCCL_LL128, false},
    {"simple", TDM_NCCL_SIMPLE, false},
    {NULL, 0, false},
};
static const tdm_choice functions[] = {
    {"all-reduce", true, false},
    {"others", false, false},
    {NULL, 0, false},
};
static const tdm_choice nodes_choices[] = {
    {"one", true, false},
    {"several", false, false},
    {NULL, 0, false},
};

#define CHOICE(key_, member, choices_, doc_)                                                       \
    {                                                                                              \
        .key = key_, .type = TDM_FIELD_CHOICE, .offset = offsetof(ramp_source, member),            \
        .required = true, .choices = choices_, .doc = doc_                                         \
    }
#define NUMBER(key_, member, unit_, max_, positive_, doc_)                                         \
    {                                                                                              \
        .key = key_, .type = TDM_FIELD_NUMBER, .offset = offsetof(ramp_source, ramp.member),       \
        .required = true, .unit = unit_, .max = max_, .positive = positive_, .doc = doc_           \
    }

static const tdm_field ramp_fields[] = {
    CHOICE("algorithm", algo, algos, "as NCCL_ALGO; p2p: sends and receives"),
    CHOICE("protocol", proto, protos, "as NCCL_PROTO"),
    CHOICE("function", function, functions, "all-reduce, or others"),
    CHOICE("nodes", nodes, nodes_choices, "operations on one node, or on several"),
    NUMBER("latency_share", latency_share, TDM_UNIT_NONE, 1000, false,
           "times the latency of NCCL's tables"),
    NUMBER("efficiency", efficiency, TDM_UNIT_NONE, 10, true,
           "share of the bandwidth that large messages reach"),
    NUMBER("own_steps", own_steps, TDM_UNIT_NONE, 1000, false,
           "copy of a rank's own part, in steps of a ring"),
    NUMBER("half_bytes", half_bytes, TDM_UNIT_BYTES, 1e15, false,
           "bytes per rank at which half of the bandwidth is reached"),
    NUMBER("power", power, TDM_UNIT_NONE, 4, true, "how steeply bandwidth grows up to there"),
    {.key = NULL},
};

static const tdm_field site_fields[] = {
    {.key = "source",
     .type = TDM_FIELD_TEXT,
     .offset = offsetof(source, text),
     .required = true,
     .doc = "which measurements these numbers were fitted to"},
    {.key = "grade",
     .type = TDM_FIELD_CHOICE,
     .offset = offsetof(source, grade),
     .required = true,
     .choices = tdm_grade_choices,
     .doc = "measured, published, datasheet or guess"},
    {.key = "launch",
     .type = TDM_FIELD_VALUE,
     .offset = offsetof(source, launch),
     .unit = TDM_UNIT_SECONDS,
     .doc = "floor of one operation at this site"},
    {.key = "network_efficiency",
     .type = TDM_FIELD_VALUE,
     .offset = offsetof(source, network_efficiency),
     .unit = TDM_UNIT_SHARE,
     .max = 10,
     .positive = true,
     .doc = "share of the wired rate that operations between nodes reach"},
    {.key = "ramps",
     .type = TDM_FIELD_LIST,
     .offset = offsetof(source, ramps),
     .fields = ramp_fields,
     .item_bytes = sizeof(ramp_source),
     .doc = "ramps of this site's own"},
    {.key = NULL},
};

static bool same_kind(const tdm_nccl_ramp_key *a, const tdm_nccl_ramp_key *b)
{
    return a->algo == b->algo && a->proto == b->proto && a->all_reduce == b->all_reduce &&
           a->one_node == b->one_node;
}

static tdm_code check_twice(const tdm_node *node, const tdm_nccl_site *site, tdm_error *err)
{
    tdm_code code = TDM_OK;
    const tdm_node *list = tdm_node_child(node, "ramps"), *item = list ? list->first : NULL;
    for (uint32_t i = 0; i < site->n_ramps; i++, item = item->next)
        for (uint32_t j = 0; j < i; j++)
            if (same_kind(&site->ramps[i].key, &site->ramps[j].key))
                code = tdm_node_error(item, err, "is of the same kind as ramps[%u]", j);
    return code;
}

tdm_code tdm_nccl_site_load(tdm_arena *arena, tdm_node *node, tdm_nccl_site *site, tdm_error *err)
{
    source read = {.network_efficiency = {.value = 1}};
    tdm_code code = tdm_schema_load(arena, site_fields, node, &read, err);
    if (code != TDM_OK)
        return code;
    const ramp_source *items = read.ramps.items;
    tdm_nccl_site_ramp *ramps = TDM_ALLOC(arena, tdm_nccl_site_ramp, read.ramps.n_items + 1);
    for (uint32_t i = 0; i < read.ramps.n_items; i++)
        ramps[i] = (tdm_nccl_site_ramp){.key = {.algo = (tdm_nccl_algo)items[i].algo,
                                                .proto = (tdm_nccl_proto)items[i].proto,
                                                .all_reduce = items[i].function,
                                                .one_node = items[i].nodes},
                                        .ramp = items[i].ramp};
    tdm_nccl_site built = {.has_launch = tdm_node_child(node, "launch") != NULL,
                           .launch_s = read.launch,
                           .network_efficiency = read.network_efficiency,
                           .source = read.text,
                           .grade = (tdm_grade)read.grade,
                           .n_ramps = read.ramps.n_items,
                           .ramps = ramps};
    code = check_twice(node, &built, err);
    if (code == TDM_OK)
        *site = built;
    return code;
}

static const char *choice_name(const tdm_choice *choices, int value)
{
    while (choices->name && choices->value != value)
        choices++;
    return choices->name ? choices->name : "";
}

const char *tdm_nccl_site_write(tdm_arena *arena, const tdm_nccl_site *site)
{
    const char *text = tdm_arena_printf(arena, "site:\n  source: \"%s\"\n  grade: %s\n",
                                        site->source, tdm_grade_name(site->grade));
    if (site->has_launch)
        text = tdm_arena_printf(arena, "%s  launch: %.4gus\n", text, site->launch_s.value * 1e6);
    text = tdm_arena_printf(arena, "%s  network_efficiency: %.4g\n%s", text,
                            site->network_efficiency.value, site->n_ramps ? "  ramps:\n" : "");
    for (uint32_t i = 0; i < site->n_ramps; i++) {
        const tdm_nccl_ramp_key *key = &site->ramps[i].key;
        const tdm_nccl_ramp *ramp = &site->ramps[i].ramp;
        text = tdm_arena_printf(
            arena,
            "%s    - {algorithm: %s, protocol: %s, function: %s, nodes: %s, latency_share: %.4g,\n"
            "       efficiency: %.4g, own_steps: %.4g, half_bytes: %.4gB, power: %.4g}\n",
            text, choice_name(algos, (int)key->algo), choice_name(protos, (int)key->proto),
            choice_name(functions, key->all_reduce), choice_name(nodes_choices, key->one_node),
            ramp->latency_share, ramp->efficiency, ramp->own_steps, ramp->half_bytes, ramp->power);
    }
    return text;
}

const tdm_nccl_ramp *tdm_nccl_site_find(const tdm_nccl_site *site, const tdm_nccl_ramp_key *key)
{
    for (uint32_t i = 0; site && i < site->n_ramps; i++)
        if (same_kind(&site->ramps[i].key, key))
            return &site->ramps[i].ramp;
    return NULL;
}
