/* The transaction that appends events and moves the flow's checkpoint. */
#include "destination/pgstream/pgstream.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>

#include "base/clock.h"
#include "base/killpoint.h"

static const char copy_sql[] = "COPY ductstream.stream_events (id, lsn, created_at, end_offset, key_hash, old_key_hash, stream_id, "
			       "operation, namespace, table_name, wire_format, payload) FROM STDIN (FORMAT binary)";

enum { COPY_CHUNK = 256 << 10 };

void pgstream_drop_session(struct pgstream *d)
{
	pg_session_close(d->pg);
	d->pg = NULL;
	d->sending = false;
}

/* Whatever was done is undone by the server when the session ends. */
static int give_up(struct pgstream *d, struct duct_error *err)
{
	pgstream_drop_session(d);
	return -(int)err->class;
}

/* Until the server takes or says something. pg_wait() would send what is left first, and then wait for an answer that nobody owes. */
static int wait_for_room(struct pgstream *d, struct duct_error *err)
{
	struct pollfd fds[] = {{.fd = PQsocket(d->pg->conn), .events = POLLIN | POLLOUT}, {.fd = d->pg->stop_fd, .events = POLLIN}};
	if (poll(fds, DUCT_LEN(fds), -1) < 0 && errno != EINTR)
		return duct_fail(err, DUCT_RETRY, "wait for %s: %s", d->pg->where, strerror(errno));
	if (d->pg->stop_fd >= 0 && fds[1].revents)
		return duct_fail(err, DUCT_CANCELLED, "asked to stop while sending to %s", d->pg->where);
	if ((fds[0].revents & POLLIN) && !PQconsumeInput(d->pg->conn))
		return pg_fail(err, d->pg, NULL, "send");
	return 0;
}

/* Waits until everything handed to libpq went out; what the server says meanwhile is read, so that neither waits for the other. */
static int flush(struct pgstream *d, struct duct_error *err)
{
	for (;;) {
		int pending = PQflush(d->pg->conn);
		if (pending == 0)
			return 0;
		if (pending < 0)
			return pg_fail(err, d->pg, NULL, "send");
		int rc = wait_for_room(d, err);
		if (rc < 0)
			return rc;
	}
}

static int put(struct pgstream *d, const char *data, size_t n, struct duct_error *err)
{
	for (size_t at = 0; at < n; at += COPY_CHUNK) {
		size_t now = n - at < COPY_CHUNK ? n - at : COPY_CHUNK;
		int sent;
		while ((sent = PQputCopyData(d->pg->conn, data + at, (int)now)) == 0) {
			int rc = flush(d, err);
			if (rc < 0)
				return rc;
		}
		if (sent < 0)
			return pg_fail(err, d->pg, NULL, "copy events");
		int rc = flush(d, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The results of what was sent, all of which must have succeeded. */
static int collect(struct pgstream *d, const char *what, struct duct_error *err)
{
	int rc = flush(d, err);
	while (rc == 0) {
		while (PQisBusy(d->pg->conn)) {
			rc = pg_wait(d->pg, -1, err);
			if (rc < 0)
				return rc;
			if (!PQconsumeInput(d->pg->conn))
				return pg_fail(err, d->pg, NULL, what);
		}
		AUTO_PGRESULT PGresult *res = PQgetResult(d->pg->conn);
		if (!res)
			return 0;
		ExecStatusType status = PQresultStatus(res);
		rc = 0;
		if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_COPY_IN)
			return pg_fail(err, d->pg, res, what);
	}
	return rc;
}

static int lock(struct pgstream *d, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql,
		      "BEGIN; SELECT pg_catalog.set_config('synchronous_commit', 'on', true) "
		      "WHERE pg_catalog.current_setting('synchronous_commit') <> 'remote_apply'; "
		      "SELECT * FROM ductstream.stream_begin_append(");
	duct_buf_sql_literal(&sql, d->ctx->flow);
	duct_buf_printf(&sql, ", %d)", d->stream_id);
	int rc = pg_exec(d->pg, sql.data, &res, err);
	if (rc < 0)
		return rc;
	if (PQgetisnull(res, 0, 0) || pg_get_i64(res, 0, 0) != d->epoch)
		return pgstream_fenced(d, pg_get_i64(res, 0, 0), err);
	if (pg_get_i64(res, 0, 1) != d->seq)
		return duct_fail(err, DUCT_FATAL, "flow \"%s\": its row in ductstream.stream_checkpoints was changed by hand",
				 d->ctx->flow);
	d->base_id = d->last_id = pg_get_i64(res, 0, 2);
	d->end_offset = pg_get_i64(res, 0, 3);
	d->at_us = pg_get_i64(res, 0, 4);
	return 0;
}

int pgstream_begin(struct pgstream *d, struct duct_error *err)
{
	static const char header[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0"; /* the last zero is the literal's own */
	int rc = pgstream_connect(d, err);
	if (rc < 0)
		return rc;
	duct_kill_point("commit-begin");
	rc = lock(d, err);
	if (rc == 0)
		rc = pg_exec(d->pg, copy_sql, NULL, err);
	if (rc < 0)
		return give_up(d, err);
	(void)PQsetnonblocking(d->pg->conn, 1); /* nothing is unsent now, so it cannot fail */
	d->sending = true;
	return put(d, header, sizeof header, err) < 0 ? give_up(d, err) : 0;
}

int pgstream_send(struct pgstream *d, struct pgstream_rows *rows, struct duct_error *err)
{
	pgstream_rows_number(rows, d->stream_id, d->at_us, &d->last_id, &d->end_offset);
	int rc = put(d, rows->bytes.data, rows->bytes.len, err);
	pgstream_rows_reset(rows);
	return rc < 0 ? give_up(d, err) : 0;
}

static void finish_sql(const struct pgstream *d, const char *set, const char *more, struct duct_buf *to)
{
	duct_buf_printf(to,
			"UPDATE ductstream.stream_heads SET last_id = %" PRId64 ", end_offset = %" PRId64 " WHERE stream_id = %d; ",
			d->last_id, d->end_offset, d->stream_id);
	duct_buf_printf(to, "UPDATE ductstream.stream_checkpoints SET seq = seq + 1%s WHERE ", set);
	pgstream_put_key(d, to);
	duct_buf_printf(to, "; %sSELECT pg_catalog.pg_notify('ductstream_stream', ", more);
	duct_buf_sql_literal(to, d->stream);
	duct_buf_puts(to, "); COMMIT");
}

static int end_copy(struct pgstream *d, struct duct_error *err)
{
	int rc = put(d, "\377\377", 2, err), sent = 0;
	while (rc == 0 && (sent = PQputCopyEnd(d->pg->conn, NULL)) == 0)
		rc = flush(d, err);
	if (rc == 0 && sent < 0)
		rc = pg_fail(err, d->pg, NULL, "end the copy of events");
	return rc == 0 ? collect(d, "copy events", err) : rc;
}

int pgstream_finish(struct pgstream *d, const char *set, const char *more, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	int rc = end_copy(d, err);
	if (rc < 0)
		return give_up(d, err);
	duct_kill_point("rows-sent");
	finish_sql(d, set, more, &sql);
	if (!PQsendQuery(d->pg->conn, sql.data))
		rc = pg_fail(err, d->pg, NULL, "commit events");
	if (rc == 0)
		rc = flush(d, err);
	if (rc == 0) {
		duct_kill_point("commit-sent");
		rc = collect(d, "commit events", err);
	}
	if (rc < 0)
		return give_up(d, err); /* it may have happened: resume() asks */
	(void)PQsetnonblocking(d->pg->conn, 0);
	d->sending = false;
	d->seq++;
	duct_kill_point("commit-done");
	return 0;
}
