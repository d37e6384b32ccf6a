/* rates.c: see rates.h. */
#include "rates.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

size_t tdm_op_plain_length(const tdm_op *op)
{
    size_t n = strlen(op->name);
    return op->recompute && n > 2 && strcmp(op->name + n - 2, ".r") == 0 ? n - 2 : n;
}

static bool ends_with(const tdm_op *op, const char *end)
{
    size_t n = tdm_op_plain_length(op), length = strlen(end);
    return n > length && strncmp(op->name + n - length, end, length) == 0;
}

tdm_product_way tdm_product_way_of(const tdm_op *op)
{
    return ends_with(op, ".wgrad") ? TDM_WGRAD : ends_with(op, ".dgrad") ? TDM_DGRAD : TDM_FORWARD;
}

/* The nearest points, nearest first. */
typedef struct nearest {
    uint32_t n;
    double distance2[8], log_rate[8];
} nearest;

static void take(nearest *near, double distance2, double log_rate)
{
    enum { MOST = TDM_COUNT(near->distance2) };
    uint32_t i = near->n < MOST ? near->n++ : MOST;
    if (i == MOST && distance2 >= near->distance2[MOST - 1])
        return;
    i = i == MOST ? MOST - 1 : i;
    for (; i > 0 && near->distance2[i - 1] > distance2; i--) {
        near->distance2[i] = near->distance2[i - 1];
        near->log_rate[i] = near->log_rate[i - 1];
    }
    near->distance2[i] = distance2;
    near->log_rate[i] = log_rate;
}

/* Inverse distance weighting. Source: Shepard 1968, "A two-dimensional interpolation function for
 * irregularly-spaced data", with the fourth power. */
double tdm_rate_product(const tdm_device *device, tdm_product_way way, bool grouped, double m,
                        double n, double k)
{
    nearest near = {0};
    for (uint32_t i = 0; i < device->n_products; i++) {
        const tdm_product_rate *p = &device->products[i];
        if (p->way != (int)way || p->grouped != grouped)
            continue;
        double dm = log(m / p->m), dn = log(n / p->n), dk = log(k / p->k);
        take(&near, dm * dm + dn * dn + dk * dk, log(p->flops_per_s));
    }
    if (near.n == 0)
        return 0;
    double sum = 0, weights = 0;
    for (uint32_t i = 0; i < near.n; i++) {
        if (near.distance2[i] < 1e-12)
            return exp(near.log_rate[i]);
        double weight = 1 / (near.distance2[i] * near.distance2[i]);
        sum += weight * near.log_rate[i];
        weights += weight;
    }
    return exp(sum / weights);
}

/* The op's name begins with `start`, and all that follows is "" or ".bwd". */
static bool is_of(const char *name, const char *start, const char **rest)
{
    size_t n = strlen(start);
    *rest = name + n;
    return strncmp(name, start, n) == 0 && (name[n] == '\0' || strcmp(name + n, ".bwd") == 0);
}

void tdm_kernel_name(const tdm_model *model, const tdm_op *op, char name[TDM_KERNEL_NAME_SIZE])
{
    char plain[TDM_KERNEL_NAME_SIZE / 2];
    const char *rest;
    snprintf(plain, sizeof plain, "%.*s", (int)tdm_op_plain_length(op), op->name);
    const char *activation = model->swiglu ? "swiglu" : "gelu";
    const char *norm = model->norm == TDM_NORM_LAYER ? "layer-norm" : "rms-norm";
    bool in_layer = op->kind == TDM_OP_MEMORY && op->pass != TDM_PASS_O;
    const char *kernel = plain;
    rest = "";
    if (in_layer && (is_of(plain, "activation", &rest) || is_of(plain, "shared.activation", &rest)))
        kernel = activation;
    else if (in_layer && (is_of(plain, "norm", &rest) || is_of(plain, "norm1", &rest) ||
                          is_of(plain, "norm2", &rest)))
        kernel = norm;
    else if (in_layer && (is_of(plain, "add1", &rest) || is_of(plain, "add2", &rest)))
        kernel = "add";
    else
        rest = "";
    snprintf(name, TDM_KERNEL_NAME_SIZE, "%s%s", kernel, rest);
}

const tdm_kernel_rate *tdm_rate_kernel(const tdm_device *device, const tdm_model *model,
                                       const tdm_op *op)
{
    char name[TDM_KERNEL_NAME_SIZE];
    if (device->n_kernels == 0)
        return NULL;
    tdm_kernel_name(model, op, name);
    for (uint32_t i = 0; i < device->n_kernels; i++)
        if (device->kernels[i].optimizer == (op->pass == TDM_PASS_O) &&
            strcmp(device->kernels[i].name, name) == 0)
            return &device->kernels[i];
    return NULL;
}

double tdm_rate_kernel_s(const tdm_kernel_rate *kernel, double bytes, double flops)
{
    return kernel->floor_s +
           (kernel->bytes_per_s > 0 ? bytes / kernel->bytes_per_s : flops / kernel->flops_per_s);
}
