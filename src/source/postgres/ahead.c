/*
 * A streamed transaction is handed over while it still runs at the source, so that little is left to do when it commits. It is a bet
 * that nothing else commits first and that it ends well: all of it is spooled, too, and when the bet is lost the flow is told that
 * what it got does not count (duct_changes.withdrawn), and the transaction takes the road of the spool.
 */
#include "source/postgres/postgres.h"

#include "base/clock.h"
#include "base/mem.h"

#include <string.h>

enum {
	CALM_US = 1000 * 1000,	    /* no bet so soon after an ordinary transaction: the next one is near */
	QUIET_US = 1000 * 1000,	    /* after so long without a message of it others are served, */
	REST_US = 10 * 1000 * 1000, /* after so long it is withdrawn anyway: what waits for it costs somebody something */
};

bool postgres_is_ahead(const struct postgres_source *src, uint32_t xid)
{
	return xid && src->ahead.xid == xid;
}

void postgres_ahead_begin(struct postgres_source *src, uint32_t xid)
{
	if (!src->ctx->ahead || src->ahead.xid || xid == src->ahead.lost || src->group.open || src->group.unknown_seen ||
	    src->restart || src->renew || duct_mono_us() - src->ahead.ordinary_us < CALM_US)
		return;
	/* Its commit comes behind all that was seen so far. */
	uint64_t lsn = postgres_later(postgres_later(src->start_lsn, src->group.last.lsn), src->idle.lsn);
	postgres_group_begin(&src->group, xid, lsn, src->start_lsn);
	src->group.commit_us = 0;
	src->group.ahead = true;
	src->group.cut |= src->group.ncommits > 0; /* these stay when it is withdrawn */
	src->ahead.xid = xid;
	src->ahead.seen_us = duct_mono_us();
	src->ahead.ntables = 0;
	postgres_spool_limit_memory(src->spool, (size_t)src->config->max_memory / POSTGRES_SPOOL_SHARE_AHEAD);
}

static void end(struct postgres_source *src)
{
	src->ahead.xid = src->ahead.beside.xid = 0;
	src->group.ahead = false;
	postgres_spool_limit_memory(src->spool, (size_t)src->config->max_memory / POSTGRES_SPOOL_SHARE);
}

void postgres_ahead_withdraw(struct postgres_source *src, const char *why)
{
	if (!src->ahead.xid)
		return;
	log_debug(src->ctx->log, "a transaction is no longer applied ahead of its commit", LOG_U64("xid", src->ahead.xid),
		  LOG_STR("because", why), LOG_I64("handed_over", src->group.partial));
	src->ahead.withdrawn |= src->group.partial;
	src->ahead.lost = src->ahead.xid;
	postgres_group_reset(&src->group);
	for (size_t i = 0; i < src->ahead.ntables; i++)
		if (src->ahead.tables[i].made)
			postgres_group_forget_relation(postgres_group_table(&src->group, src->ahead.tables[i].oid, true));
	end(src);
}

void postgres_ahead_abort(struct postgres_source *src, const struct pgout_message *m)
{
	if (postgres_is_ahead(src, m->xid))
		postgres_ahead_withdraw(src,
					m->xid == m->stream_abort.subxid ? "it was rolled back" : "a part of it was rolled back");
	postgres_spool_abort(src->spool, m->xid, m->stream_abort.subxid);
}

struct duct_changes *postgres_ahead_withdrawn(struct postgres_source *src)
{
	if (!src->ahead.withdrawn)
		return NULL;
	src->ahead.withdrawn = false;
	struct duct_changes *c = duct_changes_new();
	c->withdrawn = c->ends_commit = true;
	c->upto.lsn = src->handed;
	return c;
}

void postgres_ahead_look(struct postgres_source *src, int64_t now_us, bool waited_for)
{
	if (!src->ahead.xid)
		return;
	int64_t quiet_us = now_us - src->ahead.seen_us;
	if (quiet_us >= REST_US || (quiet_us >= QUIET_US && waited_for))
		postgres_ahead_withdraw(src, "it rests");
	else if (src->wanted > src->handed && postgres_later(src->idle.lsn, src->group.last.lsn) >= src->wanted)
		postgres_ahead_withdraw(src, "a position is wanted that lies before its end");
}

static void remember(struct postgres_source *src, uint32_t oid, bool made)
{
	struct postgres_ahead *a = &src->ahead;
	for (size_t i = a->ntables; i-- > 0;)
		if (a->tables[i].oid == oid)
			return;
	a->tables = duct_grow(a->tables, &a->tables_cap, a->ntables + 1, sizeof *a->tables);
	a->tables[a->ntables++].oid = oid;
	a->tables[a->ntables - 1].made = made;
}

/* 0: the table is as it was, or met for the first time and as the catalog has it; 1: neither. */
static int take_relation(struct postgres_source *src, const struct pgout_message *m, const char *raw, size_t raw_len,
			 struct duct_error *err)
{
	struct postgres_table *t = postgres_group_table(&src->group, m->relation.oid, false);
	if (!t || t->ignored || !postgres_group_wants(&src->group, t) || (!t->relation && t->raw))
		return t && t->ignored ? 0 : 1;
	if (t->relation) {
		remember(src, t->oid, false);
		return postgres_is_raw(t, raw, raw_len) ? 0 : 1;
	}
	struct pg_relation *rel = NULL;
	int r = postgres_committed_relation(src, &m->relation, &rel, err);
	if (r || !rel)
		return r ? r : 1;
	if (rel->stream_text && !src->no_binary) {
		pg_relation_free(rel);
		return 1;
	}
	src->group.version++;
	(void)postgres_group_relation(&src->group, t, rel, raw, raw_len); /* nothing whole lies before it in the group */
	remember(src, t->oid, true);
	return 0;
}

static bool is_known(const struct postgres_source *src, uint32_t oid)
{
	const struct postgres_table *t = postgres_group_table((struct postgres_group *)&src->group, oid, false);
	return t && (t->ignored || (t->relation && postgres_group_wants(&src->group, t)));
}

static int take_change(struct postgres_source *src, const struct pgout_message *m, struct duct_error *err)
{
	for (int i = 0; m->kind == 'T' && i < m->truncate.noids; i++)
		if (!is_known(src, m->truncate.oids[i]))
			return 1;
	if (m->kind != 'T' && !is_known(src, m->change.oid))
		return 1;
	/* Whatever is wrong with it counts when the transaction has committed. */
	return postgres_group_change(&src->group, m, err) ? 1 : 0;
}

int postgres_ahead_message(struct postgres_source *src, const struct pgout_message *m, const char *raw, size_t raw_len,
			   struct duct_error *err)
{
	int r = 0;
	src->ahead.seen_us = duct_mono_us();
	if (m->kind == 'R')
		r = take_relation(src, m, raw, raw_len, err);
	else if (m->kind != 'Y')
		r = take_change(src, m, err);
	if (r > 0)
		postgres_ahead_withdraw(src,
					m->kind == 'R' ? "a table has changed its shape"
						       : "a change of it has to wait for the commit");
	return r < 0 ? r : 0;
}

/* Whether the message is about nothing but tables of ours. */
static bool is_ignored(const struct postgres_source *src, const struct pgout_message *m)
{
	uint32_t oid = m->kind == 'R' ? m->relation.oid
		: m->kind == 'T'      ? (m->truncate.noids == 1 ? m->truncate.oids[0] : 0)
				      : m->change.oid;
	const struct postgres_table *t = postgres_group_table((struct postgres_group *)&src->group, oid, false);
	return t && t->ignored;
}

bool postgres_ahead_passes(struct postgres_source *src, const struct pgout_message *m)
{
	struct postgres_beside *b = &src->ahead.beside;
	if (m->kind == 'B' && src->ahead.xid) {
		*b = (struct postgres_beside){m->xid, m->begin.final_lsn, m->begin.commit_us};
		return true;
	}
	if (!b->xid || !strchr("IUDTRC", m->kind))
		return false;
	if (m->kind != 'C' && is_ignored(src, m))
		return true;
	struct postgres_beside begun = *b;
	b->xid = 0;
	if (m->kind == 'C')
		return true;
	postgres_ahead_withdraw(src, "another one has committed");
	postgres_begin(src, begun.xid, begun.final_lsn, begun.commit_us);
	return false;
}

/* Whether its tables are those that the R's were taken for; only now can the catalog tell. */
static int tables_stand(struct postgres_source *src, bool *ret, struct duct_error *err)
{
	*ret = true;
	for (size_t i = 0; i < src->ahead.ntables && *ret; i++) {
		const struct postgres_table *t = postgres_group_table(&src->group, src->ahead.tables[i].oid, false);
		*ret = postgres_group_wants(&src->group, t); /* it may have left the publication meanwhile */
		int r = *ret ? postgres_relation_stands(src, t->relation->rel, ret, err) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

int postgres_ahead_commit(struct postgres_source *src, const struct pgout_message *m, struct duct_error *err)
{
	bool stand = false,
	     again = m->commit.end_lsn <= src->start_lsn; /* it was applied before: the server does not send such ones */
	src->group.commit_lsn = m->commit.commit_lsn;
	int r = again ? 0 : tables_stand(src, &stand, err);
	if (r)
		return r;
	if (!stand) {
		postgres_ahead_withdraw(src, again ? "the destination has it" : "a table has changed its shape in it");
		return 1;
	}
	src->group.commit_us = m->commit.commit_us;
	postgres_spool_drop(src->spool, m->xid);
	postgres_group_commit(&src->group, m->commit.end_lsn, m->commit.commit_us);
	end(src);
	return 0;
}
