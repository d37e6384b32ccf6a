/* model_load.h: reads a model from YAML. Keys are Megatron's flags; a key left out has Megatron's
 * default. Source: Megatron-LM, megatron/training/arguments.py. */
#ifndef TDM_MODEL_LOAD_H
#define TDM_MODEL_LOAD_H

#include "schema.h"

/* What a model map may hold; reads into a tdm_model_source. The first key, `base`, is for
 * scenarios: the model whose values hold where the map is silent. */
extern const tdm_field tdm_model_fields[];

/* A model as written, before defaults that depend on other keys. */
typedef struct tdm_model_source {
    const char *base, *hf;
    const char *description;
    const char *source;
    int softmax; /* 1: learnable */
    tdm_model model;
} tdm_model_source;

/* Reads a map without `base`, fills in the defaults and checks that the numbers go together. `name`
 * is the model's name when the map gives none. */
tdm_code tdm_model_read(tdm_arena *arena, tdm_node *map, const char *name, tdm_model *model,
                        tdm_error *err);

/* Reads scenarios/models/NAME.yaml. */
tdm_code tdm_model_load(tdm_arena *arena, const char *path, tdm_model *model, tdm_error *err);

#endif
