/* network.c: the keys of a network, its short form, and what the files in networks/ share. */
#include "network.h"

#include <ctype.h>
#include <string.h>

#define QUANTITY(name, what, is_positive, low, high, text)                                         \
    {                                                                                              \
        .key = #name, .type = TDM_FIELD_VALUE, .offset = offsetof(tdm_network_spec, name),         \
        .unit = what, .positive = is_positive, .min = low, .max = high, .doc = text                \
    }

const tdm_field tdm_network_fields[] = {
    {.key = "kind",
     .type = TDM_FIELD_TEXT,
     .offset = offsetof(tdm_network_spec, kind),
     .required = true,
     .doc = "what joins the nodes: a name of tandem list networks"},
    {.key = "adapters",
     .type = TDM_FIELD_UINT32,
     .offset = offsetof(tdm_network_spec, adapters),
     .min = 1,
     .max = 128,
     .doc = "how many of a node's adapters it joins (all when left out)"},
    QUANTITY(rate, TDM_UNIT_BYTES_PER_S, true, 0, 0,
             "line rate of an adapter (the node's own when left out)"),
    QUANTITY(efficiency, TDM_UNIT_SHARE, true, 0, 1,
             "payload over line rate of an adapter (0.97 when left out)"),
    QUANTITY(latency, TDM_UNIT_SECONDS, false, 0, 0,
             "from adapter to adapter through one switch (0.7us when left out)"),
    QUANTITY(oversubscription, TDM_UNIT_NONE, false, 1, 0,
             "what the adapters below a leaf can send over what its uplinks carry (1 when left "
             "out)"),
    {.key = "nodes_per_leaf",
     .type = TDM_FIELD_UINT32,
     .offset = offsetof(tdm_network_spec, nodes_per_leaf),
     .min = 1,
     .doc = "nodes below one leaf switch (all when left out)"},
    {.key = NULL},
};

/* A short text, word by word. */
typedef struct words {
    tdm_arena *arena;
    const char *at;
    const tdm_node *place;
    tdm_node *map;
    const tdm_field *fields;
} words;

static const char *next_word(words *w)
{
    w->at += strspn(w->at, " \t\n");
    size_t n = strcspn(w->at, " \t\n");
    if (n == 0)
        return NULL;
    const char *word = tdm_arena_strndup(w->arena, w->at, n);
    w->at += n;
    return word;
}

static void put(words *w, const char *key, const char *value)
{
    tdm_node *child = tdm_node_new_map(w->arena, w->place);
    child->kind = TDM_NODE_SCALAR;
    child->text = value;
    tdm_node_append(w->map, key, child);
    child->written = key;
}

static bool is_whole(const char *word)
{
    return word && word[0] && word[strspn(word, "0123456789")] == '\0';
}

/* "8 x", "8x": the count, and the words go on behind it. */
static const char *take_count(words *w)
{
    const char *before = w->at, *word = next_word(w);
    size_t n = word ? strspn(word, "0123456789") : 0;
    if (n > 0 && strcmp(word + n, "x") == 0)
        return tdm_arena_strndup(w->arena, word, n);
    if (is_whole(word)) {
        const char *x = next_word(w);
        if (x && strcmp(x, "x") == 0)
            return word;
    }
    w->at = before;
    return NULL;
}

/* "400Gbit/s" or "400 Gbit/s". */
static const char *take_rate(words *w)
{
    const char *before = w->at, *word = next_word(w);
    if (word && isdigit((unsigned char)word[0])) {
        const char *behind = w->at, *unit = word[strspn(word, "0123456789.")] ? NULL : next_word(w);
        if (unit && strchr(unit, '/'))
            return tdm_arena_printf(w->arena, "%s%s", word, unit);
        w->at = behind;
        return word;
    }
    w->at = before;
    return NULL;
}

static tdm_code take_pairs(words *w, const char *expected, tdm_error *err)
{
    char quoted[TDM_QUOTE_SIZE];
    for (const char *key = next_word(w); key; key = next_word(w)) {
        const char *value = next_word(w);
        if (!tdm_schema_find(w->fields, key) || !value || tdm_node_child(w->map, key))
            return tdm_node_error(w->place, err, "%s: '%s': expected %s",
                                  tdm_node_quote(quoted, w->place->text), key, expected);
        put(w, key, value);
    }
    return TDM_OK;
}

tdm_code tdm_network_expand(tdm_arena *arena, tdm_node *parent, const char *key, bool with_kind,
                            const char *count, const tdm_field *fields, tdm_error *err)
{
    tdm_node *node = tdm_node_child(parent, key);
    if (!node || node->kind != TDM_NODE_SCALAR || !node->text[0] || tdm_node_is_null(node))
        return TDM_OK;
    const char *expected = with_kind ? "KIND [N x RATE] [KEY VALUE ...] with the keys efficiency, "
                                       "latency, oversubscription and nodes_per_leaf, as rail 8 x "
                                       "400Gbit/s oversubscription 2, or a map"
                                     : "N x RATE, as 8 x 400Gbit/s, or a map";
    char quoted[TDM_QUOTE_SIZE];
    words w = {arena, node->text, node, tdm_node_new_map(arena, node), fields};
    const char *kind = with_kind ? next_word(&w) : NULL;
    if (kind)
        put(&w, "kind", kind);
    const char *n = take_count(&w), *rate = take_rate(&w);
    if (n)
        put(&w, count, n);
    if (rate)
        put(&w, "rate", rate);
    if ((n && !rate) || (!with_kind && !n))
        return tdm_node_error(node, err, "%s: expected %s", tdm_node_quote(quoted, node->text),
                              expected);
    if (take_pairs(&w, expected, err) != TDM_OK)
        return TDM_E_INVALID;
    const char *written = node->written;
    tdm_node_remove(node);
    tdm_node_append(parent, key, w.map);
    w.map->written = written;
    return TDM_OK;
}

static tdm_code unknown_kind(const tdm_node *node, tdm_error *err)
{
    enum { MAX_NAMES = 32 };
    const char *names[MAX_NAMES];
    char list[512] = "", quoted[TDM_QUOTE_SIZE];
    size_t n = 0;
    for (; tdm_networks[n] && n < MAX_NAMES; n++) {
        names[n] = tdm_networks[n]->name;
        if (strlen(list) + strlen(names[n]) + 3 < sizeof list)
            strcat(strcat(list, n ? ", " : ""), names[n]);
    }
    const char *near = tdm_suggest(node->text, names, n);
    return tdm_node_error(node, err, "%s: expected one of %s%s%s%s",
                          tdm_node_quote(quoted, node->text), list, near ? " (did you mean " : "",
                          near ? near : "", near ? "?)" : "");
}

tdm_code tdm_network_find(const tdm_network_spec *spec, const tdm_node *map,
                          const tdm_network **network, tdm_error *err)
{
    static const char *const leaf_keys[] = {"oversubscription", "nodes_per_leaf"};
    const tdm_network *found = NULL;
    tdm_code code = TDM_OK;
    for (size_t i = 0; tdm_networks[i] && !found; i++)
        if (spec->kind && strcmp(tdm_networks[i]->name, spec->kind) == 0)
            found = tdm_networks[i];
    if (!found)
        return spec->kind ? unknown_kind(tdm_node_child(map, "kind"), err) : TDM_E_INVALID;
    for (size_t i = 0; i < TDM_COUNT(leaf_keys) && !found->has_leaves; i++)
        if (tdm_node_child(map, leaf_keys[i]))
            code = tdm_node_error_at(map, leaf_keys[i], err,
                                     "%s has no leaf switches: leave it out", found->name);
    *network = found;
    return code;
}

static double payload(const tdm_network_site *site, uint32_t adapter)
{
    return site->builder->vertices[site->nics[adapter]].nic_bytes_per_s * site->efficiency;
}

uint32_t tdm_network_leaf(const tdm_network_site *site, const char *name, uint32_t first,
                          uint32_t stride, uint32_t count)
{
    const tdm_vertex vertex = {.kind = TDM_VERTEX_SWITCH, .node = TDM_NO_NODE, .name = name};
    uint32_t leaf = tdm_graph_add(site->builder, &vertex);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t adapter = first + i * stride;
        tdm_graph_link(site->builder, site->nics[adapter], leaf, TDM_WIRE_NETWORK, 1,
                       payload(site, adapter), site->latency_s / 2, site->names[adapter]);
    }
    return leaf;
}

void tdm_network_spine(const tdm_network_site *site, const uint32_t *leaves, const uint32_t *firsts,
                       const uint32_t *counts, uint32_t n_leaves)
{
    const tdm_vertex vertex = {.kind = TDM_VERTEX_SWITCH, .node = TDM_NO_NODE, .name = "spine"};
    if (n_leaves < 2)
        return;
    uint32_t spine = tdm_graph_add(site->builder, &vertex);
    for (uint32_t l = 0; l < n_leaves; l++)
        tdm_graph_link(site->builder, leaves[l], spine, TDM_WIRE_NETWORK, 1,
                       counts[l] * payload(site, firsts[l]) / site->oversubscription, 0,
                       tdm_arena_printf(site->builder->arena, "%s-uplink",
                                        site->builder->vertices[leaves[l]].name));
}
