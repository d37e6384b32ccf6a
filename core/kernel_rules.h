/* kernel_rules.h: which class a kernel of a foreign trace belongs to, by rules in a YAML file
 * (rules/kineto.yaml): the first rule that fits wins. */
#ifndef TDM_KERNEL_RULES_H
#define TDM_KERNEL_RULES_H

#include "mesh.h"
#include "op_class.h"

typedef struct tdm_kernel_rule {
    const char *const *names; /* [n_names] patterns of the kernel's name; none: any */
    size_t n_names;
    const char *const *collectives; /* [n_collectives] patterns of the collective's name */
    size_t n_collectives;
    bool ignored; /* no kernel of the step: left out */
    tdm_op_class class_;
} tdm_kernel_rule;

/* Process groups by name or description. */
typedef struct tdm_group_rule {
    const char *const *names;
    size_t n_names;
    tdm_group_kind group;
} tdm_group_rule;

typedef struct tdm_kernel_rules {
    const tdm_kernel_rule *rules;
    size_t n_rules;
    const tdm_group_rule *groups;
    size_t n_groups;
} tdm_kernel_rules;

/* Reads the file; everything wrong with it is reported at once. */
tdm_code tdm_kernel_rules_load(tdm_arena *arena, const char *path, tdm_kernel_rules *rules,
                               tdm_error *err);

/* collective: the name of the collective that the trace gives with the kernel, "" for none. The
 * rule that fits, or NULL. */
const tdm_kernel_rule *tdm_kernel_rule_for(const tdm_kernel_rules *rules, const char *name,
                                           const char *collective);
/* The group kind of a process group, by our own names or else by rule; TDM_N_GROUP_KINDS when no
 * rule knows it. */
tdm_group_kind tdm_kernel_group(const tdm_kernel_rules *rules, const char *name);

/* Whether a text fits a pattern of letters, compared without regard to case, and `*` for any
 * number of characters. */
bool tdm_kernel_pattern_fits(const char *pattern, const char *text);

#endif
