/* compare_tolerance.c: which figures have to be how near, and whether they are. */
#include "cli.h"
#include "compare.h"
#include "core/schema.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* "5%" or a share. */
static int parse_share(const char *verb, const char *text, double *share)
{
    char *end;
    double value = strtod(text, &end);
    bool percent = *end == '%' && end[1] == '\0';
    if (end == text || (*end && !percent) || !(value >= 0) || isinf(value) ||
        (!percent && value >= 1))
        return tdm_cli_complain(
            TDM_E_INVALID, "%s: --tolerance: '%s' is no share (write 5%% or 0.05)", verb, text);
    *share = percent ? value / 100 : value;
    return TDM_CLI_GO_ON;
}

static int bad_figure(const char *verb, const char *name)
{
    const char *names[64];
    size_t n = 0;
    for (; tdm_figure_infos[n].name && n < TDM_COUNT(names); n++)
        names[n] = tdm_figure_infos[n].name;
    const char *nearest = tdm_suggest(name, names, n);
    if (nearest)
        return tdm_cli_complain(TDM_E_INVALID, "%s: --figures: no figure '%s' (did you mean %s?)",
                                verb, name, nearest);
    return tdm_cli_complain(TDM_E_INVALID, "%s: --figures: no figure '%s' (the README lists them)",
                            verb, name);
}

int tdm_tolerance_parse(tdm_arena *arena, const char *verb, const char *share, const char *figures,
                        tdm_tolerance *tolerance)
{
    tdm_tolerance t = {.given = share};
    int code = share ? parse_share(verb, share, &t.share) : TDM_CLI_GO_ON;
    if (code != TDM_CLI_GO_ON)
        return code;
    if (figures && !t.given)
        return tdm_cli_complain(TDM_E_INVALID,
                                "%s: --figures says which figures have to be within the "
                                "tolerance: give --tolerance, too",
                                verb);
    char *list = tdm_arena_strdup(arena, figures ? figures : "step_time_s");
    const char **names = TDM_ALLOC(arena, const char *, strlen(list) + 1);
    for (char *at = list; at;) {
        char *comma = strchr(at, ',');
        if (comma)
            *comma = '\0';
        if (tdm_side_figure(at) == UINT32_MAX)
            return bad_figure(verb, at);
        names[t.n_figures++] = at;
        at = comma ? comma + 1 : NULL;
    }
    t.figures = names;
    *tolerance = t;
    return TDM_CLI_GO_ON;
}

static const tdm_compare_row *figure_row(const tdm_comparison *c, const char *figure)
{
    for (uint32_t i = 0; i < c->n_rows; i++)
        if (c->rows[i].section == TDM_COMPARE_FIGURES && strcmp(c->rows[i].name, figure) == 0)
            return &c->rows[i];
    return NULL;
}

tdm_code tdm_tolerance_check(const char *verb, const tdm_tolerance *tolerance,
                             const tdm_comparison *c, tdm_error *err)
{
    for (size_t i = 0; i < tolerance->n_figures; i++) {
        if (figure_row(c, tolerance->figures[i]))
            continue;
        uint32_t place = tdm_side_figure(tolerance->figures[i]);
        const tdm_side *lacks = isnan(c->a->figures[place]) ? c->a : c->b;
        tdm_error_add(err, TDM_E_INVALID,
                      "%s: %s is not known of %s (choose others with --figures)", verb,
                      tolerance->figures[i], lacks->path);
    }
    return err->n_messages ? TDM_E_INVALID : TDM_OK;
}

bool tdm_tolerance_holds(const tdm_tolerance *tolerance, const tdm_comparison *c,
                         const char *figure, double *error)
{
    const tdm_compare_row *row = figure_row(c, figure);
    *error = row ? tdm_compare_error(row->predicted, row->measured) : NAN;
    return fabs(*error) <= tolerance->share;
}

bool tdm_tolerance_all(const tdm_tolerance *tolerance, const tdm_comparison *c)
{
    double error;
    bool all = true;
    for (size_t i = 0; i < tolerance->n_figures; i++)
        all = tdm_tolerance_holds(tolerance, c, tolerance->figures[i], &error) && all;
    return all;
}

int tdm_tolerance_verdict(const tdm_tolerance *tolerance, const tdm_comparison *c)
{
    return tolerance->given && !tdm_tolerance_all(tolerance, c) ? TDM_E_TOLERANCE : TDM_OK;
}
