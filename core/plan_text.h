/* plan_text.h: the plan as stable text, and back. What golden tests hold and `tandem run plan.txt`
 * reads.
 *
 * The text is made of lines; indentation and blank lines do not matter, `#` starts a comment line.
 * It opens with `tandem-plan 1` and closes with `end`; between them stand the header lines, the
 * kinds, the roles and, where there are experts, the routing table. Names that are not plain words
 * stand in double quotes. */
#ifndef TDM_PLAN_TEXT_H
#define TDM_PLAN_TEXT_H

#include "plan.h"

#include <stdio.h>

/* Writes the whole plan; equal plans give equal bytes. */
tdm_code tdm_plan_write(const tdm_plan *plan, FILE *file, tdm_error *err);
/* The same; *hash is what tdm_plan_hash gives. */
tdm_code tdm_plan_write_hashed(const tdm_plan *plan, FILE *file, uint64_t *hash, tdm_error *err);

/* Reads what tdm_plan_write wrote: writing the result again gives the same bytes. Messages have
 * path:line:column. What it accepts is safe to walk: every index is in range, every rank has a role
 * of its stage, every layer and microbatch is in the routing table. Whether it makes sense is
 * verify.h's to say. */
tdm_code tdm_plan_read(tdm_arena *arena, const char *path, tdm_plan *plan, tdm_error *err);

/* The same from memory; path is for messages only. The plan keeps no pointer into the text. */
tdm_code tdm_plan_parse(tdm_arena *arena, const char *path, const char *text, size_t length,
                        tdm_plan *plan, tdm_error *err);

/* FNV-1a, 64 bits, over the text that tdm_plan_write writes: tells whether two results are of the
 * same plan. */
uint64_t tdm_plan_hash(const tdm_plan *plan);

/* The two group tables (attention, experts), for `plan --groups`. */
void tdm_plan_write_groups(const tdm_plan *plan, FILE *file);

#endif
