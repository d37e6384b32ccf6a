/* topo_load.c: the graph that the operand of `tandem topo` means. */
#include "topo.h"

#include "core/device_load.h"
#include "core/files.h"
#include "core/graph_rates.h"
#include "core/topology_load.h"
#include "core/units.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A name on the command line as a node, for the messages of tdm_file_find. */
static tdm_node named(const char *option, const char *text)
{
    return (tdm_node){.kind = TDM_NODE_SCALAR, .path = option, .text = text};
}

/* "sm86": a GPU of that compute capability of which no more is known. */
static bool is_capability(const char *text, uint32_t *sm)
{
    if (strncmp(text, "sm", 2) != 0)
        return false;
    const char *digits = text + 2 + (text[2] == '_');
    char *end;
    unsigned long value = strtoul(digits, &end, 10);
    *sm = (uint32_t)value;
    return end != digits && *end == '\0' && value >= 30 && value < 300 && digits[0] != '-';
}

static tdm_code read_gpu(tdm_arena *arena, const char *root, const char *text,
                         tdm_import_options *options, tdm_error *err)
{
    tdm_device device;
    const char *path;
    if (is_capability(text, &options->sm))
        return TDM_OK;
    tdm_node node = named("--gpu", text);
    tdm_code code =
        tdm_file_find(arena, &tdm_file_device, root ? root : ".", ".", &node, &path, err);
    if (code == TDM_OK)
        code = tdm_device_load(arena, path, &device, err);
    if (code != TDM_OK)
        return code;
    if (!device.compute_capability.source)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s: compute_capability: missing: an imported topology needs it",
                             path);
    options->sm = (uint32_t)lround(device.compute_capability.value * 10);
    options->nvlinks = (uint32_t)device.nvlinks.value;
    return TDM_OK;
}

static tdm_code read_number(const char *option, const char *text, uint32_t min, uint32_t max,
                            uint32_t *value, tdm_error *err)
{
    char *end;
    errno = 0;
    unsigned long read = strtoul(text, &end, 10);
    if (end == text || *end || errno || text[0] == '-' || read < min || read > max)
        return tdm_error_add(err, TDM_E_INVALID, "%s: %s: expected a whole number from %u to %u",
                             option, text, min, max);
    *value = (uint32_t)read;
    return TDM_OK;
}

static tdm_nvlink_wiring wiring_named(const char *name)
{
    static const char *const names[] = {[TDM_NVLINK_SWITCH] = "switch",
                                        [TDM_NVLINK_CUBE_MESH] = "cube-mesh",
                                        [TDM_NVLINK_PAIRS] = "pairs",
                                        [TDM_NVLINK_NONE] = "none"};
    for (int w = TDM_NVLINK_SWITCH; name && w <= TDM_NVLINK_NONE; w++)
        if (strcmp(names[w], name) == 0)
            return (tdm_nvlink_wiring)w;
    return TDM_NVLINK_AUTO;
}

static tdm_code read_options(tdm_arena *arena, const char *root, const tdm_topo_given *given,
                             tdm_import_options *options, tdm_error *err)
{
    tdm_code code = TDM_OK;
    *options = (tdm_import_options){.gpu_at = given->gpu_at, .wiring = wiring_named(given->wiring)};
    if (given->gpu && read_gpu(arena, root, given->gpu, options, err) != TDM_OK)
        code = TDM_E_INVALID;
    options->pcie_generation = tdm_pcie_of_gpu(options->sm);
    if (given->nvlinks &&
        read_number("--nvlinks", given->nvlinks, 0, 64, &options->nvlinks, err) != TDM_OK)
        code = TDM_E_INVALID;
    if (given->pcie &&
        read_number("--pcie", given->pcie, 1, 6, &options->pcie_generation, err) != TDM_OK)
        code = TDM_E_INVALID;
    if (given->nic && (tdm_quantity_parse(given->nic, TDM_UNIT_BYTES_PER_S,
                                          &options->nic_bytes_per_s) != TDM_QUANTITY_OK ||
                       !(options->nic_bytes_per_s > 0)))
        code = tdm_error_add(err, TDM_E_INVALID, "--nic: %s: expected %s", given->nic,
                             tdm_unit_expected(TDM_UNIT_BYTES_PER_S));
    return code;
}

/* Options that only texts without these numbers need. */
static tdm_code refuse_options(const tdm_topo_given *given, const char *path, tdm_error *err)
{
    const struct {
        const char *name, *value;
    } options[] = {{"--gpu", given->gpu},       {"--nvlinks", given->nvlinks},
                   {"--nvlink", given->wiring}, {"--gpu-at", given->gpu_at},
                   {"--pcie", given->pcie},     {"--nic", given->nic}};
    tdm_code code = TDM_OK;
    for (size_t i = 0; i < TDM_COUNT(options); i++)
        if (options[i].value)
            code = tdm_error_add(err, TDM_E_INVALID,
                                 "%s: %s is for imported texts: a topology file says it itself",
                                 path, options[i].name);
    return code;
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool is_folder(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* The path of the operand when it is a topology of Tandem's own; *text when it is something to
 * import. */
static tdm_code find(tdm_arena *arena, const char *root, const char *operand, const char **path,
                     const char **text, size_t *n_bytes, tdm_error *err)
{
    bool piped = strcmp(operand, "-") == 0;
    struct stat status;
    *text = NULL;
    if (is_folder(operand))
        return tdm_error_add(err, TDM_E_INVALID, "%s: is a folder, not a file", operand);
    if (piped || (!ends_in(operand, ".yaml") && stat(operand, &status) == 0)) {
        *path = operand;
        return tdm_file_read(arena, piped ? "/dev/stdin" : operand, text, n_bytes, err);
    }
    tdm_node node = named("topology", operand);
    if (strchr(operand, '/') && stat(operand, &status) != 0)
        return tdm_error_add(err, TDM_E_INVALID, "%s: %s", operand, strerror(errno));
    return tdm_file_find(arena, &tdm_file_topology, root ? root : ".", ".", &node, path, err);
}

tdm_code tdm_topo_load(tdm_arena *arena, const char *root, const char *operand,
                       const tdm_topo_given *given, tdm_graph *graph, tdm_error *notes,
                       tdm_error *err)
{
    const char *path, *text;
    size_t n_bytes = 0;
    tdm_import_options options;
    tdm_code code = find(arena, root, operand, &path, &text, &n_bytes, err);
    if (code != TDM_OK)
        return code;
    if (!text) {
        code = refuse_options(given, path, err);
        return code == TDM_OK ? tdm_topology_load_graph(arena, root, path, graph, err) : code;
    }
    code = read_options(arena, root, given, &options, err);
    if (code != TDM_OK)
        return code;
    return tdm_import_text(arena, strcmp(path, "-") == 0 ? "<stdin>" : path, text, n_bytes,
                           &options, graph, notes, err);
}
