/* publish.c: what follows a prediction or a run: files, report, verdict. */
#include "publish.h"
#include "cli.h"
#include "output.h"
#include "report.h"
#include "sim/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A signal that asks to stop waits until the files are whole or gone. */
static tdm_code write_files(tdm_arena *arena, const tdm_publish_options *a,
                            const tdm_result *result, const char *figures_text, tdm_output *output,
                            tdm_error *err)
{
    const char *folder =
        a->out_dir ? a->out_dir : tdm_arena_printf(arena, "runs/%s", result->scenario.name);
    sigset_t before;
    tdm_output_hold_signals(&before);
    tdm_code code = tdm_output_open(arena, folder, output, err);
    if (code == TDM_OK && !result->scenario.pass_times.given && !result->run.device)
        code = tdm_sim_write_platform(&result->scenario.topology,
                                      tdm_output_add(arena, output, "platform.xml"), err);
    if (code == TDM_OK)
        code = tdm_output_write(arena, result, figures_text, output, err);
    tdm_output_abort(output);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return code;
}

static void print(tdm_arena *arena, const tdm_publish_options *a, const tdm_result *result,
                  const tdm_verdict *verdicts, const char *figures_text, FILE *file)
{
    tdm_style style = {.markdown = strcmp(a->format, "md") == 0,
                       .colours = strcmp(a->format, "text") == 0 && isatty(fileno(file)) &&
                                  !getenv("NO_COLOR")};
    if (strcmp(a->format, "json") == 0)
        fputs(figures_text, file);
    else if (strcmp(a->format, "csv") == 0)
        tdm_report_csv(result, file);
    else
        tdm_report_write(arena, result, verdicts, &style, file);
}

static int print_all(tdm_arena *arena, const tdm_publish_options *a, const tdm_result *result,
                     const tdm_verdict *verdicts, const char *figures_text)
{
    if (a->quiet && !a->file)
        return TDM_OK;
    if (!a->file || strcmp(a->file, "-") == 0) {
        print(arena, a, result, verdicts, figures_text, stdout);
        return tdm_cli_finish(TDM_OK);
    }
    FILE *file = fopen(a->file, "w");
    if (!file)
        return tdm_cli_complain(TDM_E_INTERNAL, "%s: %s", a->file, strerror(errno));
    print(arena, a, result, verdicts, figures_text, file);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        return tdm_cli_complain(TDM_E_INTERNAL, "%s: %s", a->file, strerror(errno));
    return TDM_OK;
}

static int judge(const tdm_publish_options *a, const tdm_result *result,
                 const tdm_verdict *verdicts)
{
    bool missed = !result->scenario.pass_times.given && !tdm_memory_fits(result);
    for (uint32_t i = 0; i < result->scenario.n_targets; i++)
        missed = missed || !verdicts[i].pass;
    return missed && a->enforce ? TDM_E_INFEASIBLE : TDM_OK;
}

int tdm_publish(tdm_arena *arena, const tdm_publish_options *a, const tdm_result *result,
                tdm_error *err)
{
    if (!a->quiet)
        tdm_cli_warn(result->scenario.notes);
    const tdm_verdict *verdicts = tdm_judge(arena, result);
    json_t *document = tdm_output_figures_json(result, verdicts);
    char *figures_text = document ? tdm_output_json_text(document) : NULL;
    json_decref(document);
    if (!figures_text)
        return tdm_cli_complain(TDM_E_INTERNAL, "%s: out of memory", a->verb);
    tdm_output output = {0};
    int code = TDM_OK;
    if (!a->no_files)
        code = write_files(arena, a, result, figures_text, &output, err) == TDM_OK
                   ? TDM_OK
                   : tdm_cli_fail(err);
    if (code == TDM_OK)
        code = print_all(arena, a, result, verdicts, figures_text);
    if (code == TDM_OK && !a->no_files && !a->quiet)
        fprintf(stderr, "\nFiles in %s; trace.json opens in https://ui.perfetto.dev\n",
                output.folder);
    free(figures_text);
    return code == TDM_OK ? judge(a, result, verdicts) : code;
}
