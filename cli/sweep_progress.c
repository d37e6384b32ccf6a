/* sweep_progress.c: how far a sweep got. */
#include "sweep.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { BAR_WIDTH = 24, LINE_WIDTH = 79 };
static const double terminal_every_s = 0.1, line_every_s = 10;

double tdm_sweep_clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void tdm_sweep_progress_start(tdm_sweep_progress *progress, uint32_t n_points, bool quiet)
{
    const char *terminal = getenv("TERM");
    double now_s = tdm_sweep_clock_s();
    *progress = (tdm_sweep_progress){.quiet = quiet,
                                     .terminal = isatty(STDERR_FILENO) &&
                                                 !(terminal && terminal[0] == 'd'), /* "dumb" */
                                     .n_points = n_points,
                                     .start_s = now_s,
                                     .last_s = now_s};
}

void tdm_sweep_progress_row(tdm_sweep_progress *progress, const tdm_sweep_row *row, bool computed)
{
    progress->n_done++;
    progress->n_computed += computed;
    progress->n_without += row->status != TDM_SWEEP_OK;
}

/* "1 h 02 min", "3 min 20 s", "12 s" */
static void write_time(char *text, size_t capacity, double seconds)
{
    if (seconds >= 359999)
        snprintf(text, capacity, "more than 99 h");
    else if (seconds >= 3600)
        snprintf(text, capacity, "%d h %02d min", (int)seconds / 3600, (int)seconds / 60 % 60);
    else if (seconds >= 60)
        snprintf(text, capacity, "%d min %02d s", (int)seconds / 60, (int)seconds % 60);
    else
        snprintf(text, capacity, "%d s", (int)seconds);
}

static void write_bar(char *bar, double share)
{
    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < (int)(share * BAR_WIDTH) ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
}

void tdm_sweep_progress_show(tdm_sweep_progress *p)
{
    double now_s = tdm_sweep_clock_s(), past_s = now_s - p->start_s;
    if (p->quiet || now_s - p->last_s < (p->terminal ? terminal_every_s : line_every_s))
        return;
    p->last_s = now_s;
    double rate = past_s > 0 ? p->n_done / past_s : 0;
    char left[32] = "?", bar[BAR_WIDTH + 1], line[160];
    if (rate > 0)
        write_time(left, sizeof left, (p->n_points - p->n_done) / rate);
    write_bar(bar, (double)p->n_done / p->n_points);
    if (!p->terminal) {
        fprintf(stderr, "%u of %u points, %.1f points/s, %s left, %u do not fit or are invalid\n",
                p->n_done, p->n_points, rate, left, p->n_without);
        return;
    }
    snprintf(line, sizeof line, "[%s] %u/%u  %.1f/s  %s left  %u unfit", bar, p->n_done,
             p->n_points, rate, left, p->n_without);
    fprintf(stderr, "\r%-*.*s", LINE_WIDTH, LINE_WIDTH, line);
    p->shown = true;
}

void tdm_sweep_progress_clear(tdm_sweep_progress *progress)
{
    if (progress->shown)
        fprintf(stderr, "\r%*s\r", LINE_WIDTH, "");
    progress->shown = false;
}
