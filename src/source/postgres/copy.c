/*
 * The copy: a slot with an exported snapshot, a keeper session that imports it, locks the tables and exports it again,
 * and a plan of parts. Parts of one copy read one snapshot; page ranges of different snapshots are never mixed.
 */
#include "source/postgres/copy.h"

#include "base/buf.h"
#include "base/killpoint.h"
#include "base/mem.h"
#include "pg/copy.h"

#include <stdio.h>
#include <string.h>

enum {
	PAGE = 8192,
	LOCK_CHUNK = 500, /* tables in one LOCK statement */
	LOCKS_MAX = 2000, /* of all sessions; a default server has room for some 6,400 */
	MAX_SESSIONS = 256,
};
static const int64_t part_bytes_max = INT64_C(128) << 20, part_bytes_big = INT64_C(8) << 20;

static void copy_free(struct postgres_copy *copy)
{
	if (!copy)
		return;
	void *session;
	while (copy->idle && duct_queue_pop(copy->idle, &session, 0) == 1)
		pg_session_close(session);
	if (copy->idle)
		duct_queue_free(copy->idle);
	pg_session_close(copy->keeper);
	pg_session_close(copy->temporary);
	for (size_t i = 0; i < copy->snap.nparts; i++) {
		free(copy->plans[i].sql);
		free(copy->plans[i].lock_sql);
	}
	for (size_t i = 0; i < copy->snap.nrelations; i++) {
		if (copy->snap.relations[i]->oid != POSTGRES_DEAD_LETTER_OID)
			pg_relation_free(copy->relations[i]);
		duct_relation_unref(copy->snap.relations[i]);
	}
	free(copy->relations);
	free(copy->snap.relations);
	free(copy->snap.parts);
	free(copy->plans);
	free(copy);
}

/* --- parts --- */

static void add_part(struct postgres_copy *copy, int table, const struct pg_storage *from, const char *sql, int64_t parts)
{
	AUTO_BUF struct duct_buf lock = {0};
	duct_buf_puts(&lock, "lock table only ");
	duct_buf_sql_ident(&lock, from->schema);
	duct_buf_putc(&lock, '.');
	duct_buf_sql_ident(&lock, from->name);
	duct_buf_puts(&lock, " in access share mode");
	struct duct_snapshot *s = &copy->snap;
	s->parts = duct_grow(s->parts, &copy->parts_cap, s->nparts + 1, sizeof *s->parts);
	copy->plans = duct_grow(copy->plans, &copy->plans_cap, s->nparts + 1, sizeof *copy->plans);
	copy->plans[s->nparts] = (struct postgres_part){
		.relation = copy->relations[table],
		.sql = duct_xstrdup(sql),
		.lock_sql = duct_steal(&lock.data),
		.storage_oid = from->oid,
		.first_seq = (uint64_t)s->nparts << 40,
	};
	s->parts[s->nparts] = (struct duct_snapshot_part){
		.relation = s->relations[table],
		.table = table,
		.estimated_rows = from->estimated_rows > 0 ? (uint64_t)(from->estimated_rows / parts) : 0,
		.estimated_bytes = (uint64_t)(from->total_bytes / parts),
	};
	s->nparts++;
}

static void put_copy(struct duct_buf *sql, const struct pg_relation *rel, const struct pg_storage *from, const char *filter,
		     const char *where)
{
	sql->len = 0;
	duct_buf_puts(sql, "copy (select ");
	pg_copy_select(sql, rel);
	duct_buf_puts(sql, " from only ");
	duct_buf_sql_ident(sql, from->schema);
	duct_buf_putc(sql, '.');
	duct_buf_sql_ident(sql, from->name);
	if (where[0] || filter)
		duct_buf_puts(sql, " where ");
	duct_buf_puts(sql, where);
	if (filter)
		duct_buf_printf(sql, "%s(%s)", where[0] ? " and " : "", filter);
	duct_buf_puts(sql, ") to stdout (format binary)");
}

static void plan_hashes(struct postgres_source *src, struct postgres_copy *copy, int table, const struct pg_storage *from,
			const char *filter)
{
	AUTO_BUF struct duct_buf sql = {0}, where = {0}, column = {0};
	int64_t n = src->config->partition_count;
	duct_buf_sql_ident(&column, src->config->partition_column);
	for (int64_t i = 0; i < n; i++) {
		where.len = 0;
		duct_buf_printf(&where, "coalesce(pg_catalog.hashtext(%s::text)::bigint & 2147483647, 0) %% %lld = %lld",
				column.data, (long long)n, (long long)i);
		put_copy(&sql, copy->relations[table], from, filter, where.data);
		add_part(copy, table, from, sql.data, n);
	}
}

/* (b,0) does not exist, so it is a clean exclusive bound; the last range has none. */
static void plan_pages(struct postgres_source *src, struct postgres_copy *copy, int table, const struct pg_storage *from,
		       const char *filter)
{
	AUTO_BUF struct duct_buf sql = {0};
	char where[128];
	int64_t pages = from->heap_bytes / PAGE, n = (from->total_bytes + part_bytes_max - 1) / part_bytes_max;
	if (from->total_bytes >= part_bytes_big && src->config->snapshot_workers > 1 && n < src->config->snapshot_workers * 2)
		n = src->config->snapshot_workers * 2;
	if (src->sql->version < 140000) /* each range reads the whole table */
		n = 1;
	if (src->config->partition_count > 1)
		n = src->config->partition_count;
	if (n > pages)
		n = pages;
	if (n < 1 || !copy->snapshot_name[0]) /* without a common snapshot a row could move from one range to another */
		n = 1;
	for (int64_t i = 0; i < n; i++) {
		int at = 0;
		where[0] = 0;
		if (i > 0)
			at = snprintf(where, sizeof where, "ctid >= '(%lld,0)'::pg_catalog.tid", (long long)(pages * i / n));
		if (i < n - 1)
			snprintf(where + at, sizeof where - (size_t)at, "%sctid < '(%lld,0)'::pg_catalog.tid", i ? " and " : "",
				 (long long)(pages * (i + 1) / n));
		put_copy(&sql, copy->relations[table], from, filter, where);
		add_part(copy, table, from, sql.data, n);
	}
}

static void plan_storage(struct postgres_source *src, struct postgres_copy *copy, int table, const struct pg_storage *from,
			 const char *filter)
{
	const struct postgres_config *c = src->config;
	if (from->kind == 'f')
		return;
	bool hashed = c->partition_column && c->partition_count > 1;
	if (hashed && duct_relation_column(copy->relations[table]->rel, c->partition_column) >= 0) {
		plan_hashes(src, copy, table, from, filter);
		return;
	}
	if (hashed)
		log_warn(src->ctx->log, "the table does not have the partition_column: it is cut into ranges of pages instead",
			 LOG_STR("table", copy->relations[table]->rel->name), LOG_STR("partition_column", c->partition_column));
	plan_pages(src, copy, table, from, filter);
}

static int plan_table(struct postgres_source *src, struct postgres_copy *copy, int table, const struct pg_published *pub,
		      struct duct_error *err)
{
	if (pub->kind != 'p') {
		const struct pg_storage self = {pub->oid,	 pub->schema,	   pub->name,	       pub->kind,
						pub->heap_bytes, pub->total_bytes, pub->estimated_rows};
		plan_storage(src, copy, table, &self, pub->row_filter);
		return 0;
	}
	struct pg_storage_list *leaves;
	int r = pg_storage_read(&leaves, copy->keeper, pub->oid, err);
	if (r)
		return r;
	for (size_t i = 0; i < leaves->ntables; i++)
		plan_storage(src, copy, table, &leaves->tables[i], pub->row_filter);
	pg_storage_free(leaves);
	return 0;
}

/* --- tables --- */

static int check_readable(struct postgres_source *src, const struct pg_published *t, struct duct_error *err)
{
	if (!t->can_select)
		return duct_fail(err, DUCT_CONFIG,
				 "role \"%s\" may not read table \"%s\".\"%s\": GRANT SELECT on it and USAGE on its schema, or the "
				 "role pg_read_all_data",
				 src->server.user, t->schema, t->name);
	if (t->row_security)
		return duct_fail(err, DUCT_CONFIG,
				 "row security hides rows of table \"%s\".\"%s\" from role \"%s\": ALTER ROLE \"%s\" BYPASSRLS "
				 "(the stream carries all rows, the copy must too)",
				 t->schema, t->name, src->server.user, src->server.user);
	return 0;
}

/* Is this table part of the copy? */
static bool table_wanted(struct postgres_source *src, const struct postgres_copy *copy, uint32_t oid)
{
	const struct postgres_table *t = postgres_group_table(&src->group, oid, false);
	if (t && t->ignored)
		return false;
	bool known = t && t->known;
	return copy->kind == POSTGRES_COPY_FIRST || known == (copy->kind == POSTGRES_COPY_JOIN);
}

static int lock_tables(struct pg_session *session, struct pg_published *const *tables, size_t n, const char *nowait,
		       struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	for (size_t i = 0; i < n;) {
		sql.len = 0;
		duct_buf_puts(&sql, "lock table ");
		for (size_t k = 0; k < LOCK_CHUNK && i < n; k++, i++) {
			duct_buf_puts(&sql, k ? ", " : "");
			duct_buf_sql_ident(&sql, tables[i]->schema);
			duct_buf_putc(&sql, '.');
			duct_buf_sql_ident(&sql, tables[i]->name);
		}
		duct_buf_printf(&sql, " in access share mode%s", nowait);
		if (pg_exec(session, sql.data, NULL, err)) {
			if (strcmp(err->sqlstate, "55P03") == 0 || postgres_copy_outdated(err))
				err->class = DUCT_RETRY;
			return duct_wrap(err, "locking the tables of the copy");
		}
	}
	return 0;
}

/* Locks of the keeper, then at once those of all workers. */
static int lock_all(struct postgres_source *src, struct postgres_copy *copy, struct pg_published *const *tables, size_t n,
		    struct duct_error *err)
{
	size_t workers = (size_t)src->config->snapshot_workers, opened = 0;
	if (!copy->snapshot_name[0] || n * (workers + 1) > LOCKS_MAX)
		return 0;
	struct pg_session **sessions = duct_xcalloc(workers, sizeof *sessions);
	int r = 0;
	for (; !r && opened < workers; opened += !r)
		r = postgres_copy_session(src, copy, &sessions[opened], err);
	if (!r)
		r = lock_tables(copy->keeper, tables, n, "", err);
	for (size_t i = 0; !r && i < opened; i++)
		r = lock_tables(sessions[i], tables, n, " nowait", err);
	for (size_t i = 0; i < opened; i++)
		if (r || duct_queue_push(copy->idle, sessions[i], 1, 0) != 1)
			pg_session_close(sessions[i]);
	free(sessions);
	copy->locked = !r;
	return r;
}

bool postgres_copy_outdated(const struct duct_error *err)
{
	static const char *const states[] = {"42P01", "42703", "3F000"}; /* no such table, column, schema */
	for (size_t i = 0; i < DUCT_LEN(states); i++)
		if (strcmp(err->sqlstate, states[i]) == 0)
			return true;
	return false;
}

/* The tables of the copy and all below them, as t(oid). */
static void put_tables(struct duct_buf *sql, const struct postgres_copy *copy)
{
	duct_buf_puts(sql, "with recursive t(oid) as (select c.oid from pg_catalog.pg_class c where c.oid in (0");
	for (size_t i = 0; i < copy->snap.nrelations; i++)
		duct_buf_printf(sql, ",%u", copy->relations[i]->rel->oid);
	duct_buf_puts(sql,
		      ") union all select i.inhrelid from t join pg_catalog.pg_class p on p.oid = t.oid and p.relkind = 'p' "
		      "join pg_catalog.pg_inherits i on i.inhparent = t.oid) ");
}

/* A rewrite between the slot's moment and our lock leaves a heap that the snapshot sees as empty. */
static int check_rewritten(struct postgres_copy *copy, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	AUTO_PGRESULT PGresult *res = NULL;
	put_tables(&sql, copy);
	duct_buf_puts(&sql,
		      "select c.relname from t join pg_catalog.pg_class c on c.oid = t.oid where c.relkind = 'r' and "
		      "c.relfilenode is distinct from pg_catalog.pg_relation_filenode(c.oid) limit 1");
	int r = pg_exec(copy->keeper, sql.data, &res, err);
	if (!r && PQntuples(res))
		r = duct_fail(err, DUCT_RETRY, "table \"%s\" was rewritten while the copy began", PQgetvalue(res, 0, 0));
	return r;
}

/*
 * The plan says names as the snapshot has them, but COPY takes names as they are now: with names that were swapped since
 * it would read another table or column.
 */
static int check_names(struct postgres_source *src, struct postgres_copy *copy, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	AUTO_PGRESULT PGresult *then = NULL, *now = NULL;
	put_tables(&sql, copy);
	duct_buf_puts(&sql,
		      "select c.relname, c.oid, pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', n.nspname, c.relname, "
		      "(select pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod), "
		      "',' order by a.attnum) from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0)), 0) "
		      "from t join pg_catalog.pg_class c on c.oid = t.oid join pg_catalog.pg_namespace n on n.oid = "
		      "c.relnamespace order by c.oid");
	int r = pg_exec(copy->keeper, sql.data, &then, err);
	if (r || (r = pg_exec(src->sql, sql.data, &now, err)))
		return r;
	int n = PQntuples(then);
	for (int i = 0; i < n; i++)
		if (i >= PQntuples(now) || strcmp(PQgetvalue(then, i, 1), PQgetvalue(now, i, 1)) != 0 ||
		    strcmp(PQgetvalue(then, i, 2), PQgetvalue(now, i, 2)) != 0)
			return duct_fail(err, DUCT_RETRY, "table \"%s\" was altered while the copy began", PQgetvalue(then, i, 0));
	return 0;
}

static int add_relations(struct postgres_source *src, struct postgres_copy *copy, struct pg_published *const *tables, size_t n,
			 struct duct_error *err)
{
	AUTO_FREE uint32_t *oids = duct_xcalloc(n + 1, sizeof *oids);
	AUTO_FREE uint32_t *types = NULL;
	size_t ntypes;
	struct pg_tables *facts = NULL;
	for (size_t i = 0; i < n; i++)
		oids[i] = tables[i]->oid;
	int r = pg_tables_load(&facts, copy->keeper, oids, n, err);
	if (r)
		return r;
	types = pg_tables_types(facts, &ntypes);
	if (src->config->resolve_types)
		r = pg_catalog_load(src->catalog, copy->keeper, types, ntypes, true, err);
	for (size_t i = 0; !r && i < n; i++) {
		const struct pg_table *t = pg_tables_find(facts, oids[i]);
		size_t names = 0;
		while (tables[i]->columns && tables[i]->columns[names])
			names++;
		if (!t) {
			r = duct_fail(err, DUCT_RETRY, "table \"%s\".\"%s\" went away while the copy began", tables[i]->schema,
				      tables[i]->name);
			break;
		}
		struct pg_relation *rel;
		if ((r = pg_relation_from_table(&rel, t, src->catalog, tables[i]->columns, names, src->group.version + 1, err)))
			break;
		src->group.version++;
		rel->rel->may_lack = src->config->dead_letter;
		if (rel->unpublished_key)
			log_warn(src->ctx->log,
				 "a generated column of the key is not published: the table is taken for one without key, and an "
				 "UPDATE or DELETE of it would stop the flow; see `ductstream check`",
				 LOG_STR("schema", rel->rel->schema), LOG_STR("table", rel->rel->name),
				 LOG_STR("column", rel->unpublished_key));
		copy->relations[copy->snap.nrelations] = rel;
		copy->snap.relations[copy->snap.nrelations++] = duct_relation_ref(rel->rel);
	}
	pg_tables_free(facts);
	return r;
}

static int plan(struct postgres_source *src, struct postgres_copy *copy, struct duct_error *err)
{
	const char *const publications[] = {src->config->publication, NULL};
	bool rows = copy->kind == POSTGRES_COPY_ADDED || src->config->snapshot != POSTGRES_SNAPSHOT_NEVER;
	struct pg_published_list *list;
	int r = pg_published_read(&list, copy->keeper, publications, err);
	if (r)
		return r;
	AUTO_FREE struct pg_published **wanted = duct_xcalloc(list->ntables + 1, sizeof *wanted);
	size_t n = 0, max = copy->kind == POSTGRES_COPY_ADDED ? POSTGRES_FENCED_MAX - src->identity.nfences : SIZE_MAX;
	for (size_t i = 0; i < list->ntables && n < max && !r; i++) {
		const struct pg_published *t = &list->tables[i];
		if (!table_wanted(src, copy, t->oid))
			continue;
		if (t->bare) {
			postgres_leave_out(src, t->oid, t->schema, t->name);
			continue;
		}
		wanted[n++] = &list->tables[i];
		if (rows)
			r = check_readable(src, &list->tables[i], err);
	}
	copy->snap.without_rows = !rows;
	copy->relations = duct_xcalloc(n + 1, sizeof *copy->relations);
	copy->snap.relations = duct_xcalloc(n + 2, sizeof *copy->snap.relations); /* and that of dead letters */
	if (!r && rows)
		r = lock_all(src, copy, wanted, n, err);
	if (!r)
		duct_kill_point("setup-lock");
	if (!r)
		r = add_relations(src, copy, wanted, n, err);
	if (!r && rows)
		r = check_rewritten(copy, err);
	if (!r && rows)
		r = check_names(src, copy, err);
	for (size_t i = 0; i < n && !r && rows; i++)
		r = plan_table(src, copy, (int)i, wanted[i], err);
	for (size_t i = 0; i < copy->snap.nparts; i++)
		copy->snap.parts[i].impl = &copy->plans[i];
	pg_published_free(list);
	if (!r)
		duct_kill_point("setup-parts");
	return r;
}

/* --- the keeper --- */

static int keeper_open(struct postgres_source *src, struct postgres_copy *copy, const char *snapshot, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const struct postgres_config *c = src->config;
	bool shared = c->snapshot_consistent || c->snapshot != POSTGRES_SNAPSHOT_ONLY;
	int r = postgres_open_session(src, false, &copy->keeper, err);
	if (!r)
		r = pg_exec(copy->keeper, "begin isolation level repeatable read read only", NULL, err);
	if (!r && snapshot[0])
		r = pg_execf(copy->keeper, NULL, err, "set transaction snapshot '%s'", snapshot);
	if (!r && snapshot[0] && shared)
		r = pg_exec(copy->keeper, "select pg_catalog.pg_export_snapshot()", &res, err);
	if (r)
		return duct_wrap(err, "the session that keeps the copy's snapshot");
	if (res)
		snprintf(copy->snapshot_name, sizeof copy->snapshot_name, "%s", PQgetvalue(res, 0, 0));
	duct_kill_point("setup-keeper");
	return 0;
}

/* A slot that lasts only as long as it is needed for a snapshot with a position. */
static int temporary_slot(struct postgres_source *src, struct postgres_copy *copy, struct postgres_new_slot *slot,
			  struct duct_error *err)
{
	char name[64];
	int r = postgres_open_session(src, true, &copy->temporary, err);
	if (r)
		return r;
	snprintf(name, sizeof name, "%.40s_copy_%d", src->config->slot, PQbackendPID(copy->temporary->conn));
	return postgres_slot_create(src, copy->temporary, name, true, POSTGRES_EXPORT_SNAPSHOT, slot, err);
}

/* The slot of a first copy, or of a stream without copy. */
static int first_slot(struct postgres_source *src, struct postgres_copy *copy, struct postgres_new_slot *slot,
		      struct duct_error *err)
{
	const struct postgres_config *c = src->config;
	struct pg_slot old;
	int r = pg_slot_read(&old, src->sql, c->slot, err);
	if (r)
		return r;
	if (old.exists && (r = postgres_slot_usable(src, &old, err)))
		return r;
	if (old.exists && c->snapshot == POSTGRES_SNAPSHOT_NEVER) {
		*slot = (struct postgres_new_slot){.lsn = old.confirmed_lsn};
		return 0;
	}
	if (old.exists) { /* open() made sure that it is ours */
		if ((r = postgres_slot_drop(src, c->slot, err)))
			return r;
		duct_kill_point("setup-slot-dropped");
	}
	if (!src->repl && (r = postgres_open_session(src, true, &src->repl, err)))
		return r;
	r = postgres_slot_create(src, src->repl, c->slot, false,
				 c->snapshot == POSTGRES_SNAPSHOT_NEVER ? POSTGRES_NO_SNAPSHOT : POSTGRES_EXPORT_SNAPSHOT, slot,
				 err);
	if (r)
		return r;
	copy->made_slot = true;
	duct_kill_point("setup-slot");
	postgres_state_write(src, "copying", slot->lsn, 0);
	duct_kill_point("setup-slot-state");
	return 0;
}

/* Unknown tables that the publication does not name (any more) are not asked about at each of their changes. */
static void forget_unknown(struct postgres_source *src)
{
	for (size_t i = 0; i < src->group.nslots; i++)
		if (src->group.slots[i] && !src->group.slots[i]->known)
			src->group.slots[i]->asked = true;
	src->group.unknown_seen = false;
}

static int prepare(struct postgres_source *src, struct postgres_copy *copy, struct duct_error *err)
{
	const struct postgres_config *c = src->config;
	struct postgres_new_slot slot = {0};
	bool temporary = copy->kind != POSTGRES_COPY_FIRST || c->snapshot == POSTGRES_SNAPSHOT_ONLY;
	int r = temporary ? temporary_slot(src, copy, &slot, err) : first_slot(src, copy, &slot, err);
	if (r || (r = keeper_open(src, copy, slot.snapshot, err)))
		return r;
	pg_session_close(copy->temporary);
	copy->temporary = NULL;
	if (!src->started) { /* idle for the whole copy otherwise */
		pg_session_close(src->repl);
		src->repl = NULL;
	}
	uint64_t start = 0;
	if (c->start_lsn && (r = duct_lsn_parse(c->start_lsn, &start, err)))
		return r;
	if (c->snapshot == POSTGRES_SNAPSHOT_NEVER && start > slot.lsn)
		slot.lsn = start;
	copy->snap.pos = (struct duct_pos){.lsn = slot.lsn};
	if ((r = plan(src, copy, err)))
		return r;
	struct postgres_identity id = src->identity;
	if (copy->kind == POSTGRES_COPY_ADDED)
		for (size_t i = 0; i < copy->snap.nrelations; i++)
			id.fences[id.nfences++] = (struct postgres_fence){copy->relations[i]->rel->oid, slot.lsn};
	else
		id.nfences = 0;
	if (src->group.dead_letter && (copy->snap.nrelations || copy->kind == POSTGRES_COPY_FIRST))
		copy->snap.relations[copy->snap.nrelations++] = duct_relation_ref(src->group.dead_letter);
	return postgres_identity_write(&id, copy->snap.source_identity, sizeof copy->snap.source_identity, err);
}

static int undo_slot(struct postgres_source *src, const struct postgres_copy *copy, struct duct_error *err)
{
	if (!copy->made_slot)
		return 0;
	pg_session_close(src->repl); /* it may hold the slot */
	src->repl = NULL;
	src->sql->stop_fd = -1; /* also after a stop */
	int r = postgres_slot_drop(src, src->config->slot, err);
	src->sql->stop_fd = src->ctx->stop_fd;
	if (!r)
		postgres_state_write(src, "dropped", 0, 0);
	return r;
}

static int begin(struct postgres_source *src, enum postgres_copy_kind kind, struct duct_snapshot **ret, struct duct_error *err)
{
	struct postgres_copy *copy = duct_xcalloc(1, sizeof *copy);
	copy->kind = kind;
	copy->idle = duct_queue_new(MAX_SESSIONS);
	copy->snap.workers = (int)src->config->snapshot_workers;
	copy->snap.only = copy->kind == POSTGRES_COPY_FIRST && src->config->snapshot == POSTGRES_SNAPSHOT_ONLY;
	copy->snap.stepwise = copy->kind == POSTGRES_COPY_ADDED && src->backfill.kept;
	copy->snap.impl = copy;
	int r = prepare(src, copy, err);
	if (r) {
		struct duct_error ignored;
		if (undo_slot(src, copy, &ignored))
			log_debug(src->ctx->log, "slot left behind", LOG_STR("reason", ignored.message));
		copy_free(copy);
		return r;
	}
	if (copy->kind == POSTGRES_COPY_ADDED && !copy->snap.nrelations) {
		forget_unknown(src);
		copy_free(copy);
		return 0;
	}
	*ret = &copy->snap;
	return 0;
}

int postgres_snapshot(void *source, struct duct_snapshot **ret, struct duct_error *err)
{
	struct postgres_source *src = source;
	*ret = NULL;
	bool waiting = src->copy_wanted == POSTGRES_COPY_NONE && src->backfill.next < src->backfill.n;
	if (waiting && postgres_backfill_next(src))
		return 1;
	if (src->copy_wanted == POSTGRES_COPY_NONE && !src->group.unknown_seen)
		return 0;
	return begin(src, src->copy_wanted != POSTGRES_COPY_NONE ? src->copy_wanted : POSTGRES_COPY_ADDED, ret, err);
}

int postgres_snapshot_all(void *source, struct duct_snapshot **ret, struct duct_error *err)
{
	*ret = NULL;
	return begin(source, POSTGRES_COPY_JOIN, ret, err);
}

static void published_first(struct postgres_source *src, const struct postgres_copy *copy)
{
	src->start_lsn = copy->snap.pos.lsn;
	src->durable = copy->snap.pos;
	src->handed = copy->snap.pos.lsn;
	src->group.last = copy->snap.pos;
	src->copy_wanted = POSTGRES_COPY_NONE;
	if (!copy->snap.only)
		postgres_state_write(src, "running", copy->made_slot ? copy->snap.pos.lsn : 0, copy->snap.pos.lsn);
}

static void published_table(struct postgres_source *src, const struct postgres_copy *copy, uint32_t oid)
{
	struct postgres_table *t = postgres_group_table(&src->group, oid, true);
	t->known = true;
	t->member = 0; /* the next look at the publication tells */
	t->left_lsn = 0;
	t->fence = copy->snap.pos.lsn;
	if (copy->kind == POSTGRES_COPY_ADDED)
		src->identity.fences[src->identity.nfences++] = (struct postgres_fence){t->oid, t->fence};
}

static void published(struct postgres_source *src, const struct postgres_copy *copy)
{
	for (size_t i = 0; i < copy->snap.nrelations; i++)
		if (copy->snap.relations[i]->oid != POSTGRES_DEAD_LETTER_OID)
			published_table(src, copy, copy->snap.relations[i]->oid);
	if (copy->kind == POSTGRES_COPY_FIRST)
		published_first(src, copy);
	src->group.unknown_seen = false; /* the next look at the publication finds what is still missing */
	src->polled_us = 0;
}

int postgres_snapshot_done(void *source, struct duct_snapshot *snap, bool was_published, struct duct_error *err)
{
	struct postgres_source *src = source;
	struct postgres_copy *copy = snap->impl;
	int r = 0;
	if (!was_published)
		r = undo_slot(src, copy, err);
	else if (copy->kind == POSTGRES_COPY_JOIN)
		postgres_group_cut_at(&src->group, snap->pos.lsn);
	else
		published(src, copy);
	copy_free(copy);
	return r;
}
