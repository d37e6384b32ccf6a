/* page_tables.c: tables of one result. */
#include "page.h"
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Ranks have rows of their own while the page stays readable. */
enum { MOST_RANKS = 512, MOST_STEPS = 50 };

static const char *value_of(tdm_arena *arena, double value, const char *unit, int digits)
{
    return isnan(value) ? "-" : tdm_report_value(arena, value, unit, digits);
}

static void print(const tdm_page *page, tdm_table *table, const char *title, const char *remark)
{
    tdm_style style = tdm_page_style();
    if (table->n_cells == 0)
        return;
    tdm_style_heading(&style, page->file, title, remark);
    tdm_table_print(table, &style, page->file);
}

static void add_head(tdm_table *table, const char *const *heads, size_t n)
{
    for (size_t i = 0; i < n; i++)
        tdm_table_head(table, heads[i]);
}

static double ms(const json_t *o, const char *key)
{
    return 1e3 * tdm_page_number(o, key);
}

/* ---- what was predicted or carried out ---- */

static void add_row(const tdm_page *page, const char *name, const char *text)
{
    if (!text[0])
        return;
    fputs("<tr><th>", page->file);
    tdm_html_text(page->file, name);
    fputs("</th><td>", page->file);
    tdm_html_text(page->file, text);
    fputs("</td></tr>\n", page->file);
}

static const char *layout_text(tdm_arena *arena, const json_t *document)
{
    static const char *const sizes[] = {"tp", "cp", "ep", "etp", "dp", "pp"};
    const json_t *layout = tdm_page_at(document, "provenance.layout");
    const char *text = "";
    for (size_t i = 0; layout && i < TDM_COUNT(sizes); i++)
        text = tdm_arena_printf(arena, "%s%s%s %.0f", text, i ? ", " : "", sizes[i],
                                tdm_page_number(layout, sizes[i]));
    return text;
}

void tdm_page_setup(const tdm_page *page, const json_t *document)
{
    const json_t *from = tdm_page_at(document, "provenance"), *layout = tdm_page_at(from, "layout");
    const char *device = tdm_page_text(from, "device"), *model = tdm_page_text(from, "model");
    double n_ranks = tdm_page_number(from, "n_ranks");
    fputs("<div class=\"scroll\"><table>\n", page->file);
    add_row(page, "model", model);
    add_row(page, "machine",
            device[0]
                ? tdm_arena_printf(page->arena, "%.0f x %s on %s", n_ranks, device,
                                   tdm_page_text(from, "topology"))
                : tdm_arena_printf(page->arena, "%.0f stages, given by their pass times", n_ranks));
    add_row(page, "layout", layout_text(page->arena, document));
    const char *schedule = tdm_page_text(from, "schedule");
    if (layout)
        schedule = tdm_arena_printf(page->arena, "%s, %.0f microbatches", schedule,
                                    tdm_page_number(layout, "num_microbatches"));
    if (layout && model[0])
        schedule = tdm_arena_printf(page->arena, "%s of %.0f x %.0f tokens per replica", schedule,
                                    tdm_page_number(layout, "micro_batch_size"),
                                    tdm_page_number(layout, "seq_length"));
    add_row(page, "schedule", schedule);
    fputs("</table></div>\n", page->file);
}

/* ---- targets ---- */

static void put_verdict(const tdm_page *page, const json_t *target, int digits)
{
    bool pass = json_is_true(json_object_get(target, "pass"));
    fprintf(page->file, "<td class=\"%s\">%s</td><td class=\"n\">", pass ? "pass" : "fail",
            pass ? "pass" : "FAIL");
    tdm_html_text(page->file, value_of(page->arena, tdm_page_number(target, "value"),
                                       tdm_page_text(target, "unit"), digits));
    fputs("</td>", page->file);
}

/* As many as tell the value from the threshold. */
static int digits_for(const tdm_page *page, const json_t *target)
{
    double value = tdm_page_number(target, "value"), limit = tdm_page_number(target, "threshold");
    const char *unit = tdm_page_text(target, "unit");
    int digits = 1;
    while (digits < 6 && value != limit &&
           strcmp(value_of(page->arena, value, unit, digits),
                  value_of(page->arena, limit, unit, digits)) == 0)
        digits++;
    return digits;
}

static void put_target(const tdm_page *page, const json_t *a, const json_t *b)
{
    const char *unit = tdm_page_text(a, "unit");
    int digits = digits_for(page, a), more = b ? digits_for(page, b) : 0;
    digits = more > digits ? more : digits;
    fputs("<tr>", page->file);
    put_verdict(page, a, digits);
    if (b)
        put_verdict(page, b, digits);
    fprintf(page->file, "<td class=\"n\">%s ",
            strcmp(tdm_page_text(a, "relation"), "<=") == 0 ? "at most" : "at least");
    tdm_html_text(page->file, value_of(page->arena, tdm_page_number(a, "threshold"), unit, digits));
    fputs("</td><td>", page->file);
    tdm_html_text(page->file, tdm_page_text(a, "label"));
    const char *why = tdm_page_text(b ? b : a, "why");
    if (why[0]) {
        fputs("<br/><span class=\"muted\">", page->file);
        tdm_html_text(page->file, why);
        fputs("</span>", page->file);
    }
    fputs("</td></tr>\n", page->file);
}

static size_t count_met(const json_t *list)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(list); i++)
        n += json_is_true(json_object_get(json_array_get(list, i), "pass"));
    return n;
}

void tdm_page_checklist(const tdm_page *page, const json_t *a, const json_t *b)
{
    const json_t *list = tdm_page_at(a, "targets"), *other = tdm_page_at(b, "targets");
    size_t n = json_array_size(list);
    bool both = other && json_array_size(other) == n;
    if (n == 0)
        return;
    const char *title =
        both ? tdm_arena_printf(page->arena,
                                "Checklist: %zu of %zu pass as predicted, %zu as measured",
                                count_met(list), n, count_met(other))
             : tdm_arena_printf(page->arena, "Checklist: %zu of %zu pass", count_met(list), n);
    tdm_html_heading(page->file, title, "");
    fputs("<div class=\"scroll\"><table>\n<tr>", page->file);
    fputs(both ? "<th colspan=\"2\">predicted</th><th colspan=\"2\">measured</th>"
               : "<th></th><th class=\"n\">is</th>",
          page->file);
    fputs("<th class=\"n\">wanted</th><th>target</th></tr>\n", page->file);
    for (size_t i = 0; i < n; i++)
        put_target(page, json_array_get(list, i), both ? json_array_get(other, i) : NULL);
    fputs("</table></div>\n", page->file);
}

/* ---- figures ---- */

/* Digits behind the point that say enough and not too much. */
static int digits_of(const char *unit)
{
    return strcmp(unit, "s") == 0 ? 3 : strcmp(unit, "tokens/s") == 0 ? 1 : 2;
}

static void add_figure(const tdm_page *page, const json_t *document, const tdm_figure_info *info,
                       bool repeated, tdm_table *table)
{
    static const char *const spread[] = {"median", "median_low", "median_high"};
    double value = tdm_page_number(tdm_page_at(document, "figures"), info->name);
    const json_t *repeat = tdm_page_at(tdm_page_at(document, "repeat.figures"), info->name);
    int digits = digits_of(info->unit);
    if (isnan(value))
        return;
    tdm_table_cell(table, "%s", info->name);
    tdm_table_cell(table, "%s", value_of(page->arena, value, info->unit, digits));
    for (size_t i = 0; repeated && i < TDM_COUNT(spread); i++)
        tdm_table_cell(
            table, "%s",
            value_of(page->arena, tdm_page_number(repeat, spread[i]), info->unit, digits));
    tdm_table_cell(table, "%s", info->text);
}

void tdm_page_figures(const tdm_page *page, const json_t *document)
{
    bool repeated = tdm_page_at(document, "repeat.figures") != NULL;
    tdm_table table = {.arena = page->arena, .n_left = 1, .last_left = true};
    tdm_table_head(&table, "figure");
    tdm_table_head(&table, repeated ? "shown" : "value");
    if (repeated) {
        tdm_table_head(&table, "median");
        tdm_table_head(&table, "95 % from");
        tdm_table_head(&table, "to");
    }
    tdm_table_head(&table, "is");
    for (const tdm_figure_info *info = tdm_figure_infos; info->name; info++)
        add_figure(page, document, info, repeated, &table);
    print(page, &table, "Figures",
          repeated ? tdm_arena_printf(page->arena,
                                      "(shown: the repetition of median step time, %.0f of %.0f)",
                                      tdm_page_number(document, "median_step"),
                                      tdm_page_number(document, "repeat.n"))
                   : "");
}

/* ---- the step ---- */

static const struct {
    const char *key, *name;
} parts[] = {{"compute_s", "forward and backward kernels"},
             {"exposed_transfer_s", "exposed transfers"},
             {"peer_wait_s", "waiting for peers"},
             {"bubble_s", "bubble"},
             {"issue_gap_s", "issue gaps"},
             {"optimizer_s", "optimizer"}};

void tdm_page_step(const tdm_page *page, const json_t *document)
{
    const json_t *w = tdm_page_at(document, "waterfall");
    double step_s = tdm_page_number(document, "figures.step_time_s");
    FILE *file = page->file;
    tdm_html_heading(file, tdm_arena_printf(page->arena, "Step: %.2f ms", 1e3 * step_s),
                     "(where its time goes, mean over ranks)");
    fputs("<div class=\"stack\">", file);
    for (size_t i = 0; i < TDM_COUNT(parts); i++)
        if (tdm_page_number(w, parts[i].key) > 0)
            fprintf(file, "<i class=\"s%zu\" style=\"flex:%.4f\" title=\"%s\"></i>", i,
                    100 * tdm_page_number(w, parts[i].key) / step_s, parts[i].name);
    fputs("</div>\n<div class=\"scroll\"><table>\n<tr><th></th><th class=\"n\">ms</th>"
          "<th class=\"n\">%</th></tr>\n",
          file);
    for (size_t i = 0; i < TDM_COUNT(parts); i++)
        fprintf(file,
                "<tr><td><i class=\"s%zu\"></i>%s</td><td class=\"n\">%.3f</td>"
                "<td class=\"n\">%.1f</td></tr>\n",
                i, parts[i].name, ms(w, parts[i].key),
                100 * tdm_page_number(w, parts[i].key) / step_s);
    fprintf(file,
            "<tr><td>step</td><td class=\"n\">%.3f</td><td class=\"n\">100.0</td></tr>\n"
            "</table></div>\n",
            1e3 * step_s);
}

void tdm_page_classes(const tdm_page *page, const tdm_side *side)
{
    tdm_table table = {.arena = page->arena, .n_left = 1};
    double step_s = side->figures[tdm_side_figure("step_time_s")];
    tdm_table_head(&table, "class");
    tdm_table_head(&table, "ms");
    tdm_table_head(&table, "% of the step");
    for (uint32_t k = 0; side->has_classes && k < TDM_N_OP_CLASSES; k++) {
        double sum = 0;
        for (uint32_t r = 0; r < side->n_ranks; r++)
            sum += side->ranks[r].class_s[k] / side->n_ranks;
        if (!(sum > 0))
            continue;
        tdm_table_cell(&table, "%s", tdm_op_class_name((tdm_op_class)k));
        tdm_table_cell(&table, "%.3f", 1e3 * sum);
        tdm_table_cell(&table, "%.1f", 100 * sum / step_s);
    }
    print(page, &table, "Op classes",
          "(time of a rank, mean; streams run side by side; communication with waiting)");
}

void tdm_page_communication(const tdm_page *page, const json_t *document)
{
    static const char *const heads[] = {"collective", "calls",      "MB per rank", "busy ms",
                                        "exposed ms", "average ms", "longest ms"};
    const json_t *list = tdm_page_at(document, "communication");
    tdm_table table = {.arena = page->arena, .n_left = 1};
    add_head(&table, heads, TDM_COUNT(heads));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i);
        tdm_table_cell(&table, "%s over %s", tdm_page_text(o, "kind"), tdm_page_text(o, "group"));
        tdm_table_cell(&table, "%.0f", tdm_page_number(o, "n_calls"));
        tdm_table_cell(&table, "%.2f", 1e-6 * tdm_page_number(o, "bytes_per_rank"));
        tdm_table_cell(&table, "%.3f", ms(o, "busy_s"));
        tdm_table_cell(&table, "%.3f", ms(o, "exposed_s"));
        tdm_table_cell(&table, "%.4f", ms(o, "avg_s"));
        tdm_table_cell(&table, "%.4f", ms(o, "max_s"));
    }
    print(
        page, &table, "Communication",
        "(calls of all ranks; busy and exposed of a rank; average and longest transfer of a call)");
}

void tdm_page_stages(const tdm_page *page, const json_t *document)
{
    static const char *const heads[] = {
        "stage", "forward ms", "backward input ms", "backward weight ms", "span ms", "bubble %"};
    const json_t *list = tdm_page_at(document, "stages");
    tdm_table table = {.arena = page->arena, .n_left = 1};
    add_head(&table, heads, TDM_COUNT(heads));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i);
        tdm_table_cell(&table, "%.0f", tdm_page_number(o, "stage"));
        tdm_table_cell(&table, "%.3f", ms(o, "forward_s"));
        tdm_table_cell(&table, "%.3f", ms(o, "backward_input_s"));
        tdm_table_cell(&table, "%.3f", ms(o, "backward_weight_s"));
        tdm_table_cell(&table, "%.3f", ms(o, "span_s"));
        tdm_table_cell(&table, "%.2f", 100 * tdm_page_number(o, "bubble_fraction"));
    }
    print(page, &table, "Pipeline stages", "(times per microbatch)");
}

/* ---- memory and ranks ---- */

static const json_t *largest_of_stage(const json_t *ranks, double stage)
{
    const json_t *largest = NULL;
    double most = -1;
    for (size_t i = 0; i < json_array_size(ranks); i++) {
        const json_t *o = json_array_get(ranks, i);
        double bytes = tdm_page_number(o, "peak_memory_bytes");
        if (tdm_page_number(o, "stage") == stage && bytes > most) {
            most = bytes;
            largest = o;
        }
    }
    return largest;
}

static const char *limit_text(const tdm_page *page, const json_t *memory)
{
    double limit = tdm_page_number(memory, "limit_bytes");
    return isnan(limit) ? "" : tdm_arena_printf(page->arena, ", of %.2f GB", 1e-9 * limit);
}

void tdm_page_memory(const tdm_page *page, const json_t *document)
{
    const json_t *memory = tdm_page_at(document, "memory"), *ranks = tdm_page_at(document, "ranks"),
                 *stages = tdm_page_at(document, "stages");
    tdm_table table = {.arena = page->arena, .n_left = 2};
    tdm_table_head(&table, "stage");
    tdm_table_head(&table, "rank");
    for (uint32_t c = 0; c < TDM_N_CLASSES; c++)
        tdm_table_head(&table, tdm_class_name((tdm_class)c));
    tdm_table_head(&table, "all");
    for (size_t s = 0; memory && s < json_array_size(stages); s++) {
        const json_t *o = largest_of_stage(ranks, (double)s);
        if (!o)
            continue;
        tdm_table_cell(&table, "%zu", s);
        tdm_table_cell(&table, "%.0f", tdm_page_number(o, "rank"));
        for (uint32_t c = 0; c < TDM_N_CLASSES; c++)
            tdm_table_cell(&table, "%.2f",
                           1e-9 * tdm_page_number(tdm_page_at(o, "class_at_peak_bytes"),
                                                  tdm_class_name((tdm_class)c)));
        tdm_table_cell(&table, "%.2f", 1e-9 * tdm_page_number(o, "peak_memory_bytes"));
    }
    print(page, &table,
          tdm_arena_printf(page->arena, "Memory: rank %.0f needs %.2f GB%s",
                           tdm_page_number(memory, "peak_memory_rank"),
                           1e-9 * tdm_page_number(memory, "peak_memory_bytes"),
                           limit_text(page, memory)),
          "(GB, at the peak of each stage's largest rank; all: with the device's context)");
}

void tdm_page_ranks(const tdm_page *page, const json_t *document)
{
    static const char *const heads[] = {
        "rank",      "stage",   "compute ms",   "exposed ms",       "waiting ms",
        "bubble ms", "gaps ms", "optimizer ms", "communication ms", "memory GB"};
    const json_t *list = tdm_page_at(document, "ranks");
    size_t n = json_array_size(list);
    tdm_table table = {.arena = page->arena, .n_left = 2};
    add_head(&table, heads, TDM_COUNT(heads));
    for (size_t i = 0; i < n && i < MOST_RANKS; i++) {
        const json_t *o = json_array_get(list, i), *w = json_object_get(o, "waterfall");
        tdm_table_cell(&table, "%.0f", tdm_page_number(o, "rank"));
        tdm_table_cell(&table, "%.0f", tdm_page_number(o, "stage"));
        for (size_t p = 0; p < TDM_COUNT(parts); p++)
            tdm_table_cell(&table, "%.3f", ms(w, parts[p].key));
        tdm_table_cell(&table, "%.3f", ms(o, "comm_busy_s"));
        tdm_table_cell(&table, "%.2f", 1e-9 * tdm_page_number(o, "peak_memory_bytes"));
    }
    print(page, &table, "Ranks",
          n > MOST_RANKS ? tdm_arena_printf(page->arena, "(the first %d of %zu)", MOST_RANKS, n)
                         : "(the first six parts add up to the step)");
}

/* ---- steps ---- */

void tdm_page_steps(const tdm_page *page, const json_t *document)
{
    const json_t *list = tdm_page_at(document, "steps");
    size_t n = json_array_size(list), median = (size_t)tdm_page_number(document, "median_step");
    if (!tdm_page_at(document, "run") || n == 0)
        return;
    bool loss = !isnan(tdm_page_number(json_array_get(list, 0), "loss"));
    tdm_table table = {.arena = page->arena, .n_left = 1};
    tdm_table_head(&table, "step");
    tdm_table_head(&table, "ms");
    if (loss) {
        tdm_table_head(&table, "loss");
        tdm_table_head(&table, "gradient norm");
    }
    for (size_t i = 0; i < n && i < MOST_STEPS; i++) {
        const json_t *o = json_array_get(list, i);
        tdm_table_cell(&table, "%zu%s", i + 1, i + 1 == median ? " (median, shown here)" : "");
        tdm_table_cell(&table, "%.3f", ms(o, "step_time_s"));
        if (loss) {
            tdm_table_cell(&table, "%.6f", tdm_page_number(o, "loss"));
            tdm_table_cell(&table, "%.6f", tdm_page_number(o, "grad_norm"));
        }
    }
    print(page, &table, "Steps carried out",
          n > MOST_STEPS ? tdm_arena_printf(page->arena, "(the first %d of %zu)", MOST_STEPS, n)
                         : "");
}
