/* The source's side of a comparison: rows by COPY, and waiting until the lake has passed a mark. */
#include "flow/verify_internal.h"

#include "base/clock.h"
#include "pg/copy.h"

#include <stdio.h>
#include <string.h>

enum { BATCH_ROWS = 4096, POLL_MS = 200, PEEK_MS = 2000, DEFAULT_TIMEOUT_MS = 60000, PEEKED = 10000 };

int verify_source_open(struct verify *v, struct duct_error *err)
{
	const struct pg_session_options options = {.dsn = v->from->dsn,
						   .application_name = "ductstream verify",
						   .stop_fd = v->ctx->stop_fd};
	const char *const publications[] = {v->from->publication, NULL};
	int rc = pg_session_open(&v->session, &options, err);
	if (rc || (rc = pg_published_read(&v->published, v->session, publications, err)))
		return rc;
	size_t n = v->published->ntables, ntypes;
	AUTO_FREE uint32_t *oids = duct_xcalloc(n + 1, sizeof *oids);
	for (size_t i = 0; i < n; i++)
		oids[i] = v->published->tables[i].oid;
	if ((rc = pg_tables_load(&v->facts, v->session, oids, n, err)))
		return rc;
	v->catalog = pg_catalog_new();
	AUTO_FREE uint32_t *types = pg_tables_types(v->facts, &ntypes);
	return pg_catalog_load(v->catalog, v->session, types, ntypes, false, err);
}

static void put_copy(struct duct_buf *sql, const struct verify_table *t)
{
	const struct pg_published *p = t->published;
	duct_buf_puts(sql, "copy (select ");
	pg_copy_select(sql, t->relation);
	/* One statement is one snapshot, also over partitions. */
	duct_buf_puts(sql, p->kind == 'p' ? " from " : " from only ");
	duct_buf_sql_ident(sql, p->schema);
	duct_buf_putc(sql, '.');
	duct_buf_sql_ident(sql, p->name);
	if (p->row_filter)
		duct_buf_printf(sql, " where (%s)", p->row_filter);
	duct_buf_puts(sql, ") to stdout (format binary)");
}

static int add_batch(const struct verify_table *t, struct duct_batch *batch, struct verify_digest *to,
		     struct verify_row_scratch *scratch, struct duct_error *err)
{
	int rc = 0;
	duct_batch_seal(batch);
	for (uint32_t i = 0; i < batch->rows && !rc; i++)
		rc = verify_add_row(to, t, batch, i, true, scratch, err);
	duct_batch_unref(batch);
	return rc;
}

/* With dead letters the lake is right without such a row. */
static int leave_out(void *arg, const struct pg_value *values, uint64_t seq, struct duct_error *err)
{
	struct verify_digest *to = arg;
	(void)values, (void)seq, (void)err;
	to->dead++;
	return 0;
}

/* The next bytes: 1, 0 at the end of the COPY. */
static int next_bytes(struct pg_session *session, char **ret, int *ret_len, struct duct_error *err)
{
	while ((*ret_len = PQgetCopyData(session->conn, ret, 1)) == 0) {
		int rc = pg_wait(session, -1, err);
		if (rc < 0)
			return rc;
		if (!PQconsumeInput(session->conn))
			return pg_fail(err, session, NULL, "copy");
	}
	if (*ret_len > 0)
		return 1;
	AUTO_PGRESULT PGresult *res = *ret_len == -1 ? PQgetResult(session->conn) : NULL;
	if (PQresultStatus(res) != PGRES_COMMAND_OK)
		return pg_fail(err, session, res, "copy");
	for (PGresult *more; (more = PQgetResult(session->conn));)
		PQclear(more);
	return 0;
}

static int read_rows(struct verify *v, const struct verify_table *t, struct pg_copy *parser, struct verify_digest *to,
		     struct verify_row_scratch *scratch, struct duct_error *err)
{
	struct duct_batch *batch = NULL;
	char *data;
	int len, rc;
	while ((rc = next_bytes(v->session, &data, &len, err)) == 1) {
		if (!batch)
			batch = duct_batch_new(t->relation->rel, BATCH_ROWS);
		rc = pg_copy_feed(parser, t->relation, batch, 0, data, (size_t)len, err);
		PQfreemem(data);
		if (rc)
			break;
		if (batch->rows >= BATCH_ROWS && (rc = add_batch(t, duct_steal(&batch), to, scratch, err)))
			break;
	}
	if (!rc && batch)
		rc = add_batch(t, duct_steal(&batch), to, scratch, err);
	duct_batch_unref(batch);
	return rc ? rc : pg_copy_finish(parser, err);
}

int verify_source_read(struct verify *v, const struct verify_table *t, struct verify_digest *to, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	AUTO_PGRESULT PGresult *res = NULL;
	struct pg_copy parser = {0};
	struct verify_row_scratch scratch = {0};
	if (v->from->dead_letter) {
		parser.refused = leave_out;
		parser.arg = to;
	}
	put_copy(&sql, t);
	int rc = pg_exec(v->session, sql.data, &res, err);
	if (!rc)
		rc = read_rows(v, t, &parser, to, &scratch, err);
	pg_copy_done(&parser);
	verify_row_scratch_done(&scratch);
	v->source_failed = rc != 0;
	if (rc)
		return duct_wrap(err, "read \"%s\".\"%s\" at the source", t->published->schema, t->published->name);
	verify_digest_finish(to);
	return 0;
}

/* A position that is behind everything committed by now and that the stream will pass. A standby cannot be written. */
static int emit_mark(struct verify *v, uint64_t *ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	struct duct_error refused;
	if (pg_exec(v->session, "select pg_catalog.pg_logical_emit_message(true, 'ductstream', 'verify')", &res, &refused))
		return pg_head_lsn(ret, v->session, err);
	*ret = pg_get_lsn(res, 0, 0);
	return 0;
}

/* A flow that does not run leaves its slot idle: a destination that has what the slot has let go of is complete when nothing is left in
 * the slot. (One behind an outbox may have less.) */
static int nothing_is_pending(struct verify *v, uint64_t at, bool *ret, struct duct_error *err)
{
	struct pg_slot slot;
	*ret = false;
	int rc = pg_slot_read(&slot, v->session, v->from->slot, err);
	if (rc || !slot.exists || slot.active || at < slot.confirmed_lsn)
		return rc;
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf quoted = {0};
	duct_buf_sql_ident(&quoted, v->from->publication);
	/* The source's own state table is written when a flow stops. Its oid as it stands in a message: */
	char own[16] = "";
	for (size_t i = 0; i < v->published->ntables; i++)
		if (verify_is_own(v, &v->published->tables[i]))
			snprintf(own, sizeof own, "%08x", v->published->tables[i].oid);
	struct duct_error busy; /* the flow may have come back */
	if (pg_query(v->session,
		     "select pg_catalog.count(*) filter (where pg_catalog.get_byte(c.data, 0) in (73, 85, 68, 84) "
		     "and pg_catalog.encode(pg_catalog.substr(c.data, 2, 4), 'hex') <> $3), "
		     "pg_catalog.count(*) from pg_catalog.pg_logical_slot_peek_binary_changes($1, null, 10000, "
		     "'proto_version', '1', 'publication_names', $2) c",
		     3, (const char *const[]){v->from->slot, quoted.data, own}, &res, &busy))
		return 0;
	*ret = pg_get_i64(res, 0, 0) == 0 && pg_get_i64(res, 0, 1) < PEEKED;
	return 0;
}

int verify_wait(struct verify *v, struct duct_error *err)
{
	uint64_t mark, at = 0;
	int rc = emit_mark(v, &mark, err);
	int64_t timeout_ms = v->options->timeout_ms ? v->options->timeout_ms : DEFAULT_TIMEOUT_MS;
	int64_t now = duct_mono_us(), end = now + timeout_ms * 1000, peek = now;
	while (!rc) {
		if ((rc = v->side->position(v, &at, err)) || at >= mark)
			return rc;
		now = duct_mono_us();
		if (now >= peek) {
			bool complete;
			if ((rc = nothing_is_pending(v, at, &complete, err)) || complete)
				return rc;
			peek = now + PEEK_MS * 1000;
		}
		if (now >= end)
			break;
		rc = verify_pause(v, POLL_MS, err);
	}
	char have[DUCT_LSN_LEN], want[DUCT_LSN_LEN];
	return rc
		? rc
		: duct_fail(err, DUCT_RETRY, "the %s stands at %s and did not reach %s within %lld s: is the flow running?",
			    verify_where(v), duct_lsn_format(have, at), duct_lsn_format(want, mark), (long long)timeout_ms / 1000);
}
