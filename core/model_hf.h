/* model_hf.h: models as Hugging Face's config.json describes them. The file becomes a map of our
 * own keys whose nodes stand where the file has them, so that everything after it, overrides and
 * late messages included, is the same as for a model of our own. */
#ifndef TDM_MODEL_HF_H
#define TDM_MODEL_HF_H

#include "model_load.h"

/* Reads a model's file, ours or Hugging Face's, into a map of our keys. *name: what to call the
 * model when the map does not say: the file's stem, for config.json its folder. `notes` collects
 * lines about what is ignored; may be NULL. */
tdm_code tdm_model_document(tdm_arena *arena, const char *path, tdm_node **map, const char **name,
                            tdm_error *notes, tdm_error *err);

/* The map of our keys that a config.json comes to. Reports every mistake, at the file's own keys.
 */
tdm_code tdm_model_hf_convert(tdm_arena *arena, tdm_node *config, tdm_node **map, tdm_error *notes,
                              tdm_error *err);

#endif
