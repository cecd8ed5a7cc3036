/* `ductstream check`: looks at everything that could stop a flow later, changes nothing. */
#include "source/postgres/postgres.h"

#include "base/buf.h"
#include "base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct probe {
	struct postgres_source src; /* only config, ctx, sql, repl, server are used */
	duct_report_fn *report;
	void *arg;
	struct pg_publication pub;
	struct pg_slot slot;
};

static void DUCT_PRINTF(4, 5) say(struct probe *p, enum duct_finding level, const char *remedy, const char *fmt, ...)
{
	char what[1024];
	va_list args;
	va_start(args, fmt);
	vsnprintf(what, sizeof what, fmt, args);
	va_end(args);
	p->report(p->arg, level, what, remedy);
}

static void check(struct probe *p, bool ok, enum duct_finding otherwise, const char *what, const char *remedy)
{
	p->report(p->arg, ok ? DUCT_FINDING_OK : otherwise, what, ok ? NULL : remedy);
}

/* --- server --- */

/* Minor releases in which a concurrent ALTER PUBLICATION could lose rows or exhaust memory. */
static bool bad_minor(int version)
{
	return version == 170005 || version == 160009 || version == 150013 || version == 140018 || version == 130021;
}

static void probe_server(struct probe *p)
{
	const struct pg_server *s = &p->src.server;
	char text[256];
	say(p, DUCT_FINDING_OK, NULL, "connected to \"%s\", PostgreSQL %d.%d, as \"%s\"", p->src.sql->where, s->version / 10000,
	    s->version % 10000, s->user);
	check(p, s->version >= 140000, DUCT_FINDING_WARN, "server version",
	      "before 14 the stream is slower: text form, and large transactions are sent only when they commit");
	if (bad_minor(s->version))
		say(p, DUCT_FINDING_WARN, "update to 17.6, 16.10, 15.14, 14.19, 13.22 or later",
		    "this minor release has a fault in logical decoding with concurrent publication changes");
	snprintf(text, sizeof text, "wal_level is %s", s->wal_level);
	check(p, strcmp(s->wal_level, "logical") == 0, DUCT_FINDING_ERROR, text,
	      "ALTER SYSTEM SET wal_level = logical, then restart the server");
	snprintf(text, sizeof text, "replication slots: %d of %d in use", s->used_slots, s->max_slots);
	check(p, p->slot.exists || s->used_slots < s->max_slots, DUCT_FINDING_ERROR, text,
	      "drop an unused slot or raise max_replication_slots");
	snprintf(text, sizeof text, "WAL senders: %d of %d in use", s->used_senders, s->max_senders);
	check(p, s->used_senders < s->max_senders, DUCT_FINDING_ERROR, text, "end one or raise max_wal_senders");
	snprintf(text, sizeof text, "role \"%s\" may replicate", s->user);
	check(p, s->can_replicate, DUCT_FINDING_ERROR, text, "ALTER ROLE ... REPLICATION (managed services: their own role)");
	check(p, !s->fsync_off, DUCT_FINDING_WARN, "fsync of the source",
	      "fsync is off: after a crash of the host the source may have lost what the lake has");
	if (s->max_slot_wal_keep_mb >= 0)
		say(p, DUCT_FINDING_WARN, "a flow that is stopped for longer loses its slot: raise it or watch the lag",
		    "max_slot_wal_keep_size is %lld MB", (long long)s->max_slot_wal_keep_mb);
	if (s->idle_slot_timeout_s > 0)
		say(p, DUCT_FINDING_WARN,
		    "a flow that is stopped for longer loses its slot: set it to 0, or start the flow in time",
		    "idle_replication_slot_timeout is %lld s", (long long)s->idle_slot_timeout_s);
}

static void probe_replication(struct probe *p)
{
	struct duct_error why;
	struct pg_identity who;
	if (postgres_open_session(&p->src, true, &p->src.repl, &why) || pg_identify_system(&who, p->src.repl, &why))
		say(p, DUCT_FINDING_ERROR, "allow this host, role and database in pg_hba.conf; the role needs REPLICATION",
		    "no replication connection: %s", why.message);
	else
		say(p, DUCT_FINDING_OK, NULL, "replication connection: system %s, timeline %d", who.system_id, who.timeline);
}

static void probe_slot(struct probe *p)
{
	const struct postgres_config *c = p->src.config;
	struct duct_error why;
	if (!p->slot.exists) {
		check(p, c->create_slot, DUCT_FINDING_ERROR,
		      c->create_slot ? "the slot does not exist yet: the first start creates it" : "the slot does not exist",
		      "create it, or set create_slot=true");
		return;
	}
	if (postgres_slot_usable(&p->src, &p->slot, &why))
		say(p, why.class == DUCT_RETRY ? DUCT_FINDING_WARN : DUCT_FINDING_ERROR, "see there", "%s", why.message);
	else
		say(p, DUCT_FINDING_OK, NULL, "slot \"%s\" exists and is free (log: %s)", c->slot, p->slot.wal_status);
	if (strcmp(p->slot.wal_status, "unreserved") == 0)
		say(p, DUCT_FINDING_ERROR, "start the flow at once, raise max_slot_wal_keep_size",
		    "slot \"%s\" loses its log at the next checkpoint", c->slot);
	if (p->slot.two_phase)
		say(p, DUCT_FINDING_ERROR, "make a slot without two_phase", "slot \"%s\" sends prepared transactions early",
		    c->slot);
}

/* --- the spool --- */

const char *postgres_spool_dir(const struct postgres_config *config)
{
	const char *temp = getenv("TMPDIR");
	return config->spool_dir ? config->spool_dir : temp && *temp ? temp : "/tmp";
}

bool postgres_describe_spool(const struct postgres_config *config, char *to, size_t size, uint64_t *ret_free)
{
	const char *dir = postgres_spool_dir(config);
	struct statvfs room;
	char limit[64] = "no limit";
	*ret_free = 0;
	if (access(dir, W_OK | X_OK) || statvfs(dir, &room)) {
		snprintf(to, size, "large transactions cannot be spooled in \"%s\": %s (option spool_dir)", dir, strerror(errno));
		return false;
	}
	*ret_free = (uint64_t)room.f_bavail * room.f_frsize;
	if (config->spool_limit)
		snprintf(limit, sizeof limit, "at most %lld MiB", (long long)config->spool_limit >> 20);
	snprintf(to, size, "large transactions are spooled in \"%s\": %s (option spool_limit), %llu MiB are free", dir, limit,
		 (unsigned long long)*ret_free >> 20);
	return true;
}

static void probe_spool(struct probe *p)
{
	const struct postgres_config *c = p->src.config;
	char what[512];
	uint64_t free_bytes;
	if (!postgres_describe_spool(c, what, sizeof what, &free_bytes))
		say(p, DUCT_FINDING_ERROR, "name a folder that the user who runs ductstream may write", "%s", what);
	else if (c->spool_limit && (uint64_t)c->spool_limit > free_bytes)
		say(p, DUCT_FINDING_WARN, "make room, or lower spool_limit: the disk would be full before", "%s", what);
	else
		say(p, DUCT_FINDING_OK, NULL, "%s", what);
}

/* --- tables --- */

/* One row, one finding: runs a query whose first column is what, and whose parameters are publication and schema. */
static int report_rows(struct probe *p, enum duct_finding level, const char *sql, const char *fmt, const char *remedy,
		       struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const char *const params[] = {p->src.config->publication};
	int r = pg_query(p->src.sql, sql, 1, params, &res, err);
	for (int i = 0; !r && i < PQntuples(res); i++) {
		char what[512];
		snprintf(what, sizeof what, "%s: %s", PQgetvalue(res, i, 0), fmt);
		p->report(p->arg, level, what, remedy);
	}
	return r;
}

#define PUBLISHED \
	"from pg_publication p join pg_publication_tables t on t.pubname = p.pubname join pg_namespace n on " \
	"n.nspname = t.schemaname join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename " \
	"where p.pubname = $1 "
#define TABLE_NAME "t.schemaname || '.' || t.tablename "

static int probe_identities(struct probe *p, struct duct_error *err)
{
	int r = report_rows(
		p, DUCT_FINDING_ERROR,
		"select " TABLE_NAME PUBLISHED
		"and (p.pubupdate or p.pubdelete) and (c.relreplident = 'n' or c.relreplident = 'd' and not exists (select "
		"from pg_index i where i.indrelid = c.oid and i.indisprimary and i.indimmediate) or c.relreplident = 'i' "
		"and not exists (select from pg_index i where i.indrelid = c.oid and i.indisreplident)) order by 1",
		"has no replica identity: UPDATE and DELETE of the application fail while it is published",
		"add a primary key (not deferrable) or ALTER TABLE ... REPLICA IDENTITY FULL", err);
	if (!r)
		r = report_rows(
			p, DUCT_FINDING_WARN,
			"select " TABLE_NAME PUBLISHED
			"and exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary and not i.indimmediate)",
			"its primary key is deferrable, which the server does not take as identity",
			"make the key not deferrable, or set REPLICA IDENTITY USING INDEX with another one", err);
	if (!r)
		r = report_rows(p, DUCT_FINDING_WARN,
				"select " TABLE_NAME PUBLISHED
				"and c.relreplident = 'f' and not exists (select from pg_index i where i.indrelid = c.oid and "
				"i.indisprimary)",
				"has no key: rows are found by their whole value, which is slow", "add a primary key", err);
	return r;
}

/* Before 18 the server sends such rows without saying which they are, later it refuses their changes. */
static int probe_generated_keys(struct probe *p, struct duct_error *err)
{
	bool refused = p->src.server.version >= 180000;
	AUTO_FREE char *sql = duct_xasprintf(
		"select distinct on (c.oid) " TABLE_NAME
		"|| '.' || a.attname from pg_publication p join pg_publication_tables t on "
		"t.pubname = p.pubname join pg_namespace n on n.nspname = t.schemaname join pg_class c on c.relnamespace = n.oid and "
		"c.relname = t.tablename join pg_index i on i.indrelid = c.oid and (c.relreplident = 'd' and i.indisprimary or "
		"c.relreplident = 'i' and i.indisreplident) join pg_attribute a on a.attrelid = c.oid and a.attnum = any "
		"((i.indkey::int2[])[0:i.indnkeyatts - 1]) where p.pubname = $1 and a.attgenerated <> ''%s order by c.oid",
		refused ? " and not a.attname = any (t.attnames)" : "");
	return report_rows(
		p, refused ? DUCT_FINDING_ERROR : DUCT_FINDING_WARN, sql,
		refused ? "is generated, part of the key and not published: UPDATE and DELETE of the application fail"
			: "is generated, part of the key and not published: the table is taken for one without key, and an "
			  "UPDATE or DELETE of it stops the flow",
		refused ? "ALTER PUBLICATION ... SET (publish_generated_columns = stored)"
			: "ALTER TABLE ... REPLICA IDENTITY FULL, or USING INDEX with a unique index without generated columns",
		err);
}

static int probe_columns(struct probe *p, struct duct_error *err)
{
	int r = report_rows(
		p, DUCT_FINDING_WARN,
		"select distinct " TABLE_NAME "|| '.' || a.attname from pg_publication_tables t join pg_namespace n on "
		"n.nspname = t.schemaname join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename join "
		"pg_attribute a on a.attrelid = c.oid join pg_attribute b on b.attrelid = c.oid and lower(a.attname) = "
		"lower(b.attname) and a.attnum <> b.attnum where t.pubname = $1 and a.attnum > 0 and b.attnum > 0 and not "
		"a.attisdropped and not b.attisdropped order by 1",
		"another column's name differs only in case, and most lakes do not tell them apart", "rename one of them", err);
	if (!r && p->pub.via_root)
		r = report_rows(p, DUCT_FINDING_WARN, "select " TABLE_NAME PUBLISHED "and c.relkind = 'p' order by 1",
				"is published by its root: TRUNCATE, ATTACH and DETACH of a partition are invisible",
				"publish leaves: ALTER PUBLICATION ... SET (publish_via_partition_root = false)", err);
	return r;
}

/* Types that cannot be sent in binary form. */
static int probe_types(struct probe *p, const struct pg_published_list *list, struct duct_error *err)
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
	struct duct_arena arena;
	duct_arena_init(&arena);
	types = pg_tables_types(tables, &ntypes);
	r = pg_catalog_load(catalog, p->src.sql, types, ntypes, false, err);
	for (size_t i = 0; !r && i < tables->ntables; i++) {
		const struct pg_table *t = &tables->tables[i];
		for (int k = 0; k < t->ncolumns; k++) {
			const struct pg_table_column *c = &t->columns[k];
			const char *reason;
			struct pg_mapping m = pg_mapping_build(catalog, c->typid, c->typmod, c->ndims, &arena);
			if (!c->generated && pg_mapping_needs_text(&m, &reason))
				say(p, DUCT_FINDING_WARN, "nothing to do: the stream is slower in text form",
				    "%s.%s.%s: the whole stream goes in text form: %s", t->schema, t->name, c->name, reason);
		}
	}
	duct_arena_done(&arena);
	pg_catalog_free(catalog);
	pg_tables_free(tables);
	return r;
}

static int probe_tables(struct probe *p, struct duct_error *err)
{
	const char *const names[] = {p->src.config->publication, NULL};
	struct pg_published_list *list;
	int r = pg_published_read(&list, p->src.sql, names, err);
	if (r)
		return r;
	size_t readable = 0;
	bool copied = p->src.config->snapshot != POSTGRES_SNAPSHOT_NEVER;
	for (size_t i = 0; i < list->ntables; i++) {
		const struct pg_published *t = &list->tables[i];
		if (t->bare)
			say(p, DUCT_FINDING_WARN, "add a column to it, or take it out of the publication",
			    "%s.%s has no column that is published: it is left out until it has one", t->schema, t->name);
		else if (copied && !t->can_select)
			say(p, DUCT_FINDING_ERROR, "GRANT SELECT on it and USAGE on its schema, or pg_read_all_data",
			    "%s.%s cannot be read: no first copy", t->schema, t->name);
		else if (copied && t->row_security)
			say(p, DUCT_FINDING_ERROR, "ALTER ROLE ... BYPASSRLS", "%s.%s: row security hides rows from the copy",
			    t->schema, t->name);
		else
			readable++;
	}
	say(p, list->ntables ? DUCT_FINDING_OK : DUCT_FINDING_WARN, list->ntables ? NULL : "add tables to it",
	    "publication \"%s\" has %zu tables, %zu of them can be read", names[0], list->ntables, readable);
	r = probe_types(p, list, err);
	pg_published_free(list);
	return r;
}

static int probe_publication(struct probe *p, struct duct_error *err)
{
	const struct postgres_config *c = p->src.config;
	int r;
	if (!p->pub.exists) {
		bool all = postgres_wants_all(c);
		say(p, !c->ensure_publication || (all && !p->src.server.superuser) ? DUCT_FINDING_ERROR : DUCT_FINDING_OK,
		    !c->ensure_publication ? "create it, or set ensure_publication=true"
			    : all	   ? "FOR ALL TABLES takes a superuser: name publication_tables or publication_schemas"
					   : NULL,
		    "publication \"%s\" does not exist%s", c->publication,
		    c->ensure_publication ? " yet: the first start creates it" : "");
		return 0;
	}
	if (!p->pub.insert || !p->pub.update || !p->pub.delete || !p->pub.truncate)
		say(p, DUCT_FINDING_WARN, "ALTER PUBLICATION ... SET (publish = 'insert, update, delete, truncate')",
		    "publication \"%s\" leaves out%s%s%s%s: the destination will differ", c->publication,
		    p->pub.insert ? "" : " INSERT", p->pub.update ? "" : " UPDATE", p->pub.delete ? "" : " DELETE",
		    p->pub.truncate ? "" : " TRUNCATE");
	if ((r = probe_tables(p, err)) || (r = probe_identities(p, err)) || (r = probe_generated_keys(p, err)))
		return r;
	return probe_columns(p, err);
}

int postgres_probe(const void *config, const struct duct_ctx *ctx, duct_report_fn *report, void *arg, struct duct_error *err)
{
	struct probe *p = duct_xcalloc(1, sizeof *p);
	struct duct_error why;
	p->src.config = config;
	p->src.ctx = ctx;
	p->report = report;
	p->arg = arg;
	int r = 0;
	if (postgres_open_session(&p->src, false, &p->src.sql, &why) || pg_server_read(&p->src.server, p->src.sql, &why)) {
		if (why.class == DUCT_CANCELLED)
			r = duct_fail(err, DUCT_CANCELLED, "stopped");
		else
			say(p, DUCT_FINDING_ERROR,
			    strstr(why.message, "authentication failed")
				    ? "correct user or password in the option dsn, or the server's pg_hba.conf"
				    : "correct the option dsn, or start the server",
			    "no connection: %s", why.message);
	} else if (!(r = pg_slot_read(&p->slot, p->src.sql, p->src.config->slot, err)) &&
		   !(r = pg_publication_read(&p->pub, p->src.sql, p->src.config->publication, err))) {
		probe_server(p);
		probe_replication(p);
		probe_slot(p);
		probe_spool(p);
		r = probe_publication(p, err);
	}
	pg_session_close(p->src.repl);
	pg_session_close(p->src.sql);
	free(p);
	return r;
}
