/* figure_infos.c: the scalar figures by name, as targets, tables and files call them. */
#include "figures.h"

#include <math.h>
#include <string.h>

const tdm_figure_info tdm_figure_infos[] = {
    {"step_time_s", "s", "time of one training step", false},
    {"bubble_fraction", "", "pipeline bubble, mean over stages", false},
    {"bubble_global", "", "pipeline bubble over the span of all stages", false},
    {"comm_busy_fraction", "", "share of the step with communication running", false},
    {"comm_exposed_fraction", "", "share of the step in transfers that no compute hides", false},
    {"gpu_utilization", "", "share of the step in which a compute kernel runs", true},
    {"nvml_utilization", "", "the same, communication kernels counted, as nvidia-smi does", true},
    {"load_imbalance", "", "standard deviation over mean of compute time across GPUs", false},
    {"min_compute_share", "", "compute time of the least loaded GPU over the mean", true},
    {"expert_efficiency", "", "mean over max of tokens per expert rank", true},
    {"hot_rank_share", "", "tokens of the hottest expert rank over the mean of its stage", false},
    {"hot_expert_share", "", "tokens of the hottest expert over the mean of its layer", false},
    {"dropped_fraction", "", "share of the tokens' choices that full experts refuse", false},
    {"tokens_per_s", "tokens/s", "throughput of the whole job", true},
    {"forward_latency_s", "s", "one microbatch through all stages, forward only", false},
    {"mfu", "", "model FLOPs utilization", true},
    {"hfu", "", "hardware FLOPs utilization, recomputation counted", true},
    {"peak_memory_bytes", "bytes", "memory of the largest rank", false},
    {"avg_all_reduce_s", "s", "average transfer time of an all-reduce", false},
    {"max_all_reduce_s", "s", "longest transfer time of an all-reduce", false},
    {"avg_all_to_all_s", "s", "average transfer time of an all-to-all", false},
    {"max_all_to_all_s", "s", "longest transfer time of an all-to-all", false},
    {NULL, NULL, NULL, false},
};

/* Average over all calls of an op kind, whatever their group; 0 when there are none. */
static double average_call_s(const tdm_figures *figures, tdm_op_kind kind)
{
    double sum = 0, n = 0;
    for (uint32_t i = 0; i < figures->n_comms; i++) {
        const tdm_comm_figures *comm = &figures->comms[i];
        if (comm->kind == kind) {
            sum += comm->avg_s * (double)comm->n_calls;
            n += (double)comm->n_calls;
        }
    }
    return n > 0 ? sum / n : 0;
}

static double longest_call_s(const tdm_figures *figures, tdm_op_kind kind)
{
    double longest = 0;
    for (uint32_t i = 0; i < figures->n_comms; i++)
        if (figures->comms[i].kind == kind && figures->comms[i].max_s > longest)
            longest = figures->comms[i].max_s;
    return longest;
}

double tdm_figures_get(const tdm_figures *figures, const char *name)
{
    const struct {
        const char *name;
        double value;
    } values[] = {
        {"step_time_s", figures->step_time_s},
        {"bubble_fraction", figures->bubble_fraction},
        {"bubble_global", figures->bubble_global},
        {"comm_busy_fraction", figures->comm_busy_fraction},
        {"comm_exposed_fraction", figures->comm_exposed_fraction},
        {"gpu_utilization", figures->gpu_utilization},
        {"nvml_utilization", figures->nvml_utilization},
        {"load_imbalance", figures->load_imbalance},
        {"min_compute_share", figures->min_compute_share},
        {"expert_efficiency", figures->expert_efficiency},
        {"hot_rank_share", figures->hot_rank_share},
        {"hot_expert_share", figures->hot_expert_share},
        {"dropped_fraction", figures->dropped_fraction},
        {"tokens_per_s", figures->tokens_per_s},
        {"forward_latency_s", figures->forward_latency_s},
        {"mfu", figures->mfu},
        {"hfu", figures->hfu},
        {"peak_memory_bytes", (double)figures->peak_memory_bytes},
        {"avg_all_reduce_s", average_call_s(figures, TDM_OP_ALL_REDUCE)},
        {"max_all_reduce_s", longest_call_s(figures, TDM_OP_ALL_REDUCE)},
        {"avg_all_to_all_s", average_call_s(figures, TDM_OP_ALL_TO_ALL)},
        {"max_all_to_all_s", longest_call_s(figures, TDM_OP_ALL_TO_ALL)},
    };
    for (size_t i = 0; i < TDM_COUNT(values); i++)
        if (strcmp(values[i].name, name) == 0)
            return values[i].value;
    return NAN;
}
