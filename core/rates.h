/* rates.h: the time of kernels that were measured one by one on a device. */
#ifndef TDM_RATES_H
#define TDM_RATES_H

#include "plan.h"

/* What a product is for a linear layer, by its op's name. */
tdm_product_way tdm_product_way_of(const tdm_op *op);

/* Length of an op's name without the ".r" of a repetition. */
size_t tdm_op_plain_length(const tdm_op *op);

/* FLOPs a second of an m x n x k product: what was measured of that shape, else between the nearest
 * shapes, by the distance of the sizes' logarithms. 0: nothing of the kind was measured. */
double tdm_rate_product(const tdm_device *device, tdm_product_way way, bool grouped, double m,
                        double n, double k);

/* What an op's kernel computes: its name without the place it has in the layer ("norm1",
 * "shared.activation") and with what the model wants there ("rms-norm", "gelu"). */
#define TDM_KERNEL_NAME_SIZE 64u
void tdm_kernel_name(const tdm_model *model, const tdm_op *op, char name[TDM_KERNEL_NAME_SIZE]);

/* The op's kernel; NULL: none of its name was measured. */
const tdm_kernel_rate *tdm_rate_kernel(const tdm_device *device, const tdm_model *model,
                                       const tdm_op *op);
/* Seconds of it. */
double tdm_rate_kernel_s(const tdm_kernel_rate *kernel, double bytes, double flops);

#endif
