/* The pgstream destination: the connector. See pgstream.h for how it works inside. */
#include "destination/pgstream/pgstream.h"

#include "pg/session.h"
#include "stream/stream.h"

static int check_config(const void *config, struct duct_error *err)
{
	const struct pgstream_config *c = config;
	const struct wire_format *format;
	if (c->stream && (!*c->stream || strlen(c->stream) > STREAM_MAX_NAME))
		return duct_fail(err, DUCT_CONFIG, "option \"stream\": a name has 1 to %d bytes", STREAM_MAX_NAME);
	return c->format ? wire_format_find(&format, c->format, err) : 0;
}

static void destination_close(void *dest)
{
	struct pgstream *d = dest;
	if (!d)
		return;
	pgstream_load_abort(d);
	pgstream_drop_session(d);
	pgstream_rows_done(&d->rows);
	duct_buf_done(&d->fixes);
	message_tables_done(&d->known);
	free(d);
}

static int destination_open(void **ret, const void *config, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct pgstream *d = duct_xcalloc(1, sizeof *d);
	d->config = config;
	d->ctx = ctx;
	d->stream = message_name(d->config->stream, ctx);
	pgstream_group_reset(d);
	int rc = message_format(&d->format, d->config->format, ctx, err);
	if (rc == 0)
		rc = pgstream_take_over(d, err);
	if (rc < 0) {
		destination_close(d);
		return rc;
	}
	*ret = d;
	return 0;
}

static int destination_resume(void *dest, struct duct_checkpoint *ret, struct duct_error *err)
{
	struct pgstream *d = dest;
	int rc = d->pg ? 0 : pgstream_take_over(d, err); /* a commit whose reply was lost is counted now */
	if (rc < 0)
		return rc;
	*ret = d->stored;
	ret->known_oids = d->known.oids;
	ret->nknown = d->known.n;
	d->group.upto = ret->pos;
	return 0;
}

static int destination_begin_copy(void *dest, const char *source_identity, struct duct_error *err)
{
	AUTO_BUF struct duct_buf set = {0};
	duct_buf_puts(&set, ", state = 'copying', lsn = '0/0', commit_us = 0, source_identity = ");
	duct_buf_sql_literal(&set, source_identity ? source_identity : "");
	return pgstream_move(dest, set.data, err);
}

static int destination_replay(void *dest, enum duct_replay how, struct duct_error *err)
{
	const struct pgstream *d = dest;
	if (how != DUCT_REPLAY_KEYED)
		return 0;
	return duct_fail(
		err, DUCT_CONFIG,
		"to stream \"%s\" events are only added: those of a replay would be in it twice; -replay-append adds them again; "
		"to have its consumers read events again, see ductstream-admin stream replay",
		d->stream);
}

static struct duct_destination_pace destination_pace(void *dest)
{
	struct pgstream *d = dest;
	bool full = d->sending || d->group.rows >= (uint64_t)d->config->flush_rows;
	return message_group_pace(&d->group, d->config->flush_interval_ms, full);
}

static void destination_abort(void *dest)
{
	struct pgstream *d = dest;
	pgstream_load_abort(d);
	if (d->sending)
		pgstream_drop_session(d);
	pgstream_group_reset(d);
}

static const char *same_place(const void *a, const char *a_name, const void *b, const char *b_name)
{
	const struct pgstream_config *x = a, *y = b;
	bool same = strcmp(x->stream ? x->stream : a_name, y->stream ? y->stream : b_name) == 0;
	return same && pg_same_database(x->dsn, y->dsn) ? "stream" : NULL;
}

const struct duct_destination_ops duct_destination_pgstream = {
	.name = "pgstream",
	.summary = "a stream in a Postgres, with consumer groups and visibility timeouts",
	.caps = DUCT_DESTINATION_ATOMIC_POS | DUCT_DESTINATION_LOAD,
	.opts = pgstream_opts,
	.config_size = sizeof(struct pgstream_config),
	.check = check_config,
	.same_place = same_place,
	.probe = pgstream_probe,
	.open = destination_open,
	.resume = destination_resume,
	.begin_copy = destination_begin_copy,
	.load_begin = pgstream_load_begin,
	.loader_open = pgstream_loader_open,
	.loader_write = pgstream_loader_write,
	.loader_finish = pgstream_loader_finish,
	.loader_close = pgstream_loader_close,
	.load_publish = pgstream_load_publish,
	.load_abort = pgstream_load_abort,
	.write = pgstream_write,
	.replay = destination_replay,
	.pace = destination_pace,
	.commit = pgstream_commit,
	.idle = pgstream_idle,
	.abort = destination_abort,
	.close = destination_close,
};
