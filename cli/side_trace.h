/* side_trace.h: traces as a side of a comparison. */
#ifndef TDM_SIDE_TRACE_H
#define TDM_SIDE_TRACE_H

#include "side.h"

/* The files *.json and *.json.gz of a folder, by name; returns how many. */
size_t tdm_side_trace_files(tdm_arena *arena, const char *folder, const char *const **paths);

/* Reads the trace files of a run: PyTorch's profiler, one file per rank, or Tandem's trace.json. */
tdm_code tdm_side_read_traces(tdm_arena *arena, tdm_side_reader *reader, const char *const *paths,
                              size_t n_paths, tdm_side *side, tdm_error *err);

#endif
