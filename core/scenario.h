/* scenario.h: one resolved question: which model, split how, scheduled how, on which machine.
 * Loading (scenario_load.c) reads YAML; everything after it sees only this struct. */
#ifndef TDM_SCENARIO_H
#define TDM_SCENARIO_H

#include "core/nccl/settings.h"
#include "perturbation.h"

typedef struct tdm_parallel {
    uint32_t tp, cp, ep, etp, dp,
        pp;       /* sizes; dp is derived from the world when the scenario is silent */
    uint32_t vpp; /* chunks of layers per pipeline stage */
    bool sequence_parallel;
    bool distributed_optimizer; /* ZeRO-1 */
} tdm_parallel;

typedef enum tdm_recompute {
    TDM_RECOMPUTE_NONE,
    TDM_RECOMPUTE_SELECTIVE,
    TDM_RECOMPUTE_FULL
} tdm_recompute;

typedef struct tdm_training {
    tdm_dtype dtype;      /* of weights and activations */
    tdm_dtype grad_dtype; /* of accumulated gradients and their reduction */
    tdm_recompute recompute;
    double clip_grad; /* 0: no global gradient norm */
    bool train;       /* false: forward-only, no gradients, no optimizer */
} tdm_training;

typedef enum tdm_routing_model {
    TDM_ROUTING_UNIFORM,   /* every token draws its experts at random, all equally likely */
    TDM_ROUTING_BALANCED,  /* every expert gets exactly its share */
    TDM_ROUTING_ZIPF,      /* the i-th most popular expert of a layer has weight i^-exponent */
    TDM_ROUTING_DIRICHLET, /* each layer's popularity is drawn from a symmetric Dirichlet */
    TDM_ROUTING_HOT,       /* one expert has a given share, the others are alike */
    TDM_ROUTING_RECORDED,  /* popularity as a file says */
    TDM_N_ROUTING_MODELS
} tdm_routing_model;

/* Weights of the experts of each layer as read from a file (routing_csv.h). */
typedef struct tdm_routing_record {
    const char *path; /* as it was opened */
    uint32_t n_layers, n_experts;
    const double *weights; /* [layer][expert], at least 0 */
} tdm_routing_record;

typedef struct tdm_routing {
    tdm_routing_model model;
    uint64_t seed;
    double exponent;        /* zipf */
    double concentration;   /* dirichlet: large is even, small is skewed */
    uint32_t hot_expert;    /* hot: which one, in every layer */
    double hot_share;       /* hot: its probability in a token's first choice */
    double capacity_factor; /* an expert takes at most this times its even share of a microbatch of
                             * one replica, in token order; 0: all */
    const tdm_routing_record *record; /* recorded; NULL in plans read back from text */
    bool pad_to_capacity; /* every rank sends each expert its capacity of rows; that counts the
                           * tokens of one rank then, see tdm_routing_capacity */
} tdm_routing;

/* Times of the passes of one stage, for scenarios without a model. Arrays are [pp]. */
typedef struct tdm_pass_times {
    bool given;
    const double *forward_s;
    const double *backward_input_s;
    const double *backward_weight_s;
    double send_s;     /* one transfer between neighbouring stages */
    double kept_share; /* of a forward's activations, how much stays from B until W */
} tdm_pass_times;

/* A threshold on one figure. */
typedef struct tdm_target {
    const char *figure; /* name of a figure, figures.h */
    bool is_maximum;    /* true: the figure must stay at or below the threshold */
    double threshold;   /* in the figure's unit */
    const char *label;  /* what the report calls it; never NULL */
} tdm_target;

/* A variable of NCCL as the scenario gives it, with its prefix: "NCCL_ALGO". */
typedef struct tdm_nccl_given {
    const char *name, *value;
} tdm_nccl_given;

typedef struct tdm_scenario {
    const char *name; /* the file's name without folder and .yaml */
    const char *path;
    tdm_model model;       /* unused when pass_times.given */
    tdm_topology topology; /* for pass times: pp GPUs without device */
    tdm_device device;
    tdm_parallel parallel;
    tdm_training training;
    const char *schedule;                    /* name in the registry, schedule.h */
    const struct tdm_pass_table *pass_table; /* schedule csv: the order as read, else NULL */
    const char *csv_path;                    /* its file, from the working folder */
    uint32_t activation_limit;    /* schedule auto: microbatches a stage may hold; 0: its default */
    const uint32_t *stage_layers; /* [pp * vpp] layers of each virtual stage; NULL: all alike */
    uint32_t num_microbatches;
    uint32_t micro_batch_size;
    uint32_t seq_length;
    tdm_routing routing;
    tdm_pass_times pass_times;
    uint64_t memory_limit_bytes; /* 0: the device's memory */
    const tdm_target *targets;
    uint32_t n_targets;
    const char *notes;             /* lines on what the files say and is not modelled; NULL: none */
    tdm_perturbation perturbation; /* how the machine differs from its files */
    tdm_nccl_settings nccl;        /* NCCL's defaults, changed by: */
    const tdm_nccl_given *nccl_given; /* [n_nccl_given] */
    uint32_t n_nccl_given;
    uint32_t nodes; /* of the topology, where the scenario says so; 0: the topology's own */
    const struct tdm_node *document; /* the tree it was read from, doc.h; NULL when built by hand */
} tdm_scenario;

/* Reads a scenario and the files it names, applies `--set` assignments ("a.b=value", [n_sets]),
 * checks everything it can and reports every mistake at once as file:line:column messages in err.
 * root is the folder that holds scenarios/ and topologies/. */
tdm_code tdm_scenario_load(tdm_arena *arena, const char *root, const char *path,
                           const char *const *sets, size_t n_sets, tdm_scenario *scenario,
                           tdm_error *err);

/* Adds a message about one key ("parallel.pipeline_model_parallel_size") with the place where the
 * user wrote it, also long after loading; returns TDM_E_INVALID. */
tdm_code tdm_scenario_error(const tdm_scenario *scenario, const char *key, tdm_error *err,
                            const char *format, ...) __attribute__((format(printf, 4, 5)));

/* A key as `--set` takes it ("pp") in canonical spelling ("parallel.pipeline_model_parallel_size"),
 * and a short name for tables. `mark` opens the message about an unknown key. */
tdm_code tdm_scenario_key(tdm_arena *arena, const char *key, const char *mark,
                          const char **canonical, const char **brief, tdm_error *err);

const char *tdm_routing_model_name(tdm_routing_model model); /* "uniform", "balanced" ... */
const char *tdm_recompute_name(tdm_recompute recompute);     /* "none", "selective", "full" */

#endif
