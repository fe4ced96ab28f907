/* Shapes of well-known models by name, for runs that need no weights of their own: benchmarks and
 * memory plans. */
#ifndef MP_MODELS_PRESETS_H
#define MP_MODELS_PRESETS_H

#include "core/base/error.h"

/* *config gets the config.json of the model named, with the keys that mp_hf_config_parse needs and
 * no end tokens; static, NUL-terminated. An unknown name is MP_ERR_USAGE; the message suggests the
 * nearest known one and lists all. */
int mp_preset_find(const char *name, const char **config, struct mp_error *err);

/* The known names, separated by ", "; static. */
const char *mp_preset_names(void);

#endif
