/* The open group: changes become events, in source order, and are committed with the position. */
#include "destination/pgstream/pgstream.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/killpoint.h"
#include "stream/stream.h"

enum {
	SEND_BYTES = 4 << 20, /* from so much on the group's transaction begins */
	RETAIN_EVERY_US = 10000000,
	RETAIN_SLICE = 5000,
};

void pgstream_group_reset(struct pgstream *d)
{
	pgstream_rows_reset(&d->rows);
	d->fixes.len = 0;
	message_group_reset(&d->group);
	d->open_from = UINT64_MAX;
}

/* The LSN of the transaction that went on is known now: rows that were not sent get it at once, the others by an UPDATE. */
static void settle_open(struct pgstream *d, uint64_t lsn)
{
	uint64_t sent = d->group.rows - d->rows.n;
	char text[DUCT_LSN_LEN];
	for (uint64_t i = d->open_from > sent ? d->open_from : sent; i < d->group.rows; i++)
		pgstream_rows_set_lsn(&d->rows, (size_t)(i - sent), lsn);
	if (d->open_from < sent)
		duct_buf_printf(&d->fixes,
				"UPDATE ductstream.stream_events SET lsn = '%s' WHERE stream_id = %d AND id > %" PRId64
				" AND id <= %" PRId64 "; ",
				duct_lsn_format(text, lsn), d->stream_id, d->base_id + (int64_t)d->open_from,
				d->base_id + (int64_t)sent);
	d->open_from = UINT64_MAX;
}

static int add_row(struct pgstream *d, const struct duct_changes *changes, const struct message_row *ref, size_t *commit,
		   struct duct_error *err)
{
	const struct wire_rows from = {.batch = changes->batches[ref->batch], .first = ref->row, .count = 1, .changes = changes};
	while (*commit < changes->ncommits && changes->commits[*commit].last_seq < ref->seq)
		++*commit;
	bool known = *commit < changes->ncommits;
	if (!known && d->open_from == UINT64_MAX)
		d->open_from = d->group.rows;
	int rc = pgstream_rows_add(&d->rows, d->format, &from, known ? changes->commits[*commit].end_lsn : 0, err);
	if (rc < 0)
		return rc;
	d->group.rows++;
	if (d->rows.bytes.len < SEND_BYTES)
		return 0;
	if (!d->sending && (rc = pgstream_begin(d, err)) < 0)
		return rc;
	rc = pgstream_send(d, &d->rows, err);
	duct_kill_point("group-sent");
	return rc;
}

static int add_rows(struct pgstream *d, const struct duct_changes *changes, struct duct_error *err)
{
	size_t n, commit = 0;
	if (d->open_from != UINT64_MAX && changes->ncommits)
		settle_open(d, changes->commits[0].end_lsn);
	for (size_t b = 0; b < changes->nbatches; b++) {
		int rc = pgstream_check_relation(changes->batches[b]->relation, err);
		if (rc < 0)
			return rc;
	}
	AUTO_FREE struct message_row *refs = message_rows(changes, &n);
	int rc = 0;
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = add_row(d, changes, &refs[i], &commit, err);
	return rc;
}

int pgstream_write(void *dest, struct duct_changes *changes, struct duct_error *err)
{
	struct pgstream *d = dest;
	message_group_open(&d->group);
	int rc = add_rows(d, changes, err);
	message_group_add(&d->group, changes);
	duct_changes_free(changes);
	return rc;
}

static char *position_sql(const struct pgstream *d)
{
	char lsn[DUCT_LSN_LEN];
	return duct_xasprintf(", state = 'streaming', lsn = '%s', commit_us = %" PRId64, duct_lsn_format(lsn, d->group.upto.lsn),
			      d->group.upto.commit_us);
}

static int send_group(struct pgstream *d, struct duct_error *err)
{
	AUTO_FREE char *set = position_sql(d);
	int rc = d->sending ? 0 : pgstream_begin(d, err);
	if (rc == 0)
		rc = pgstream_send(d, &d->rows, err);
	return rc == 0 ? pgstream_finish(d, set, d->fixes.len ? d->fixes.data : "", err) : rc;
}

/* What is old goes, a slice at a time, so that nobody waits for it. */
static int retain(struct pgstream *d, struct duct_error *err)
{
	int64_t now = duct_mono_us();
	if (!d->config->retention_age_ms && !d->config->retention_bytes)
		return 0;
	if (!d->retain_left && d->retained_us && now < d->retained_us + RETAIN_EVERY_US)
		return 0;
	d->retained_us = now;
	return stream_retain(d->pg, d->stream_id, RETAIN_SLICE, &d->retain_left, err);
}

int pgstream_commit(void *dest, bool last, struct duct_commit_result *ret, struct duct_error *err)
{
	struct pgstream *d = dest;
	(void)last;
	if (d->group.partial)
		return duct_fail(err, DUCT_FATAL, "commit in the middle of a source transaction");
	AUTO_FREE char *set = position_sql(d);
	int rc = d->group.rows ? send_group(d, err) : pgstream_move(d, set, err);
	if (rc < 0)
		return rc;
	*ret = (struct duct_commit_result){.snapshot_id = -1, .rows = d->group.rows};
	if (d->group.rows)
		ret->snapshot_id = d->last_id; /* the last event */
	d->stored.state = DUCT_STATE_STREAMING;
	d->stored.pos = d->group.upto;
	pgstream_group_reset(d);
	d->group.last_commit_us = duct_mono_us();
	return retain(d, err);
}

int pgstream_idle(void *dest, bool last, struct duct_error *err)
{
	struct pgstream *d = dest;
	(void)last;
	int rc = pgstream_connect(d, err);
	return rc < 0 ? rc : retain(d, err);
}
