/* How far the receiver is: asked, taken over, moved with the end of a batch. */
#include "destination/grpc/grpc.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/killpoint.h"

enum { PART_THAT_NOBODY_HAS = 1 << 30 };

static const char *text_of(const json_t *metadata, const char *key)
{
	return json_string_value(json_object_get(metadata, key));
}

/* --- read --- */

static bool read_number(const char *text, int64_t most, int64_t *ret)
{
	char *end = NULL;
	errno = 0;
	long long n = *text >= '0' && *text <= '9' ? strtoll(text, &end, 10) : -1;
	if (n < 0 || errno || *end || n > most)
		return false;
	*ret = n;
	return true;
}

static int nonsense(const char *key, const char *text, struct duct_error *err)
{
	return duct_fail(err, DUCT_CONFIG, "the receiver's checkpoint makes no sense: %s is \"%.100s\"", key, text);
}

static int read_tables(struct grpc_dest *d, const char *text, struct duct_error *err)
{
	message_tables_done(&d->known);
	d->known.oids = duct_xcalloc(1, sizeof *d->known.oids); /* none is not "cannot tell" */
	d->tables_told = text != NULL;
	for (const char *at = text; at && *at;) {
		char *end = NULL;
		unsigned long oid = *at >= '0' && *at <= '9' ? strtoul(at, &end, 10) : 0;
		if (!end || (*end && *end != ',') || oid > UINT32_MAX)
			return nonsense("tables", text, err);
		message_tables_add(&d->known, (uint32_t)oid);
		at = *end ? end + 1 : end;
	}
	return 0;
}

int grpc_dest_read_position(struct grpc_dest *d, const struct grpc_dest_position *from, struct duct_error *err)
{
	d->batch = 0;
	d->stored = (struct duct_checkpoint){.state = DUCT_STATE_NONE};
	if (!from->metadata)
		return read_tables(d, NULL, err);
	const char *state = text_of(from->metadata, "state"), *batch = text_of(from->metadata, "batch");
	const char *source = text_of(from->metadata, "source"), *commit = text_of(from->metadata, "commit_us");
	bool copying = state && strcmp(state, "copying") == 0;
	int64_t commit_us = 0;
	if (state && !copying && strcmp(state, "streaming") != 0)
		return nonsense("state", state, err);
	if (batch && !read_number(batch, INT64_MAX - 1, &d->batch))
		return nonsense("batch", batch, err);
	if (commit && !read_number(commit, INT64_MAX, &commit_us))
		return nonsense("commit_us", commit, err);
	if (source && strlen(source) >= sizeof d->stored.source_identity)
		return nonsense("source", source, err);
	d->stored.state = copying ? DUCT_STATE_COPYING : DUCT_STATE_STREAMING;
	d->stored.pos = (struct duct_pos){from->lsn, commit_us};
	(void)snprintf(d->stored.source_identity, sizeof d->stored.source_identity, "%s", source ? source : "");
	return read_tables(d, text_of(from->metadata, "tables"), err);
}

/*
 * Without a note the numbers begin anew, and a receiver that has batches of that number would accept ours unread. Who has the first batch accepts any
 * part of it; who has nothing misses what was before this one.
 */
static int expect_nothing(struct grpc_dest *d, struct duct_error *err)
{
	static const struct grpc_dest_part nothing;
	d->batch = 0;
	d->sent = PART_THAT_NOBODY_HAS - 1;
	int rc = grpc_dest_send(d, &nothing, 1, NULL, err);
	d->sent = 0;
	if (rc < 0)
		return d->refused && d->again ? 0 : rc;
	return duct_fail(
		err, DUCT_CONFIG,
		"the receiver at \"%.100s\" has batches of flow \"%.100s\" already, and position_file \"%s\" is not there: put "
		"it back, or let the receiver forget the flow to copy everything again",
		d->config->endpoint, d->flow_id, d->config->position_file);
}

/*
 * What was under way when the note was written: its end is sent again. A receiver that has the batch, or all parts before, accepts it; one that has
 * lost parts gets them again. Refused for another reason it may be there all the same: the note stays.
 */
static int settle_note(struct grpc_dest *d, struct grpc_dest_note *note, struct duct_error *err)
{
	static const struct grpc_dest_part nothing;
	if (!note->next.metadata)
		return note->at.metadata ? 0 : expect_nothing(d, err);
	int rc = grpc_dest_read_position(d, &note->at, err);
	if (rc < 0)
		return rc;
	d->sent = note->sent;
	rc = grpc_dest_send(d, &nothing, 1, &note->next, err);
	if (rc < 0 && !(d->refused && d->again))
		return rc;
	if (rc == 0) {
		json_decref(note->at.metadata);
		note->at = note->next;
		note->next.metadata = NULL;
	}
	json_decref(note->next.metadata);
	note->next.metadata = NULL;
	return grpc_dest_note_write(d, note, err);
}

static int read_note(struct grpc_dest *d, struct grpc_dest_position *ret, struct duct_error *err)
{
	struct grpc_dest_note note = {0};
	d->answers = false;
	d->epoch = 0;
	d->max_parts = 1;
	if (!d->config->position_file)
		return duct_fail(
			err, DUCT_CONFIG,
			"the receiver at \"%.100s\" does not say how far it is (GetIngestPosition): implement it there, or set "
			"the option \"position_file\"",
			d->config->endpoint);
	int rc = grpc_dest_note_lock(d, err);
	rc = rc ? rc : grpc_dest_note_read(d, &note, err);
	rc = rc ? rc : settle_note(d, &note, err);
	if (rc == 0) {
		json_decref(d->at.metadata);
		d->at = note.at;
		*ret = note.at;
		json_incref(ret->metadata);
		note.at.metadata = NULL;
	}
	grpc_dest_note_done(&note);
	return rc;
}

int grpc_dest_take_over(struct grpc_dest *d, struct duct_error *err)
{
	struct duct_ownership *own = d->ctx->ownership;
	struct grpc_dest_position position = {0};
	d->epoch = own ? own->epoch : 0;
	int rc = grpc_dest_ask(d, true, &position, &d->epoch, err);
	d->answers = true;
	if (rc == 0)
		rc = read_note(d, &position, err);
	if (rc >= 0)
		rc = grpc_dest_read_position(d, &position, err);
	json_decref(position.metadata);
	if (rc < 0)
		return rc;
	if (own)
		own->epoch = d->epoch;
	d->sent = 0;
	d->group.upto = d->stored.pos;
	d->knows = true;
	duct_kill_point("epoch-raised");
	return 0;
}

/* --- moved --- */

static json_t *metadata_of(const struct grpc_dest *d, const struct duct_checkpoint *at)
{
	AUTO_BUF struct duct_buf tables = {0};
	AUTO_FREE char *commit = duct_xasprintf("%" PRId64, at->pos.commit_us);
	json_t *to = json_object();
	for (size_t i = 0; i < d->known.n; i++)
		duct_buf_printf(&tables, "%s%u", i ? "," : "", d->known.oids[i]);
	json_object_set_new(to, "state", json_string(at->state == DUCT_STATE_COPYING ? "copying" : "streaming"));
	json_object_set_new(to, "source", json_string(at->source_identity));
	json_object_set_new(to, "commit_us", json_string(commit));
	if (d->tables_told || at->state == DUCT_STATE_COPYING)
		json_object_set_new(to, "tables", json_string(tables.data ? tables.data : ""));
	return to;
}

/* With a note: the end goes alone, so that it can be sent again, and what it says is noted before and after. */
static int end_with_note(struct grpc_dest *d, const struct grpc_dest_part *last, struct grpc_dest_position *end,
			 struct duct_error *err)
{
	static const struct grpc_dest_part nothing;
	AUTO_FREE char *batch = duct_xasprintf("%" PRId64, d->batch + 1);
	int rc = last->payload.len ? grpc_dest_send(d, last, 1, NULL, err) : 0;
	if (rc < 0)
		return rc;
	d->sent += last->payload.len > 0;
	json_object_set_new(end->metadata, "batch", json_string(batch));
	rc = grpc_dest_note_write(d, &(struct grpc_dest_note){.at = d->at, .next = *end, .sent = d->sent}, err);
	duct_kill_point("commit-begin");
	rc = rc ? rc : grpc_dest_send(d, &nothing, 1, end, err);
	if (rc < 0)
		return rc;
	duct_kill_point("commit-sent");
	rc = grpc_dest_note_write(d, &(struct grpc_dest_note){.at = *end}, err);
	if (rc < 0)
		return rc;
	json_decref(d->at.metadata);
	d->at = *end;
	json_incref(d->at.metadata);
	return 0;
}

static int end_plainly(struct grpc_dest *d, const struct grpc_dest_part *last, struct grpc_dest_position *end,
		       struct duct_error *err)
{
	duct_kill_point("commit-begin");
	int rc = grpc_dest_send(d, last, 1, end, err);
	if (rc == 0)
		duct_kill_point("commit-sent");
	return rc;
}

int grpc_dest_end(struct grpc_dest *d, const struct grpc_dest_part *last, const struct duct_checkpoint *at, struct duct_error *err)
{
	struct grpc_dest_position end = {
		.lsn = at->pos.lsn,
		.timestamp_ms = at->pos.commit_us / 1000,
		.metadata = metadata_of(d, at),
	};
	int rc = d->answers ? end_plainly(d, last, &end, err) : end_with_note(d, last, &end, err);
	json_decref(end.metadata);
	if (rc < 0) {
		d->knows = false;
		return rc;
	}
	d->batch++;
	d->sent = 0;
	d->stored.state = at->state;
	d->stored.pos = at->pos;
	memmove(d->stored.source_identity, at->source_identity, sizeof d->stored.source_identity);
	d->tables_told |= at->state == DUCT_STATE_COPYING;
	duct_kill_point("commit-done");
	return 0;
}
