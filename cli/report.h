/* report.h: a run for people: the tables on standard output, and the figures as CSV. */
#ifndef TDM_REPORT_H
#define TDM_REPORT_H

#include "predict.h"
#include "table.h"

/* The whole report. */
void tdm_report_write(tdm_arena *arena, const tdm_result *result, const tdm_verdict *verdicts,
                      const tdm_style *style, FILE *file);
/* The report's first part: what was predicted. */
void tdm_report_header(tdm_arena *arena, const tdm_result *result, const tdm_style *style,
                       FILE *file);
/* The scenario's perturbation in words; NULL: none. */
const char *tdm_report_perturbation(tdm_arena *arena, const tdm_result *result);
/* The checklist alone: the report's last part. */
void tdm_report_checklist(tdm_arena *arena, const tdm_result *result, const tdm_verdict *verdicts,
                          const tdm_style *style, FILE *file);
/* The tables of communication and memory. */
void tdm_report_communication(tdm_arena *arena, const tdm_result *result, const tdm_style *style,
                              FILE *file);
void tdm_report_memory(tdm_arena *arena, const tdm_result *result, const tdm_style *style,
                       FILE *file);
/* What routing costs: of plans with experts. */
void tdm_report_routing(tdm_arena *arena, const tdm_result *result, const tdm_style *style,
                        FILE *file);
/* The steps that were carried out: of runs on a device. */
void tdm_report_run(tdm_arena *arena, const tdm_result *result, const tdm_style *style, FILE *file);
/* A count with blanks between groups of three digits: "89 553". */
const char *tdm_report_count(tdm_arena *arena, double value);
/* A figure of that unit, as the checklist has it: "58.5 GB", "40.2 %"; digits behind the point. */
const char *tdm_report_value(tdm_arena *arena, double value, const char *unit, int digits);
/* figure,value,unit: one row per scalar figure. */
void tdm_report_csv(const tdm_result *result, FILE *file);

#endif
