/* conductor.h: leads all ranks through the plan: drives their walkers, lets the members of a
 * communicator meet, and hands the flows of complete operations to the network.
 *
 * A communication op starts on a rank when it is ready and its stream is free. When that is so on
 * all members, the latency passes, then the flows run, and the op ends on all members together.
 * Everything but the flows is arithmetic on known times. */
#ifndef TDM_SIM_CONDUCTOR_H
#define TDM_SIM_CONDUCTOR_H

#include "core/engine.h"
#include "network.h"

typedef struct tdm_conductor tdm_conductor;

/* traces [world]: where the ranks' spans go. */
tdm_conductor *tdm_conductor_new(tdm_arena *arena, const tdm_plan *plan, tdm_net *net,
                                 const tdm_sites *sites, const tdm_costs *costs,
                                 tdm_rank_trace *traces, tdm_network *network);

/* Takes every rank as far as it gets without communication, then as far as the ended transfers let
 * it. */
void tdm_conductor_start(tdm_conductor *conductor);
void tdm_conductor_ended(tdm_conductor *conductor, void *transfer, double end_s);

/* True when every rank has come to the end of its program. */
bool tdm_conductor_finished(const tdm_conductor *conductor);

/* Writes why the ranks cannot finish, one message per line. */
void tdm_conductor_explain(const tdm_conductor *conductor, char *text, size_t n_bytes);

#endif
