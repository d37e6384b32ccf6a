/* plan_format.h: what the writer and the reader of plan text share: the keys of each line, as
 * tables of fields. A line of plan text is a word or two and then key=value pairs; a table says
 * which keys, in which order, of which type and where in the struct, so the two sides cannot drift
 * apart. Private to plan_write.c and plan_read*.c. */
#ifndef TDM_PLAN_FORMAT_H
#define TDM_PLAN_FORMAT_H

#include "plan.h"

typedef enum tdm_text_type {
    TDM_TEXT_U32,
    TDM_TEXT_U64,
    TDM_TEXT_BOOL, /* yes, no */
    TDM_TEXT_REAL, /* %.17g: reads back to the same double */
    TDM_TEXT_ENUM,
    TDM_TEXT_SIZE, /* 4096, 32/token, 4096+32/token */
    TDM_TEXT_STRING,
} tdm_text_type;

/* The names of an enum's values 0 .. n - 1. */
typedef struct tdm_text_names {
    const char *(*name)(unsigned value);
    unsigned n;
} tdm_text_names;

typedef struct tdm_text_field {
    const char *key; /* NULL ends a table */
    tdm_text_type type;
    size_t offset;
    const tdm_text_names *names; /* of an ENUM */
    bool optional; /* left out when it has the value `fallback`; not for SIZE, STRING */
    unsigned fallback;
} tdm_text_field;

/* A line of the header: its first word and the fields, offsets within tdm_plan. */
typedef struct tdm_text_section {
    const char *word; /* NULL ends the list */
    const tdm_text_field *fields;
    bool model; /* left out of plans of pass times */
} tdm_text_section;

#define TDM_PLAN_TEXT_MAGIC "tandem-plan 1"

extern const tdm_text_section tdm_text_sections[];
extern const tdm_text_field tdm_text_slot_fields[];  /* within tdm_slot, name aside */
extern const tdm_text_field tdm_text_param_fields[]; /* within tdm_param, name aside */
extern const tdm_text_field tdm_text_block_fields[]; /* within tdm_block, kind aside */
extern const tdm_text_field tdm_text_chunk_fields[]; /* within tdm_chunk */
extern const tdm_text_field tdm_text_op_fields[]; /* within tdm_op: those of every kind but pass */
extern const tdm_text_field tdm_text_routing_fields[]; /* within tdm_routing_table */

extern const tdm_text_names tdm_text_streams, tdm_text_passes, tdm_text_op_kinds;

/* The fields of an op's shape, within tdm_op. */
const tdm_text_field *tdm_text_shape_fields(tdm_op_kind kind);

/* What an op of this template counts as when its line does not say: B in BW, else the template's
 * own pass. */
tdm_pass_kind tdm_text_default_pass(tdm_pass_kind template_kind);

#endif
