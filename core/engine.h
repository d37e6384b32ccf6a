/* engine.h: what an engine is given and what it returns, and the walker that predicting engines
 * share.
 *
 * The walker takes one rank's program through time: compute ops have known durations, so their
 * times follow by arithmetic; communication needs peers, so the walker hands it to the engine and
 * stops where an op waits for one that has not ended. It is resumable, so an engine may drive it
 * from an actor or from a work list. */
#ifndef TDM_ENGINE_H
#define TDM_ENGINE_H

#include "cost.h"
#include "net.h"
#include "program.h"
#include "trace.h"

typedef struct tdm_machine {
    const tdm_topology *topology;
    const tdm_device *device;
    const tdm_perturbed *perturbed; /* NULL: as the files say */
} tdm_machine;

/* The scenario's machine in a repetition (from 0) of its perturbation; points into the scenario. */
tdm_machine tdm_machine_of(tdm_arena *arena, const tdm_scenario *scenario, uint32_t repetition);

/* Predicts the plan on the machine without contention between ops. */
tdm_code tdm_analytic_run(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine,
                          tdm_trace *trace, tdm_error *err);

/* One communication op of one rank, handed to the engine in issue order of its stream and of its
 * communicator. */
typedef struct tdm_comm {
    uint32_t rank;
    uint32_t user; /* of its role's program: which of the rank's communicators */
    const tdm_instance *instance;
    double ready_s;    /* issue and waits are done; its stream may still be busy */
    uint64_t sequence; /* 1, 2, ... on its stream */
} tdm_comm;

typedef struct tdm_walker tdm_walker;

typedef enum tdm_walk {
    TDM_WALK_COMM,    /* *comm is to be carried out on its stream */
    TDM_WALK_BLOCKED, /* waits for op `sequence` of `stream`, perhaps for others too */
    TDM_WALK_END,
} tdm_walk;

/* The programs of a plan with how long their compute ops take on a machine, shared by the walkers
 * of all ranks. */
typedef struct tdm_costs {
    const tdm_plan *plan;
    const tdm_device *device;
    double launch_s;              /* host time to issue one op: the device's, or 0 for pass times */
    const tdm_program *programs;  /* [n_roles] */
    const double *const *seconds; /* [n_roles][n_ops] of compute ops; NAN: depends on the tokens
                                     routed to the rank */
    const tdm_perturbed *perturbed; /* the machine's: multiplies them; NULL: it does not */
} tdm_costs;
const tdm_costs *tdm_costs_new(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine);

tdm_walker *tdm_walker_new(tdm_arena *arena, const tdm_plan *plan, const tdm_costs *costs,
                           uint32_t rank, tdm_rank_trace *trace);
/* Goes on until there is something for the engine. Streams do not hold each other back: an op is
 * handed out as soon as all it waits for has ended, so never later than its ready_s. BLOCKED names
 * one of the ops that the rank waits for; call again whenever an op of the rank was reported by
 * tdm_walker_done. */
tdm_walk tdm_walker_next(tdm_walker *walker, tdm_comm *comm, tdm_stream *stream,
                         uint64_t *sequence);
/* The engine reports a communication op's own start (its turn on the stream) and end; in order per
 * stream. */
void tdm_walker_done(tdm_walker *walker, const tdm_comm *comm, double start_s, double end_s);
/* Ops of the stream reported so far, and the end of the last of them (0 when none). */
uint64_t tdm_walker_n_done(const tdm_walker *walker, tdm_stream stream, double *end_s);

/* Identity of the communicator an op uses: the same number on all members, and how many take part
 * (2 for send/receive). */
typedef struct tdm_comm_id {
    uint64_t id;
    uint32_t n_members;
} tdm_comm_id;
tdm_comm_id tdm_comm_identify(const tdm_plan *plan, uint32_t rank, const tdm_instance *instance);

/* What a communication op does to the links of a net (a send/receive is one message); of a folded
 * plan on the net of tdm_topology_fold, where replicas' links are those that stand for them. */
tdm_transfer tdm_comm_transfer(const tdm_plan *plan, tdm_net *net, uint32_t rank,
                               const tdm_instance *instance);

#endif
