/*
 * The stream: START_REPLICATION, reading, what the server is told. The socket is drained, then left alone for some
 * 300 microseconds: the server sends message by message and every send would wake us (it costs both sides).
 */
#include "source/postgres/postgres.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "record/position.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

enum {
	FRAMES_LOOK = 256,	    /* frames between two looks at the clock */
	WIDE_FRAME = 16 << 20,	    /* libpq's buffer never shrinks: renew the connection after such a row */
	IDLE_BYTES = 16 << 20,	    /* a position without rows is handed over after so much log, or */
	IDLE_US = 10 * 1000 * 1000, /* after so long */
	ASK_US = 200 * 1000,	    /* how often a wanted position is asked for */
	STATE_US = 60 * 1000 * 1000,
	LOCAL_PAUSE_US = 300, /* a unix socket's buffer is full after some 200 KiB, and then the server waits for us */
	TCP_PAUSE_US = 1000,
};

/* --- feedback --- */

int postgres_feedback(struct postgres_source *src, bool ask, struct duct_error *err)
{
	char text[1 + PGOUT_FEEDBACK_LEN];
	uint64_t received = postgres_later(src->received, src->start_lsn);
	/* A position beyond the log would be accepted silently and lose what comes below it. */
	uint64_t flush = src->durable.lsn < received ? src->durable.lsn : received;
	pgout_feedback(text, received, flush, flush, duct_wall_us(), ask);
	if (PQputCopyData(src->repl->conn, text, PGOUT_FEEDBACK_LEN) < 0 || PQflush(src->repl->conn) < 0)
		return pg_fail(err, src->repl, NULL, "telling the server the position");
	src->feedback_us = duct_mono_us();
	return 0;
}

static void note_durable(struct postgres_source *src, const struct duct_pos *durable)
{
	if (durable && durable->lsn > src->durable.lsn)
		src->durable = *durable;
}

int postgres_tick(void *source, const struct duct_pos *durable, struct duct_error *err)
{
	struct postgres_source *src = source;
	note_durable(src, durable);
	if (!src->started || duct_mono_us() - src->feedback_us < src->feedback_every_us)
		return 0;
	return postgres_feedback(src, false, err);
}

/* --- start and end --- */

/* Reads the published tables and their types at once, and finds out whether one forbids the binary form. */
static int prime(struct postgres_source *src, struct duct_error *err)
{
	AUTO_FREE uint32_t *oids = NULL;
	AUTO_FREE uint32_t *types = NULL;
	size_t n, ntypes;
	int r = pg_head_lsn(&src->primed_lsn, src->sql, err);
	if (!r)
		r = postgres_oldest_running(src, &src->primed_xid, err);
	if (!r)
		r = postgres_published_oids(src, &oids, &n, err);
	pg_tables_free(src->primed);
	src->primed = NULL;
	if (r || (r = pg_tables_load(&src->primed, src->sql, oids, n, err)))
		return r;
	types = pg_tables_types(src->primed, &ntypes);
	if (src->config->resolve_types && (r = pg_catalog_load(src->catalog, src->sql, types, ntypes, false, err)))
		return r;
	struct duct_arena arena;
	duct_arena_init(&arena);
	for (size_t i = 0; i < src->primed->ntables && !src->no_binary; i++) {
		const struct pg_table *t = &src->primed->tables[i];
		for (int k = 0; k < t->ncolumns && !src->no_binary; k++) {
			const struct pg_table_column *c = &t->columns[k];
			const char *reason;
			struct pg_mapping m = pg_mapping_build(src->catalog, c->typid, c->typmod, c->ndims, &arena);
			if (c->generated || !pg_mapping_needs_text(&m, &reason))
				continue;
			src->no_binary = true;
			log_debug(src->ctx->log, "the stream is in text form", LOG_STR("table", t->name),
				  LOG_STR("column", c->name), LOG_STR("reason", reason));
		}
	}
	duct_arena_done(&arena);
	return 0;
}

static int fail_start(struct postgres_source *src, struct duct_error *err)
{
	if (strcmp(err->sqlstate, "55006") == 0) {
		err->class = DUCT_RETRY;
		return duct_wrap(err, "slot \"%s\" is in use", src->config->slot);
	}
	return duct_wrap(err, "slot \"%s\" cannot be streamed", src->config->slot);
}

int postgres_stream_start(struct postgres_source *src, uint64_t lsn, struct duct_error *err)
{
	const struct postgres_config *c = src->config;
	AUTO_BUF struct duct_buf sql = {0}, name = {0};
	char text[DUCT_LSN_LEN];
	int r;
	if ((!src->repl && (r = postgres_open_session(src, true, &src->repl, err))) || (r = pg_session_widen(src->repl, err)) ||
	    (r = prime(src, err)))
		return r;
	bool modern = src->sql->version >= 140000; /* has protocol 2, binary values and messages */
	bool streaming = modern && c->streaming == POSTGRES_SWITCH_AUTO;
	src->no_binary |= !modern;
	bool binary = c->binary == POSTGRES_SWITCH_AUTO && !src->no_binary;
	duct_buf_sql_ident(&name, c->publication);
	duct_buf_printf(&sql, "START_REPLICATION SLOT \"%s\" LOGICAL %s (proto_version '%d', publication_names ", c->slot,
			duct_lsn_format(text, lsn), streaming ? 2 : 1);
	duct_buf_sql_literal(&sql, name.data);
	duct_buf_printf(&sql, "%s%s%s)", modern ? ", messages 'true'" : "", binary ? ", binary 'true'" : "",
			streaming ? ", streaming 'on'" : "");
	AUTO_PGRESULT PGresult *res = NULL;
	if (pg_exec(src->repl, sql.data, &res, err))
		return fail_start(src, err);
	if (PQresultStatus(res) != PGRES_COPY_BOTH)
		return duct_fail(err, DUCT_FATAL, "the server does not begin to stream slot \"%s\"", c->slot);
	if (PQsetnonblocking(src->repl->conn, 1))
		return pg_fail(err, src->repl, NULL, "starting the stream");
	src->start_lsn = lsn;
	if (!src->durable.lsn) /* the destination's own position; a stream that begins again is ahead of it */
		src->durable.lsn = lsn;
	src->handed = postgres_later(src->handed, lsn);
	if (lsn > src->group.last.lsn)
		src->group.last = (struct duct_pos){.lsn = lsn};
	src->started = true;
	src->asked = 0;
	src->restart = src->renew = false;
	return postgres_feedback(src, true, err);
}

/* Forgets everything that the server will send again. */
static void forget(struct postgres_source *src)
{
	postgres_ahead_withdraw(src, "the stream begins again");
	PQfreemem(src->held);
	src->held = NULL;
	postgres_replay_done(&src->replay);
	src->replaying = false;
	src->replay_held = false;
	src->stream_xid = 0;
	postgres_spool_reset(src->spool);
	postgres_group_reset(&src->group);
	pgout_reset(&src->decoder);
	src->idle = (struct duct_pos){0};
	if (src->group.last.lsn > src->handed) /* gathered, not handed over: comes again */
		src->group.last = (struct duct_pos){.lsn = src->handed};
}

void postgres_stream_stop(struct postgres_source *src)
{
	if (src->started && src->repl && PQstatus(src->repl->conn) == CONNECTION_OK) {
		struct duct_error ignored;
		if (!postgres_feedback(src, false, &ignored)) /* best effort: the next start tells it anyway */
			(void)PQputCopyEnd(src->repl->conn, NULL);
		/* the server has read the last position when it answers; bounded, the stop may be set already */
		src->repl->stop_fd = -1;
		(void)PQflush(src->repl->conn);
		int64_t end = duct_mono_us() + 1000000;
		for (int r = 0; r >= 0 && duct_mono_us() < end;) {
			char *buf = NULL;
			int n = PQgetCopyData(src->repl->conn, &buf, 1);
			PQfreemem(buf);
			if (n < 0)
				break;
			if (n > 0)
				continue;
			r = pg_wait(src->repl, 100, &ignored);
			if (r < 0 || !PQconsumeInput(src->repl->conn))
				break;
		}
	}
	src->started = false;
	forget(src);
	pg_session_close(src->repl);
	src->repl = NULL;
}

/* The same stream on a new connection. */
static int start_again(struct postgres_source *src, struct duct_error *err)
{
	postgres_ahead_withdraw(src, "the stream begins again");
	if (src->group.partial)
		return duct_fail(err, DUCT_RETRY, "the stream of slot \"%s\" has to begin again inside a transaction",
				 src->config->slot);
	uint64_t from = postgres_later(src->handed, src->start_lsn);
	postgres_stream_stop(src);
	struct pg_slot slot;
	for (int i = 0; i < 50; i++) { /* our old server process ends at its own pace */
		int r = pg_slot_read(&slot, src->sql, src->config->slot, err);
		if (r)
			return r;
		if (!slot.active)
			break;
		struct pollfd stop = {src->ctx->stop_fd, POLLIN, 0};
		if (poll(&stop, 1, 100) > 0)
			return duct_fail(err, DUCT_CANCELLED, "stopped");
	}
	return postgres_stream_start(src, from, err);
}

static int stream_ended(struct postgres_source *src, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = PQgetResult(src->repl->conn);
	if (res && PQresultStatus(res) == PGRES_COMMAND_OK)
		return duct_fail(err, DUCT_RETRY, "the server ended the stream of slot \"%s\"", src->config->slot);
	int r = pg_fail(err, src->repl, res && PQresultStatus(res) == PGRES_FATAL_ERROR ? res : NULL, "the stream");
	if (strcmp(err->sqlstate, "42883") == 0 && !src->no_binary) {
		src->no_binary = src->restart = true; /* a type without binary output came up after the start */
		return src->group.partial ? (err->class = DUCT_RETRY, -DUCT_RETRY) : 0;
	}
	if (strcmp(err->sqlstate, "42704") == 0) {
		AUTO_FREE char *why = duct_xstrdup(err->message);
		return duct_fail(
			err, DUCT_CONFIG,
			"publication \"%s\" did not exist yet at the slot's position (it was created, or dropped and "
			"created again, after slot \"%s\"): this slot cannot be read any more: drop it and copy afresh (%s)",
			src->config->publication, src->config->slot, why);
	}
	return r;
}

/* --- reading --- */

static int apply_frame(struct postgres_source *src, const char *data, int len, struct duct_error *err)
{
	struct pgout_frame f;
	int r = pgout_frame(&f, data, (size_t)len, err);
	if (r)
		return r;
	src->received = postgres_later(src->received, postgres_later(f.start, f.end));
	if (f.kind == 'k') {
		if ((!src->group.open || src->ahead.xid) && f.end > src->idle.lsn)
			src->idle = (struct duct_pos){f.end, f.time_us};
		if (!f.reply_now)
			return 0;
		if (f.end > src->durable.lsn)
			src->asked = f.end;
		return postgres_feedback(src, false, err);
	}
	if (len > WIDE_FRAME)
		src->renew = true;
	return postgres_apply(src, f.payload, f.len, err);
}

/* True when the frame holds a row: a part is cut before it. */
static bool begins_part(const struct postgres_source *src, const char *data, int len)
{
	return src->group.open && src->group.bytes >= src->part_bytes && len > 25 && data[0] == 'w' &&
		src->stream_xid == src->ahead.xid && strchr("IUDT", data[25]);
}

static bool group_full(const struct postgres_source *src, int64_t now)
{
	const struct postgres_group *g = &src->group;
	if (g->cut || g->tail)
		return true;
	if (g->open)
		return g->bytes >= src->part_bytes && (src->held || src->replay_held);
	return g->ncommits &&
		((int64_t)g->rows >= src->config->batch_size || g->bytes >= src->part_bytes ||
		 now - g->first_us >= src->config->batch_timeout_ms * 1000);
}

/* Applies what is there, and says whether it was anything. 0: nothing more is there; 1: stop and look (something is full, begins, or
 * the clock). */
static int drain(struct postgres_source *src, bool *any, struct duct_error *err)
{
	bool consumed = false;
	*any = false;
	for (unsigned n = 0; n < FRAMES_LOOK;) {
		char *buf = src->held;
		int len = src->held_len, r;
		src->held = NULL;
		if (!buf) {
			len = PQgetCopyData(src->repl->conn, &buf, 1);
			if (len < 0)
				return (r = stream_ended(src, err)) ? r : 1;
			if (len == 0) {
				if (consumed)
					return 0;
				if (!PQconsumeInput(src->repl->conn))
					return pg_fail(err, src->repl, NULL, "the stream");
				consumed = true;
				continue;
			}
			if (begins_part(src, buf, len)) {
				src->held = buf;
				src->held_len = len;
				return 1;
			}
		}
		consumed = false;
		*any = true;
		n++;
		r = apply_frame(src, buf, len, err);
		PQfreemem(buf);
		if (r)
			return r;
		if (src->replaying || src->restart || src->group.cut ||
		    (src->group.ncommits && group_full(src, src->group.first_us)))
			return 1;
	}
	return 1;
}

static void hand_over(struct postgres_source *src, struct duct_changes **ret)
{
	struct duct_changes *c = postgres_group_take(&src->group);
	if (c->ncommits && c->upto.lsn > src->handed)
		src->handed = src->row_lsn = c->upto.lsn;
	else if (!c->ncommits)
		c->upto.lsn = src->handed; /* nothing has ended yet */
	src->idle_handed_us = duct_mono_us();
	*ret = c;
}

static bool group_empty(const struct postgres_source *src)
{
	return !src->group.open && !src->group.nbatches && !src->group.ncommits && !src->replaying && !src->held;
}

/* Not while a transaction is open at the source, between its blocks: all of it would come again, as wide as before, for ever. */
static bool renewal_due(const struct postgres_source *src)
{
	return src->renew && group_empty(src) && !src->stream_xid && !postgres_spool_open_transactions(src->spool);
}

/* A position without rows: everything before it was handed over and, unless the flow waits for just this position in order
 * to commit and end, is durable. */
static bool idle_due(const struct postgres_source *src, int64_t now)
{
	uint64_t lsn = postgres_later(src->idle.lsn, src->group.last.lsn);
	if (lsn <= src->handed)
		return false;
	if (src->wanted > src->handed && lsn >= src->wanted)
		return true;
	if (src->wanted > src->handed || src->durable.lsn < src->row_lsn)
		return false;
	if (src->asked > src->handed && lsn >= src->asked)
		return true;
	return src->config->emit_empty || lsn - src->handed >= IDLE_BYTES || now - src->idle_handed_us >= IDLE_US;
}

static struct duct_changes *idle_position(struct postgres_source *src)
{
	struct duct_changes *c = duct_changes_new();
	c->upto = src->idle.lsn > src->group.last.lsn ? src->idle : src->group.last;
	c->ends_commit = true;
	src->handed = c->upto.lsn;
	src->idle_handed_us = duct_mono_us();
	return c;
}

static int housekeeping(struct postgres_source *src, int64_t now, struct duct_error *err)
{
	int r = 0;
	bool ask = src->wanted > src->handed && now - src->feedback_us >= ASK_US;
	bool answer = src->asked && src->durable.lsn >= src->asked;
	if (answer)
		src->asked = 0;
	if (ask || answer || now - src->feedback_us >= src->feedback_every_us)
		r = postgres_feedback(src, ask, err);
	if (!r && now - src->polled_us >= src->config->status_interval_ms * 1000) {
		src->polled_us = now;
		r = postgres_poll_publication(src, err);
	}
	if (!r && now - src->state_us >= STATE_US && src->row_lsn > src->state_lsn && src->durable.lsn >= src->row_lsn) {
		src->state_us = now;
		postgres_state_write(src, "running", 0, src->durable.lsn);
	}
	return r;
}

/* Lets data pile up; with `wait` until the server sends something at all, or the clock asks for a look. */
static int pause_stream(struct postgres_source *src, bool wait, int64_t deadline_us, struct duct_error *err)
{
	int64_t now = duct_mono_us(), until = src->feedback_us + src->feedback_every_us;
	if (deadline_us < until)
		until = deadline_us;
	if (src->wanted > src->handed && now + ASK_US < until)
		until = now + ASK_US;
	int64_t ms = until <= now ? 0 : (until - now + 999) / 1000;
	return postgres_pause(src, src->repl, wait, (int)(ms > 1000 ? 1000 : ms), err);
}

int postgres_pause(const struct postgres_source *src, struct pg_session *session, bool wait, int timeout_ms, struct duct_error *err)
{
	int64_t pause_us = src->config->read_pause_us;
	if (pause_us < 0)
		pause_us = session->local ? LOCAL_PAUSE_US : TCP_PAUSE_US;
	if (wait || !pause_us) {
		int r = pg_wait(session, timeout_ms, err);
		if (r < 0)
			return r;
	}
	struct pollfd stop = {src->ctx->stop_fd, POLLIN, 0};
	struct timespec pause = {0, pause_us * 1000};
	if (pause_us && ppoll(&stop, src->ctx->stop_fd >= 0, &pause, NULL) > 0)
		return duct_fail(err, DUCT_CANCELLED, "stopped");
	return 0;
}

/* Tables wait for their copy, and nothing is half handed over. */
static bool copy_due(struct postgres_source *src)
{
	if (!src->group.unknown_seen || src->config->snapshot != POSTGRES_SNAPSHOT_AUTO || !group_empty(src))
		return false;
	postgres_identity_prune(&src->identity, src->durable.lsn);
	return src->identity.nfences <= POSTGRES_FENCED_BEFORE; /* else the stream has to pass some first */
}

int postgres_read(void *source, const struct duct_pos *durable, struct duct_changes **ret, int timeout_ms, struct duct_error *err)
{
	struct postgres_source *src = source;
	int64_t deadline = duct_mono_us() + (int64_t)timeout_ms * 1000;
	bool rested = !src->config->read_pause_us; /* in this call */
	bool paused = false;			   /* since something was read */
	int r;
	*ret = NULL;
	note_durable(src, durable);
	if (!src->started && (r = postgres_stream_start(src, src->start_lsn, err)))
		return r;
	for (;;) {
		int64_t now = duct_mono_us();
		if (duct_ctx_stopped(src->ctx))
			return duct_fail(err, DUCT_CANCELLED, "stopped");
		if ((r = housekeeping(src, now, err)))
			return r;
		if ((src->restart || renewal_due(src)) && (r = start_again(src, err)))
			return r;
		if (copy_due(src))
			return 1;
		bool any = true;
		r = src->replaying ? postgres_replay_some(src, err) : drain(src, &any, err);
		if (r < 0)
			return r;
		bool drained = !src->replaying && r == 0;
		if (drained)
			postgres_ahead_look(src, now, src->group.unknown_seen || src->renew || idle_due(src, now));
		if ((*ret = postgres_ahead_withdrawn(src)))
			return 0;
		paused &= !any;
		now = duct_mono_us();
		bool ready = drained && src->group.ncommits && !src->group.open;
		if ((ready && rested) || group_full(src, now)) {
			hand_over(src, ret);
			return 0;
		}
		if (drained && group_empty(src) && idle_due(src, now)) {
			*ret = idle_position(src);
			return 0;
		}
		if (now >= deadline && !ready)
			return 0;
		if (!drained)
			continue;
		if ((r = pause_stream(src, paused, deadline, err)))
			return r;
		rested = paused = true;
	}
}
