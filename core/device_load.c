/* device_load.c: the keys of a device profile. */
#include "device_load.h"

#include "files.h"
#include "schema.h"

#include <assert.h>

static const char *const grade_names[] = {
    [TDM_GRADE_MEASURED] = "measured",
    [TDM_GRADE_PUBLISHED] = "published",
    [TDM_GRADE_DATASHEET] = "datasheet",
    [TDM_GRADE_GUESS] = "guess",
};

const char *tdm_grade_name(tdm_grade grade)
{
    assert((unsigned)grade < TDM_COUNT(grade_names));
    return grade_names[grade];
}

typedef struct record {
    const char *description, *source;
    int grade;
    tdm_device device;
    tdm_list products, kernels; /* of tdm_product_rate, tdm_kernel_rate */
} record;

static const tdm_choice ways[] = {{"forward", TDM_FORWARD, false},
                                  {"dgrad", TDM_DGRAD, false},
                                  {"wgrad", TDM_WGRAD, false},
                                  {NULL, 0, false}};

#define SIZE(name, text)                                                                           \
    {                                                                                              \
        .key = #name, .type = TDM_FIELD_UINT32, .offset = offsetof(tdm_product_rate, name),        \
        .required = true, .min = 1, .doc = text                                                    \
    }

static const tdm_field product_fields[] = {
    {.key = "way",
     .type = TDM_FIELD_CHOICE,
     .offset = offsetof(tdm_product_rate, way),
     .choices = ways,
     .required = true,
     .doc = "what it is for a linear layer"},
    {.key = "grouped",
     .type = TDM_FIELD_BOOL,
     .offset = offsetof(tdm_product_rate, grouped),
     .doc = "whether there is one per expert (false when left out)"},
    SIZE(m, "rows of the result (grouped: of one expert's)"),
    SIZE(n, "columns of the result"),
    SIZE(k, "numbers that are summed up (grouped wgrad: rows of one expert)"),
    {.key = "rate",
     .type = TDM_FIELD_NUMBER,
     .offset = offsetof(tdm_product_rate, flops_per_s),
     .unit = TDM_UNIT_FLOPS_PER_S,
     .required = true,
     .positive = true,
     .doc = "measured, 2 m n k counted"},
    {.key = NULL},
};

static const tdm_field kernel_fields[] = {
    {.key = "name",
     .type = TDM_FIELD_TEXT,
     .offset = offsetof(tdm_kernel_rate, name),
     .required = true,
     .doc = "of the plan's ops"},
    {.key = "optimizer",
     .type = TDM_FIELD_BOOL,
     .offset = offsetof(tdm_kernel_rate, optimizer),
     .doc = "whether the optimizer's op of that name is meant (false when left out)"},
    {.key = "floor",
     .type = TDM_FIELD_NUMBER,
     .offset = offsetof(tdm_kernel_rate, floor_s),
     .unit = TDM_UNIT_SECONDS,
     .required = true,
     .doc = "time without work"},
    {.key = "bytes",
     .type = TDM_FIELD_NUMBER,
     .offset = offsetof(tdm_kernel_rate, bytes_per_s),
     .unit = TDM_UNIT_BYTES_PER_S,
     .positive = true,
     .doc = "rate beyond that, of bytes read and written (or flops)"},
    {.key = "flops",
     .type = TDM_FIELD_NUMBER,
     .offset = offsetof(tdm_kernel_rate, flops_per_s),
     .unit = TDM_UNIT_FLOPS_PER_S,
     .positive = true,
     .doc = "rate beyond that, of floating-point operations (or bytes)"},
    {.key = NULL},
};

#define PEAK(key_, dtype, doc_)                                                                    \
    {                                                                                              \
        .key = key_, .type = TDM_FIELD_VALUE, .offset = sizeof(tdm_value) * (dtype),               \
        .unit = TDM_UNIT_FLOPS_PER_S, .positive = true, .doc = doc_                                \
    }

static const tdm_field peak_fields[] = {
    PEAK("bf16", TDM_DTYPE_BF16,
         "dense matrix products on bf16; leave out when the device has none"),
    PEAK("fp16", TDM_DTYPE_FP16,
         "dense matrix products on fp16; leave out when the device has none"),
    PEAK("fp32", TDM_DTYPE_FP32, "matrix products on fp32; leave out when the device has none"),
    {.key = NULL},
};

#define QUANTITY(key_, member, unit_, doc_)                                                        \
    {                                                                                              \
        .key = key_, .type = TDM_FIELD_VALUE, .offset = offsetof(record, device.member),           \
        .required = true, .unit = unit_, .positive = true, .doc = doc_                             \
    }
#define SHARE(key_, member, doc_)                                                                  \
    {                                                                                              \
        .key = key_, .type = TDM_FIELD_VALUE, .offset = offsetof(record, device.member),           \
        .required = true, .unit = TDM_UNIT_SHARE, .max = 1, .positive = true, .doc = doc_          \
    }

#define OPTIONAL(key_, member, unit_, doc_)                                                        \
    {                                                                                              \
        .key = key_, .type = TDM_FIELD_VALUE, .offset = offsetof(record, device.member),           \
        .unit = unit_, .positive = true, .doc = doc_                                               \
    }

static const tdm_field fields[] = {
    {.key = "description",
     .type = TDM_FIELD_TEXT,
     .offset = offsetof(record, description),
     .required = true,
     .doc = "which GPU this is, one line"},
    {.key = "source",
     .type = TDM_FIELD_TEXT,
     .offset = offsetof(record, source),
     .doc = "where the numbers without their own source come from"},
    {.key = "grade",
     .type = TDM_FIELD_CHOICE,
     .offset = offsetof(record, grade),
     .choices = tdm_grade_choices,
     .doc = "how far the numbers without their own grade can be trusted"},
    QUANTITY("memory", memory_bytes, TDM_UNIT_BYTES, "memory that programs can use"),
    QUANTITY("memory_bandwidth", memory_bytes_per_s, TDM_UNIT_BYTES_PER_S, "peak of the datasheet"),
    {.key = "peak",
     .type = TDM_FIELD_MAP,
     .offset = offsetof(record, device.peak_flops_per_s),
     .required = true,
     .fields = peak_fields,
     .doc = "peak of dense matrix products by dtype"},
    {.key = "launch",
     .type = TDM_FIELD_VALUE,
     .offset = offsetof(record, device.launch_s),
     .required = true,
     .unit = TDM_UNIT_SECONDS,
     .doc = "host time to issue one kernel"},
    QUANTITY("kernel_floor", kernel_floor_s, TDM_UNIT_SECONDS,
             "least time of any kernel on the device"),
    SHARE("gemm_efficiency", gemm_efficiency,
          "share of the peak that a large matrix product reaches"),
    SHARE("grouped_gemm_efficiency", grouped_gemm_efficiency, "the same of a product per expert"),
    SHARE("attention_efficiency", attention_efficiency, "the same of fused attention, forward"),
    SHARE("attention_backward_efficiency", attention_backward_efficiency,
          "the same of fused attention, backward"),
    SHARE("memory_efficiency", memory_efficiency,
          "share of the bandwidth that an element-wise kernel reaches"),
    {.key = "context",
     .type = TDM_FIELD_VALUE,
     .offset = offsetof(record, device.context_bytes),
     .required = true,
     .unit = TDM_UNIT_BYTES,
     .doc = "memory of the CUDA context and the libraries, which no tensor can use"},
    OPTIONAL("compute_capability", compute_capability, TDM_UNIT_NONE,
             "as CUDA has it, 9.0 for H100; NCCL's choices depend on it"),
    OPTIONAL("nvlinks", nvlinks, TDM_UNIT_NONE, "NVLinks of one GPU"),
    OPTIONAL("pcie", pcie_bytes_per_s, TDM_UNIT_BYTES_PER_S,
             "wire of the PCIe link, one direction"),
    {.key = "products",
     .type = TDM_FIELD_LIST,
     .offset = offsetof(record, products),
     .fields = product_fields,
     .item_bytes = sizeof(tdm_product_rate),
     .doc = "matrix products as measured, which others are interpolated between"},
    {.key = "kernels",
     .type = TDM_FIELD_LIST,
     .offset = offsetof(record, kernels),
     .fields = kernel_fields,
     .item_bytes = sizeof(tdm_kernel_rate),
     .doc = "other kernels as measured, by name"},
    {.key = NULL},
};

/* Whether the numbers go together; those that were refused are 0. */
static tdm_code check(const tdm_device *device, const tdm_node *root, tdm_error *err)
{
    tdm_code code = TDM_OK;
    const tdm_node *peak = tdm_node_child(root, "peak");
    if (peak && peak->kind == TDM_NODE_MAP && peak->n_children == 0)
        code = tdm_node_error_at(root, "peak", err, "needs at least one of bf16, fp16, fp32");
    if (device->memory_bytes.value > 0 && device->context_bytes.value >= device->memory_bytes.value)
        code = tdm_node_error_at(root, "context", err, "leaves nothing of the device's memory");
    return code;
}

static tdm_code check_kernels(const tdm_list *kernels, const tdm_node *list, tdm_error *err)
{
    const tdm_kernel_rate *items = kernels->items;
    const tdm_node *node = list ? list->first : NULL;
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < kernels->n_items && node; i++, node = node->next)
        if (!node->faulty && (items[i].bytes_per_s > 0) == (items[i].flops_per_s > 0))
            code = tdm_node_error(node, err, "%s: needs one of bytes and flops", items[i].name);
    return code;
}

tdm_code tdm_device_load(tdm_arena *arena, const char *path, tdm_device *device, tdm_error *err)
{
    tdm_node *root;
    tdm_code code = tdm_doc_read(arena, path, &root, err);
    if (code != TDM_OK)
        return code;
    record read = {0};
    code = tdm_schema_load(arena, fields, root, &read, err);
    if (check(&read.device, root, err) != TDM_OK ||
        check_kernels(&read.kernels, tdm_node_child(root, "kernels"), err) != TDM_OK ||
        code != TDM_OK)
        return TDM_E_INVALID;
    *device = read.device;
    device->products = read.products.items;
    device->n_products = read.products.n_items;
    device->kernels = read.kernels.items;
    device->n_kernels = read.kernels.n_items;
    device->name = tdm_file_stem(arena, path);
    return TDM_OK;
}
