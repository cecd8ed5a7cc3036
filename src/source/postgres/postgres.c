/* The Postgres source: opening, and the struct that the registry lists. */
#include "source/postgres/postgres.h"

#include "base/clock.h"
#include "base/killpoint.h"
#include "base/mem.h"
#include "record/ddl.h"
#include "record/position.h"

#include <stdio.h>
#include <string.h>

enum { PARTS_IN_MEMORY = 16 };

/* --- the stored position against the server --- */

/* What we have noted at the source that we confirmed of this slot, 0: nothing. */
static uint64_t noted_lsn(const struct postgres_source *src, const struct postgres_state_row *row)
{
	return row->exists && strcmp(row->slot, src->config->slot) == 0 ? row->last_lsn : 0;
}

static int check_timeline(struct postgres_source *src, const struct postgres_identity *stored, uint64_t lsn, struct duct_error *err)
{
	int now = src->identity.timeline;
	if (!stored->timeline || stored->timeline == now)
		return 0;
	if (now < stored->timeline)
		return postgres_timeline_check("", stored->timeline, now, lsn, 0, err);
	struct postgres_state_row row;
	int r = postgres_state_read(src, &row, err);
	if (r)
		return r;
	AUTO_PGRESULT PGresult *res = NULL;
	r = pg_execf(src->repl, &res, err, "TIMELINE_HISTORY %d", now);
	if (r)
		return duct_wrap(err, "the history of timeline %d", now);
	const char *text = PQntuples(res) ? PQgetvalue(res, 0, 1) : "";
	AUTO_FREE char *plain = NULL;
	if (strncmp(text, "\\x", 2) == 0) { /* bytea: version dependent */
		size_t n;
		unsigned char *raw = PQunescapeBytea((const unsigned char *)text, &n);
		plain = duct_xstrndup((const char *)raw, n);
		PQfreemem(raw);
		text = plain;
	}
	return postgres_timeline_check(text, stored->timeline, now, lsn, noted_lsn(src, &row), err);
}

static int check_start_lsn(struct postgres_source *src, uint64_t stored, uint64_t *ret, struct duct_error *err)
{
	const struct postgres_config *c = src->config;
	uint64_t start;
	char have[DUCT_LSN_LEN];
	if (!c->start_lsn)
		return 0;
	if (duct_lsn_parse(c->start_lsn, &start, err))
		return duct_wrap(err, "start_lsn");
	if (start < stored)
		return duct_fail(err, DUCT_CONFIG,
				 "start_lsn: %s lies before the destination's position %s: changes would be applied twice; remove "
				 "the option",
				 c->start_lsn, duct_lsn_format(have, stored));
	if (start > stored && !c->accept_gap)
		return duct_fail(err, DUCT_CONFIG,
				 "start_lsn: %s lies after the destination's position %s: the changes between would be lost; "
				 "remove the option, or accept the gap with " POSTGRES_ACCEPT_GAP,
				 c->start_lsn, duct_lsn_format(have, stored));
	*ret = start;
	return 0;
}

static int slot_missing(struct postgres_source *src, uint64_t stored, struct duct_error *err)
{
	const struct postgres_config *c = src->config;
	char lsn[DUCT_LSN_LEN];
	if (!c->accept_gap)
		return duct_fail(err, DUCT_CONFIG,
				 "slot \"%s\" is missing, but the destination has changes up to %s: what happened at the source "
				 "since the slot went away is lost to it; it is not made again silently: copy afresh, or go on "
				 "without these changes with " POSTGRES_ACCEPT_GAP,
				 c->slot, duct_lsn_format(lsn, stored));
	struct postgres_new_slot slot;
	int r = postgres_slot_create(src, src->repl, c->slot, false, POSTGRES_NO_SNAPSHOT, &slot, err);
	if (r)
		return r;
	duct_kill_point("setup-slot");
	src->slot_made = true;
	log_warn(src->ctx->log, "gap accepted: the slot was made again", LOG_LSN("from", stored), LOG_LSN("to", slot.lsn));
	src->start_lsn = slot.lsn > stored ? slot.lsn : stored;
	postgres_state_write(src, "running", slot.lsn, 0);
	return 0;
}

static int check_gap(struct postgres_source *src, const struct pg_slot *slot, uint64_t stored, struct duct_error *err)
{
	struct postgres_state_row row;
	int r = postgres_state_read(src, &row, err);
	if (r)
		return r;
	const struct postgres_gap_facts facts = {
		.slot = src->config->slot,
		.stored = stored,
		.confirmed = slot->confirmed_lsn,
		.restart = slot->restart_lsn,
		.flush = src->server.flush_lsn,
		.last_lsn = noted_lsn(src, &row),
	};
	src->state_lsn = facts.last_lsn;
	r = postgres_gap_check(&facts, err);
	if (r != 1)
		return r;
	if (!src->config->accept_gap)
		return -DUCT_CONFIG;
	log_warn(src->ctx->log, "gap accepted", LOG_LSN("from", stored), LOG_LSN("to", slot->confirmed_lsn),
		 LOG_STR("reason", err->message));
	src->start_lsn = slot->confirmed_lsn;
	return 0;
}

/* The destination has a position: may we go on from it? */
static int open_streaming(struct postgres_source *src, const struct duct_checkpoint *from, const struct pg_slot *slot,
			  struct duct_error *err)
{
	struct postgres_identity stored;
	uint64_t lsn = from->pos.lsn;
	int r = postgres_identity_read(&stored, from->source_identity, err);
	if (r || (r = postgres_identity_compare(&stored, &src->identity, err)) || (r = check_timeline(src, &stored, lsn, err)))
		return r;
	src->start_lsn = lsn;
	postgres_identity_prune(&stored, lsn);
	src->identity.nfences = stored.nfences;
	memcpy(src->identity.fences, stored.fences, sizeof stored.fences);
	for (size_t i = 0; i < stored.nfences; i++)
		postgres_group_table(&src->group, stored.fences[i].oid, true)->fence = stored.fences[i].lsn;
	if (!slot->exists) {
		if ((r = slot_missing(src, lsn, err)))
			return r;
	} else if ((r = postgres_slot_usable(src, slot, err))) {
		return r;
	} else if ((r = check_gap(src, slot, lsn, err))) {
		return from->behind ? duct_wrap(err, "destination \"%s\", which is behind the others", from->behind) : r;
	}
	if ((r = check_start_lsn(src, lsn, &src->start_lsn, err)))
		return r;
	if (from->replay_lsn && (r = postgres_go_back(src, slot, from->replay_lsn, err)))
		return r;
	src->durable = (struct duct_pos){src->start_lsn, from->pos.commit_us};
	return 0;
}

/* Nothing is copied yet: an existing slot is only dropped when it is ours. This must be found out now: after open the
 * destination records that a copy began, and then a slot is taken for ours. */
static int open_first(struct postgres_source *src, const struct duct_checkpoint *from, const struct pg_slot *slot,
		      struct duct_error *err)
{
	const struct postgres_config *c = src->config;
	struct postgres_state_row row;
	int r;
	src->copy_wanted = POSTGRES_COPY_FIRST;
	if (c->snapshot == POSTGRES_SNAPSHOT_ONLY)
		return 0;
	if (!slot->exists) {
		if (!c->create_slot)
			return duct_fail(err, DUCT_CONFIG,
					 "slot \"%s\" does not exist and create_slot is false: create it with "
					 "pg_create_logical_replication_slot('%s', 'pgoutput') and set snapshot=never, or set "
					 "create_slot=true",
					 c->slot, c->slot);
		if (src->config->validate_replication && src->server.used_slots >= src->server.max_slots)
			return duct_fail(err, DUCT_CONFIG, "all %d max_replication_slots are in use: drop one or raise the setting",
					 src->server.max_slots);
		return 0;
	}
	if ((r = postgres_slot_usable(src, slot, err)) || c->snapshot == POSTGRES_SNAPSHOT_NEVER)
		return r;
	if (!c->create_slot)
		return duct_fail(err, DUCT_CONFIG,
				 "slot \"%s\" was made by somebody else (create_slot is false), and a copy that fits an existing "
				 "slot cannot be made: set snapshot=never to stream from it without a copy, or let us create it",
				 c->slot);
	if (from->state == DUCT_STATE_COPYING)
		return 0;
	if ((r = postgres_state_read(src, &row, err)))
		return r;
	if (row.exists && strcmp(row.slot, c->slot) == 0 && row.slot_lsn && row.slot_lsn == slot->confirmed_lsn)
		return 0; /* made by us and never used */
	return duct_fail(err, DUCT_CONFIG,
			 "slot \"%s\" exists, but the destination has nothing of this flow: another flow may depend on the slot; "
			 "drop it with pg_drop_replication_slot('%s') to copy afresh, name another slot, or set snapshot=never to "
			 "stream from it without a copy",
			 c->slot, c->slot);
}

/* --- open --- */

static int connect_both(struct postgres_source *src, struct duct_error *err)
{
	struct pg_identity who;
	int r = postgres_open_session(src, false, &src->sql, err);
	if (r || (r = pg_server_read(&src->server, src->sql, err)))
		return r;
	if ((r = postgres_validate(src, err)) || (r = postgres_open_session(src, true, &src->repl, err)))
		return r;
	if ((r = pg_identify_system(&who, src->repl, err)))
		return r;
	if (!src->config->resolve_types)
		pg_catalog_add_builtin(src->catalog, src->sql->version);
	struct postgres_identity *id = &src->identity;
	snprintf(id->system_id, sizeof id->system_id, "%s", who.system_id);
	snprintf(id->database, sizeof id->database, "%s", src->server.database);
	snprintf(id->slot, sizeof id->slot, "%s", src->config->slot);
	id->database_oid = src->server.database_oid;
	id->timeline = who.timeline;
	src->feedback_every_us = src->config->status_interval_ms * 1000;
	int64_t third = src->server.wal_sender_timeout_ms * 1000 / 3;
	if (third > 0 && third < src->feedback_every_us)
		src->feedback_every_us = third;
	return 0;
}

/* Which tables the destination has. */
static int mark_known(struct postgres_source *src, const struct duct_checkpoint *from, struct duct_error *err)
{
	AUTO_FREE uint32_t *oids = NULL;
	size_t n;
	int r;
	for (size_t i = 0; i < from->nknown; i++)
		postgres_group_table(&src->group, from->known_oids[i], true)->known = true;
	if (!from->known_oids) {
		if ((r = postgres_published_oids(src, &oids, &n, err)))
			return r;
		for (size_t i = 0; i < n; i++)
			postgres_group_table(&src->group, oids[i], true)->known = true;
	}
	src->polled_us = duct_mono_us();
	r = postgres_members_read(src, err);
	return r ? r : postgres_poll_publication(src, err);
}

static void postgres_close(void *source, const struct duct_pos *durable)
{
	struct postgres_source *src = source;
	if (!src)
		return;
	if (durable && durable->lsn > src->durable.lsn)
		src->durable = *durable;
	if (src->started && src->sql && PQstatus(src->sql->conn) == CONNECTION_OK) {
		src->sql->stop_fd = -1;
		postgres_state_write(src, "stopped", 0, src->durable.lsn > src->state_lsn ? src->durable.lsn : 0);
	}
	if (src->spool)
		postgres_stream_stop(src);
	postgres_spool_free(src->spool);
	free(src->ahead.tables);
	postgres_group_done(&src->group);
	pgout_done(&src->decoder);
	pgout_done(&src->replay_decoder);
	postgres_backfill_done(&src->backfill);
	pg_tables_free(src->primed);
	pg_catalog_free(src->catalog);
	pg_session_close(src->repl);
	pg_session_close(src->sql);
	free(src);
}

static int open_steps(struct postgres_source *src, const struct duct_checkpoint *from, struct duct_error *err)
{
	struct pg_slot slot;
	int r = connect_both(src, err);
	if (r || (r = postgres_setup_publication(src, from->state != DUCT_STATE_STREAMING, err)))
		return r;
	if ((r = postgres_setup_state(src, err)))
		return r;
	duct_kill_point("setup-state");
	if ((r = pg_slot_read(&slot, src->sql, src->config->slot, err)))
		return r;
	if (from->state != DUCT_STATE_STREAMING)
		return open_first(src, from, &slot, err);
	if ((r = open_streaming(src, from, &slot, err)) || (r = mark_known(src, from, err)))
		return r;
	if (src->config->snapshot == POSTGRES_SNAPSHOT_ONLY)
		return duct_fail(err, DUCT_CONFIG, "snapshot=only: the destination has this flow's copy already");
	if ((r = postgres_stream_start(src, src->start_lsn, err)))
		return r;
	postgres_state_write(src, "running", 0, 0);
	return 0;
}

/* Named before a transaction needs it. */
static void log_spool(const struct postgres_source *src)
{
	char what[512];
	uint64_t free_bytes;
	if (postgres_describe_spool(src->config, what, sizeof what, &free_bytes))
		log_debug(src->ctx->log, what);
	else
		log_warn(src->ctx->log, what);
}

static int postgres_open(void **ret, const void *config, const struct duct_ctx *ctx, const struct duct_checkpoint *from,
			 struct duct_error *err)
{
	const struct postgres_config *c = config;
	struct postgres_source *src = duct_xcalloc(1, sizeof *src);
	src->config = c;
	src->ctx = ctx;
	src->group.apart = ctx->ddl;
	snprintf(src->flow_id, sizeof src->flow_id, "%s", c->flow_id ? c->flow_id : ctx->flow ? ctx->flow : c->slot);
	src->part_bytes = (size_t)c->max_memory / PARTS_IN_MEMORY;
	src->spool = postgres_spool_new((size_t)c->max_memory / POSTGRES_SPOOL_SHARE, postgres_spool_dir(c));
	postgres_spool_limit_disk(src->spool, (uint64_t)c->spool_limit);
	src->catalog = pg_catalog_new();
	if (c->dead_letter)
		src->group.dead_letter = postgres_dead_letter_relation(c->dead_letter_table);
	for (size_t i = 0; i < from->ncuts; i++)
		postgres_group_cut_at(&src->group, from->cuts[i]);
	int r = open_steps(src, from, err);
	if (r) {
		postgres_close(src, NULL);
		return r;
	}
	log_spool(src);
	*ret = src;
	return 0;
}

static int postgres_head(void *source, struct duct_pos *ret, struct duct_error *err)
{
	struct postgres_source *src = source;
	uint64_t lsn = 0;
	int r;
	if (src->server.in_recovery) {
		r = pg_head_lsn(&lsn, src->sql, err);
	} else {
		/* A transaction of its own that the stream will carry: also when nothing else happens any more. */
		AUTO_PGRESULT PGresult *res = NULL;
		r = pg_exec(src->sql, "select pg_catalog.pg_logical_emit_message(true, 'ductstream', '')", &res, err);
		if (!r)
			lsn = pg_get_lsn(res, 0, 0);
	}
	if (r)
		return duct_wrap(err, "the position of the source");
	*ret = (struct duct_pos){.lsn = lsn};
	if (lsn > src->wanted)
		src->wanted = lsn;
	return src->started ? postgres_feedback(src, true, err) : 0;
}

const struct duct_source_ops duct_source_postgres = {
	.name = "postgres",
	.summary = "changes and existing rows of a PostgreSQL database (13 and later), through logical replication",
	.caps = DUCT_SOURCE_STREAM | DUCT_SOURCE_SNAPSHOT,
	.opts = duct_source_postgres_opts,
	.config_size = sizeof(struct postgres_config),
	.check = postgres_config_check,
	.probe = postgres_probe,
	.open = postgres_open,
	.same_source = postgres_same_source,
	.snapshot = postgres_snapshot,
	.copy_again = postgres_copy_again,
	.snapshot_all = postgres_snapshot_all,
	.step_begin = postgres_step_begin,
	.step_done = postgres_step_done,
	.part_open = postgres_part_open,
	.part_read = postgres_part_read,
	.part_close = postgres_part_close,
	.snapshot_done = postgres_snapshot_done,
	.read = postgres_read,
	.tick = postgres_tick,
	.head = postgres_head,
	.close = postgres_close,
};
