#ifndef ADMIN_SETTINGS_H
#define ADMIN_SETTINGS_H

#include "net/rpc.h"
#include "cli/cli.h"

/* The flags that every command takes: which server, how to speak to it, how long to wait, how to print. */
extern const struct cli_flag admin_common_flags[];

/* Where the flags and the environment (DUCTSTREAM_ENDPOINT, DUCTSTREAM_TOKEN) lead; static storage. */
int admin_settings_target(const struct rpc_target **ret, struct duct_error *err) DUCT_CHECKED;

/* --timeout; fallback when it is not given. Checked by admin_settings_check(). */
int64_t admin_settings_timeout_ms(int64_t fallback);
bool admin_settings_pretty(void);

/* The flags' values by themselves. */
int admin_settings_check(struct duct_error *err) DUCT_CHECKED;

#endif
