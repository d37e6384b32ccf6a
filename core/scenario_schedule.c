/* scenario_schedule.c: what a scenario says of its schedule beyond the name: an order of passes
 * from a file, uneven layers per stage. */
#include "scenario_parts.h"
#include "schedule_csv.h"
#include "stage_layout.h"

#include "files.h"

#include <string.h>

#define VPP    "parallel.num_virtual_stages_per_pipeline_rank"
#define LAYOUT "parallel.pipeline_model_parallel_layout"

/* The file's own numbers stand where the scenario is silent. */
void tdm_scenario_read_order(tdm_scenario_loader *loader)
{
    tdm_scenario *scenario = loader->scenario;
    const char *name = loader->read.csv;
    if (!name)
        return;
    if (scenario->schedule && strcmp(scenario->schedule, "csv") != 0) {
        tdm_node_error_at(loader->document, "schedule.csv", loader->err,
                          "goes with schedule.name: csv only, not with %s", scenario->schedule);
        return;
    }
    const char *path = *name == '/' ? name : tdm_file_join(loader->arena, loader->folder, name);
    tdm_pass_table *table = TDM_ALLOC(loader->arena, tdm_pass_table, 1);
    if (tdm_schedule_csv_read(loader->arena, path, table, loader->err) != TDM_OK)
        return;
    scenario->pass_table = table;
    scenario->csv_path = path;
    if (!tdm_scenario_gives(loader, VPP))
        scenario->parallel.vpp = table->n_chunks;
    if (scenario->num_microbatches == 0)
        scenario->num_microbatches = table->n_microbatches;
}

void tdm_scenario_read_layout(tdm_scenario_loader *loader)
{
    tdm_scenario *scenario = loader->scenario;
    const tdm_parallel *parallel = &scenario->parallel;
    uint32_t n_stages = parallel->pp * parallel->vpp;
    if (!loader->read.layout || !loader->has_model)
        return;
    uint32_t *layers = TDM_ALLOC(loader->arena, uint32_t, n_stages);
    const char *problem = tdm_stage_layout_parse(loader->arena, loader->read.layout, n_stages,
                                                 scenario->model.num_layers, layers);
    if (problem)
        tdm_node_error_at(loader->document, LAYOUT, loader->err, "%s", problem);
    else
        scenario->stage_layers = layers;
}
