/* scenario_parts.h: what the files that load a scenario share. Private to them. */
#ifndef TDM_SCENARIO_PARTS_H
#define TDM_SCENARIO_PARTS_H

#include "model_load.h"
#include "scenario.h"

/* A scenario as written; 0 and NULL where the file is silent and 0 is no valid value. */
typedef struct tdm_scenario_source {
    const char *description;
    const tdm_node *model, *pass_times, *targets;
    const char *topology, *device;
    tdm_parallel parallel;
    uint32_t layers_per_chunk, zero_stage;
    const char *schedule, *csv, *layout;
    uint32_t num_microbatches, activation_limit;
    uint32_t micro_batch_size, global_batch_size, seq_length;
    tdm_training training;
    bool fp32_grads; /* accumulate_allreduce_grads_in_fp32 */
    tdm_routing routing;
    const char *recorded; /* routing.csv */
    uint64_t memory_limit_bytes;
    tdm_perturbation perturbation; /* but for GPUs and links */
    tdm_list perturbed_gpus, perturbed_links;
    const tdm_node *nccl;
    uint32_t nodes;
} tdm_scenario_source;

extern const tdm_field tdm_scenario_fields[];
extern const tdm_field tdm_perturbation_fields[]; /* below perturbation */

/* State of loading one scenario. Mistakes are collected in err, never NULL here; a step that needs
 * what an earlier one could not read is skipped, so that one mistake gives one message. */
typedef struct tdm_scenario_loader {
    tdm_arena *arena;
    const char *root, *folder; /* folder: the scenario's */
    tdm_node *document;
    tdm_scenario_source read;
    tdm_scenario *scenario;
    const char *topology_folder;              /* of its file */
    bool has_model, has_topology, has_device; /* read without mistakes */
    tdm_error *notes, *err;                   /* notes: what is not modelled or not read */
} tdm_scenario_loader;

/* scenario_machine.c: what the scenario names: model, topology, device. */
void tdm_scenario_find_model(tdm_scenario_loader *loader);
void tdm_scenario_find_machine(tdm_scenario_loader *loader);

/* scenario_times.c: pass_times, and the machine that goes with them. */
void tdm_scenario_read_times(tdm_scenario_loader *loader);

/* scenario_schedule.c: schedule.csv; parallel.pipeline_model_parallel_layout (after the model). */
void tdm_scenario_read_order(tdm_scenario_loader *loader);
void tdm_scenario_read_layout(tdm_scenario_loader *loader);

/* scenario_routing.c: parameters of the routing model, its file (after the model). */
void tdm_scenario_read_routing(tdm_scenario_loader *loader);

/* scenario_targets.c */
void tdm_scenario_read_targets(tdm_scenario_loader *loader);

/* scenario_perturbation.c: perturbation (after the machine). */
void tdm_scenario_read_perturbation(tdm_scenario_loader *loader);

/* scenario_nccl.c: nccl (after the pass times). */
void tdm_scenario_read_nccl(tdm_scenario_loader *loader);

/* scenario_check.c: whether everything goes together. Derives the data-parallel size and the number
 * of microbatches on the way. */
void tdm_scenario_check(tdm_scenario_loader *loader);

/* Shorthands of all of them. */
static inline bool tdm_scenario_gives(const tdm_scenario_loader *loader, const char *key)
{
    return tdm_node_find(loader->document, key) != NULL;
}

#endif
