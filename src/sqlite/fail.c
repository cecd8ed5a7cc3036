/* Errors of SQLite: see fail.h. */
#include "sqlite/fail.h"

#include <string.h>

static enum duct_class class_of(int code)
{
	switch (code & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_FULL:
	case SQLITE_IOERR:
	case SQLITE_PROTOCOL: /* others began and ended with the write-ahead log all the time, while it was being opened */
	case SQLITE_INTERRUPT: return DUCT_RETRY;
	case SQLITE_PERM:
	case SQLITE_READONLY:
	case SQLITE_CANTOPEN:
	case SQLITE_AUTH:
	case SQLITE_NOTADB: return DUCT_CONFIG;
	default: return DUCT_FATAL;
	}
}

int duct_sqlite_fail(struct duct_error *err, sqlite3 *handle, const char *what, const char *path, int64_t busy_ms)
{
	int code = sqlite3_extended_errcode(handle), rc, cause = sqlite3_system_errno(handle);
	if ((code & 0xff) == SQLITE_BUSY)
		rc = duct_fail(err, class_of(code), "%s \"%s\": locked by another process for longer than %lld ms", what, path,
			       (long long)busy_ms);
	else if ((code & 0xff) == SQLITE_IOERR && cause) /* "disk I/O error" names no cause */
		rc = duct_fail(err, class_of(code), "%s \"%s\": %s: %s", what, path, sqlite3_errmsg(handle), strerror(cause));
	else
		rc = duct_fail(err, class_of(code), "%s \"%s\": %s", what, path, sqlite3_errmsg(handle));
	if (err)
		err->vendor_code = code;
	return rc;
}
