/* sensitivity_report.c: the ranking for people and for programs. */
#include "report.h"
#include "sensitivity.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { MOST_ROWS = 8 }; /* of one kind */

static uint32_t stage_of(const tdm_result *result, uint32_t gpu)
{
    return gpu / result->step.plan.mesh.per_stage;
}

/* "1", or "0-1" for what several stages share. */
static const char *stages_of(tdm_arena *arena, const tdm_result *result, const tdm_slowed *item)
{
    uint32_t first = stage_of(result, item->first), last = stage_of(result, item->last);
    return first == last ? tdm_arena_printf(arena, "%u", first)
                         : tdm_arena_printf(arena, "%u-%u", first, last);
}

/* Rows of one kind whose effect is the same to nine digits are one row. */
static uint32_t count_alike(const tdm_sensitivity *s, uint32_t i)
{
    const tdm_slowed *item = &s->items[i];
    uint32_t n = 1;
    while (i + n < s->n && item->kind != TDM_SLOWED_CLASS && s->items[i + n].kind == item->kind &&
           item->level - s->items[i + n].level <= 1)
        n++;
    return n;
}

static void add_row(tdm_arena *arena, const tdm_result *result, const tdm_slowed *item,
                    uint32_t n_alike, tdm_table *table)
{
    double before_s = result->step.figures.step_time_s;
    int digits = before_s < 0.1 ? 4 : 2;
    if (n_alike > 1)
        tdm_table_cell(table, "%s (+%u alike)", item->name, n_alike - 1);
    else
        tdm_table_cell(table, "%s", item->name);
    tdm_table_cell(table, "%s", n_alike > 1 ? "" : stages_of(arena, result, item));
    tdm_table_cell(table, "%.*f", digits, 1e3 * item->step_s);
    tdm_table_cell(table, "%+.*f", digits, 1e3 * item->change_s);
    tdm_table_cell(table, "%+.2f", before_s > 0 ? 100 * item->change_s / before_s : 0);
    tdm_table_cell(table, "%.3f", item->elasticity);
}

static void print_table(tdm_arena *arena, const tdm_result *result, const tdm_sensitivity *s,
                        const tdm_style *style, FILE *file)
{
    static const char *const heads[] = {"slower",    "stage",    "step ms",
                                        "change ms", "change %", "elasticity"};
    tdm_table table = {.arena = arena, .n_left = 2};
    uint32_t n_rows[TDM_SLOWED_CLASS + 1] = {0}, n_left = 0;
    for (size_t h = 0; h < TDM_COUNT(heads); h++)
        tdm_table_head(&table, heads[h]);
    for (uint32_t i = 0, n; i < s->n; i += n) {
        n = count_alike(s, i);
        if (n_rows[s->items[i].kind]++ < MOST_ROWS)
            add_row(arena, result, &s->items[i], n, &table);
        else
            n_left += n;
    }
    tdm_table_print(&table, style, file);
    if (n_left > 0)
        fprintf(file, "  %u more, none above its like (--format csv has all)\n", n_left);
}

/* ---- why ---- */

/* Kernels of a GPU, of a stage's busiest one. */
static double busy_s(const tdm_result *result, const tdm_slowed *item)
{
    const tdm_figures *f = &result->step.figures;
    double most = 0;
    for (uint32_t r = item->first; r <= item->last; r++)
        most = fmax(most, f->ranks[r].compute_busy_s);
    return most;
}

static double microbatch_s(const tdm_figures *f, uint32_t stage)
{
    const double *pass_s = f->stages[stage].pass_s;
    return pass_s[0] + pass_s[1] + pass_s[2];
}

/* How the stage's passes stand to those of the others. */
static const char *compare_stages(tdm_arena *arena, const tdm_figures *f, uint32_t stage)
{
    double own_s = microbatch_s(f, stage), most_s = 0;
    for (uint32_t i = 0; i < f->n_stages; i++)
        if (i != stage)
            most_s = fmax(most_s, microbatch_s(f, i));
    if (f->n_stages < 2)
        return "";
    return tdm_arena_printf(
        arena, " A microbatch takes %.4g ms on stage %u, %s %.4g ms on the others.", 1e3 * own_s,
        stage, own_s >= most_s ? "at most" : "up to", 1e3 * most_s);
}

static const char *explain_compute(tdm_arena *arena, const tdm_result *result,
                                   const tdm_sensitivity *s, const tdm_slowed *item)
{
    double lost_s = s->slowing * busy_s(result, item);
    return tdm_arena_printf(
        arena,
        "its kernels take %.4g ms of the step; of the %.3g ms that they lose, %.0f %% are on "
        "the critical path.%s",
        1e3 * lost_s / s->slowing, 1e3 * lost_s, lost_s > 0 ? 100 * item->change_s / lost_s : 0,
        compare_stages(arena, &result->step.figures, stage_of(result, item->first)));
}

static const char *explain_link(tdm_arena *arena, const tdm_result *result, const tdm_slowed *item)
{
    const tdm_waterfall *w = &result->step.figures.ranks[item->first].waterfall;
    double exposed_s = w->exposed_transfer_s + w->optimizer_transfer_s;
    double share = 100 * exposed_s / result->step.figures.step_time_s;
    if (item->first == item->last)
        return tdm_arena_printf(arena,
                                "all that GPU %u sends or receives there; it waits for transfers, "
                                "computing nothing, for %.1f %% of the step.",
                                item->first, share);
    return tdm_arena_printf(arena,
                            "it carries what GPUs %u to %u exchange with others; GPU %u waits for "
                            "transfers, computing nothing, for %.1f %% of the step.",
                            item->first, item->last, item->first, share);
}

static const char *explain(tdm_arena *arena, const tdm_result *result, const tdm_sensitivity *s,
                           tdm_slowed_kind kind)
{
    const tdm_slowed *item = tdm_sensitivity_worst(s, kind);
    if (!item)
        return NULL;
    if (item->change_s <= 0)
        return tdm_arena_printf(arena, "No %s alone lengthens the step.",
                                kind == TDM_SLOWED_GPU ? "GPU" : tdm_slowed_kind_name(kind));
    const char *why = kind == TDM_SLOWED_LINK ? explain_link(arena, result, item)
                                              : explain_compute(arena, result, s, item);
    uint32_t n = count_alike(s, (uint32_t)(item - s->items));
    const char *alike = n > 1 ? tdm_arena_printf(arena, " (+%u alike)", n - 1) : "";
    const char *where = kind == TDM_SLOWED_STAGE
                            ? ""
                            : tdm_arena_printf(arena, ", stage %s", stages_of(arena, result, item));
    return tdm_arena_printf(arena, "%s%s%s: %+.3g ms; %s", item->name, alike, where,
                            1e3 * item->change_s, why);
}

void tdm_sensitivity_report(tdm_arena *arena, const tdm_result *result, const tdm_sensitivity *s,
                            const tdm_style *style, FILE *file)
{
    static const tdm_slowed_kind kinds[] = {TDM_SLOWED_GPU, TDM_SLOWED_STAGE, TDM_SLOWED_LINK};
    tdm_report_header(arena, result, style, file);
    tdm_style_heading(
        style, file,
        tdm_arena_printf(arena, "Step: %.2f ms; each alone %.3g %% slower",
                         1e3 * result->step.figures.step_time_s, 100 * s->slowing),
        tdm_arena_printf(arena, "(%u predictions by engine %s)", s->n, result->engine));
    print_table(arena, result, s, style, file);
    if (s->gpu_stride > 1)
        fprintf(
            file,
            "  Of the GPUs and their ports one in %u was slowed, and those that are perturbed.\n",
            s->gpu_stride);
    tdm_style_heading(style, file, "Hurts most", "");
    for (size_t i = 0; i < TDM_COUNT(kinds); i++) {
        const char *text = explain(arena, result, s, kinds[i]);
        if (text)
            tdm_style_wrap(file, 2, text);
        if (text && style->markdown)
            fputc('\n', file);
    }
}

/* ---- for programs ---- */

static json_t *item_json(const tdm_result *result, const tdm_slowed *item)
{
    json_t *o = json_object();
    json_object_set_new(o, "kind", json_string(tdm_slowed_kind_name(item->kind)));
    json_object_set_new(o, "name", json_string(item->name));
    json_object_set_new(o, "first_stage", json_integer(stage_of(result, item->first)));
    json_object_set_new(o, "last_stage", json_integer(stage_of(result, item->last)));
    json_object_set_new(o, "step_time_s", json_real(item->step_s));
    json_object_set_new(o, "change_s", json_real(item->change_s));
    json_object_set_new(o, "elasticity", json_real(item->elasticity));
    return o;
}

char *tdm_sensitivity_json(tdm_arena *arena, const tdm_result *result, const tdm_sensitivity *s)
{
    static const tdm_slowed_kind kinds[] = {TDM_SLOWED_GPU, TDM_SLOWED_STAGE, TDM_SLOWED_LINK};
    json_t *document = json_object(), *items = json_array(), *worst = json_object();
    json_object_set_new(document, "schema_version", json_integer(1));
    json_object_set_new(document, "scenario", json_string(result->scenario.path));
    json_object_set_new(document, "engine", json_string(result->engine));
    json_object_set_new(document, "slowing", json_real(s->slowing));
    json_object_set_new(document, "step_time_s", json_real(result->step.figures.step_time_s));
    json_object_set_new(document, "gpu_stride", json_integer(s->gpu_stride));
    for (uint32_t i = 0; i < s->n; i++)
        json_array_append_new(items, item_json(result, &s->items[i]));
    json_object_set_new(document, "items", items);
    for (size_t i = 0; i < TDM_COUNT(kinds); i++) {
        const tdm_slowed *item = tdm_sensitivity_worst(s, kinds[i]);
        json_t *o = item ? item_json(result, item) : json_null();
        if (item)
            json_object_set_new(o, "why", json_string(explain(arena, result, s, kinds[i])));
        json_object_set_new(worst, tdm_slowed_kind_name(kinds[i]), o);
    }
    json_object_set_new(document, "worst", worst);
    char *text = tdm_output_json_text(document);
    json_decref(document);
    return text;
}

void tdm_sensitivity_csv(const tdm_sensitivity *s, FILE *file)
{
    fputs("kind,name,step_time_s,change_s,elasticity\n", file);
    for (uint32_t i = 0; i < s->n; i++) {
        const tdm_slowed *item = &s->items[i];
        fprintf(file, "%s,%s,%.15g,%.15g,%.15g\n", tdm_slowed_kind_name(item->kind), item->name,
                item->step_s, item->change_s, item->elasticity);
    }
}
