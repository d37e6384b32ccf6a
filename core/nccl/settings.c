/* settings.c: reads NCCL_ variables.
 * Source: NCCL 2.28.9, src/graph/tuning.cc (parseList), src/misc/param.cc, src/init.cc. */
#include "core/nccl/settings.h"

#include "core/schema.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

tdm_nccl_settings tdm_nccl_settings_default(void)
{
    tdm_nccl_settings s = {.cross_nic = 2,
                           .nvls_enable = 2,
                           .pat_enable = 2,
                           .net_overhead_us = -1,
                           .p2p_ll_threshold = 16384,
                           .p2p_chunk_nvl = 512 * 1024,
                           .p2p_chunk_pci = 128 * 1024,
                           .p2p_chunk_net = 128 * 1024,
                           .min_p2p_channels = 1,
                           .max_p2p_channels = 64};
    memset(s.algo, 1, sizeof s.algo);
    memset(s.proto, 1, sizeof s.proto);
    return s;
}

typedef struct words {
    const char *mark, *name; /* where the text stands, and the variable */
    bool is_algo;
    uint32_t n;
    const char *names[TDM_NCCL_N_ALGOS];
} words;

/* One list of names, "a,b" or "^a,b", into row[n]. */
static tdm_code read_list(const words *w, const char *text, size_t length, bool *row,
                          tdm_error *err)
{
    bool listed = length == 0 || text[0] != '^';
    const char *end = text + length;
    if (!listed)
        text++;
    for (uint32_t i = 0; i < w->n; i++)
        row[i] = !listed;
    while (text < end) {
        size_t n = strcspn(text, ",");
        n = n < (size_t)(end - text) ? n : (size_t)(end - text);
        uint32_t i = 0;
        while (i < w->n && !(strlen(w->names[i]) == n && strncasecmp(w->names[i], text, n) == 0))
            i++;
        if (n > 0 && i == w->n) {
            char word[40];
            size_t kept = n < sizeof word - 1 ? n : sizeof word - 1;
            memcpy(word, text, kept);
            word[kept] = '\0';
            const char *near = tdm_suggest(word, w->names, w->n);
            return tdm_error_add(err, TDM_E_INVALID, "%s: %s: '%s' is not one of %s%s%s%s", w->mark,
                                 w->name, word,
                                 w->is_algo ? "Tree, Ring, CollNetDirect, CollNetChain, NVLS, "
                                              "NVLSTree, PAT"
                                            : "LL, LL128, Simple",
                                 near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
        }
        if (n > 0)
            row[i] = listed;
        text += n + (text + n < end);
    }
    for (uint32_t i = 0; i < w->n; i++)
        if (row[i])
            return TDM_OK;
    return tdm_error_add(err, TDM_E_INVALID, "%s: %s: leaves nothing to choose from", w->mark,
                         w->name);
}

/* Lists separated by ';': the first may lack its function and then holds for all. */
static tdm_code read_lists(const words *w, const char *text, bool *rows, tdm_error *err)
{
    bool row[TDM_NCCL_N_ALGOS];
    if (!*text)
        return tdm_error_add(err, TDM_E_INVALID, "%s: %s: leaves nothing to choose from", w->mark,
                             w->name);
    for (bool first = true; *text; first = false) {
        size_t n = strcspn(text, ";"), head = strcspn(text, ":;");
        int begin = 0, end = TDM_NCCL_N_TUNED;
        const char *list = text;
        if (head < n) {
            char name[32];
            tdm_nccl_func func = TDM_NCCL_N_FUNCS;
            size_t kept = head < sizeof name - 1 ? head : sizeof name - 1;
            memcpy(name, text, kept);
            name[kept] = '\0';
            if (!tdm_nccl_func_find(name, &func) || func >= TDM_NCCL_N_TUNED)
                return tdm_error_add(err, TDM_E_INVALID,
                                     "%s: %s: '%s' is not one of Broadcast, Reduce, AllGather, "
                                     "ReduceScatter, AllReduce",
                                     w->mark, w->name, name);
            begin = (int)func;
            end = begin + 1;
            list = text + head + 1;
        } else if (!first) {
            return tdm_error_add(err, TDM_E_INVALID,
                                 "%s: %s: only the first list may stand without its function "
                                 "(\"ring;allreduce:tree\")",
                                 w->mark, w->name);
        }
        tdm_code code = read_list(w, list, (size_t)(text + n - list), row, err);
        if (code != TDM_OK)
            return code;
        for (int f = begin; f < end; f++)
            memcpy(rows + (uint32_t)f * w->n, row, w->n * sizeof *row);
        text += n + (text[n] == ';');
    }
    return TDM_OK;
}

typedef struct variable {
    const char *name;
    size_t offset;
    bool is_bytes; /* uint64_t; else uint32_t */
    uint64_t min, max;
} variable;

#define NUMBER(name, field, min, max)                                                              \
    {                                                                                              \
        name, offsetof(tdm_nccl_settings, field), false, min, max                                  \
    }
#define BYTES(name, field)                                                                         \
    {                                                                                              \
        name, offsetof(tdm_nccl_settings, field), true, 0, UINT64_C(1) << 40                       \
    }

static const variable variables[] = {
    NUMBER("MIN_NCHANNELS", min_channels, 1, 64),
    NUMBER("MAX_NCHANNELS", max_channels, 1, 64),
    NUMBER("MIN_CTAS", min_channels, 1, 64),
    NUMBER("MAX_CTAS", max_channels, 1, 64),
    NUMBER("CROSS_NIC", cross_nic, 0, 2),
    NUMBER("NVLS_ENABLE", nvls_enable, 0, 2),
    NUMBER("NVLS_NCHANNELS", nvls_channels, 1, 64),
    NUMBER("PAT_ENABLE", pat_enable, 0, 2),
    NUMBER("NTHREADS", threads, 64, 512),
    NUMBER("LL128_NTHREADS", ll128_threads, 160, 640),
    NUMBER("MIN_P2P_NCHANNELS", min_p2p_channels, 1, 64),
    NUMBER("MAX_P2P_NCHANNELS", max_p2p_channels, 1, 64),
    BYTES("BUFFSIZE", buffer_bytes[TDM_NCCL_SIMPLE]),
    BYTES("LL_BUFFSIZE", buffer_bytes[TDM_NCCL_LL]),
    BYTES("LL128_BUFFSIZE", buffer_bytes[TDM_NCCL_LL128]),
    BYTES("P2P_LL_THRESHOLD", p2p_ll_threshold),
    BYTES("P2P_NVL_CHUNKSIZE", p2p_chunk_nvl),
    BYTES("P2P_PCI_CHUNKSIZE", p2p_chunk_pci),
    BYTES("P2P_NET_CHUNKSIZE", p2p_chunk_net),
};

static tdm_code read_number(tdm_nccl_settings *settings, const char *mark, const variable *v,
                            const char *text, tdm_error *err)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 0);
    if (!isdigit((unsigned char)text[0]) || *end || errno || value < v->min || value > v->max)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s: NCCL_%s: '%.40s' is not a whole number from %llu to %llu", mark,
                             v->name, text, (unsigned long long)v->min, (unsigned long long)v->max);
    if (strstr(v->name, "NTHREADS") && value % 32 != 0)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s: NCCL_%s: %llu is not a multiple of 32, the threads of a warp",
                             mark, v->name, value);
    unsigned char *field = (unsigned char *)settings + v->offset;
    if (v->is_bytes)
        memcpy(field, &(uint64_t){value}, sizeof(uint64_t));
    else
        memcpy(field, &(uint32_t){(uint32_t)value}, sizeof(uint32_t));
    return TDM_OK;
}

static tdm_code unknown(const char *mark, const char *name, tdm_error *err)
{
    const char *names[TDM_COUNT(variables) + 3] = {"ALGO", "PROTO", "NET_OVERHEAD"};
    for (size_t i = 0; i < TDM_COUNT(variables); i++)
        names[i + 3] = variables[i].name;
    const char *near = tdm_suggest(name, names, TDM_COUNT(names));
    return tdm_error_add(err, TDM_E_INVALID,
                         "%s: NCCL_%.40s: not a variable that is modelled%s%s%s", mark, name,
                         near ? " (did you mean NCCL_" : "", near ? near : "", near ? "?)" : "");
}

static void all_algos(words *w)
{
    w->is_algo = true;
    w->n = TDM_NCCL_N_ALGOS;
    for (uint32_t i = 0; i < w->n; i++)
        w->names[i] = tdm_nccl_algo_name((tdm_nccl_algo)i);
}

static void all_protos(words *w)
{
    w->is_algo = false;
    w->n = TDM_NCCL_N_PROTOS;
    for (uint32_t i = 0; i < w->n; i++)
        w->names[i] = tdm_nccl_proto_name((tdm_nccl_proto)i);
}

tdm_code tdm_nccl_settings_set(tdm_nccl_settings *settings, const char *mark, const char *name,
                               const char *value, tdm_error *err)
{
    tdm_nccl_settings changed = *settings;
    words w = {.mark = mark, .name = name};
    tdm_code code = TDM_OK;
    if (strncmp(name, "NCCL_", 5) == 0)
        name += 5;
    if (strcmp(name, "ALGO") == 0) {
        all_algos(&w);
        changed.algo_given = true;
        code = read_lists(&w, value, &changed.algo[0][0], err);
    } else if (strcmp(name, "PROTO") == 0) {
        all_protos(&w);
        changed.proto_given = changed.force_ll128 = true;
        code = read_lists(&w, value, &changed.proto[0][0], err);
    } else if (strcmp(name, "NET_OVERHEAD") == 0) {
        char *end;
        changed.net_overhead_us = strtod(value, &end) * 1e-3;
        if (!value[0] || *end || !(changed.net_overhead_us >= 0 && changed.net_overhead_us < 1e6))
            code = tdm_error_add(err, TDM_E_INVALID,
                                 "%s: NCCL_NET_OVERHEAD: '%.40s' is not a number of nanoseconds",
                                 mark, value);
    } else {
        size_t i = 0;
        while (i < TDM_COUNT(variables) && strcmp(variables[i].name, name) != 0)
            i++;
        code = i < TDM_COUNT(variables) ? read_number(&changed, mark, &variables[i], value, err)
                                        : unknown(mark, name, err);
    }
    if (code == TDM_OK)
        *settings = changed;
    return code;
}

tdm_code tdm_nccl_settings_assign(tdm_nccl_settings *settings, const char *mark,
                                  const char *assignment, tdm_error *err)
{
    char name[48];
    size_t n = strcspn(assignment, "=");
    if (assignment[n] != '=' || n == 0 || n >= sizeof name)
        return tdm_error_add(err, TDM_E_INVALID, "%s: '%.60s' is not NCCL_NAME=VALUE", mark,
                             assignment);
    memcpy(name, assignment, n);
    name[n] = '\0';
    return tdm_nccl_settings_set(settings, mark, name, assignment + n + 1, err);
}
