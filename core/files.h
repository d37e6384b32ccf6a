/* files.h: finds the files that scenarios name: models, topologies, devices. */
#ifndef TDM_FILES_H
#define TDM_FILES_H

#include "doc.h"

/* The file's name without folders and without ".yaml". */
const char *tdm_file_stem(tdm_arena *arena, const char *path);
/* folder/name; just name when the folder is "" or "." */
const char *tdm_file_join(tdm_arena *arena, const char *folder, const char *name);
/* The folder of a path, "." when it has none. */
const char *tdm_file_folder(tdm_arena *arena, const char *path);

/* A folder to look in, and what messages call what is there. */
typedef struct tdm_file_kind {
    const char *noun, *plural; /* "model", "models" */
    const char *folder;        /* below the root: "scenarios/models" */
    const char *inside;        /* file that a folder stands for, "config.json"; NULL: none */
} tdm_file_kind;
extern const tdm_file_kind tdm_file_model, tdm_file_topology, tdm_file_device;

/* The file that the scalar `node` names: root/folder/NAME.yaml, else NAME.yaml beside the scenario;
 * a name with a slash or ending in .yaml or .json is a path, from the scenario's folder or from the
 * working folder; a folder stands for the file that the kind says, if any. On failure says what was
 * probably meant. */
tdm_code tdm_file_find(tdm_arena *arena, const tdm_file_kind *kind, const char *root,
                       const char *beside, const tdm_node *node, const char **path, tdm_error *err);
/* The same for a name that was not written in a scenario; NULL when there is no such file. */
const char *tdm_file_lookup(tdm_arena *arena, const tdm_file_kind *kind, const char *root,
                            const char *beside, const char *name);

/* The bytes of a file of at most 64 MiB, in arena. Messages name the path. */
tdm_code tdm_file_read(tdm_arena *arena, const char *path, const char **text, size_t *length,
                       tdm_error *err);

#endif
