/* run_text.c: runs a plan that was read from text. There is no scenario and no machine beside it,
 * so no figures that need one. */
#include "cli.h"
#include "core/plan_text.h"
#include "output.h"
#include "publish.h"
#include "report.h"

#include <string.h>

static tdm_code run_plan(tdm_arena *arena, const char *path, const tdm_run_options *run,
                         tdm_result *result, tdm_error *err)
{
    tdm_plan *plan = &result->step.plan;
    tdm_code code = tdm_plan_read(arena, path, plan, err);
    if (code == TDM_OK) {
        plan->programs = tdm_programs_of(arena, plan);
        code = tdm_verify_plan(plan, &result->verified, err);
    }
    if (code == TDM_OK)
        code = tdm_backend_check(plan, run, err);
    if (code == TDM_OK)
        code = tdm_backend_run(arena, plan, NULL, run, &result->step.trace, &result->run, err);
    return code;
}

static tdm_code write_plan(const tdm_plan *plan, const char *path, tdm_error *err)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: cannot be written", path);
    tdm_code code = tdm_plan_write(plan, file, err);
    return fclose(file) == 0 || code != TDM_OK
               ? code
               : tdm_error_add(err, TDM_E_INTERNAL, "%s: cannot be written", path);
}

static tdm_code write_files(tdm_arena *arena, const tdm_result *result,
                            const tdm_publish_options *options, tdm_error *err)
{
    tdm_output output = {0};
    const char *folder = options->out_dir
                             ? options->out_dir
                             : tdm_arena_printf(arena, "runs/%s", result->step.plan.name);
    sigset_t before;
    tdm_output_hold_signals(&before);
    tdm_code code = tdm_output_open(arena, folder, &output, err);
    if (code == TDM_OK)
        code = write_plan(&result->step.plan, tdm_output_add(arena, &output, "plan.txt"), err);
    if (code == TDM_OK)
        code = tdm_output_trace(&result->step, NULL, tdm_output_add(arena, &output, "trace.json"),
                                err);
    if (code == TDM_OK)
        code = tdm_output_ops(&result->step, tdm_output_add(arena, &output, "ops.csv"), err);
    if (code == TDM_OK)
        code = tdm_output_commit(&output, err);
    tdm_output_abort(&output);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return code;
}

int tdm_run_text(tdm_arena *arena, const char *path, const tdm_run_options *run,
                 const tdm_publish_options *options, tdm_launched *launched)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_result *result = TDM_ALLOC(arena, tdm_result, 1);
    tdm_style style = {.markdown = strcmp(options->format, "md") == 0};
    if (options->file || options->enforce ||
        (!style.markdown && strcmp(options->format, "text") != 0))
        return tdm_cli_complain(
            TDM_E_INVALID,
            "run: %s is a plan: its steps are printed as text or md on standard output, "
            "and it has no targets (give a scenario)",
            path);
    if (run_plan(arena, path, run, result, err) != TDM_OK)
        return tdm_launched_fail(launched, err);
    if (launched->quiet)
        return TDM_OK;
    if (!options->no_files && write_files(arena, result, options, err) != TDM_OK)
        return tdm_cli_fail(err);
    if (!options->quiet)
        tdm_report_run(arena, result, &style, stdout);
    return tdm_cli_finish(TDM_OK);
}
