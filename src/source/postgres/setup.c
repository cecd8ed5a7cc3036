/*
 * What must exist before the slot: the server's settings, the publication, our state table. A publication is never
 * dropped or made again: with changes in the log before it, its slot could never be read.
 */
#include "source/postgres/postgres.h"

#include "base/buf.h"
#include "base/killpoint.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

int postgres_validate(struct postgres_source *src, struct duct_error *err)
{
	const struct pg_server *s = &src->server;
	if (!src->config->validate_replication)
		return 0;
	if (strcmp(s->wal_level, "logical") != 0)
		return duct_fail(err, DUCT_CONFIG,
				 "wal_level of %s is \"%s\": logical decoding needs ALTER SYSTEM SET wal_level = logical and a "
				 "restart of the server (managed services: their setting for logical replication)",
				 src->sql->where, s->wal_level);
	if (!s->can_replicate)
		return duct_fail(err, DUCT_CONFIG,
				 "role \"%s\" may not replicate: ALTER ROLE \"%s\" REPLICATION (managed services: their "
				 "replication role)",
				 s->user, s->user);
	if (s->max_slots < 1 || s->max_senders < 1)
		return duct_fail(err, DUCT_CONFIG, "max_replication_slots is %d and max_wal_senders is %d: both must be at least 1",
				 s->max_slots, s->max_senders);
	if (s->used_senders >= s->max_senders)
		return duct_fail(err, DUCT_RETRY, "all %d max_wal_senders are in use: end one or raise the setting",
				 s->max_senders);
	return 0;
}

/* --- publication --- */

bool postgres_wants_all(const struct postgres_config *c)
{
	return !c->publication_tables && !c->publication_schemas;
}

static bool can_be_published(const void *arg, const struct pg_choice *table)
{
	const struct postgres_config *c = arg;
	return table->permanent && !(strcmp(table->schema, c->state_schema) == 0 && strcmp(table->name, c->state_table) == 0);
}

int postgres_wanted_tables(const struct postgres_config *c, struct pg_session *sql, struct pg_choices *ret, struct duct_error *err)
{
	for (char **t = c->publication_tables; t && *t; t++) {
		int r = pg_choose_table(ret, sql, c->publication, *t, err);
		if (r < 0)
			return r;
		if (r == 0)
			return duct_fail(err, DUCT_CONFIG, "publication_tables: there is no table \"%s\" (write schema.table)", *t);
	}
	for (char **s = c->publication_schemas; s && *s; s++) {
		int r = pg_choose_schema(ret, sql, c->publication, *s, c->state_schema, c->state_table, err);
		if (r)
			return r;
	}
	pg_choices_keep(ret, can_be_published, c);
	return 0;
}

static int publication_create(struct postgres_source *src, struct duct_error *err)
{
	const struct postgres_config *c = src->config;
	AUTO_BUF struct duct_buf sql = {0};
	AUTO_PG_CHOICES struct pg_choices wanted = {0};
	bool all = postgres_wants_all(c);
	int r = postgres_wanted_tables(c, src->sql, &wanted, err);
	if (r)
		return r;
	if (all) {
		duct_buf_puts(&sql, "create publication ");
		duct_buf_sql_ident(&sql, c->publication);
		duct_buf_puts(&sql, " for all tables");
	} else if (!pg_choices_put(&sql, "create", c->publication, "for table", &wanted, false)) {
		return duct_fail(err, DUCT_CONFIG,
				 "publication \"%s\" cannot be created: publication_tables and publication_schemas name no table",
				 c->publication);
	}
	if (c->publish_via_partition_root)
		duct_buf_puts(&sql, " with (publish_via_partition_root = true)");
	r = pg_exec(src->sql, sql.data, NULL, err);
	if (!r || strcmp(err->sqlstate, "42710") == 0) /* somebody else was first */
		return 0;
	if (strcmp(err->sqlstate, "42501") != 0)
		return duct_wrap(err, "publication \"%s\" cannot be created", c->publication);
	AUTO_FREE char *why = duct_xstrdup(err->message);
	if (all)
		return duct_fail(err, DUCT_CONFIG,
				 "publication \"%s\" does not exist and role \"%s\" may not create it for all tables: name the "
				 "tables in publication_tables or publication_schemas, or let a superuser run CREATE PUBLICATION "
				 "\"%s\" FOR ALL TABLES (%s)",
				 c->publication, src->server.user, c->publication, why);
	return duct_fail(err, DUCT_CONFIG,
			 "publication \"%s\" does not exist and role \"%s\" may not create it: it must own the tables and have "
			 "CREATE on the database, or their owner creates the publication (%s)",
			 c->publication, src->server.user, why);
}

static int publication_alter(struct postgres_source *src, const struct pg_choices *tables, const char *what, bool members,
			     struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	const char *publication = src->config->publication;
	if (!pg_choices_put(&sql, "alter", publication, what, tables, members) || pg_exec(src->sql, sql.data, NULL, err) == 0)
		return 0;
	return duct_wrap(err, "sync_publication: \"%s\" cannot be changed (its owner must also own the tables)", publication);
}

static int publication_sync(struct postgres_source *src, struct duct_error *err)
{
	const struct postgres_config *c = src->config;
	AUTO_PG_CHOICES struct pg_choices wanted = {0}, members = {0};
	int r = postgres_wanted_tables(c, src->sql, &wanted, err);
	if (r || (r = publication_alter(src, &wanted, "add table", false, err)))
		return r;
	if (c->sync_publication_mode != POSTGRES_SYNC_SYNC)
		return 0;
	if ((r = pg_choose_members(&members, src->sql, c->publication, err)))
		return r;
	pg_choices_without(&members, &wanted);
	return publication_alter(src, &members, "drop table", true, err);
}

/* The application's own UPDATE and DELETE fail on a published table without identity. */
static int warn_identity(struct postgres_source *src, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const char *const params[] = {src->config->publication};
	int r = pg_query(src->sql,
			 "select t.schemaname || '.' || t.tablename from pg_catalog.pg_publication p join "
			 "pg_catalog.pg_publication_tables t on t.pubname = p.pubname join pg_catalog.pg_namespace n on "
			 "n.nspname = t.schemaname join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = "
			 "t.tablename where p.pubname = $1 and (p.pubupdate or p.pubdelete) and c.relreplident in ('d','n') and "
			 "(c.relreplident = 'n' or not exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and "
			 "i.indisprimary and i.indimmediate)) order by 1 limit 20",
			 1, params, &res, err);
	for (int i = 0; !r && i < PQntuples(res); i++)
		log_warn(src->ctx->log,
			 "a published table has no replica identity: the application's UPDATE and DELETE on it fail; add a "
			 "primary key or set REPLICA IDENTITY FULL",
			 LOG_STR("table", PQgetvalue(res, i, 0)));
	return r;
}

int postgres_all_changes_published(struct postgres_source *src, const struct pg_publication *pub, struct duct_error *err)
{
	const char *name = src->config->publication;
	if (!pub->exists || (pub->insert && pub->update && pub->delete &&pub->truncate))
		return 0;
	return duct_fail(err, DUCT_CONFIG,
			 "publication \"%s\" leaves out some kinds of changes, so the lake would differ from the source: "
			 "alter publication %s set (publish = 'insert, update, delete, truncate'). Tables that are in the lake "
			 "already are copied again then",
			 name, name);
}

int postgres_setup_publication(struct postgres_source *src, bool first, struct duct_error *err)
{
	const struct postgres_config *c = src->config;
	struct pg_publication pub;
	int r = pg_publication_read(&pub, src->sql, c->publication, err);
	if (r || (first && (r = postgres_all_changes_published(src, &pub, err))))
		return r;
	if (!pub.exists && !c->ensure_publication)
		return duct_fail(err, DUCT_CONFIG,
				 "publication \"%s\" does not exist in database \"%s\": create it, or set "
				 "ensure_publication=true",
				 c->publication, src->server.database);
	if (!pub.exists) {
		if ((r = publication_create(src, err)))
			return r;
		duct_kill_point("setup-publication");
		r = warn_identity(src, err);
	} else if (c->sync_publication && pub.all_tables) {
		log_warn(src->ctx->log, "sync_publication changes nothing: the publication is FOR ALL TABLES",
			 LOG_STR("publication", c->publication));
	} else if (c->sync_publication) {
		if ((r = publication_sync(src, err)))
			return r;
		duct_kill_point("setup-publication");
		r = warn_identity(src, err);
	}
	return r;
}

int postgres_published_oids(struct postgres_source *src, uint32_t **ret, size_t *ret_n, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const struct postgres_config *c = src->config;
	const char *const params[] = {c->publication, c->state_schema, c->state_table};
	int r = pg_query(src->sql,
			 "select g.relid from pg_catalog.pg_publication p, pg_catalog.pg_get_publication_tables(p.pubname) g "
			 "where p.pubname = $1 and g.relid not in (select c.oid from pg_catalog.pg_class c join "
			 "pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = $2 and c.relname = $3)",
			 3, params, &res, err);
	if (r)
		return r;
	size_t n = (size_t)PQntuples(res);
	uint32_t *oids = duct_xcalloc(n + 1, sizeof *oids);
	for (size_t i = 0; i < n; i++)
		oids[i] = pg_get_oid(res, (int)i, 0);
	*ret = oids;
	*ret_n = n;
	return 0;
}

/* --- state table --- */

static void put_state_table(struct duct_buf *b, const struct postgres_config *c)
{
	duct_buf_sql_ident(b, c->state_schema);
	duct_buf_putc(b, '.');
	duct_buf_sql_ident(b, c->state_table);
}

static int state_create(struct postgres_source *src, struct duct_error *err)
{
	const struct postgres_config *c = src->config;
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf sql = {0};
	const char *const params[] = {c->state_schema};
	int r = pg_query(src->sql, "select 1 from pg_catalog.pg_namespace where nspname = $1", 1, params, &res, err);
	if (r)
		return r;
	if (!PQntuples(res)) {
		duct_buf_puts(&sql, "create schema if not exists ");
		duct_buf_sql_ident(&sql, c->state_schema);
		duct_buf_puts(&sql, ";");
	}
	duct_buf_puts(&sql, "create table if not exists ");
	put_state_table(&sql, c);
	duct_buf_puts(&sql,
		      " (flow_id text primary key, source_name text not null, slot_name text not null, publication_name text "
		      "not null, state text not null, slot_lsn pg_lsn, last_lsn pg_lsn, last_ack_at timestamptz, "
		      "members text, "
		      "created_at timestamptz not null default now(), updated_at timestamptz not null default now())");
	return pg_exec(src->sql, sql.data, NULL, err);
}

/* The table's oid, 0: none. */
static int state_oid(struct postgres_source *src, uint32_t *ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const char *const params[] = {src->config->state_schema, src->config->state_table};
	int r = pg_query(src->sql,
			 "select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where "
			 "n.nspname = $1 and c.relname = $2",
			 2, params, &res, err);
	if (!r)
		*ret = PQntuples(res) ? pg_get_oid(res, 0, 0) : 0;
	return r;
}

/* A table of an older program gets the column that came later. One that is not ours at all is left alone. */
static int state_upgrade(struct postgres_source *src, uint32_t oid, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf sql = {0};
	char text[16];
	const char *const params[] = {text};
	snprintf(text, sizeof text, "%u", oid);
	int r = pg_query(
		src->sql,
		"select 1 from pg_catalog.pg_attribute where attrelid = $1::oid and not attisdropped and attnum > 0 having "
		"count(*) filter (where attname in ('flow_id', 'slot_name', 'slot_lsn', 'last_lsn')) = 4 and "
		"count(*) filter (where attname = 'members') = 0",
		1, params, &res, err);
	if (r || !PQntuples(res))
		return r;
	duct_buf_puts(&sql, "set local lock_timeout = '5s'; alter table ");
	put_state_table(&sql, src->config);
	duct_buf_puts(&sql, " add column if not exists members text");
	struct duct_error why;
	if (pg_exec(src->sql, sql.data, NULL, &why)) /* "when permitted": without it less is noticed */
		log_debug(src->ctx->log, "the state table at the source was not upgraded", LOG_STR("reason", why.message));
	return 0;
}

int postgres_setup_state(struct postgres_source *src, struct duct_error *err)
{
	uint32_t oid;
	if (!src->config->ensure_state || src->server.in_recovery)
		return 0;
	int r = state_oid(src, &oid, err);
	if (r)
		return r;
	if (!oid) {
		struct duct_error why;
		if (state_create(src, &why)) {
			if (why.class == DUCT_RETRY || why.class == DUCT_CANCELLED) {
				*err = why;
				return -(int)why.class;
			}
			log_debug(src->ctx->log, "no state table at the source", LOG_STR("reason", why.message));
			return 0; /* "when permitted" */
		}
		duct_kill_point("setup-state-table");
		if ((r = state_oid(src, &oid, err)))
			return r;
	} else if ((r = state_upgrade(src, oid, err))) {
		return r;
	}
	postgres_group_table(&src->group, oid, true)->ignored = true;
	src->state_ready = true;
	return 0;
}

int postgres_state_read(struct postgres_source *src, struct postgres_state_row *ret, struct duct_error *err)
{
	*ret = (struct postgres_state_row){0};
	if (!src->state_ready)
		return 0;
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf sql = {0};
	const char *const params[] = {src->flow_id};
	duct_buf_puts(&sql, "select slot_name, slot_lsn, last_lsn from ");
	put_state_table(&sql, src->config);
	duct_buf_puts(&sql, " where flow_id = $1");
	struct duct_error why;
	if (pg_query(src->sql, sql.data, 1, params, &res, &why)) {
		if (why.class == DUCT_RETRY || why.class == DUCT_CANCELLED) {
			*err = why;
			return -(int)why.class;
		}
		src->state_ready = false; /* another table of that name, or no right to read it */
		return 0;
	}
	if (!PQntuples(res))
		return 0;
	ret->exists = true;
	snprintf(ret->slot, sizeof ret->slot, "%s", PQgetvalue(res, 0, 0));
	ret->slot_lsn = pg_get_lsn(res, 0, 1);
	ret->last_lsn = pg_get_lsn(res, 0, 2);
	return 0;
}

static void put_lsn(struct duct_buf *b, uint64_t lsn)
{
	char text[DUCT_LSN_LEN];
	if (lsn)
		duct_buf_printf(b, ", '%s'", duct_lsn_format(text, lsn));
	else
		duct_buf_puts(b, ", null");
}

void postgres_state_write(struct postgres_source *src, const char *state, uint64_t slot_lsn, uint64_t last_lsn)
{
	const struct postgres_config *c = src->config;
	if (!src->state_ready)
		return;
	AUTO_BUF struct duct_buf sql = {0};
	/* not worth a wait for standbys */
	duct_buf_puts(&sql, "set local synchronous_commit = off; insert into ");
	put_state_table(&sql, c);
	duct_buf_puts(&sql,
		      " as s (flow_id, source_name, slot_name, publication_name, state, slot_lsn, last_lsn, last_ack_at) "
		      "values (");
	const char *const texts[] = {src->flow_id, src->ctx->flow ? src->ctx->flow : src->flow_id, c->slot, c->publication, state};
	for (size_t i = 0; i < DUCT_LEN(texts); i++) {
		duct_buf_puts(&sql, i ? ", " : "");
		duct_buf_sql_literal(&sql, texts[i]);
	}
	put_lsn(&sql, slot_lsn);
	put_lsn(&sql, last_lsn);
	duct_buf_puts(&sql, last_lsn ? ", now())" : ", null)");
	duct_buf_puts(&sql,
		      " on conflict (flow_id) do update set source_name = excluded.source_name, publication_name = "
		      "excluded.publication_name, state = excluded.state, updated_at = now(), slot_lsn = case when "
		      "excluded.slot_lsn is not null then excluded.slot_lsn when s.slot_name = excluded.slot_name then s.slot_lsn "
		      "end, last_lsn = case when excluded.slot_lsn is not null or s.slot_name <> excluded.slot_name then "
		      "excluded.last_lsn else coalesce(excluded.last_lsn, s.last_lsn) end, slot_name = excluded.slot_name, "
		      "last_ack_at = coalesce(excluded.last_ack_at, s.last_ack_at)");
	struct duct_error err;
	if (pg_exec(src->sql, sql.data, NULL, &err))
		log_debug(src->ctx->log, "the state row at the source was not written", LOG_STR("reason", err.message));
	else if (last_lsn)
		src->state_lsn = last_lsn;
}
