/* The publication's tables against those that the destination has: see postgres.h. */
#include "source/postgres/postgres.h"

#include "base/buf.h"
#include "base/mem.h"
#include "pg/sql.h"

#include <string.h>

/* Values of postgres_table.member beside the oids of pg_publication_rel, which begin at 16384. */
enum {
	MEMBER_UNSEEN = 0,
	MEMBER_AWAY = 1,  /* it was not published */
	MEMBER_WHOLE = 2, /* with its schema, or with all tables */
};

struct member {
	uint32_t oid, member;
	bool bare;
};

void postgres_leave_out(struct postgres_source *src, uint32_t oid, const char *schema, const char *name)
{
	struct postgres_table *t = postgres_group_table(&src->group, oid, true);
	if (!t->bare)
		log_warn(src->ctx->log, "a table is left out until it has a column that is published", LOG_STR("schema", schema),
			 LOG_STR("table", name));
	t->bare = true;
}

static int compare_members(const void *a, const void *b)
{
	uint32_t x = ((const struct member *)a)->oid, y = ((const struct member *)b)->oid;
	return x < y ? -1 : x > y;
}

/* By oid; none while the publication is not whole. */
static int read_members(struct postgres_source *src, bool whole, struct member **ret, size_t *ret_n, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const struct postgres_config *c = src->config;
	const char *const params[] = {c->publication, c->state_schema, c->state_table};
	/* Only 18 publishes generated columns, and says what it publishes. */
	const char *column = src->sql->version >= 180000 ? "a.attnum = any (g.attrs::int2[])" : "a.attgenerated = ''";
	/* Memberships: of a partition it is that of an ancestor, of a root that is published for its partition: the nearest is
	 * not worth a search, they come and go together. */
	AUTO_FREE char *sql = duct_xasprintf(
		"select g.relid, coalesce((select max(x.oid::bigint) from pg_catalog.pg_publication_rel x where x.prpubid = p.oid "
		"and (x.prrelid = g.relid or x.prrelid in (select a.relid from pg_catalog.pg_partition_ancestors(g.relid) a))), 2), "
		"n.nspname, c.relname, not exists (select from pg_catalog.pg_attribute a where a.attrelid = g.relid and a.attnum > 0 "
		"and not a.attisdropped and %s) from pg_catalog.pg_publication p, "
		"pg_catalog.pg_get_publication_tables(p.pubname) g, pg_catalog.pg_class c, pg_catalog.pg_namespace n "
		"where p.pubname = $1 and c.oid = g.relid and n.oid = c.relnamespace and not (n.nspname = $2 and c.relname = $3)",
		column);
	int r = whole ? pg_query(src->sql, sql, 3, params, &res, err) : 0;
	if (r)
		return duct_wrap(err, "the tables of publication \"%s\"", c->publication);
	*ret_n = (size_t)PQntuples(res);
	*ret = duct_xcalloc(*ret_n + 1, sizeof **ret);
	for (int i = 0; i < PQntuples(res); i++) {
		struct member *m = &(*ret)[i];
		*m = (struct member){pg_get_oid(res, i, 0), pg_get_oid(res, i, 1), pg_get_bool(res, i, 4)};
		if (m->bare)
			postgres_leave_out(src, m->oid, pg_get(res, i, 2), pg_get(res, i, 3));
	}
	qsort(*ret, *ret_n, sizeof **ret, compare_members);
	return 0;
}

/* Tables of ours that the publication names no longer. Their changes up to here may still be on their way. */
static bool mark_away(struct postgres_source *src, const struct member *published, size_t n, uint64_t lsn)
{
	bool any = false;
	for (size_t i = 0; i < src->group.nslots; i++) {
		struct postgres_table *t = src->group.slots[i];
		if (!t || !t->known || t->ignored || t->left_lsn || t->oid == POSTGRES_DEAD_LETTER_OID ||
		    bsearch(&(struct member){.oid = t->oid}, published, n, sizeof *published, compare_members))
			continue;
		any = true;
		if (!lsn)
			continue;
		log_debug(src->ctx->log, "a table left the publication", LOG_U64("oid", t->oid));
		src->members_dirty |= t->member != MEMBER_AWAY;
		t->member = MEMBER_AWAY;
		t->left_lsn = lsn;
	}
	return any;
}

static void see_published(struct postgres_source *src, const struct member *published, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct postgres_table *t = postgres_group_table(&src->group, published[i].oid, true);
		if (t->known && t->member != MEMBER_UNSEEN && t->member != published[i].member) {
			log_debug(src->ctx->log, "a table came back to the publication", LOG_U64("oid", t->oid));
			t->known = false;
			t->left_lsn = 0;
		}
		t->bare &= published[i].bare;
		if (!t->known) {
			t->asked = published[i].bare;
			src->group.unknown_seen |= !published[i].bare;
			continue;
		}
		src->members_dirty |= t->member != published[i].member;
		t->member = published[i].member;
	}
}

static void put_state_table(struct duct_buf *b, const struct postgres_config *c)
{
	duct_buf_sql_ident(b, c->state_schema);
	duct_buf_putc(b, '.');
	duct_buf_sql_ident(b, c->state_table);
}

/* Best effort: without it, only what is seen to be away is noticed. A table that waits for its copy keeps what stands there,
 * so that it is found to have come back at the next start, too. */
static void write_members(struct postgres_source *src)
{
	AUTO_BUF struct duct_buf sql = {0}, list = {0};
	if (!src->members_dirty || !src->state_ready)
		return;
	for (size_t i = 0; i < src->group.nslots; i++) {
		const struct postgres_table *t = src->group.slots[i];
		if (t && t->member != MEMBER_UNSEEN)
			duct_buf_printf(&list, "%s%u:%u", list.len ? " " : "", t->oid, t->member);
	}
	duct_buf_puts(&sql, "set local synchronous_commit = off; update ");
	put_state_table(&sql, src->config);
	duct_buf_puts(&sql, " set members = ");
	duct_buf_sql_literal(&sql, list.data ? list.data : "");
	duct_buf_puts(&sql, " where flow_id = ");
	duct_buf_sql_literal(&sql, src->flow_id);
	struct duct_error err;
	if (pg_exec(src->sql, sql.data, NULL, &err))
		log_debug(src->ctx->log, "the publication's tables were not noted at the source", LOG_STR("reason", err.message));
	else
		src->members_dirty = false;
}

static int compare_with_group(struct postgres_source *src, bool whole, struct duct_error *err)
{
	AUTO_FREE struct member *published = NULL;
	size_t n = 0;
	int r = read_members(src, whole, &published, &n, err);
	if (r)
		return r;
	if (mark_away(src, published, n, 0)) {
		/* Of what comes after this position we must know that it came after: the position first, then a second look. */
		uint64_t lsn;
		free(duct_steal(&published));
		if ((r = pg_head_lsn(&lsn, src->sql, err)) || (r = read_members(src, whole, &published, &n, err)))
			return r;
		(void)mark_away(src, published, n, lsn);
	}
	see_published(src, published, n);
	write_members(src);
	return 0;
}

int postgres_poll_publication(struct postgres_source *src, struct duct_error *err)
{
	struct pg_publication pub;
	struct duct_error partial;
	int r = pg_publication_read(&pub, src->sql, src->config->publication, err);
	if (r)
		return r;
	bool whole = postgres_all_changes_published(src, &pub, &partial) == 0;
	if (src->config->snapshot != POSTGRES_SNAPSHOT_NEVER) /* else nothing is copied: what comes is taken */
		r = compare_with_group(src, whole, err);
	if (r || whole)
		return r;
	*err = partial;
	return -(int)err->class;
}

int postgres_members_read(struct postgres_source *src, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf sql = {0};
	const char *const params[] = {src->flow_id, src->config->slot};
	if (!src->state_ready)
		return 0;
	duct_buf_puts(&sql, "select coalesce(members, '') from ");
	put_state_table(&sql, src->config);
	duct_buf_puts(&sql, " where flow_id = $1 and slot_name = $2");
	struct duct_error why;
	if (pg_query(src->sql, sql.data, 2, params, &res, &why)) {
		if (why.class == DUCT_RETRY || why.class == DUCT_CANCELLED) {
			*err = why;
			return -(int)why.class;
		}
		return 0; /* a table without the column */
	}
	for (const char *at = PQntuples(res) ? PQgetvalue(res, 0, 0) : ""; *at;) {
		char *end;
		uint32_t oid = (uint32_t)strtoul(at, &end, 10);
		uint32_t member = *end == ':' ? (uint32_t)strtoul(end + 1, &end, 10) : 0;
		struct postgres_table *t = postgres_group_table(&src->group, oid, false);
		if (t && t->known)
			t->member = member;
		at = *end == ' ' ? end + 1 : "";
	}
	return 0;
}
