/* page.h: a result as one HTML page. What it shows is read from the result's files: figures.json,
 * ops.csv, scenario.yaml, command.txt, and for a validated scenario comparison.json. */
#ifndef TDM_PAGE_H
#define TDM_PAGE_H

#include "compare.h"
#include "html.h"

#include <jansson.h>

/* A picture that was drawn. */
typedef struct tdm_page_picture {
    const char *name, *path, *caption;
    bool shown;
} tdm_page_picture;

/* A result of sim or run. */
typedef struct tdm_page_result {
    const char *folder;
    json_t *document;     /* figures.json */
    tdm_side side;        /* the same, with op classes */
    const char *scenario; /* scenario.yaml, resolved; NULL: there is none */
    const char *command;  /* command.txt; NULL: there is none */
} tdm_page_result;

typedef struct tdm_page {
    tdm_arena *arena;
    FILE *file;
    const char *title;
    tdm_page_picture *pictures; /* [n_pictures] */
    uint32_t n_pictures;
    const char *no_pictures; /* why there are none; NULL: there are */
} tdm_page;

/* A predicted and a carried out result of one scenario. */
typedef struct tdm_page_pair {
    tdm_page_result predicted, measured;
    tdm_comparison comparison;
    tdm_tolerance tolerance;
} tdm_page_pair;

/* Reads the folder of a result. The document is to be given back with json_decref. */
tdm_code tdm_page_read(tdm_arena *arena, const char *root, const char *folder,
                       tdm_page_result *result, tdm_error *err);
/* Whether the folder holds a result, or both sides of one. */
bool tdm_page_is_result(tdm_arena *arena, const char *folder);
bool tdm_page_is_pair(tdm_arena *arena, const char *folder);
/* The same for both sides below the folder, and how they compare. */
tdm_code tdm_page_read_pair(tdm_arena *arena, const char *root, const char *folder,
                            tdm_page_pair *pair, tdm_error *err);

/* The whole page. */
tdm_code tdm_page_write_result(tdm_page *page, const tdm_page_result *result, tdm_error *err);
tdm_code tdm_page_write_pair(tdm_page *page, const tdm_page_pair *pair, tdm_error *err);

/* ---- parts of it, in their order ---- */

/* The picture, if it was drawn; those that no section has shown. */
tdm_code tdm_page_show(tdm_page *page, const char *picture, tdm_error *err);
tdm_code tdm_page_show_others(tdm_page *page, tdm_error *err);
/* A number in large, what it is, and its class ("pass", "fail" or ""). */
void tdm_page_tile(const tdm_page *page, const char *value, const char *text, const char *class_);
/* Model, machine, layout, schedule. */
void tdm_page_setup(const tdm_page *page, const json_t *document);
/* Whether each target is met; of two results side by side (b NULL: of one). */
void tdm_page_checklist(const tdm_page *page, const json_t *a, const json_t *b);
/* The step's parts, every figure, communication, stages, memory, and ranks of one result. */
void tdm_page_step(const tdm_page *page, const json_t *document);
void tdm_page_figures(const tdm_page *page, const json_t *document);
void tdm_page_classes(const tdm_page *page, const tdm_side *side);
void tdm_page_communication(const tdm_page *page, const json_t *document);
void tdm_page_stages(const tdm_page *page, const json_t *document);
void tdm_page_memory(const tdm_page *page, const json_t *document);
void tdm_page_ranks(const tdm_page *page, const json_t *document);
/* The steps that were carried out; nothing of a prediction. */
void tdm_page_steps(const tdm_page *page, const json_t *document);
/* Where the numbers come from and what they are worth. */
void tdm_page_evidence(const tdm_page *page, const json_t *document, const char *heading);
/* The command and the scenario. */
void tdm_page_source(const tdm_page *page, const tdm_page_result *result);

/* ---- of JSON documents ---- */

/* The value at keys separated by dots; NULL where there is none. */
const json_t *tdm_page_at(const json_t *document, const char *path);
/* As a number, NAN where it is none; as text, "" where it is none. */
double tdm_page_number(const json_t *document, const char *path);
const char *tdm_page_text(const json_t *document, const char *path);

static inline tdm_style tdm_page_style(void)
{
    return (tdm_style){.html = true};
}

#endif
