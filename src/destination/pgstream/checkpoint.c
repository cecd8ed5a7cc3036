/* The flow's checkpoint in its stream: who owns it, and how far it is. */
#include "destination/pgstream/pgstream.h"

#include <inttypes.h>

#include "base/killpoint.h"
#include "stream/stream.h"

int pgstream_fenced(const struct pgstream *d, int64_t epoch, struct duct_error *err)
{
	return duct_fail(err, DUCT_FATAL,
			 "flow \"%s\" was taken over by another process (fenced: epoch %" PRId64 ", ours %" PRId64 ")",
			 d->ctx->flow, epoch, d->epoch);
}

void pgstream_put_key(const struct pgstream *d, struct duct_buf *to)
{
	duct_buf_puts(to, "flow = ");
	duct_buf_sql_literal(to, d->ctx->flow);
	duct_buf_printf(to, " AND stream_id = %d", d->stream_id);
}

static int open_session(struct pgstream *d, struct duct_error *err)
{
	const struct pg_session_options o = {
		.dsn = d->config->dsn,
		.settings = STREAM_SESSION_SETTINGS,
		.stop_fd = d->ctx->stop_fd,
		.log = d->ctx->log,
	};
	return pg_session_open(&d->pg, &o, err);
}

#define OWN_BACKEND \
	"owner_pid = pg_catalog.pg_backend_pid(), owner_start = (SELECT a.backend_start FROM pg_catalog.pg_stat_activity a " \
	"WHERE a.pid = pg_catalog.pg_backend_pid())"

/* After an abort: the same owner with another session. */
int pgstream_connect(struct pgstream *d, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf sql = {0};
	if (d->pg)
		return 0;
	int rc = open_session(d, err);
	if (rc < 0)
		return rc;
	duct_buf_puts(&sql, "UPDATE ductstream.stream_checkpoints SET " OWN_BACKEND " WHERE ");
	pgstream_put_key(d, &sql);
	duct_buf_printf(&sql, " AND epoch = %" PRId64 " RETURNING seq", d->epoch);
	rc = pg_exec(d->pg, sql.data, &res, err);
	if (rc == 0 && PQntuples(res) == 0)
		rc = pgstream_fenced(d, d->epoch + 1, err);
	else if (rc == 0 && pg_get_i64(res, 0, 0) != d->seq)
		rc = duct_fail(err, DUCT_RETRY, "a commit whose reply was lost has happened: the flow goes on from there");
	if (rc < 0)
		pgstream_drop_session(d);
	return rc;
}

static void put_interval(struct duct_buf *to, int64_t ms)
{
	if (ms > 0)
		duct_buf_printf(to, ", %" PRId64 " * interval '1 millisecond'", ms);
	else
		duct_buf_puts(to, ", NULL");
}

/* The stream's row and its end, with what the options say now. */
static int join_stream(struct pgstream *d, struct duct_error *err)
{
	const struct pgstream_config *c = d->config;
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql,
		      "INSERT INTO ductstream.streams AS s (name, ordered, max_attempts, drop_unacked, retention_bytes, "
		      "retention_age, group_expiry) VALUES (");
	duct_buf_sql_literal(&sql, d->stream);
	duct_buf_printf(&sql, ", %s, %" PRId64 ", %s", c->ordered ? "true" : "false", c->max_attempts,
			c->drop_unacked ? "true" : "false");
	if (c->retention_bytes)
		duct_buf_printf(&sql, ", %" PRId64, c->retention_bytes);
	else
		duct_buf_puts(&sql, ", NULL");
	put_interval(&sql, c->retention_age_ms);
	put_interval(&sql, c->group_expiry_ms);
	duct_buf_puts(&sql,
		      ") ON CONFLICT (name) DO UPDATE SET ordered = excluded.ordered, max_attempts = excluded.max_attempts, "
		      "drop_unacked = excluded.drop_unacked, retention_bytes = excluded.retention_bytes, "
		      "retention_age = excluded.retention_age, group_expiry = excluded.group_expiry RETURNING s.stream_id");
	int rc = pg_exec(d->pg, sql.data, &res, err);
	if (rc < 0)
		return rc;
	d->stream_id = (int)pg_get_i64(res, 0, 0);
	return pg_execf(d->pg, NULL, err, "INSERT INTO ductstream.stream_heads (stream_id) VALUES (%d) ON CONFLICT DO NOTHING",
			d->stream_id);
}

/* What an owner before us left open would hold its locks for as long as that process stands still. */
static int end_old_owner(struct pgstream *d, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql,
		      "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a "
		      "JOIN ductstream.stream_checkpoints c ON a.pid = c.owner_pid AND a.backend_start = c.owner_start "
		      "WHERE a.pid <> pg_catalog.pg_backend_pid() AND a.usename = current_user AND c.");
	pgstream_put_key(d, &sql);
	return pg_exec(d->pg, sql.data, NULL, err);
}

static enum duct_flow_state state_from(const char *name)
{
	return strcmp(name, "streaming") == 0  ? DUCT_STATE_STREAMING
		: strcmp(name, "copying") == 0 ? DUCT_STATE_COPYING
					       : DUCT_STATE_NONE;
}

/* Another owner's epoch and token; epoch 0: there is none yet. */
static int look(struct pgstream *d, int64_t *ret_epoch, char *ret_owner, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "SELECT epoch, owner FROM ductstream.stream_checkpoints WHERE ");
	pgstream_put_key(d, &sql);
	int rc = pg_exec(d->pg, sql.data, &res, err);
	if (rc < 0)
		return rc;
	*ret_epoch = PQntuples(res) ? pg_get_i64(res, 0, 0) : 0;
	(void)snprintf(ret_owner, DUCT_UUID_LEN, "%s", PQntuples(res) ? PQgetvalue(res, 0, 1) : "");
	return 0;
}

/* Compare-and-set on the epoch that was seen. The row as it comes back holds whatever an old owner has committed. */
static int raise_epoch(struct pgstream *d, int64_t seen, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(
		&sql,
		"INSERT INTO ductstream.stream_checkpoints AS c (flow, stream_id, epoch, owner, owner_pid, owner_start) VALUES (");
	duct_buf_sql_literal(&sql, d->ctx->flow);
	duct_buf_printf(
		&sql,
		", %d, 1, '%s', pg_catalog.pg_backend_pid(), (SELECT a.backend_start FROM pg_catalog.pg_stat_activity a "
		"WHERE a.pid = pg_catalog.pg_backend_pid())) ON CONFLICT (flow, stream_id) DO UPDATE SET epoch = c.epoch + 1, "
		"owner = excluded.owner, owner_pid = excluded.owner_pid, owner_start = excluded.owner_start "
		"WHERE c.epoch = %" PRId64 " RETURNING epoch, seq, state, lsn, commit_us, source_identity",
		d->stream_id, d->owner, seen);
	int rc = pg_exec(d->pg, sql.data, &res, err);
	if (rc < 0)
		return rc;
	if (!PQntuples(res))
		return duct_fail(err, DUCT_RETRY, "another process takes it over at the same time");
	d->epoch = pg_get_i64(res, 0, 0);
	d->seq = pg_get_i64(res, 0, 1);
	d->stored = (struct duct_checkpoint){
		.state = state_from(PQgetvalue(res, 0, 2)),
		.pos = {pg_get_lsn(res, 0, 3), pg_get_i64(res, 0, 4)},
	};
	(void)snprintf(d->stored.source_identity, sizeof d->stored.source_identity, "%s", PQgetvalue(res, 0, 5));
	return 0;
}

static int read_relations(struct pgstream *d, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "SELECT source_oid FROM ductstream.stream_relations WHERE ");
	pgstream_put_key(d, &sql);
	int rc = pg_exec(d->pg, sql.data, &res, err);
	if (rc < 0)
		return rc;
	message_tables_done(&d->known);
	d->known.oids = duct_xcalloc(1, sizeof *d->known.oids); /* none is not "cannot tell" */
	for (int i = 0; i < PQntuples(res); i++)
		message_tables_add(&d->known, pg_get_oid(res, i, 0));
	return 0;
}

int pgstream_take_over(struct pgstream *d, struct duct_error *err)
{
	struct duct_ownership *own = d->ctx->ownership;
	char owner[DUCT_UUID_LEN];
	int64_t seen = 0;
	int rc = open_session(d, err);
	if (rc == 0)
		rc = stream_schema_ensure(d->pg, true, err);
	if (rc == 0)
		rc = join_stream(d, err);
	if (rc == 0)
		rc = look(d, &seen, owner, err);
	if (rc < 0)
		return rc;
	if (own && own->epoch && strcmp(owner, own->token) != 0) {
		d->epoch = own->epoch;
		return pgstream_fenced(d, seen, err);
	}
	if (own && !own->token[0])
		duct_uuid_v4(own->token);
	if (own)
		memcpy(d->owner, own->token, sizeof d->owner);
	else
		duct_uuid_v4(d->owner);
	rc = end_old_owner(d, err);
	if (rc == 0)
		rc = raise_epoch(d, seen, err);
	if (rc == 0)
		rc = read_relations(d, err);
	if (rc < 0)
		return duct_wrap(err, "take over flow \"%s\"", d->ctx->flow);
	if (own)
		own->epoch = d->epoch;
	duct_kill_point("epoch-raised");
	return 0;
}

int pgstream_move(struct pgstream *d, const char *set, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf sql = {0};
	int rc = pgstream_connect(d, err);
	if (rc < 0)
		return rc;
	duct_buf_printf(&sql, "UPDATE ductstream.stream_checkpoints SET seq = seq + 1%s WHERE ", set);
	pgstream_put_key(d, &sql);
	duct_buf_printf(&sql, " AND epoch = %" PRId64 " AND seq = %" PRId64, d->epoch, d->seq);
	rc = pg_exec(d->pg, sql.data, &res, err);
	if (rc < 0) {
		pgstream_drop_session(d);
		return rc;
	}
	if (strcmp(PQcmdTuples(res), "1") != 0)
		return pgstream_fenced(d, d->epoch + 1, err);
	d->seq++;
	return 0;
}
