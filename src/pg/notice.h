#ifndef PG_NOTICE_H
#define PG_NOTICE_H

#include <libpq-fe.h>

struct duct_log;

/* What a server says while we connect goes to the log (NULL: nowhere): warnings as such, the rest for debugging. Libpq would
 * write it to stderr. `of` says which connection; both are borrowed until pg_notices_drop(). */
struct pg_notices {
	const struct duct_log *log;
	const char *of;
};
void pg_notices_log(PGconn *conn, const struct pg_notices *notices);
void pg_notices_drop(PGconn *conn); /* from now on nothing ("already exists, skipping") */

#endif
