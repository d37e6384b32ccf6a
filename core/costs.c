/* costs.c: how long the compute ops of a plan take: each op of a template is worked out once. */
#include "engine.h"

#include <math.h>

/* Durations of a template's compute ops. */
static double *template_costs(tdm_arena *arena, const tdm_costs *costs,
                              const tdm_template *template)
{
    double *seconds = TDM_ALLOC(arena, double, template->n_ops);
    for (uint32_t i = 0; i < template->n_ops; i++) {
        const tdm_op *op = &template->ops[i];
        if (op->stream == TDM_STREAM_COMPUTE)
            seconds[i] =
                tdm_op_is_routed(op) ? NAN : tdm_cost_op(costs->device, costs->plan, op, 0);
    }
    return seconds;
}

/* Durations of the ops of a program. by_kind [kind][pass kind][op]. */
static const double *program_costs(tdm_arena *arena, const tdm_costs *costs,
                                   const tdm_program *program, double *(*by_kind)[TDM_N_PASS_KINDS])
{
    if (!program->role)
        return NULL;
    double *seconds = TDM_ALLOC(arena, double, program->n_ops);
    const double *of_optimizer = template_costs(arena, costs, &program->role->optimizer);
    for (uint32_t i = 0; i < program->n_ops; i++) {
        const tdm_instance *in = &program->ops[i];
        if (program->stream[i] != TDM_STREAM_COMPUTE)
            continue;
        if (in->kind)
            seconds[i] = by_kind[in->kind - costs->plan->kinds][in->pass.kind]
                                [in->op - in->kind->templates[in->pass.kind].ops];
        else
            seconds[i] = of_optimizer[in->op - program->role->optimizer.ops];
    }
    return seconds;
}

const tdm_costs *tdm_costs_new(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine)
{
    tdm_costs *costs = TDM_ALLOC(arena, tdm_costs, 1);
    costs->plan = plan;
    costs->device = machine->device;
    costs->perturbed = machine->perturbed;
    costs->launch_s = plan->pass_times ? 0 : machine->device->launch_s.value;
    costs->programs = tdm_programs_of(arena, plan);
    double *(*by_kind)[TDM_N_PASS_KINDS] = tdm_arena_alloc(arena, plan->n_kinds * sizeof *by_kind);
    for (uint32_t k = 0; k < plan->n_kinds; k++)
        for (uint32_t p = 0; p < TDM_N_PASS_KINDS; p++)
            by_kind[k][p] = template_costs(arena, costs, &plan->kinds[k].templates[p]);
    const double **seconds = TDM_ALLOC(arena, const double *, plan->n_roles);
    for (uint32_t r = 0; r < plan->n_roles; r++)
        seconds[r] = program_costs(arena, costs, &costs->programs[r], by_kind);
    costs->seconds = seconds;
    return costs;
}
