/* page_evidence.c: where the numbers of a page come from. */
#include "page.h"
#include "report.h"

#include <math.h>
#include <string.h>

static void add(tdm_table *table, const char *name, const char *text)
{
    if (!text[0])
        return;
    tdm_table_cell(table, "%s", name);
    tdm_table_cell(table, "%s", text);
}

static const char *engine_text(tdm_arena *arena, const json_t *document)
{
    static const struct {
        const char *engine, *text;
    } known[] = {
        {"sim", "predicted: discrete-event simulation, operations share links"},
        {"analytic", "predicted: closed form, each operation alone on its links"},
        {"host", "carried out: computed on this machine's cores"},
        {"paced", "carried out: threads, order and waits; each op takes the time planned for it"},
    };
    const char *engine = tdm_page_text(document, "provenance.engine");
    for (size_t i = 0; i < TDM_COUNT(known); i++)
        if (strcmp(known[i].engine, engine) == 0)
            return tdm_arena_printf(arena, "%s (%s)", engine, known[i].text);
    return engine;
}

/* Of device and topology, and what the worst of them means. */
static const char *grade_text(tdm_arena *arena, const json_t *document)
{
    static const struct {
        const char *grade, *text;
    } meanings[] = {
        {"measured", "taken on such a machine"},
        {"published", "others have published it, with its source"},
        {"datasheet", "from the maker's datasheet"},
        {"guess", "an estimate: trust comparisons more than absolute times"},
    };
    const json_t *from = tdm_page_at(document, "provenance");
    const char *worst = tdm_page_text(from, "worst_grade"), *meaning = "";
    if (!worst[0])
        return "";
    for (size_t i = 0; i < TDM_COUNT(meanings); i++)
        if (strcmp(meanings[i].grade, worst) == 0)
            meaning = meanings[i].text;
    return tdm_arena_printf(arena, "worst of all that were used: %s (%s)", worst, meaning);
}

static const char *run_text(tdm_arena *arena, const json_t *document)
{
    const json_t *run = tdm_page_at(document, "run");
    if (!run)
        return "";
    const char *text =
        tdm_arena_printf(arena, "device %s, transport %s", tdm_page_text(run, "device"),
                         tdm_page_text(run, "transport"));
    if (tdm_page_text(run, "times_of")[0])
        text = tdm_arena_printf(arena,
                                "%s, times of %s, %g real seconds for one shown, ops up to %.3f ms "
                                "late",
                                text, tdm_page_text(run, "times_of"), tdm_page_number(run, "pace"),
                                1e3 * tdm_page_number(run, "late_s"));
    if (!isnan(tdm_page_number(run, "n_processes")))
        text =
            tdm_arena_printf(arena, "%s, processes: %.0f, hosts: %.0f, clocks within %.1f us", text,
                             tdm_page_number(run, "n_processes"), tdm_page_number(run, "n_hosts"),
                             1e6 * tdm_page_number(run, "clock_uncertainty_s"));
    return json_is_true(json_object_get(run, "memory_checked"))
               ? tdm_arena_printf(arena, "%s, memory as planned to the byte", text)
               : text;
}

static const char *graded(tdm_arena *arena, const json_t *from, const char *name, const char *grade)
{
    return tdm_page_text(from, name)[0]
               ? tdm_arena_printf(arena, "%s, grade %s", tdm_page_text(from, name),
                                  tdm_page_text(from, grade))
               : "";
}

static const char *folded_text(tdm_arena *arena, const json_t *from)
{
    const json_t *folded = tdm_page_at(from, "folded");
    return json_is_object(folded) ? tdm_arena_printf(arena, "%.0f ranks simulated, each for %.0f%s",
                                                     tdm_page_number(folded, "n_simulated_ranks"),
                                                     tdm_page_number(folded, "copies"),
                                                     json_is_true(json_object_get(folded, "exact"))
                                                         ? ""
                                                         : ", the first replicas standing for all")
                                  : "";
}

void tdm_page_evidence(const tdm_page *page, const json_t *document, const char *heading)
{
    const json_t *from = tdm_page_at(document, "provenance");
    tdm_arena *arena = page->arena;
    tdm_style style = tdm_page_style();
    tdm_table table = {.arena = arena, .n_left = 2};
    tdm_table_head(&table, "");
    tdm_table_head(&table, "");
    bool computed = strcmp(tdm_page_text(from, "engine"), "host") == 0;
    add(&table, "engine", engine_text(arena, document));
    add(&table, "run", run_text(arena, document));
    if (!computed) { /* uses no number of these files */
        add(&table, "grade", grade_text(arena, document));
        add(&table, "device", graded(arena, from, "device", "device_grade"));
        add(&table, "topology", graded(arena, from, "topology", "topology_grade"));
    }
    add(&table, "plan",
        tdm_arena_printf(arena, "%s, %s ops, verified", tdm_page_text(from, "plan_hash"),
                         tdm_report_count(arena, tdm_page_number(from, "n_ops"))));
    add(&table, "folded", folded_text(arena, from));
    add(&table, "scenario", tdm_page_text(from, "scenario"));
    add(&table, "tandem", tdm_page_text(from, "versions.tandem"));
    tdm_style_heading(&style, page->file, heading, "");
    tdm_table_print(&table, &style, page->file);
}

void tdm_page_source(const tdm_page *page, const tdm_page_result *result)
{
    FILE *file = page->file;
    if (result->command) {
        tdm_html_heading(file, "Command", "");
        fputs("<pre>", file);
        tdm_html_text(file, result->command);
        fputs("</pre>\n", file);
    }
    if (!result->scenario)
        return;
    tdm_html_heading(file, "Scenario", "");
    fputs("<details><summary>scenario.yaml, with every value resolved</summary>\n<pre>", file);
    tdm_html_text(file, result->scenario);
    fputs("</pre>\n</details>\n", file);
}
