/* model_hf_parts.h: what the files that read config.json share. Private to them. */
#ifndef TDM_MODEL_HF_PARTS_H
#define TDM_MODEL_HF_PARTS_H

#include "model_hf.h"

/* A key of config.json that means one of ours. */
typedef struct tdm_hf_key {
    const char *names;  /* spellings, separated by blanks; NULL ends a table */
    const char *native; /* our key, whose field says which values are accepted */
    bool needed;
} tdm_hf_key;

/* What a model_type means. All are gated, with RMS norms and rotary positions. */
typedef struct tdm_hf_family {
    const char *model_type;     /* NULL ends the table */
    const char *refusal;        /* why it is not accepted; NULL: it is */
    const tdm_hf_key *keys;     /* besides the common ones */
    bool has_biases;            /* in all linear layers, router and experts included */
    bool has_qkv_biases;        /* of query, key and value */
    bool has_qk_norms;          /* of query and key */
    bool has_sinks;             /* in the softmax */
    bool has_windows;           /* unless use_sliding_window says otherwise */
    bool has_mlp_bias;          /* a key mlp_bias */
    bool has_sparse_step;       /* keys decoder_sparse_step and mlp_only_layers */
    const char *dense_width;    /* key of the MLP's width in layers without experts */
    const char *shared_experts; /* key of their number */
} tdm_hf_family;

extern const tdm_hf_key tdm_hf_common_keys[];
extern const tdm_hf_family tdm_hf_families[];
/* Keys that say nothing about size or cost, sorted; and those that other code here reads. */
extern const char *const tdm_hf_idle_keys[];
extern const size_t tdm_hf_n_idle_keys;

/* State of reading one file. */
typedef struct tdm_hf_reader {
    tdm_arena *arena;
    const tdm_node *config;
    tdm_node *map; /* what comes out */
    const tdm_hf_family *family;
    tdm_error *notes, *err; /* never NULL */
} tdm_hf_reader;

/* The value of a key; NULL when it is absent or null. */
const tdm_node *tdm_hf_get(const tdm_hf_reader *reader, const char *key);
/* Reads a whole number or a truth value. What is absent leaves *value as it is and is no mistake;
 * false after a message. */
bool tdm_hf_number(tdm_hf_reader *reader, const char *key, uint32_t min, uint32_t max,
                   uint32_t *value);
bool tdm_hf_flag(tdm_hf_reader *reader, const char *key, bool *value);
/* Adds our key to the map, at the place of a node of the file. */
void tdm_hf_put(tdm_hf_reader *reader, const char *native, const tdm_node *place, const char *text);

/* model_hf_layers.c: which layers have windows, experts, shared experts. */
void tdm_hf_read_windows(tdm_hf_reader *reader);
void tdm_hf_read_expert_layers(tdm_hf_reader *reader);

#endif
