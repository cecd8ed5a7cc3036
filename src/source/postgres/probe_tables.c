/* `ductstream check`: the publication, and the tables that it has or that the first start puts into it. */
#include "source/postgres/probe.h"

#include "base/buf.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* What is looked at: $1 of the queries. */
static char *oids_of(const struct pg_published_list *list)
{
	AUTO_BUF struct duct_buf oids = {0};
	duct_buf_putc(&oids, '{');
	for (size_t i = 0; i < list->ntables; i++)
		duct_buf_printf(&oids, "%s%u", i ? "," : "", list->tables[i].oid);
	duct_buf_putc(&oids, '}');
	return duct_steal(&oids.data);
}

/* One row, one finding: runs a query whose first column is what. */
static int report_rows(struct probe *p, const char *oids, enum duct_finding level, const char *sql, const char *fmt,
		       const char *remedy, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int r = pg_query(p->src.sql, sql, 1, &oids, &res, err);
	for (int i = 0; !r && i < PQntuples(res); i++) {
		char what[512];
		snprintf(what, sizeof what, "%s: %s", PQgetvalue(res, i, 0), fmt);
		p->report(p->arg, level, what, remedy);
	}
	return r;
}

#define TABLES "from pg_class c join pg_namespace n on n.oid = c.relnamespace "
#define THESE "where c.oid = any ($1::oid[]) "
#define TABLE_NAME "n.nspname || '.' || c.relname "

static int probe_identities(struct probe *p, const char *oids, struct duct_error *err)
{
	int r = 0;
	if (p->pub.update || p->pub.delete)
		r = report_rows(
			p, oids, DUCT_FINDING_ERROR,
			"select " TABLE_NAME TABLES THESE
			"and (c.relreplident = 'n' or c.relreplident = 'd' and not exists (select from pg_index i where "
			"i.indrelid = c.oid and i.indisprimary and i.indimmediate) or c.relreplident = 'i' and not exists (select "
			"from pg_index i where i.indrelid = c.oid and i.indisreplident)) order by 1",
			"has no replica identity: UPDATE and DELETE of the application fail while it is published",
			"add a primary key (not deferrable) or ALTER TABLE ... REPLICA IDENTITY FULL", err);
	if (!r)
		r = report_rows(
			p, oids, DUCT_FINDING_WARN,
			"select " TABLE_NAME TABLES THESE
			"and exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary and not i.indimmediate)",
			"its primary key is deferrable, which the server does not take as identity",
			"make the key not deferrable, or set REPLICA IDENTITY USING INDEX with another one", err);
	if (!r)
		r = report_rows(p, oids, DUCT_FINDING_WARN,
				"select " TABLE_NAME TABLES THESE
				"and c.relreplident = 'f' and not exists (select from pg_index i where i.indrelid = c.oid and "
				"i.indisprimary)",
				"has no key: rows are found by their whole value, which is slow", "add a primary key", err);
	return r;
}

/* Before 18 the server sends such rows without saying which they are, later it refuses their changes. */
static int probe_generated_keys(struct probe *p, const char *oids, struct duct_error *err)
{
	bool refused = p->src.server.version >= 180000;
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql,
		      "select distinct on (c.oid) " TABLE_NAME "|| '.' || a.attname " TABLES
		      "join pg_index i on i.indrelid = c.oid and (c.relreplident = 'd' and i.indisprimary or "
		      "c.relreplident = 'i' and i.indisreplident) join pg_attribute a on a.attrelid = c.oid and a.attnum = any "
		      "((i.indkey::int2[])[0:i.indnkeyatts - 1]) " THESE "and a.attgenerated <> ''");
	if (refused) {
		duct_buf_puts(&sql,
			      " and not exists (select from pg_publication_tables t where t.schemaname = n.nspname and "
			      "t.tablename = c.relname and a.attname = any (t.attnames) and t.pubname = ");
		duct_buf_sql_literal(&sql, p->src.config->publication);
		duct_buf_putc(&sql, ')');
	}
	duct_buf_puts(&sql, " order by c.oid");
	return report_rows(
		p, oids, refused ? DUCT_FINDING_ERROR : DUCT_FINDING_WARN, sql.data,
		refused ? "is generated, part of the key and not published: UPDATE and DELETE of the application fail"
			: "is generated, part of the key and not published: the table is taken for one without key, and an "
			  "UPDATE or DELETE of it stops the flow",
		refused ? "ALTER PUBLICATION ... SET (publish_generated_columns = stored)"
			: "ALTER TABLE ... REPLICA IDENTITY FULL, or USING INDEX with a unique index without generated columns",
		err);
}

static int probe_columns(struct probe *p, const char *oids, struct duct_error *err)
{
	int r = report_rows(
		p, oids, DUCT_FINDING_WARN,
		"select distinct " TABLE_NAME "|| '.' || a.attname " TABLES
		"join pg_attribute a on a.attrelid = c.oid join pg_attribute b on b.attrelid = c.oid and lower(a.attname) = "
		"lower(b.attname) and a.attnum <> b.attnum " THESE "and a.attnum > 0 and b.attnum > 0 and not "
		"a.attisdropped and not b.attisdropped order by 1",
		"another column's name differs only in case, and most lakes do not tell them apart", "rename one of them", err);
	if (!r && p->pub.via_root)
		r = report_rows(p, oids, DUCT_FINDING_WARN, "select " TABLE_NAME TABLES THESE "and c.relkind = 'p' order by 1",
				"is published by its root: TRUNCATE, ATTACH and DETACH of a partition are invisible",
				"publish leaves: ALTER PUBLICATION ... SET (publish_via_partition_root = false)", err);
	return r;
}

/* Types that cannot be sent in binary form. */
static void probe_types(struct probe *p, const struct pg_table *t, const struct pg_catalog *catalog)
{
	struct duct_arena arena;
	duct_arena_init(&arena);
	for (int k = 0; k < t->ncolumns; k++) {
		const struct pg_table_column *c = &t->columns[k];
		const char *reason;
		struct pg_mapping m = pg_mapping_build(catalog, c->typid, c->typmod, c->ndims, &arena);
		if (!c->generated && pg_mapping_needs_text(&m, &reason))
			probe_say(p, DUCT_FINDING_WARN, "nothing to do: the stream is slower in text form",
				  "%s.%s.%s: the whole stream goes in text form: %s", t->schema, t->name, c->name, reason);
	}
	duct_arena_done(&arena);
}

static int add_relation(struct probe *p, const struct pg_published *published, const struct pg_table *t,
			const struct pg_catalog *catalog, struct duct_error *err)
{
	size_t names = 0;
	struct pg_relation *rel;
	while (published->columns && published->columns[names])
		names++;
	int r = pg_relation_from_table(&rel, t, catalog, published->columns, names, 1, err);
	if (r)
		return r;
	duct_relations_add(p->relations, rel->rel);
	pg_relation_free(rel);
	return 0;
}

static int probe_relations(struct probe *p, const struct pg_published_list *list, struct duct_error *err)
{
	AUTO_FREE uint32_t *oids = duct_xcalloc(list->ntables + 1, sizeof *oids);
	AUTO_FREE uint32_t *types = NULL;
	struct pg_tables *tables = NULL;
	size_t ntypes;
	for (size_t i = 0; i < list->ntables; i++)
		oids[i] = list->tables[i].oid;
	int r = pg_tables_load(&tables, p->src.sql, oids, list->ntables, err);
	if (r)
		return r;
	struct pg_catalog *catalog = pg_catalog_new();
	types = pg_tables_types(tables, &ntypes);
	r = pg_catalog_load(catalog, p->src.sql, types, ntypes, false, err);
	for (size_t i = 0; !r && i < list->ntables; i++) {
		const struct pg_table *t = pg_tables_find(tables, oids[i]);
		if (!t)
			continue;
		probe_types(p, t, catalog);
		if (!list->tables[i].bare)
			r = add_relation(p, &list->tables[i], t, catalog, err);
	}
	pg_catalog_free(catalog);
	pg_tables_free(tables);
	return r;
}

static void probe_rights(struct probe *p, const struct pg_published_list *list)
{
	size_t readable = 0;
	bool copied = p->src.config->snapshot != POSTGRES_SNAPSHOT_NEVER;
	for (size_t i = 0; i < list->ntables; i++) {
		const struct pg_published *t = &list->tables[i];
		if (t->bare)
			probe_say(p, DUCT_FINDING_WARN, "add a column to it, or take it out of the publication",
				  "%s.%s has no column that is published: it is left out until it has one", t->schema, t->name);
		else if (copied && !t->can_select)
			probe_say(p, DUCT_FINDING_ERROR, "GRANT SELECT on it and USAGE on its schema, or pg_read_all_data",
				  "%s.%s cannot be read: no first copy", t->schema, t->name);
		else if (copied && t->row_security)
			probe_say(p, DUCT_FINDING_ERROR, "ALTER ROLE ... BYPASSRLS", "%s.%s: row security hides rows from the copy",
				  t->schema, t->name);
		else
			readable++;
	}
	bool refused = !p->pub.exists && !postgres_wants_all(p->src.config);
	enum duct_finding empty = refused ? DUCT_FINDING_ERROR : DUCT_FINDING_WARN;
	probe_say(p, list->ntables ? DUCT_FINDING_OK : empty,
		  list->ntables	    ? NULL
			  : refused ? "name tables in publication_tables or publication_schemas"
				    : "add tables to it",
		  "publication \"%s\" %s %zu tables, %zu of them can be read", p->src.config->publication,
		  p->pub.exists ? "has" : "will have", list->ntables, readable);
}

/* The tables of the publication, or those that the first start will put into it. */
static int read_tables(struct probe *p, struct pg_published_list **ret, struct duct_error *err)
{
	const struct postgres_config *c = p->src.config;
	const char *const names[] = {c->publication, NULL};
	AUTO_PG_CHOICES struct pg_choices wanted = {0};
	if (p->pub.exists)
		return pg_published_read(ret, p->src.sql, names, err);
	int r = postgres_wants_all(c)
		? pg_choose_schema(&wanted, p->src.sql, c->publication, NULL, c->state_schema, c->state_table, err)
		: postgres_wanted_tables(c, p->src.sql, &wanted, err);
	return r ? r : pg_published_would(ret, p->src.sql, &wanted, p->pub.via_root, err);
}

static int probe_tables(struct probe *p, struct duct_error *err)
{
	struct pg_published_list *list;
	int r = read_tables(p, &list, err);
	if (r)
		return r;
	AUTO_FREE char *oids = oids_of(list);
	probe_rights(p, list);
	r = probe_relations(p, list, err);
	pg_published_free(list);
	if (r || (r = probe_identities(p, oids, err)) || (r = probe_generated_keys(p, oids, err)))
		return r;
	return probe_columns(p, oids, err);
}

int probe_publication(struct probe *p, struct duct_error *err)
{
	const struct postgres_config *c = p->src.config;
	if (!p->pub.exists) {
		bool all = postgres_wants_all(c);
		probe_say(p, !c->ensure_publication || (all && !p->src.server.superuser) ? DUCT_FINDING_ERROR : DUCT_FINDING_OK,
			  !c->ensure_publication ? "create it, or set ensure_publication=true"
				  : all ? "FOR ALL TABLES takes a superuser: name publication_tables or publication_schemas"
					: NULL,
			  "publication \"%s\" does not exist%s", c->publication,
			  c->ensure_publication ? " yet: the first start creates it" : "");
		p->pub.insert = p->pub.update = p->pub.delete = p->pub.truncate = true;
		p->pub.via_root = c->publish_via_partition_root;
		return c->ensure_publication ? probe_tables(p, err) : 0;
	}
	if (!p->pub.insert || !p->pub.update || !p->pub.delete || !p->pub.truncate)
		probe_say(p, DUCT_FINDING_ERROR, "ALTER PUBLICATION ... SET (publish = 'insert, update, delete, truncate')",
			  "publication \"%s\" leaves out%s%s%s%s: the destination will differ", c->publication,
			  p->pub.insert ? "" : " INSERT", p->pub.update ? "" : " UPDATE", p->pub.delete ? "" : " DELETE",
			  p->pub.truncate ? "" : " TRUNCATE");
	return probe_tables(p, err);
}
