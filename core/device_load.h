/* device_load.h: reads topologies/devices/NAME.yaml. */
#ifndef TDM_DEVICE_LOAD_H
#define TDM_DEVICE_LOAD_H

#include "device.h"

/* Reads a device profile. Every mistake is reported at once as path:line:column messages; *device
 * is untouched then. */
tdm_code tdm_device_load(tdm_arena *arena, const char *path, tdm_device *device, tdm_error *err);

#endif
