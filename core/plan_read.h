/* plan_read.h: what the parts of the plan reader share. Private to plan_read*.c.
 * Each function starts with the first word of its line in text.word and leaves that of the line
 * after its part there. */
#ifndef TDM_PLAN_READ_H
#define TDM_PLAN_READ_H

#include "plan_token.h"

/* Bounds of what is accepted, far above any real plan: the first five keep look-ups short and
 * indices in range, the others bound what walking a plan can cost. */
enum {
    TDM_READ_MAX_KINDS = 1024,
    TDM_READ_MAX_SLOTS = 1024, /* of one kind; parameters too */
    TDM_READ_MAX_OPS = 65536,  /* of one template */
    TDM_READ_MAX_ROLES = 65535,
    TDM_READ_MAX_CHUNKS = 64,       /* of one role; blocks of a chunk: as many as positions */
    TDM_READ_MAX_POSITIONS = 65536, /* of one chunk */
    TDM_READ_MAX_MICROBATCHES = 1 << 20,
    TDM_READ_MAX_RANKS = 1 << 20,
    TDM_READ_MAX_COUNTS = 1 << 28, /* numbers in the routing table */
};

/* What blocks of a kind ask of their surroundings. */
typedef struct tdm_kind_needs {
    uint32_t next_slots; /* so many slots of the following position; 0: none may follow */
    bool tokens;         /* sizes or products by token: its layers must be in the routing table */
    bool exchange;       /* all-to-all: there must be a routing table */
} tdm_kind_needs;

typedef struct tdm_plan_reader {
    tdm_text_reader text;
    tdm_plan *plan;
    tdm_kind *kinds;
    tdm_kind_needs *needs; /* [n_kinds] */
    uint32_t n_kinds, kinds_room;
    tdm_role *roles;
    uint32_t n_roles, roles_room;
    uint16_t *role_of; /* [world], UINT16_MAX: none yet */
    uint32_t n_layers; /* so many layers the routing table must have */
    bool exchange;
} tdm_plan_reader;

/* Room for one more element: returns items, or a copy of twice the room. */
void *tdm_read_grow(tdm_arena *arena, void *items, uint32_t n, uint32_t *room, size_t size)
    __attribute__((returns_nonnull));
#define TDM_READ_GROW(arena, items, n, room)                                                       \
    ((items) = tdm_read_grow((arena), (items), (n), (room), sizeof *(items)))

bool tdm_read_kind(tdm_plan_reader *reader);
/* Ops up to the next word that opens something else. kind: NULL in the O pass. */
bool tdm_read_template(tdm_plan_reader *reader, const tdm_kind *kind, tdm_kind_needs *needs,
                       tdm_pass_kind pass, tdm_template *template);
bool tdm_read_role(tdm_plan_reader *reader);
bool tdm_read_routing(tdm_plan_reader *reader);

#endif
