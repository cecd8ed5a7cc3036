/*
 * Copies: the rows of all tables are appended in one transaction, published at its end. Workers encode side by side and take turns at the
 * one connection.
 */
#include "destination/pgstream/pgstream.h"

#include <inttypes.h>

#include "base/killpoint.h"

struct loader {
	struct pgstream *d;
	struct pgstream_rows rows;
};

int pgstream_load_begin(void *dest, struct duct_relation *const *relations, size_t n, unsigned flags, struct duct_error *err)
{
	(void)flags; /* without rows there are no loaders */
	struct pgstream *d = dest;
	for (size_t i = 0; i < n; i++) {
		int rc = pgstream_check_relation(relations[i], err);
		if (rc < 0)
			return rc;
	}
	d->load = message_load_new(relations, n);
	return pgstream_begin(d, err);
}

int pgstream_loader_open(void *dest, struct duct_relation *rel, void **ret_loader, struct duct_error *err)
{
	(void)rel, (void)err;
	struct loader *l = duct_xcalloc(1, sizeof *l);
	l->d = dest;
	*ret_loader = l;
	return 0;
}

static int send_rows(struct loader *l, struct duct_error *err)
{
	struct pgstream *d = l->d;
	struct message_load *load = d->load;
	uint64_t n = l->rows.n;
	pthread_mutex_lock(&load->lock);
	int rc = load->failed ? duct_fail(err, DUCT_RETRY, "another worker of the copy has failed")
			      : pgstream_send(d, &l->rows, err);
	load->failed |= rc < 0;
	load->rows += rc < 0 ? 0 : n;
	pthread_mutex_unlock(&load->lock);
	return rc;
}

int pgstream_loader_write(void *loader, const struct duct_batch *batch, struct duct_error *err)
{
	struct loader *l = loader;
	for (uint32_t row = 0; row < batch->rows; row++) {
		const struct wire_rows from = {.batch = batch, .first = row, .count = 1};
		int rc = pgstream_rows_add(&l->rows, l->d->format, &from, 0, err);
		if (rc < 0)
			return rc;
	}
	return send_rows(l, err);
}

int pgstream_loader_finish(void *loader, struct duct_error *err)
{
	(void)loader, (void)err; /* durable with all others, at the publication */
	return 0;
}

void pgstream_loader_close(void *loader)
{
	struct loader *l = loader;
	if (!l)
		return;
	pgstream_rows_done(&l->rows);
	free(l);
}

static void load_free(struct pgstream *d)
{
	message_load_free(d->load);
	d->load = NULL;
}

static void relations_sql(const struct pgstream *d, struct duct_buf *to)
{
	if (!d->load->tables.n)
		return;
	duct_buf_puts(to, "INSERT INTO ductstream.stream_relations (flow, stream_id, source_oid) SELECT ");
	duct_buf_sql_literal(to, d->ctx->flow);
	duct_buf_printf(to, ", %d, o FROM unnest('{", d->stream_id);
	for (size_t i = 0; i < d->load->tables.n; i++)
		duct_buf_printf(to, "%s%u", i ? "," : "", d->load->tables.oids[i]);
	duct_buf_puts(to, "}'::int8[]) o ON CONFLICT DO NOTHING; ");
}

/* State, source (it says from where on the tables of a later copy are followed), and of a first copy the position. */
static void state_sql(struct duct_buf *to, const struct duct_pos *pos, const char *source_identity)
{
	char lsn[DUCT_LSN_LEN];
	duct_buf_puts(to, ", state = 'streaming', source_identity = ");
	duct_buf_sql_literal(to, source_identity ? source_identity : "");
	if (pos)
		duct_buf_printf(to, ", lsn = '%s', commit_us = %" PRId64, duct_lsn_format(lsn, pos->lsn), pos->commit_us);
}

int pgstream_load_publish(void *dest, const struct duct_pos *pos, const char *source_identity, bool set_position,
			  struct duct_commit_result *ret, struct duct_error *err)
{
	struct pgstream *d = dest;
	AUTO_BUF struct duct_buf set = {0}, more = {0};
	relations_sql(d, &more);
	state_sql(&set, set_position ? pos : NULL, source_identity);
	int rc = pgstream_finish(d, set.data, more.data ? more.data : "", err);
	if (rc < 0)
		return rc;
	*ret = (struct duct_commit_result){.snapshot_id = d->last_id, .rows = d->load->rows};
	for (size_t i = 0; i < d->load->tables.n; i++)
		message_tables_add(&d->known, d->load->tables.oids[i]);
	d->stored.state = DUCT_STATE_STREAMING;
	(void)snprintf(d->stored.source_identity, sizeof d->stored.source_identity, "%s", source_identity ? source_identity : "");
	if (set_position)
		d->stored.pos = d->group.upto = *pos;
	load_free(d);
	return 0;
}

void pgstream_load_abort(void *dest)
{
	struct pgstream *d = dest;
	if (d->sending)
		pgstream_drop_session(d);
	load_free(d);
}
