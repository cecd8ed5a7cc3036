/* The open group: changes become parts of a batch, in source order; the commit ends the batch. */
#include "destination/grpc/grpc.h"

#include <string.h>

#include "base/clock.h"
#include "base/killpoint.h"

enum { SEND_BYTES = 4 << 20, /* from so much on parts are sent before the commit */ };

void grpc_dest_part_done(struct grpc_dest_part *part)
{
	duct_buf_done(&part->payload);
	free(part->schema);
	free(part->table);
	*part = (struct grpc_dest_part){0};
}

void grpc_dest_parts_reset(struct grpc_dest_parts *parts)
{
	for (size_t i = 0; i < parts->n; i++)
		grpc_dest_part_done(&parts->list[i]);
	parts->n = parts->bytes = 0;
}

void grpc_dest_parts_done(struct grpc_dest_parts *parts)
{
	grpc_dest_parts_reset(parts);
	free(parts->list);
	*parts = (struct grpc_dest_parts){0};
}

/* --- encoding --- */

static const char *operation_of(const struct wire_rows *rows)
{
	const uint8_t *op = rows->batch->op + rows->first;
	for (uint32_t i = 1; i < rows->count; i++)
		if (op[i] != op[0])
			return "batch";
	return wire_operation((enum duct_op)op[0]);
}

static int too_large(const struct grpc_dest *d, const struct wire_rows *rows, size_t n, struct duct_error *err)
{
	const struct duct_relation *rel = rows->batch->relation;
	return duct_fail(err, DUCT_DATA,
			 "a row of \"%s\".\"%s\" has %zu bytes as %s: more than max_message_size (%lld); set it higher, and the "
			 "receiver's own limit with it",
			 rel->schema, rel->name, n, d->format->name, (long long)d->config->max_message_bytes);
}

static void keep(struct grpc_dest_parts *to, const struct wire_rows *rows, struct duct_buf *payload)
{
	const struct duct_relation *rel = rows->batch->relation;
	to->list = duct_grow(to->list, &to->cap, to->n + 1, sizeof *to->list);
	to->bytes += payload->len;
	to->row_bytes = payload->len / rows->count + 1;
	to->list[to->n++] = (struct grpc_dest_part){
		.payload = *payload,
		.schema = duct_xstrdup(rel->schema),
		.table = duct_xstrdup(rel->name),
		.operation = operation_of(rows),
		.records = rows->count,
		.lsn = wire_row_pos(rows, rows->first + rows->count - 1).lsn,
	};
	*payload = (struct duct_buf){0};
}

/* How many of the rows a payload may have, by the size of those before. */
static uint32_t guess(const struct grpc_dest *d, const struct grpc_dest_parts *parts, uint32_t left)
{
	size_t fit = parts->row_bytes ? (size_t)d->config->max_message_bytes / parts->row_bytes * 3 / 4 : 1000;
	if (d->config->payload_mode == GRPC_DEST_RECORD || fit < 1)
		return 1;
	return fit < left ? (uint32_t)fit : left;
}

int grpc_dest_encode(const struct grpc_dest *d, struct grpc_dest_parts *to, const struct wire_rows *rows, struct duct_error *err)
{
	AUTO_BUF struct duct_buf payload = {0};
	struct wire_rows now = *rows;
	for (uint32_t done = 0; done < rows->count;) {
		now.first = rows->first + done;
		now.count = guess(d, to, rows->count - done);
		for (;; now.count = (now.count + 1) / 2) {
			payload.len = 0;
			int rc = d->format->encode(&payload, &now, err);
			if (rc < 0)
				return rc;
			if (payload.len <= (size_t)d->config->max_message_bytes)
				break;
			if (now.count == 1)
				return too_large(d, &now, payload.len, err);
		}
		keep(to, &now, &payload);
		done += now.count;
	}
	return 0;
}

/* --- the group --- */

void grpc_dest_group_reset(struct grpc_dest *d)
{
	grpc_dest_parts_reset(&d->parts);
	message_group_reset(&d->group);
}

/* Sends what waits, but for the last part: that one may turn out to end the batch. */
static int send_parts(struct grpc_dest *d, struct duct_error *err)
{
	struct grpc_dest_parts *parts = &d->parts;
	for (size_t i = 0, n; i + 1 < parts->n; i += n) {
		n = grpc_dest_fit(d, &parts->list[i], parts->n - 1 - i);
		int rc = grpc_dest_send(d, &parts->list[i], n, NULL, err);
		if (rc < 0)
			return rc;
		d->sent += (int)n;
		for (size_t k = i; k < i + n; k++) {
			parts->bytes -= parts->list[k].payload.len;
			grpc_dest_part_done(&parts->list[k]);
		}
		duct_kill_point("group-sent");
	}
	if (parts->n > 1) {
		parts->list[0] = parts->list[parts->n - 1];
		parts->n = 1;
	}
	return 0;
}

/* Whether `next` goes on where the run `rows` ends, with what may stand in one payload with it. A truncate stands alone. */
static bool joins(const struct duct_changes *changes, const struct wire_rows *rows, uint32_t batch, const struct message_row *next)
{
	return changes->batches[batch] == changes->batches[next->batch] && next->row == rows->first + rows->count &&
		rows->batch->op[next->row] != DUCT_TRUNCATE && rows->batch->op[rows->first] != DUCT_TRUNCATE;
}

static int add_rows(struct grpc_dest *d, const struct duct_changes *changes, struct duct_error *err)
{
	size_t n;
	AUTO_FREE struct message_row *order = message_rows(changes, &n);
	int rc = 0;
	for (size_t i = 0, end; i < n && rc == 0; i = end) {
		struct wire_rows rows = {.batch = changes->batches[order[i].batch],
					 .first = order[i].row,
					 .count = 1,
					 .changes = changes};
		for (end = i + 1; end < n && joins(changes, &rows, order[i].batch, &order[end]); end++)
			rows.count++;
		rc = grpc_dest_encode(d, &d->parts, &rows, err);
		if (rc == 0 && d->parts.bytes >= SEND_BYTES)
			rc = send_parts(d, err);
	}
	d->group.rows += n;
	return rc;
}

int grpc_dest_write(void *dest, struct duct_changes *changes, struct duct_error *err)
{
	struct grpc_dest *d = dest;
	message_group_open(&d->group);
	int rc = add_rows(d, changes, err);
	message_group_add(&d->group, changes);
	duct_changes_free(changes);
	return rc;
}

int grpc_dest_commit(void *dest, bool last, struct duct_commit_result *ret, struct duct_error *err)
{
	static const struct grpc_dest_part nothing;
	struct grpc_dest *d = dest;
	(void)last;
	if (d->group.partial)
		return duct_fail(err, DUCT_FATAL, "commit in the middle of a source transaction");
	struct duct_checkpoint at = d->stored;
	at.state = DUCT_STATE_STREAMING;
	at.pos = d->group.upto;
	int rc = send_parts(d, err);
	if (rc == 0)
		rc = grpc_dest_end(d, d->parts.n ? &d->parts.list[0] : &nothing, &at, err);
	if (rc < 0)
		return rc;
	*ret = (struct duct_commit_result){.snapshot_id = d->group.rows ? d->batch : -1, .rows = d->group.rows};
	grpc_dest_group_reset(d);
	d->group.last_commit_us = duct_mono_us();
	return 0;
}
