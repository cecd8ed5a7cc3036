/* Making, dropping and judging replication slots. */
#include "source/postgres/postgres.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "record/position.h"

#include <stdio.h>
#include <string.h>

/* The server's kB are 1024 bytes, and fewer than 64 it refuses; ours are 1000 ("64kB" must work). */
static int64_t work_mem_kb(int64_t bytes)
{
	return bytes < 64 << 10 ? 64 : bytes / 1024;
}

int postgres_open_session(struct postgres_source *src, bool replication, struct pg_session **ret, struct duct_error *err)
{
	const struct postgres_config *c = src->config;
	AUTO_FREE char *settings =
		duct_xasprintf("-c lock_timeout=%lldms%s", (long long)c->lock_timeout_ms,
			       replication ? "" : " -c row_security=off -c enable_tidscan=on -c default_transaction_read_only=off");
	AUTO_FREE char *all = replication
		? duct_xasprintf("%s -c logical_decoding_work_mem=%lldkB", settings, (long long)work_mem_kb(c->work_mem))
		: duct_xstrdup(settings);
	const struct pg_session_options options = {
		.dsn = c->dsn,
		.replication = replication,
		.settings = all,
		.stop_fd = src->ctx->stop_fd,
		.log = src->sql ? NULL : src->ctx->log, /* one session says it for all */
	};
	return pg_session_open(ret, &options, err);
}

/* Who a new slot waits for: everybody with a transaction that has written. */
static int fail_blocked(struct postgres_source *src, const char *name, struct duct_error *err)
{
	AUTO_BUF struct duct_buf who = {0};
	AUTO_PGRESULT PGresult *res = NULL;
	struct duct_error ignored;
	if (pg_exec(src->sql,
		    "select * from (select 'process ' || pid || coalesce(' (' || nullif(application_name, '') || ')', '') || "
		    "' for ' || extract(epoch from clock_timestamp() - xact_start)::bigint || ' s' from pg_catalog.pg_stat_activity where backend_xid "
		    "is not null and pid <> pg_backend_pid() order by xact_start limit 5) a union all select 'prepared "
		    "transaction ' || gid from pg_catalog.pg_prepared_xacts limit 8",
		    &res, &ignored) == 0)
		for (int i = 0; i < PQntuples(res); i++)
			duct_buf_printf(&who, "%s%s", i ? ", " : "", PQgetvalue(res, i, 0));
	return duct_fail(err, DUCT_RETRY,
			 "slot \"%s\" cannot be made: it waits for transactions that are open at the source (%s); end them, or "
			 "raise the option lock_timeout (%lld ms)",
			 name, who.len ? who.data : "they have ended by now", (long long)src->config->lock_timeout_ms);
}

/* Runs a command on a session while the server of the stream is kept informed. */
static int exec_ticking(struct postgres_source *src, struct pg_session *session, const char *sql, PGresult **ret,
			struct duct_error *err)
{
	if (!PQsendQuery(session->conn, sql))
		return pg_fail(err, session, NULL, "sending a command");
	for (;;) {
		if (!PQconsumeInput(session->conn))
			return pg_fail(err, session, NULL, "waiting for a command");
		if (!PQisBusy(session->conn))
			break;
		int r = pg_wait(session, 1000, err);
		if (r < 0) {
			char buf[256];
			PGcancel *cancel = PQgetCancel(session->conn);
			if (cancel)
				(void)PQcancel(cancel, buf, sizeof buf); /* the server would wait on without us */
			PQfreeCancel(cancel);
			return r;
		}
		if (src->started && (r = postgres_tick(src, &src->durable, err)))
			return r;
	}
	PGresult *res = PQgetResult(session->conn);
	for (PGresult *more; (more = PQgetResult(session->conn));)
		PQclear(more);
	ExecStatusType st = PQresultStatus(res);
	if (st != PGRES_TUPLES_OK && st != PGRES_COMMAND_OK) {
		int r = pg_fail(err, session, res, "replication command");
		PQclear(res);
		return r;
	}
	*ret = res;
	return 0;
}

int postgres_slot_create(struct postgres_source *src, struct pg_session *session, const char *name, bool temporary,
			 enum postgres_export snapshot, struct postgres_new_slot *ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_FREE char *sql =
		duct_xasprintf("CREATE_REPLICATION_SLOT \"%s\"%s LOGICAL pgoutput %s", name, temporary ? " TEMPORARY" : "",
			       snapshot == POSTGRES_EXPORT_SNAPSHOT ? "EXPORT_SNAPSHOT" : "NOEXPORT_SNAPSHOT");
	int r = exec_ticking(src, session, sql, &res, err);
	if (r && strcmp(err->sqlstate, "55P03") == 0)
		return fail_blocked(src, name, err);
	if (r && strcmp(err->sqlstate, "53400") == 0)
		return duct_fail(err, DUCT_CONFIG,
				 "slot \"%s\" cannot be made: all %d max_replication_slots are in use: drop one or raise the "
				 "setting",
				 name, src->server.max_slots);
	if (r)
		return duct_wrap(err, "slot \"%s\" cannot be made", name);
	*ret = (struct postgres_new_slot){0};
	if (PQntuples(res) != 1 || duct_lsn_parse(PQgetvalue(res, 0, 1), &ret->lsn, err))
		return duct_fail(err, DUCT_FATAL, "the server answers CREATE_REPLICATION_SLOT without a position");
	snprintf(ret->snapshot, sizeof ret->snapshot, "%s", PQgetvalue(res, 0, 2));
	return 0;
}

int postgres_slot_drop(struct postgres_source *src, const char *name, struct duct_error *err)
{
	const char *const params[] = {name};
	int r = pg_query(src->sql, "select pg_catalog.pg_drop_replication_slot($1)", 1, params, NULL, err);
	if (r && strcmp(err->sqlstate, "42704") == 0)
		return 0; /* is gone */
	if (r && strcmp(err->sqlstate, "55006") == 0)
		err->class = DUCT_RETRY, r = -DUCT_RETRY; /* a walsender of ours may still be ending */
	return r ? duct_wrap(err, "slot \"%s\" cannot be dropped", name) : 0;
}

/* Why the server gave a slot up, by pg_replication_slots.invalidation_reason (17 and later). */
static int fail_lost(const struct pg_slot *slot, const char *name, struct duct_error *err)
{
	static const struct {
		const char *reason, *why, *remedy;
	} known[] = {
		{"rows_removed", "VACUUM removed rows of the catalog that it needed", "set hot_standby_feedback on the standby"},
		{"wal_level_insufficient", "wal_level of the primary was lowered", "set wal_level = logical there"},
		{"idle_timeout", "no flow used it for so long", "raise idle_replication_slot_timeout"},
		{"", "the server removed log that it needed", "raise max_slot_wal_keep_size"}, /* wal_removed, too */
	};
	size_t i = 0;
	while (known[i].reason[0] && strcmp(known[i].reason, slot->invalidation_reason) != 0)
		i++;
	return duct_fail(err, DUCT_CONFIG,
			 "slot \"%s\" is lost (%s): %s; drop it with pg_drop_replication_slot and copy afresh; %s", name,
			 slot->invalidation_reason[0] ? slot->invalidation_reason : "wal_status lost", known[i].why,
			 known[i].remedy);
}

int postgres_slot_usable(struct postgres_source *src, const struct pg_slot *slot, struct duct_error *err)
{
	const char *name = src->config->slot;
	if (!slot->logical)
		return duct_fail(err, DUCT_CONFIG, "slot \"%s\" is a physical one: name another", name);
	if (strcmp(slot->plugin, "pgoutput") != 0)
		return duct_fail(err, DUCT_CONFIG, "slot \"%s\" belongs to plugin \"%s\", not pgoutput: name another", name,
				 slot->plugin);
	if (strcmp(slot->database, src->server.database) != 0)
		return duct_fail(err, DUCT_CONFIG, "slot \"%s\" belongs to database \"%s\", the dsn leads to \"%s\"", name,
				 slot->database, src->server.database);
	if (strcmp(slot->wal_status, "lost") == 0 || slot->invalidation_reason[0])
		return fail_lost(slot, name, err);
	if (slot->active)
		return duct_fail(err, DUCT_RETRY,
				 "slot \"%s\" is in use by process %d of the server: another worker of this flow, or one that "
				 "just ended (then it is free within wal_sender_timeout)",
				 name, slot->active_pid);
	return 0;
}
