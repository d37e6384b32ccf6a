/* schema.h: what a document may hold, as static const tables, and the loader that reads by them.
 * The loader reports every mistake, not the first one, as `path:line:column: key: value: what is
 * accepted`. */
#ifndef TDM_SCHEMA_H
#define TDM_SCHEMA_H

#include "device.h"
#include "doc.h"
#include "units.h"

typedef enum tdm_field_type {
    TDM_FIELD_TEXT,   /* const char *: never empty */
    TDM_FIELD_BOOL,   /* bool: true, false */
    TDM_FIELD_UINT32, /* uint32_t within [min, max] */
    TDM_FIELD_UINT64, /* uint64_t within [min, max]; at most 2^53 */
    TDM_FIELD_NUMBER, /* double in `unit` within [min, max] */
    TDM_FIELD_BYTES,  /* uint64_t: a size with its unit, within [min, max]; at most 2^53 */
    TDM_FIELD_CHOICE, /* int: one of `choices` */
    TDM_FIELD_VALUE,  /* tdm_value: {value: QUANTITY, source: TEXT, grade:
                       * measured|published|datasheet|guess}, or  QUANTITY alone below a map whose
                       * own  `source` and `grade` hold for all its numbers */
    TDM_FIELD_MAP,    /* a struct read by `fields` */
    TDM_FIELD_LIST,   /* tdm_list of structs of item_bytes, each read by `fields` */
    TDM_FIELD_NODE,   /* const tdm_node *: any shape, the caller reads it */
} tdm_field_type;

/* A name for a value of an enum. Several names may have one value; hidden ones are accepted but not
 * listed. */
typedef struct tdm_choice {
    const char *name;
    int value;
    bool hidden;
} tdm_choice;

/* measured, published, datasheet, guess: values of tdm_grade. */
extern const tdm_choice tdm_grade_choices[];

typedef struct tdm_field tdm_field;
struct tdm_field {
    const char *key;     /* canonical, with underscores; NULL ends a table */
    const char *aliases; /* other accepted spellings, separated by blanks; NULL: none */
    tdm_field_type type;
    size_t offset; /* in the destination struct */
    bool required;
    tdm_unit unit;             /* NUMBER, VALUE */
    double min, max;           /* inclusive; max 0: no upper limit */
    bool positive;             /* NUMBER, VALUE: 0 is refused too */
    const tdm_choice *choices; /* ends with name NULL */
    const tdm_field
        *fields;       /* MAP, LIST; NODE: what a map there is read by, for --set and suggestions */
    size_t item_bytes; /* LIST */
    const char *doc;   /* one line for people */
};

typedef struct tdm_list {
    void *items;
    uint32_t n_items;
} tdm_list;

/* Reads `map` into the struct at `out`. Fields that are absent keep what `out` holds, so fill in
 * the defaults first. Keys of the tree are renamed to their canonical spelling. On failure `out` is
 * partly written: the mistakes are in err. The struct's texts live in the arena or in the tree.
 * Nodes with mistakes are marked faulty, and so are the maps around them. */
tdm_code tdm_schema_load(tdm_arena *arena, const tdm_field *fields, tdm_node *map, void *out,
                         tdm_error *err);

/* Reads one scalar as a field of the given type would be (TEXT to CHOICE), into `out` itself
 * (offset ignored). */
tdm_code tdm_schema_scalar(tdm_arena *arena, const tdm_field *field, const tdm_node *node,
                           void *out, tdm_error *err);

/* Applies "a.b.c=value" to the tree: keys may be aliases, and replace whichever spelling the tree
 * has. A single key that only one of the maps below knows is set there: "num_microbatches=4" is
 * "schedule.num_microbatches=4". */
tdm_code tdm_schema_set(tdm_arena *arena, const tdm_field *fields, tdm_node *root,
                        const char *assignment, tdm_error *err);

/* A key as assignments take it ("pp") in canonical spelling
 * ("parallel.pipeline_model_parallel_size"), and a short name for tables: the last part or a much
 * shorter spelling of it, or the section where the last part is just `name` or `model`. `mark`
 * opens the message about a key that is unknown. */
tdm_code tdm_schema_key(tdm_arena *arena, const tdm_field *fields, const char *key,
                        const char *mark, const char **canonical, const char **brief,
                        tdm_error *err);

/* The field that a key names, by canonical key or alias, dashes taken as underscores; NULL for
 * none. */
const tdm_field *tdm_schema_find(const tdm_field *fields, const char *key);

/* The candidate nearest to `text` when it is near enough to be a slip of the pen, else NULL. */
const char *tdm_suggest(const char *text, const char *const *candidates, size_t n_candidates);

#endif
