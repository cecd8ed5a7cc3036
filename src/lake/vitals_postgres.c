/*
 * Who holds up a catalog in Postgres: sessions that others wait for, transactions that last, strong locks on the catalog's tables, transactions that
 * were prepared and forgotten. The server's views show them; the tables themselves are not touched, so that no lock is in the way.
 */
#include <stdlib.h>
#include <string.h>

#include "lake/vitals_internal.h"

enum { WAITED_S = 1, MOST_TOLD = 5 };

/*
 * A row per session: pid, who, state, seconds of its transaction, how many wait for it, for how long at most, and on what; the strongest lock it has
 * on a table of the catalog. Those who wait are few: only they are asked by whom they are held up, which is dear.
 */
static void sessions_sql(struct duct_buf *to, const struct vitals *v)
{
	duct_buf_puts(
		to,
		"WITH waits AS MATERIALIZED (SELECT w.pid, extract(epoch FROM clock_timestamp() - w.query_start)::int8 AS waited, "
		"unnest(pg_blocking_pids(w.pid)) AS by, (SELECT string_agg(DISTINCT coalesce(c.relname, l.locktype || ' lock'), ', ') "
		"FROM pg_locks l LEFT JOIN pg_class c ON c.oid = l.relation AND l.database = (SELECT oid FROM pg_database WHERE "
		"datname = current_database()) WHERE l.pid = w.pid AND NOT l.granted) AS what FROM pg_stat_activity w "
		"WHERE w.datname = current_database() AND w.wait_event_type = 'Lock'), "
		"held AS (SELECT l.pid, min(l.mode || ' on ' || c.relname) AS mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
		"JOIN pg_namespace n ON n.oid = c.relnamespace WHERE l.granted AND l.mode IN ('AccessExclusiveLock', 'ExclusiveLock', "
		"'ShareRowExclusiveLock') AND c.relname LIKE 'ducklake\\_%' AND n.nspname = ");
	duct_buf_sql_literal(to, v->db->schema);
	duct_buf_printf(
		to,
		" GROUP BY l.pid) "
		"SELECT a.pid, concat_ws(', ', a.usename, nullif(a.application_name, ''), coalesce(host(a.client_addr), 'local')), "
		"coalesce(a.state, 'of unknown state'), coalesce(extract(epoch FROM clock_timestamp() - a.xact_start)::int8, 0), "
		"(SELECT count(DISTINCT pid) FROM waits WHERE by = a.pid AND waited >= %d), "
		"(SELECT coalesce(max(waited), 0) FROM waits WHERE by = a.pid), "
		"(SELECT string_agg(DISTINCT what, ', ') FROM waits WHERE by = a.pid), h.mode "
		"FROM pg_stat_activity a LEFT JOIN held h ON h.pid = a.pid "
		"WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND coalesce(a.backend_type, 'client backend') = 'client backend' AND ("
		"a.pid IN (SELECT by FROM waits WHERE waited >= %d) OR a.xact_start < clock_timestamp() - interval '%lld ms' OR "
		"(h.pid IS NOT NULL AND a.xact_start < clock_timestamp() - interval '%d s')) "
		"ORDER BY 5 DESC, a.xact_start NULLS LAST LIMIT %d;",
		WAITED_S, WAITED_S, (long long)v->wish->long_ms, WAITED_S, MOST_TOLD);
}

static void prepared_sql(struct duct_buf *to, const struct vitals *v)
{
	duct_buf_printf(
		to,
		"SELECT gid, owner, extract(epoch FROM clock_timestamp() - prepared)::int8 FROM pg_prepared_xacts WHERE "
		"database = current_database() AND prepared < clock_timestamp() - interval '%lld ms' ORDER BY prepared LIMIT %d;",
		(long long)v->wish->long_ms, MOST_TOLD);
}

/* Of others' sessions a role sees only who they are, unless it may read all statistics. */
static const char hidden_sql[] =
	"SELECT count(*), current_user FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
	"AND backend_type IS NULL AND usesysid IS NOT NULL HAVING count(*) > 0";

static void take_session(struct vitals *v, const char *const *s)
{
	int64_t age = lake_int(s[3], 0), waiting = lake_int(s[4], 0), waited = lake_int(s[5], 0);
	AUTO_BUF struct duct_buf what = {0}, remedy = {0};
	duct_buf_printf(&what, "session %s (%s) is %s", s[0], s[1], s[2]);
	if (age) {
		duct_buf_puts(&what, ", in a transaction of ");
		vitals_put_age(&what, age);
	}
	if (s[7])
		duct_buf_printf(&what, ", holds %s", s[7]);
	if (waiting) {
		duct_buf_printf(&what, "; %lld %s waited for it up to ", (long long)waiting, waiting == 1 ? "has" : "have");
		vitals_put_age(&what, waited);
		duct_buf_printf(&what, " (%s)", s[6] ? s[6] : "a lock");
	}
	duct_buf_printf(&remedy, "commit or end it there, or SELECT pg_terminate_backend(%s)", s[0]);
	v->ret->held |= s[7] != NULL;
	v->report(v->arg, waiting || s[7] ? DUCT_FINDING_ERROR : DUCT_FINDING_WARN, what.data, remedy.data);
	v->holdups++;
}

static void take_prepared(struct vitals *v, const char *const *p)
{
	AUTO_BUF struct duct_buf what = {0}, remedy = {0}, name = {0};
	duct_buf_sql_literal(&name, p[0]);
	duct_buf_printf(&what, "prepared transaction %s of %s waits to be ended for ", name.data, p[1]);
	vitals_put_age(&what, lake_int(p[2], 0));
	duct_buf_printf(&remedy, "COMMIT PREPARED %s or ROLLBACK PREPARED %s: it keeps its locks", name.data, name.data);
	v->report(v->arg, DUCT_FINDING_WARN, what.data, remedy.data);
	v->holdups++;
}

static int take(void *arg, int set, const char *const *values, struct duct_error *err)
{
	struct vitals *v = arg;
	(void)err;
	if (set == 0) {
		take_session(v, values);
	} else if (set == 1) {
		take_prepared(v, values);
	} else {
		AUTO_FREE char *remedy = duct_xasprintf("GRANT pg_read_all_stats TO \"%s\"", values[1]);
		vitals_tell(v, DUCT_FINDING_WARN, remedy, "what %s other sessions do is not shown to role \"%s\"", values[0],
			    values[1]);
	}
	return 0;
}

int vitals_postgres_holdups(struct vitals *v, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	sessions_sql(&sql, v);
	prepared_sql(&sql, v);
	duct_buf_puts(&sql, hidden_sql);
	return v->db->ops->query(v->db, sql.data, take, v, err);
}
