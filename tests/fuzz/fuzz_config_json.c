/* fuzz_config_json.c: any bytes as Hugging Face's config.json: either a model comes of it, or it is
 * refused with messages and nothing else. */
#include "core/model_hf.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

static void require(bool condition, const char *text)
{
    if (condition)
        return;
    fprintf(stderr, "%s\n", text);
    abort();
}

static void check_model(const tdm_model *m)
{
    require(m->num_layers > 0 && m->hidden_size > 0 && m->num_attention_heads > 0 &&
                m->num_query_groups > 0 && m->num_attention_heads % m->num_query_groups == 0 &&
                m->kv_channels > 0 && m->vocab_size > 0,
            "a model without a size");
    require(m->num_experts == 0 || (m->moe_router_topk > 0 && m->moe_router_topk <= m->num_experts),
            "more choices than experts");
    require(tdm_model_active_params(m) <= tdm_model_params(m),
            "more active parameters than there are");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/tandem-fuzz-%ld-config.json", (long)getpid());
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, n_bytes, file) != n_bytes || fclose(file) != 0)
        abort();
    tdm_arena arena = {0};
    tdm_node *map = NULL;
    const char *name = NULL;
    tdm_model model = {0};
    tdm_error *notes = TDM_ALLOC(&arena, tdm_error, 1), *err = TDM_ALLOC(&arena, tdm_error, 1);
    tdm_code code = tdm_model_document(&arena, path, &map, &name, notes, err);
    if (code == TDM_OK)
        code = tdm_model_read(&arena, map, name, &model, err);
    require((code == TDM_OK) == (err->n_messages == 0), "code and messages differ");
    if (code == TDM_OK)
        check_model(&model);
    tdm_arena_free(&arena);
    unlink(path);
    return 0;
}
