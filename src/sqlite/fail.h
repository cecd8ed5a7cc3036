#ifndef SQLITE_FAIL_H
#define SQLITE_FAIL_H

#include <sqlite3.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Fills *err from the connection's last error and returns -class: RETRY for what passes (a lock, a full disk), CONFIG for what somebody must
 * change (rights, another kind of file), else FATAL. vendor_code is the extended code. `what` and `path` begin the message: state "/x/state.db";
 * busy_ms is how long was waited for a lock.
 */
int duct_sqlite_fail(struct duct_error *err, sqlite3 *handle, const char *what, const char *path, int64_t busy_ms);

#endif
