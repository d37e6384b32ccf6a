/* machine.c: the machine a scenario means, perturbed as it says. */
#include "engine.h"

tdm_machine tdm_machine_of(tdm_arena *arena, const tdm_scenario *scenario, uint32_t repetition)
{
    const tdm_perturbation *perturbation = &scenario->perturbation;
    tdm_machine machine = {.topology = &scenario->topology, .device = &scenario->device};
    if (!tdm_perturbation_is_given(perturbation))
        return machine;
    const tdm_parallel *p = &scenario->parallel;
    tdm_perturbed *perturbed = TDM_ALLOC(arena, tdm_perturbed, 1);
    *perturbed =
        tdm_perturbation_draw(arena, perturbation, p->tp * p->cp * p->dp * p->pp, repetition);
    machine.perturbed = perturbed;
    machine.topology = tdm_perturbation_links(arena, perturbation, &scenario->topology);
    return machine;
}
