#ifndef FLOW_FLOW_ENV_H
#define FLOW_FLOW_ENV_H

#include "flow/flow_yaml.h"

/* Replaces ${NAME} and ${NAME:-default}; the result lives in the arena. A missing variable and a reference that is not
 * closed are CONFIG errors, which never show a value. */
int flow_env_expand(const char **ret, struct duct_arena *arena, const char *text, flow_getenv_fn *env,
		    struct duct_error *err) DUCT_CHECKED;

#endif
