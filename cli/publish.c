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

/* Has print write the file of that name. */
static tdm_code write_file(tdm_arena *arena, const tdm_outcome *o, const char *name,
                           void (*print)(const tdm_outcome *o, FILE *file), tdm_output *output,
                           tdm_error *err)
{
    const char *path = tdm_output_add(arena, output, name);
    FILE *file = fopen(path, "w");
    if (!file)
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path, strerror(errno));
    print(o, file);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path, strerror(errno));
    return TDM_OK;
}

static void print_repetitions(const tdm_outcome *o, FILE *file)
{
    tdm_repeat_table(o->result, o->repeat, file);
}

static void print_command(const tdm_outcome *o, FILE *file)
{
    tdm_cli_put_command(&o->command, file);
}

/* A signal that asks to stop waits until the files are whole or gone. */
tdm_code tdm_outcome_write(tdm_arena *arena, const tdm_outcome *o, const char *folder,
                           tdm_error *err)
{
    const tdm_result *result = o->result;
    tdm_output output = {0};
    sigset_t before;
    tdm_output_hold_signals(&before);
    tdm_code code = tdm_output_open(arena, folder, &output, err);
    if (code == TDM_OK && !result->scenario.pass_times.given && !result->run.device &&
        !result->machine.topology->cores)
        code = tdm_sim_write_platform(&result->step.plan, result->machine.topology,
                                      tdm_output_add(arena, &output, "platform.xml"), err);
    if (code == TDM_OK && o->repeat)
        code = write_file(arena, o, "repetitions.csv", print_repetitions, &output, err);
    if (code == TDM_OK)
        code = write_file(arena, o, "command.txt", print_command, &output, err);
    if (code == TDM_OK)
        code = tdm_output_write(arena, result, o->text, &output, err);
    if (code == TDM_OK && !o->repeat) /* one of an earlier run would speak of another scenario */
        unlink(tdm_arena_printf(arena, "%s/repetitions.csv", folder));
    tdm_output_abort(&output);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return code;
}

static void print_csv(const tdm_outcome *o, FILE *file)
{
    if (o->sensitivity)
        tdm_sensitivity_csv(o->sensitivity, file);
    else if (o->repeat)
        tdm_repeat_csv(o->result, o->repeat, file);
    else
        tdm_report_csv(o->result, file);
}

/* What printing needs to know. */
typedef struct printing {
    tdm_arena *arena;
    const tdm_publish_options *options;
    const tdm_outcome *outcome;
} printing;

static void print(void *context, FILE *file)
{
    const printing *p = context;
    const tdm_outcome *o = p->outcome;
    tdm_style style = tdm_style_of(p->options->format, file);
    if (strcmp(p->options->format, "json") == 0)
        fputs(o->text, file);
    else if (strcmp(p->options->format, "csv") == 0)
        print_csv(o, file);
    else if (o->sensitivity)
        tdm_sensitivity_report(p->arena, o->result, o->sensitivity, &style, file);
    else if (o->repeat)
        tdm_repeat_report(p->arena, o->result, o->repeat, o->verdicts, &style, file);
    else
        tdm_report_write(p->arena, o->result, o->verdicts, &style, file);
}

static int print_all(tdm_arena *arena, const tdm_publish_options *a, const tdm_outcome *o)
{
    printing p = {arena, a, o};
    return a->quiet && !a->file ? TDM_OK : tdm_cli_print(a->file, print, &p);
}

static int judge(const tdm_publish_options *a, const tdm_outcome *o)
{
    const tdm_scenario *scenario = &o->result->scenario;
    bool missed = !scenario->pass_times.given && !tdm_memory_fits(o->result);
    for (uint32_t i = 0; i < scenario->n_targets; i++)
        missed = missed || !o->verdicts[i].pass;
    return missed && a->enforce ? TDM_E_INFEASIBLE : TDM_OK;
}

static char *document_text(const tdm_outcome *o)
{
    json_t *document = tdm_output_figures_json(o->result, o->verdicts);
    if (document && o->repeat) {
        json_object_set_new(document, "median_step", json_integer(o->repeat->median + 1));
        json_object_set_new(document, "steps", tdm_repeat_steps_json(o->repeat));
        json_object_set_new(document, "repeat", tdm_repeat_json(o->result, o->repeat));
    }
    char *text = document ? tdm_output_json_text(document) : NULL;
    json_decref(document);
    return text;
}

int tdm_outcome_complete(tdm_arena *arena, const char *verb, tdm_outcome *o)
{
    o->verdicts =
        o->repeat ? tdm_repeat_judge(arena, o->result, o->repeat) : tdm_judge(arena, o->result);
    o->text =
        o->sensitivity ? tdm_sensitivity_json(arena, o->result, o->sensitivity) : document_text(o);
    return o->text ? TDM_OK : tdm_cli_complain(TDM_E_INTERNAL, "%s: out of memory", verb);
}

int tdm_publish(tdm_arena *arena, const tdm_publish_options *a, tdm_outcome *o, tdm_error *err)
{
    if (!a->quiet)
        tdm_cli_warn(o->result->scenario.notes);
    int code = tdm_outcome_complete(arena, a->verb, o);
    if (code != TDM_OK)
        return code;
    bool files = !a->no_files && !o->sensitivity;
    const char *folder =
        a->out_dir ? a->out_dir : tdm_arena_printf(arena, "runs/%s", o->result->scenario.name);
    if (files && tdm_outcome_write(arena, o, folder, err) != TDM_OK)
        code = tdm_cli_fail(err);
    if (code == TDM_OK)
        code = print_all(arena, a, o);
    const char *which =
        o->repeat
            ? tdm_arena_printf(arena, ", of repetition %u, the median; repetitions.csv has all",
                               o->repeat->median + 1)
            : "";
    if (code == TDM_OK && files && !a->quiet)
        fprintf(stderr, "\nFiles in %s%s; trace.json opens in https://ui.perfetto.dev\n", folder,
                which);
    free(o->text);
    return code == TDM_OK ? judge(a, o) : code;
}
