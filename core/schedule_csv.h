/* schedule_csv.h: orders of passes in PyTorch's pipeline schedule CSV: one row per rank, cells
 * STAGE OP MICROBATCH such as 0F0, 1B3 (whole backward), 1I3 (input gradients), 1W3 (weight
 * gradients). Empty cells mean idle steps and are skipped, and so are the communication and
 * sharding actions that torch.distributed.pipelining adds: the plan has its own. Which stages stand
 * in which row tells how they are placed, in a loop or in a V. Source:
 * torch/distributed/pipelining/schedules.py, _Action and _PipelineScheduleRuntime. */
#ifndef TDM_SCHEDULE_CSV_H
#define TDM_SCHEDULE_CSV_H

#include "schedule.h"

/* Reads the file; messages have path:line:column. */
tdm_code tdm_schedule_csv_read(tdm_arena *arena, const char *path, tdm_pass_table *table,
                               tdm_error *err);
/* The same of text in memory; path is for messages. */
tdm_code tdm_schedule_csv_parse(tdm_arena *arena, const char *path, const char *text, size_t length,
                                tdm_pass_table *table, tdm_error *err);

#endif
