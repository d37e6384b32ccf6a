/* absent.c: stands in for the SimGrid engine where SimGrid is not installed. */
#include "sim.h"

const char *tdm_sim_missing(void)
{
    return "the sim engine needs SimGrid 3.32 or newer, which was not found at build time; install it "
           "(apt-get install libsimgrid-dev), build again, or use --engine analytic";
}

tdm_code tdm_sim_run(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine,
                     const char *platform_path, tdm_trace *trace, tdm_error *err)
{
    (void)arena;
    (void)plan;
    (void)machine;
    (void)platform_path;
    (void)trace;
    return tdm_error_add(err, TDM_E_INVALID, "%s", tdm_sim_missing());
}
