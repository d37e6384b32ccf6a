/* page.c: the page of a result, and that of a prediction against what was carried out. */
#include "page.h"
#include "report.h"

#include <math.h>
#include <string.h>

/* ---- pictures and tiles ---- */

static tdm_code show(tdm_page *page, tdm_page_picture *picture, tdm_error *err)
{
    picture->shown = true;
    return tdm_html_picture(page->arena, page->file, picture->path, picture->name, picture->caption,
                            err);
}

tdm_code tdm_page_show(tdm_page *page, const char *picture, tdm_error *err)
{
    for (uint32_t i = 0; i < page->n_pictures; i++)
        if (strcmp(page->pictures[i].name, picture) == 0 && !page->pictures[i].shown)
            return show(page, &page->pictures[i], err);
    return TDM_OK;
}

tdm_code tdm_page_show_others(tdm_page *page, tdm_error *err)
{
    bool first = true;
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < page->n_pictures && code == TDM_OK; i++) {
        if (page->pictures[i].shown)
            continue;
        if (first)
            tdm_html_heading(page->file, "More pictures", "");
        first = false;
        code = show(page, &page->pictures[i], err);
    }
    return code;
}

void tdm_page_tile(const tdm_page *page, const char *value, const char *text, const char *class_)
{
    fprintf(page->file, "<div class=\"tile\"><b class=\"%s\">", class_);
    tdm_html_text(page->file, value);
    fputs("</b><span>", page->file);
    tdm_html_text(page->file, text);
    fputs("</span></div>\n", page->file);
}

static void figure_tile(const tdm_page *page, const json_t *document, const char *figure,
                        const char *text, int digits)
{
    const tdm_figure_info *info = tdm_figure_infos;
    while (strcmp(info->name, figure) != 0)
        info++;
    double value = tdm_page_number(tdm_page_at(document, "figures"), figure);
    if (!isnan(value) && strcmp(info->unit, text) == 0)
        tdm_page_tile(page, tdm_report_count(page->arena, value), text, "");
    else if (!isnan(value))
        tdm_page_tile(page, tdm_report_value(page->arena, value, info->unit, digits), text, "");
}

/* "step, median of 3 from 387.1 to 576.6 ms" */
static const char *step_text(tdm_arena *arena, const tdm_side *side)
{
    double least = INFINITY, most = 0;
    for (uint32_t i = 0; i < side->n_steps; i++) {
        least = fmin(least, side->steps_s[i]);
        most = fmax(most, side->steps_s[i]);
    }
    return side->n_steps < 2 ? "step"
                             : tdm_arena_printf(arena, "step, median of %u from %.1f to %.1f ms",
                                                side->n_steps, 1e3 * least, 1e3 * most);
}

static void checklist_tile(const tdm_page *page, const json_t *document)
{
    const json_t *list = tdm_page_at(document, "targets");
    size_t n = json_array_size(list), met = 0;
    for (size_t i = 0; i < n; i++)
        met += json_is_true(json_object_get(json_array_get(list, i), "pass"));
    if (n > 0)
        tdm_page_tile(page, tdm_arena_printf(page->arena, "%zu of %zu", met, n), "targets met",
                      met == n ? "pass" : "fail");
}

static void begin(const tdm_page *page, const char *subtitle)
{
    tdm_html_begin(page->file, page->title);
    fputs("<h1>", page->file);
    tdm_html_text(page->file, page->title);
    fputs("</h1>\n<p class=\"muted\">", page->file);
    tdm_html_text(page->file, subtitle);
    fputs("</p>\n", page->file);
    if (page->no_pictures) {
        fputs("<p class=\"muted\">", page->file);
        tdm_html_text(page->file, page->no_pictures);
        fputs("</p>\n", page->file);
    }
}

/* What would be shown as -0.0 is 0. */
static double percent(double share, double half_digit)
{
    return fabs(100 * share) < half_digit ? 0 : 100 * share;
}

/* ---- one result ---- */

static void result_tiles(const tdm_page *page, const tdm_page_result *r)
{
    const json_t *d = r->document;
    fputs("<div class=\"tiles\">\n", page->file);
    figure_tile(page, d, "step_time_s", step_text(page->arena, &r->side), 2);
    figure_tile(page, d, "tokens_per_s", "tokens/s", 0);
    figure_tile(page, d, "mfu", "MFU", 1);
    figure_tile(page, d, "bubble_fraction", "pipeline bubble", 1);
    figure_tile(page, d, "comm_exposed_fraction", "communication exposed", 1);
    figure_tile(page, d, "peak_memory_bytes", "memory of the largest rank", 1);
    checklist_tile(page, d);
    fputs("</div>\n", page->file);
}

/* The sections, and the picture that belongs behind each. */
static tdm_code result_sections(tdm_page *page, const tdm_page_result *r, tdm_error *err)
{
    const json_t *d = r->document;
    tdm_page_checklist(page, d, NULL);
    tdm_page_step(page, d);
    tdm_code code = tdm_page_show(page, "timeline", err);
    if (code == TDM_OK)
        code = tdm_page_show(page, "step", err);
    if (code != TDM_OK)
        return code;
    tdm_page_stages(page, d);
    tdm_page_classes(page, &r->side);
    tdm_page_communication(page, d);
    tdm_page_memory(page, d);
    code = tdm_page_show(page, "memory", err);
    if (code != TDM_OK)
        return code;
    tdm_page_steps(page, d);
    tdm_page_figures(page, d);
    tdm_page_ranks(page, d);
    return tdm_page_show_others(page, err);
}

tdm_code tdm_page_write_result(tdm_page *page, const tdm_page_result *r, tdm_error *err)
{
    bool run = tdm_page_at(r->document, "run") != NULL;
    begin(page, tdm_arena_printf(page->arena, "%s %s",
                                 run ? "carried out on device" : "predicted by engine",
                                 tdm_page_text(r->document, "provenance.engine")));
    tdm_page_setup(page, r->document);
    result_tiles(page, r);
    tdm_code code = result_sections(page, r, err);
    tdm_page_evidence(page, r->document, "Where the numbers come from");
    tdm_page_source(page, r);
    tdm_html_end(page->file);
    return code;
}

/* ---- two ---- */

static void verdict_tiles(const tdm_page *page, const tdm_page_pair *p)
{
    for (size_t i = 0; i < p->tolerance.n_figures && p->tolerance.given; i++) {
        double error;
        const char *figure = p->tolerance.figures[i];
        bool holds = tdm_tolerance_holds(&p->tolerance, &p->comparison, figure, &error);
        tdm_page_tile(page, holds ? "within" : "OUTSIDE",
                      tdm_arena_printf(page->arena, "%s %+.2f %%, tolerance %g %%", figure,
                                       percent(error, 5e-3), 100 * p->tolerance.share),
                      holds ? "pass" : "fail");
    }
}

static void pair_tiles(const tdm_page *page, const tdm_page_pair *p)
{
    const tdm_comparison *c = &p->comparison;
    const char *interval =
        c->has_interval
            ? tdm_arena_printf(page->arena, "error; 95 %% confidence: %+.1f to %+.1f %%",
                               percent(c->interval_low, 0.05), percent(c->interval_high, 0.05))
            : "error";
    double error = tdm_compare_error(c->step_predicted_s, c->step_measured_s);
    fputs("<div class=\"tiles\">\n", page->file);
    tdm_page_tile(page, tdm_arena_printf(page->arena, "%.2f ms", 1e3 * c->step_predicted_s),
                  tdm_arena_printf(page->arena, "predicted %s", step_text(page->arena, c->a)), "");
    tdm_page_tile(page, tdm_arena_printf(page->arena, "%.2f ms", 1e3 * c->step_measured_s),
                  tdm_arena_printf(page->arena, "measured %s", step_text(page->arena, c->b)), "");
    tdm_page_tile(page, tdm_arena_printf(page->arena, "%+.2f %%", percent(error, 5e-3)), interval,
                  "");
    verdict_tiles(page, p);
    fputs("</div>\n", page->file);
}

static void put_notes(const tdm_page *page, const char *notes)
{
    for (const char *line = notes; line && *line;) {
        size_t n = strcspn(line, "\n");
        fputs("<p class=\"muted\">", page->file);
        tdm_html_text(page->file, tdm_arena_strndup(page->arena, line, n));
        fputs("</p>\n", page->file);
        line += n + (line[n] == '\n');
    }
}

static tdm_code pair_sections(tdm_page *page, const tdm_page_pair *p, tdm_error *err)
{
    static const struct {
        tdm_compare_section section;
        const char *pictures[2];
    } sections[] = {
        {TDM_COMPARE_WATERFALL, {"error-waterfall", "timeline"}},
        {TDM_COMPARE_CLASSES, {"classes"}},
        {TDM_COMPARE_COMMS, {NULL}},
        {TDM_COMPARE_STAGES, {NULL}},
        {TDM_COMPARE_RANKS, {"step"}},
        {TDM_COMPARE_OPS, {"scatter"}},
        {TDM_COMPARE_FIGURES, {NULL}},
    };
    tdm_style style = tdm_page_style();
    tdm_code code = TDM_OK;
    for (size_t i = 0; i < TDM_COUNT(sections) && code == TDM_OK; i++) {
        tdm_compare_section_text(page->arena, &p->comparison, sections[i].section, &style,
                                 page->file);
        for (size_t k = 0; k < 2 && sections[i].pictures[k] && code == TDM_OK; k++)
            code = tdm_page_show(page, sections[i].pictures[k], err);
    }
    if (code != TDM_OK)
        return code;
    tdm_page_memory(page, p->measured.document);
    code = tdm_page_show(page, "memory", err);
    tdm_page_steps(page, p->measured.document);
    return code == TDM_OK ? tdm_page_show_others(page, err) : code;
}

tdm_code tdm_page_write_pair(tdm_page *page, const tdm_page_pair *p, tdm_error *err)
{
    const json_t *a = p->predicted.document, *b = p->measured.document;
    begin(page, tdm_arena_printf(page->arena, "predicted by engine %s, carried out on device %s",
                                 tdm_page_text(a, "provenance.engine"),
                                 tdm_page_text(b, "provenance.engine")));
    tdm_page_setup(page, a);
    pair_tiles(page, p);
    put_notes(page, p->comparison.notes);
    tdm_page_checklist(page, a, b);
    tdm_code code = pair_sections(page, p, err);
    tdm_page_evidence(page, a, "Where the prediction comes from");
    tdm_page_evidence(page, b, "Where the measurement comes from");
    tdm_page_source(page, &p->measured);
    tdm_html_end(page->file);
    return code;
}
