/* Making settled messages available again, and letting old ones go. */
#include "stream/internal.h"

#include <inttypes.h>
#include <time.h>

#include "record/position.h"

/* Microseconds since 1970 as a Postgres timestamptz; the server's own arithmetic is exact on integers. */
static void time_text(char *to, size_t size, int64_t us)
{
	int64_t s = us / 1000000, rest = us % 1000000;
	if (rest < 0) {
		s--;
		rest += 1000000;
	}
	time_t t = (time_t)s;
	struct tm tm;
	(void)gmtime_r(&t, &tm);
	(void)snprintf(to, size, "%04d-%02d-%02d %02d:%02d:%02d.%06d+00", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
		       tm.tm_min, tm.tm_sec, (int)rest);
}

int stream_replay(struct pg_session *pg, const char *stream, const char *group, uint64_t from_lsn, int64_t since_us,
		  int64_t *ret_reset, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	char lsn[DUCT_LSN_LEN], since[64];
	/* Years that Postgres has in both directions; what is outside is all or nothing. */
	const int64_t least = -62135596800000000, most = 253402300799000000;
	time_text(since, sizeof since, since_us < least ? least : since_us > most ? most : since_us);
	const char *params[] = {stream, group, from_lsn ? duct_lsn_format(lsn, from_lsn) : NULL,
				since_us == INT64_MIN ? NULL : since};
	int rc = stream_query(pg, "SELECT ductstream.stream_replay($1, $2, $3, $4)", DUCT_LEN(params), params, true, &res, err);
	if (rc < 0)
		return duct_wrap(err, "replay");
	*ret_reset = stream_cell_i64(res, 0, 0);
	return 0;
}

int stream_retain(struct pg_session *pg, int stream_id, int most, bool *ret_left, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL, *gone = NULL;
	char id[16], limit[16];
	(void)snprintf(id, sizeof id, "%d", stream_id);
	(void)snprintf(limit, sizeof limit, "%d", most);
	const char *params[] = {id, limit};
	int rc = stream_query(pg, "SELECT ductstream.stream_retain($1)", 1, params, true, &res, err);
	if (rc == 0)
		rc = stream_query(pg, "SELECT ductstream.stream_trim($1, $2)", DUCT_LEN(params), params, true, &gone, err);
	if (rc < 0)
		return duct_wrap(err, "retention");
	*ret_left = stream_cell_i64(gone, 0, 0) >= most;
	return 0;
}
