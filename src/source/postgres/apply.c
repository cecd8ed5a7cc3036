/* The messages of the stream: transactions at once, streamed ones through the spool. */
#include "source/postgres/postgres.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"

#include <string.h>

enum { REPLAY_LOOK = 1024 }; /* messages between two looks at the clock */

/* --- relations --- */

static bool table_agrees(const struct pg_table *t, const struct pgout_relation *m)
{
	int found = 0;
	for (int i = 0; i < m->ncolumns; i++)
		for (int k = 0; k < t->ncolumns; k++)
			if (strcmp(m->columns[i].name, t->columns[k].name) == 0 && m->columns[i].typid == t->columns[k].typid &&
			    m->columns[i].typmod == t->columns[k].typmod)
				found++;
	return found == m->ncolumns && m->identity == t->identity;
}

/* Where the R's columns stand among those of now, by name and type: all found and in order? */
static bool in_order(const struct pg_table *t, const struct pgout_relation *m)
{
	int at = 0;
	for (int i = 0; i < m->ncolumns; i++, at++) {
		while (at < t->ncolumns &&
		       !(strcmp(m->columns[i].name, t->columns[at].name) == 0 && m->columns[i].typid == t->columns[at].typid &&
			 m->columns[i].typmod == t->columns[at].typmod))
			at++;
		if (at == t->ncolumns)
			return false;
	}
	return true;
}

/*
 * The catalog is that of now, the R may be older: its columns were renamed or retyped since. R lists columns in the
 * order of their numbers, and numbers are never used again; so while no number below the last is missing now, the i-th
 * column of any R was number i. Gives the table's columns the names and types that the R has; false when numbers are
 * missing (dropped or generated columns, a column list), where only names can tell.
 */
static bool as_of_message(struct pg_table *t, struct pg_table_column *columns, const struct pgout_relation *m)
{
	if (in_order(t, m))
		return false;
	for (int i = 0; i < t->ncolumns; i++) {
		columns[i] = t->columns[i];
		if (columns[i].attnum != i + 1 || columns[i].generated)
			return false;
		if (i >= m->ncolumns)
			continue;
		bool same = columns[i].typid == m->columns[i].typid && columns[i].typmod == m->columns[i].typmod;
		if (!same && m->ncolumns < t->ncolumns)
			return false;
		columns[i].name = m->columns[i].name;
		if (same)
			continue;
		columns[i].typid = m->columns[i].typid;
		columns[i].typmod = ~m->columns[i].typmod; /* differs: name and missing value are of the type of now */
	}
	t->columns = columns; /* later ones stay behind them, also under a name that the R gives to an earlier one */
	return true;
}

/*
 * Whether the table has had no other columns dropped than these. An R names columns, and a column that was made again has the
 * name of the one before it; only the numbers tell, and they are not in the R.
 */
static int same_dropped(struct postgres_source *src, uint32_t oid, const int16_t *dropped, int n, bool *ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf known = {0};
	for (int i = 0; i < n; i++)
		duct_buf_printf(&known, "%s%d", i ? " " : "", dropped[i]);
	int r = pg_execf(src->sql, &res, err,
			 "select coalesce(string_agg(attnum::text, ' ' order by attnum), '') from pg_catalog.pg_attribute "
			 "where attrelid = %u and attnum > 0 and attisdropped",
			 oid);
	if (r)
		return duct_wrap(err, "the columns of table %u", oid);
	*ret = PQntuples(res) == 1 && strcmp(PQgetvalue(res, 0, 0), known.data ? known.data : "") == 0;
	return 0;
}

/* The facts that were read at the start, NULL when they may no longer be those of the R. */
static int primed_facts(struct postgres_source *src, const struct pgout_relation *m, const struct pg_table **ret,
			struct duct_error *err)
{
	const struct pg_table *facts = src->primed ? pg_tables_find(src->primed, m->oid) : NULL;
	bool same = true;
	*ret = NULL;
	if (!facts || !table_agrees(facts, m))
		return 0;
	int r = 0;
	bool before = src->group.commit_lsn < src->primed_lsn && (int32_t)(src->group.xid - src->primed_xid) < 0;
	if (!before)
		r = same_dropped(src, m->oid, facts->dropped, facts->ndropped, &same, err);
	*ret = same ? facts : NULL;
	return r;
}

/* The relation that an R and the facts of the catalog beside it make. `again`: its types may be others than when they were last read. */
static int relation_from(struct postgres_source *src, const struct pg_table *facts, bool again, const struct pgout_relation *m,
			 struct pg_relation **ret, struct duct_error *err)
{
	int r = 0;
	if (src->config->resolve_types) {
		AUTO_FREE uint32_t *types = duct_xcalloc((size_t)m->ncolumns + 1, sizeof *types);
		for (int i = 0; i < m->ncolumns; i++)
			types[i] = m->columns[i].typid;
		r = pg_catalog_load(src->catalog, src->sql, types, (size_t)m->ncolumns, again, err);
	}
	AUTO_FREE struct pg_table_column *columns = facts ? duct_xcalloc((size_t)facts->ncolumns + 1, sizeof *columns) : NULL;
	struct pg_table then = facts ? *facts : (struct pg_table){0};
	if (facts && as_of_message(&then, columns, m))
		facts = &then;
	if (!r)
		r = pg_relation_from_message(ret, m, facts, src->catalog, src->group.version + 1, err);
	if (!r)
		(*ret)->rel->may_lack = src->config->dead_letter;
	return r;
}

/* Catalog facts beside an R: those read at the start when they still agree at the first R, else those of now. */
static int build_relation(struct postgres_source *src, const struct postgres_table *t, const struct pgout_relation *m,
			  struct pg_relation **ret, struct duct_error *err)
{
	const struct pg_table *facts = NULL;
	struct pg_tables *fresh = NULL;
	int r = postgres_await_visible(src, err);
	bool unseen = r > 0;
	if (r >= 0)
		r = t->relation ? 0 : primed_facts(src, m, &facts, err);
	if (r)
		return r;
	if (!facts) {
		if ((r = pg_tables_load(&fresh, src->sql, &m->oid, 1, err)))
			return duct_wrap(err, "relation \"%s\".\"%s\"", m->schema, m->name);
		facts = pg_tables_find(fresh, m->oid);
	}
	unseen = unseen && facts && !in_order(facts, m);
	r = relation_from(src, facts, t->relation != NULL, m, ret, err);
	if (!r)
		(*ret)->rel->unseen = unseen;
	pg_tables_free(fresh);
	return r;
}

static int take_relation(struct postgres_source *src, struct postgres_table *t, const struct pgout_relation *m, const char *raw,
			 size_t raw_len, struct duct_error *err)
{
	struct pg_relation *rel = NULL;
	int r = build_relation(src, t, m, &rel, err);
	if (r)
		return r;
	if (rel->stream_text && !src->no_binary && src->config->binary == POSTGRES_SWITCH_AUTO) {
		log_debug(src->ctx->log, "the stream goes on in text form", LOG_STR("reason", rel->stream_text_reason));
		src->no_binary = src->restart = true;
	}
	if (t->relation && duct_relation_equal(t->relation->rel, rel->rel)) {
		pg_relation_free(rel); /* ANALYZE, GRANT, an index, another table's publication */
		return 0;
	}
	src->group.version++;
	if (!postgres_group_relation(&src->group, t, rel, raw, raw_len))
		src->restart = true;
	return 0;
}

int postgres_committed_relation(struct postgres_source *src, const struct pgout_relation *m, struct pg_relation **ret,
				struct duct_error *err)
{
	const struct pg_table *facts = src->primed ? pg_tables_find(src->primed, m->oid) : NULL;
	struct pg_tables *fresh = NULL;
	*ret = NULL;
	if (!facts || !table_agrees(facts, m)) {
		int r = pg_tables_load(&fresh, src->sql, &m->oid, 1, err);
		if (r)
			return duct_wrap(err, "relation \"%s\".\"%s\"", m->schema, m->name);
		facts = pg_tables_find(fresh, m->oid);
	}
	int r = facts && table_agrees(facts, m) && in_order(facts, m) ? relation_from(src, facts, false, m, ret, err) : 0;
	pg_tables_free(fresh);
	return r;
}

bool postgres_is_raw(const struct postgres_table *t, const char *raw, size_t raw_len)
{
	return t->raw && t->raw_len == raw_len && memcmp(t->raw, raw, raw_len) == 0;
}

int postgres_relation_stands(struct postgres_source *src, const struct duct_relation *rel, bool *ret, struct duct_error *err)
{
	int r = postgres_await_visible(src, err);
	return r < 0 ? r : same_dropped(src, rel->oid, rel->dropped, rel->ndropped, ret, err);
}

static int apply_relation(struct postgres_source *src, const struct pgout_message *m, const char *raw, size_t raw_len,
			  struct duct_error *err)
{
	struct postgres_table *t = postgres_group_table(&src->group, m->relation.oid, true);
	if (src->config->snapshot == POSTGRES_SNAPSHOT_NEVER)
		t->known = m->relation.ncolumns > 0;
	if (!m->relation.ncolumns && !t->known) {
		postgres_leave_out(src, t->oid, m->relation.schema, m->relation.name);
		t->asked = true; /* the publication is looked at until it has a column */
	}
	bool again = postgres_is_raw(t, raw, raw_len);
	if (t->ignored || (again && !t->relation))
		return 0;
	if (again && postgres_group_wants(&src->group, t)) {
		int r = postgres_relation_stands(src, t->relation->rel, &again, err);
		if (r)
			return r;
	}
	if (again)
		return 0;
	if (!postgres_group_wants(&src->group, t)) {
		postgres_group_note_relation(t, raw, raw_len);
		src->group.noted = true;
		return 0;
	}
	return take_relation(src, t, &m->relation, raw, raw_len, err);
}

/* Of a table whose relation was only noted a change is wanted. */
static int describe(struct postgres_source *src, uint32_t oid, struct duct_error *err)
{
	struct postgres_table *t = postgres_group_table(&src->group, oid, false);
	if (!t || t->relation || !t->raw || !postgres_group_wants(&src->group, t))
		return 0;
	struct pgout decoder = {0};
	struct pgout_message m;
	AUTO_BUF struct duct_buf raw = {0};
	duct_buf_putc(&raw, 'R');
	duct_buf_append(&raw, t->raw, t->raw_len);
	int r = pgout_decode(&decoder, raw.data, raw.len, &m, err);
	if (!r)
		r = take_relation(src, t, &m.relation, raw.data + 1, raw.len - 1, err);
	pgout_done(&decoder);
	return r;
}

static int apply_change(struct postgres_source *src, const struct pgout_message *m, struct duct_error *err)
{
	int r = 0;
	if (src->group.noted && m->kind != 'T')
		r = describe(src, m->change.oid, err);
	for (int i = 0; !r && src->group.noted && m->kind == 'T' && i < m->truncate.noids; i++)
		r = describe(src, m->truncate.oids[i], err);
	if (r || src->restart)
		return r; /* the stream begins again before this change */
	return postgres_group_change(&src->group, m, err);
}

/* --- streamed transactions --- */

static int replay_start(struct postgres_source *src, const struct pgout_message *m)
{
	if (m->commit.commit_lsn < src->start_lsn) { /* is stored */
		postgres_spool_drop(src->spool, m->xid);
		return 0;
	}
	postgres_begin(src, m->xid, m->commit.commit_lsn, m->commit.commit_us);
	postgres_replay_begin(&src->replay, src->spool, m->xid);
	pgout_reset(&src->replay_decoder);
	src->replay_decoder.in_stream = true;
	src->replay_commit.xid = m->xid;
	src->replay_commit.commit_lsn = m->commit.commit_lsn;
	src->replay_commit.end_lsn = m->commit.end_lsn;
	src->replay_commit.commit_us = m->commit.commit_us;
	src->replay_held = false;
	src->replaying = true;
	return 0;
}

static int commit_streamed(struct postgres_source *src, const struct pgout_message *m, struct duct_error *err)
{
	int r = postgres_is_ahead(src, m->xid) ? postgres_ahead_commit(src, m, err) : 1;
	if (r <= 0)
		return r;
	postgres_ahead_withdraw(src, "another one has committed");
	return replay_start(src, m);
}

static void replay_end(struct postgres_source *src)
{
	postgres_replay_done(&src->replay);
	postgres_spool_drop(src->spool, src->replay_commit.xid);
	postgres_group_commit(&src->group, src->replay_commit.end_lsn, src->replay_commit.commit_us);
	src->replaying = false;
}

static bool is_change(char kind)
{
	return kind == 'I' || kind == 'U' || kind == 'D' || kind == 'T';
}

int postgres_replay_some(struct postgres_source *src, struct duct_error *err)
{
	for (unsigned n = 1;; n++) {
		const char *data;
		size_t len;
		struct pgout_message m;
		int r = postgres_replay_next(&src->replay, &data, &len, err);
		if (r < 0)
			return r;
		if (!r) {
			replay_end(src);
			return 0;
		}
		/* A part is cut before the row that would be too much, so that the last one never is empty. */
		src->replay_held = !src->replay_held && src->group.bytes >= src->part_bytes && is_change(data[0]);
		if (src->replay_held) {
			postgres_replay_take_back(&src->replay);
			return 0;
		}
		if (n % REPLAY_LOOK == 0) {
			if (duct_ctx_stopped(src->ctx))
				return duct_fail(err, DUCT_CANCELLED, "stopped");
			if ((r = postgres_tick(src, &src->durable, err)))
				return r;
		}
		if ((r = pgout_decode(&src->replay_decoder, data, len, &m, err)))
			return r;
		if (m.kind == 'R')
			r = apply_relation(src, &m, data + 5, len - 5, err);
		else if (is_change(m.kind))
			r = apply_change(src, &m, err);
		if (r || src->group.cut || src->restart)
			return r;
	}
}

/* --- the stream --- */

void postgres_begin(struct postgres_source *src, uint32_t xid, uint64_t commit_lsn, int64_t commit_us)
{
	postgres_group_begin(&src->group, xid, commit_lsn, src->start_lsn);
	src->group.commit_us = commit_us;
}

static int apply_commit(struct postgres_source *src, const struct pgout_message *m, struct duct_error *err)
{
	if (!src->group.open)
		return duct_fail(err, DUCT_FATAL, "the stream ends a transaction that it has not begun");
	if (src->group.skip != (m->commit.end_lsn <= src->start_lsn))
		return duct_fail(err, DUCT_FATAL, "the end of transaction %u does not fit its beginning", src->group.xid);
	if (src->group.seq > src->group.first_seq)
		src->ahead.ordinary_us = duct_mono_us();
	postgres_group_commit(&src->group, m->commit.end_lsn, m->commit.commit_us);
	return 0;
}

int postgres_apply(struct postgres_source *src, const char *data, size_t len, struct duct_error *err)
{
	struct pgout_message m;
	int r = pgout_decode(&src->decoder, data, len, &m, err);
	if (r)
		return r;
	bool change = is_change(m.kind);
	if (src->stream_xid && (change || m.kind == 'R' || m.kind == 'Y')) {
		r = postgres_spool_append(src->spool, src->stream_xid, m.xid, !change, data, len, err);
		return !r && postgres_is_ahead(src, src->stream_xid) ? postgres_ahead_message(src, &m, data + 5, len - 5, err) : r;
	}
	if (postgres_ahead_passes(src, &m))
		return 0;
	if (change)
		return apply_change(src, &m, err);
	switch (m.kind) {
	case 'B': postgres_begin(src, m.xid, m.begin.final_lsn, m.begin.commit_us); return 0;
	case 'C': return apply_commit(src, &m, err);
	case 'R': return apply_relation(src, &m, data + 1, len - 1, err);
	case 'S':
		src->stream_xid = m.xid;
		postgres_spool_start(src->spool, m.xid, m.stream_start.first);
		if (m.stream_start.first)
			postgres_ahead_begin(src, m.xid);
		return 0;
	case 'E': src->stream_xid = 0; return 0;
	case 'A': postgres_ahead_abort(src, &m); return 0;
	case 'c': return commit_streamed(src, &m, err);
	case 'O': /* origin: not kept */
	case 'M': /* messages: reserved */
	case 'Y': /* types are looked up with their relation */ return 0;
	default: return duct_fail(err, DUCT_FATAL, "the stream sends two-phase message '%c' that was not asked for", m.kind);
	}
}
