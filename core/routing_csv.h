/* routing_csv.h: a recorded routing: lines `layer,expert,weight`, counted from 0. */
#ifndef TDM_ROUTING_CSV_H
#define TDM_ROUTING_CSV_H

#include "scenario.h"

/* Reads text that came from `path` (for messages). Weights, or counts, are numbers of at least 0;
 * experts that are not listed have weight 0. A first line without digits is a heading, lines that
 * begin with # are comments. Every layer must have `topk` experts of weight above 0. Mistakes are
 * reported as path:line:column. */
tdm_code tdm_routing_csv_parse(tdm_arena *arena, const char *path, const char *text, size_t length,
                               const tdm_model *model, tdm_routing_record *record, tdm_error *err);
/* The same of a file. */
tdm_code tdm_routing_csv_read(tdm_arena *arena, const char *path, const tdm_model *model,
                              tdm_routing_record *record, tdm_error *err);

#endif
