/* Notices of the server: see notice.h. */
#include "pg/notice.h"

#include <string.h>

#include "base/log.h"

static void log_notice(void *arg, const PGresult *res)
{
	const struct pg_notices *n = arg;
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
	bool warning = severity && strcmp(severity, "WARNING") == 0;
	if (n->log && text)
		DUCT_LOG(n->log, warning ? DUCT_WARN : DUCT_DEBUG, "the server says", LOG_STR("of", n->of),
			 LOG_STR("message", text));
}

static void drop_notice(void *arg, const PGresult *res)
{
	(void)arg, (void)res;
}

void pg_notices_log(PGconn *conn, const struct pg_notices *notices)
{
	(void)PQsetNoticeReceiver(conn, log_notice, (void *)(uintptr_t)notices);
}

void pg_notices_drop(PGconn *conn)
{
	(void)PQsetNoticeReceiver(conn, drop_notice, NULL);
}
