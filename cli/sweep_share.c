/* sweep_share.c: the points of a sweep, shared out among processes: process 0 has the journal and
 * all rows; the others ask it for a point when they have a child to spare, and tell it what came
 * out. A message is a line of text: "?" asks, "POINT" and "." answer, "!SIGNAL" was interrupted,
 * "POINT LINE" has the line of a row, as a child writes it. */
#include "sweep.h"

#include <stdlib.h>
#include <string.h>

static tdm_code send_text(const tdm_sweep_share *s, uint32_t to, const char *text, tdm_error *err)
{
    return tdm_world_send(s->world, to, text, strlen(text), err);
}

static uint32_t n_processes(const tdm_sweep_share *s)
{
    return s->world ? tdm_world_shape_of(s->world)->n_processes : 1;
}

bool tdm_sweep_share_works(const tdm_sweep_share *s)
{
    return s->world && tdm_world_shape_of(s->world)->process > 0;
}

bool tdm_sweep_share_is_over(const tdm_sweep_share *s)
{
    return tdm_sweep_share_works(s) ? s->over
                                    : s->n_away == 0 && s->n_dismissed == n_processes(s) - 1;
}

tdm_code tdm_sweep_share_begin(tdm_arena *arena, tdm_sweep *sweep, tdm_error *err)
{
    tdm_world *world = sweep->share.world;
    if (!world)
        return TDM_OK;
    uint64_t numbers[2] = {sweep->key_start, 0}; /* and the length of the journal */
    char *text = NULL;
    size_t n = 0;
    bool works = tdm_sweep_share_works(&sweep->share);
    tdm_code code = TDM_OK;
    if (!works)
        code = tdm_sweep_journal_text(arena, &sweep->journal, &text, &n, err);
    numbers[1] = n;
    if (code == TDM_OK)
        code = tdm_world_share(world, 0, numbers, sizeof numbers, err);
    if (code == TDM_OK && numbers[0] != sweep->key_start)
        return tdm_error_add(err, TDM_E_INVALID,
                             "sweep: this is another build of the program than that of process 0");
    if (code == TDM_OK && works)
        text = tdm_arena_alloc(arena, numbers[1] + 1);
    if (code == TDM_OK)
        code = tdm_world_share(world, 0, text, numbers[1], err);
    if (code == TDM_OK && works) {
        sweep->journal.path = "the journal of process 0";
        code = tdm_sweep_journal_adopt(arena, &sweep->journal, text, numbers[1], err);
    }
    return code;
}

/* ---- process 0 ---- */

static tdm_code answer(tdm_sweep_share *s, uint32_t from, uint32_t *next, uint32_t n_points,
                       tdm_error *err)
{
    char text[16] = ".";
    if (*next < n_points) {
        snprintf(text, sizeof text, "%u", (*next)++);
        s->n_away++;
    } else {
        s->n_dismissed++;
    }
    return send_text(s, from, text, err);
}

tdm_code tdm_sweep_share_serve(tdm_sweep_share *s, uint32_t *next, uint32_t n_points,
                               tdm_sweep_take *take, void *context, int *signal, tdm_error *err)
{
    tdm_code code = TDM_OK;
    tdm_arena arena = {0};
    uint64_t n = s->world ? 1 : 0;
    while (code == TDM_OK && n > 0) {
        uint32_t from = UINT32_MAX;
        char *text = NULL, *line;
        code = tdm_world_take(&arena, s->world, &from, &text, &n, err);
        if (code != TDM_OK || n == 0)
            break;
        if (text[0] == '?') {
            code = answer(s, from, next, n_points, err);
        } else if (text[0] == '!') {
            *signal = atoi(text + 1);
        } else {
            uint32_t point = (uint32_t)strtoul(text, &line, 10);
            s->n_away--;
            if (*line != ' ' || point >= n_points)
                code =
                    tdm_error_add(err, TDM_E_INTERNAL, "sweep: process %u speaks nonsense", from);
            else
                code = take(context, point, line + 1, (size_t)(text + n - line) - 1);
        }
    }
    tdm_arena_free(&arena);
    return code;
}

/* ---- the others ---- */

tdm_code tdm_sweep_share_ask(tdm_sweep_share *s, bool wants, uint32_t *point, tdm_error *err)
{
    tdm_arena arena = {0};
    uint32_t from = 0;
    uint64_t n = 0;
    char *text = NULL;
    tdm_code code = TDM_OK;
    *point = UINT32_MAX;
    if (wants && !s->asked && !s->over) {
        code = send_text(s, 0, "?", err);
        s->asked = true;
    }
    if (code == TDM_OK && s->asked)
        code = tdm_world_take(&arena, s->world, &from, &text, &n, err);
    if (code == TDM_OK && n > 0) {
        s->asked = false;
        s->over = text[0] == '.';
        *point = s->over ? UINT32_MAX : (uint32_t)strtoul(text, NULL, 10);
    }
    tdm_arena_free(&arena);
    return code;
}

tdm_code tdm_sweep_share_tell(const tdm_sweep_share *s, uint32_t point, const char *line,
                              tdm_error *err)
{
    tdm_arena arena = {0};
    tdm_code code = send_text(s, 0, tdm_arena_printf(&arena, "%u %s", point, line), err);
    tdm_arena_free(&arena);
    return code;
}

tdm_code tdm_sweep_share_interrupt(const tdm_sweep_share *s, int signal, tdm_error *err)
{
    char text[16];
    snprintf(text, sizeof text, "!%d", signal);
    return send_text(s, 0, text, err);
}
