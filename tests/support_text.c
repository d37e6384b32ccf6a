/* support_text.c: plans as text in memory. */
#include "tests/support_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

support_text support_write(const tdm_plan *plan)
{
    support_text out = {0};
    FILE *file = open_memstream(&out.bytes, &out.length);
    assert_non_null(file);
    assert_int_equal(tdm_plan_write(plan, file, NULL), TDM_OK);
    fclose(file);
    return out;
}

tdm_code support_parse(tdm_arena *arena, const char *bytes, size_t length, tdm_plan *plan,
                       tdm_error *err)
{
    *err = (tdm_error){0};
    return tdm_plan_parse(arena, "p.txt", bytes, length, plan, err);
}

tdm_plan support_read(tdm_arena *arena, const char *bytes, size_t length)
{
    tdm_plan plan = {0};
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    if (support_parse(arena, bytes, length, &plan, err) != TDM_OK)
        fail_msg("%s", err->text);
    return plan;
}

const char support_text_base[] =
    "tandem-plan 1\n" /* 1 */
    "# by hand\n"     /* 2 */
    "plan schedule=1f1b name=hand train=yes pass_times=no send_s=0.5 micro_batch_size=2 "
    "seq_length=8 num_microbatches=2\n" /* 3 */
    "model name=tiny num_layers=2 hidden_size=4 num_attention_heads=2 num_query_groups=2 "
    "kv_channels=2 ffn_hidden_size=8 num_experts=4 moe_router_topk=1 moe_ffn_hidden_size=8 "
    "vocab_size=16 max_position_embeddings=8 swiglu=no add_bias_linear=no "
    "untie_embeddings=yes norm=rms position=rope attention=fused hidden_dropout=0 "
    "attention_dropout=0.1\n"                                                      /* 4 */
    "training dtype=bf16 grad_dtype=fp32 recompute=none clip_grad=1e0 train=yes\n" /* 5 */
    "parallel tp=2 cp=1 ep=2 etp=1 dp=1 pp=1 vpp=1 sequence_parallel=no "
    "distributed_optimizer=no\n"                                                        /* 6 */
    "routing model=balanced seed=7\n"                                                   /* 7 */
    "mesh tp=2 cp=1 dp=1 pp=1 ep=2 etp=1 edp=1 world=2\n"                               /* 8 */
    "\n"                                                                                /* 9 */
    "kind layer\n"                                                                      /* 10 */
    "  param w count=32 expert=yes\n"                                                   /* 11 */
    "  slot x class=activation bytes=64\n"                                              /* 12 */
    "  slot y class=comm bytes=16+8/token\n"                                            /* 13 */
    "  pass F\n"                                                                        /* 14 */
    "    gemm up m=8 n=4 k=4 dtype=bf16 on=compute wait=ep,tp@pass~1 read=x write=+y\n" /* 15 */
    "    all-to-all out group=ep token_bytes=8 direction=dispatch dtype=bf16 on=ep "
    "wait=compute read=-y write=+next.x\n"                                     /* 16 */
    "  pass BW\n"                                                              /* 17 */
    "    timed back pass=W seconds=0.25 on=compute dtype=bf16 recompute=yes\n" /* 18 */
    "kind end-of-stage\n"                                                      /* 19 */
    "  slot x class=activation bytes=64\n"                                     /* 20 */
    "role stage=0 ranks=0-1\n"                                                 /* 21 */
    "  chunk virtual_stage=0\n"                                                /* 22 */
    "    block layer count=2 first_layer=0\n"                                  /* 23 */
    "    block end-of-stage count=1 first_layer=0\n"                           /* 24 */
    "  passes F0 BW0 F1 BW1 O\n"                                               /* 25 */
    "  pass O\n"                                                               /* 26 */
    "    memory adam bytes=512 dtype=fp32 on=compute\n"                        /* 27 */
    "routing-table replicas=1 layers=2 microbatches=2 ep=2 experts=4\n"        /* 28 */
    "  row 0/0/0 x3 sent 4*2 experts 4*2\n"                                    /* 29 */
    "  row 0/1/1 sent 1 3 2 2 experts 2 1 3 2\n"                               /* 30 */
    "end\n";                                                                   /* 31 */
