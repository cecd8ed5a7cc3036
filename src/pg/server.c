/* Catalog queries of a source: see server.h. */
#include "pg/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "pg/internal.h"
#include "pg/sql.h"

static void copy_text(char *to, size_t size, const char *from)
{
	(void)snprintf(to, size, "%s", from ? from : "");
}

int pg_server_read(struct pg_server *ret, struct pg_session *session, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int rc = pg_query(session, PG_SQL_SERVER, 0, NULL, &res, err);
	if (rc < 0)
		return duct_wrap(err, "read the server's settings");
	if (PQntuples(res) != 1)
		return duct_fail(err, DUCT_CONFIG, "read the server's settings on %s: the user has no role", session->where);
	struct pg_server s = {
		.version = session->version,
		.database_oid = pg_get_oid(res, 0, 2),
		.superuser = pg_get_bool(res, 0, 4),
		.can_replicate = pg_get_bool(res, 0, 5),
		.bypass_rls = pg_get_bool(res, 0, 6),
		.read_all_data = pg_get_bool(res, 0, 7),
		.in_recovery = pg_get_bool(res, 0, 8),
		.timeline = (int)pg_get_i64(res, 0, 9),
		.flush_lsn = pg_get_lsn(res, 0, 10),
		.max_slots = (int)pg_get_i64(res, 0, 12),
		.used_slots = (int)pg_get_i64(res, 0, 13),
		.max_senders = (int)pg_get_i64(res, 0, 14),
		.used_senders = (int)pg_get_i64(res, 0, 15),
		.max_slot_wal_keep_mb = pg_get_i64(res, 0, 16),
		.idle_slot_timeout_s = pg_get_i64(res, 0, 19),
		.wal_sender_timeout_ms = pg_get_i64(res, 0, 17),
		.fsync_off = pg_get_bool(res, 0, 18),
	};
	copy_text(s.system_id, sizeof s.system_id, pg_get(res, 0, 0));
	copy_text(s.database, sizeof s.database, pg_get(res, 0, 1));
	copy_text(s.user, sizeof s.user, pg_get(res, 0, 3));
	copy_text(s.wal_level, sizeof s.wal_level, pg_get(res, 0, 11));
	*ret = s;
	return 0;
}

int pg_identify_system(struct pg_identity *ret, struct pg_session *replication, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int rc = pg_exec(replication, "IDENTIFY_SYSTEM", &res, err);
	if (rc < 0)
		return rc;
	struct pg_identity id = {.timeline = (int)pg_get_i64(res, 0, 1), .flush_lsn = pg_get_lsn(res, 0, 2)};
	copy_text(id.system_id, sizeof id.system_id, pg_get(res, 0, 0));
	copy_text(id.database, sizeof id.database, pg_get(res, 0, 3));
	*ret = id;
	return 0;
}

int pg_head_lsn(uint64_t *ret, struct pg_session *session, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int rc = pg_exec(session, PG_SQL_HEAD, &res, err);
	if (rc < 0)
		return duct_wrap(err, "read the server's position");
	*ret = pg_get_lsn(res, 0, 0);
	return 0;
}

int pg_slot_read(struct pg_slot *ret, struct pg_session *session, const char *name, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_FREE char *sql = duct_xasprintf(PG_SQL_SLOT, session->version >= 140000 ? "two_phase" : "false",
					     session->version >= 170000 ? "invalidation_reason" : "NULL");
	int rc = pg_query(session, sql, 1, &name, &res, err);
	if (rc < 0)
		return duct_wrap(err, "read slot \"%s\"", name);
	struct pg_slot s = {.exists = PQntuples(res) > 0};
	if (s.exists) {
		copy_text(s.plugin, sizeof s.plugin, pg_get(res, 0, 0));
		copy_text(s.database, sizeof s.database, pg_get(res, 0, 1));
		s.logical = pg_get_bool(res, 0, 2);
		s.temporary = pg_get_bool(res, 0, 3);
		s.active = pg_get_bool(res, 0, 4);
		s.two_phase = pg_get_bool(res, 0, 5);
		s.active_pid = (int)pg_get_i64(res, 0, 6);
		s.restart_lsn = pg_get_lsn(res, 0, 7);
		s.confirmed_lsn = pg_get_lsn(res, 0, 8);
		copy_text(s.wal_status, sizeof s.wal_status, pg_get(res, 0, 9));
		s.safe_wal_bytes = pg_get(res, 0, 10) ? pg_get_i64(res, 0, 10) : INT64_MAX;
		copy_text(s.invalidation_reason, sizeof s.invalidation_reason, pg_get(res, 0, 11));
	}
	*ret = s;
	return 0;
}

int pg_publication_read(struct pg_publication *ret, struct pg_session *session, const char *name, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int rc = pg_query(session, PG_SQL_PUBLICATION, 1, &name, &res, err);
	if (rc < 0)
		return duct_wrap(err, "read publication \"%s\"", name);
	struct pg_publication p = {.exists = PQntuples(res) > 0};
	if (p.exists) {
		p.all_tables = pg_get_bool(res, 0, 0);
		p.insert = pg_get_bool(res, 0, 1);
		p.update = pg_get_bool(res, 0, 2);
		p.delete = pg_get_bool(res, 0, 3);
		p.truncate = pg_get_bool(res, 0, 4);
		p.via_root = pg_get_bool(res, 0, 5);
	}
	*ret = p;
	return 0;
}

/* "{a,"b c"}" to a NULL-terminated list; NULL stays NULL. */
static const char *const *read_names(struct duct_arena *arena, const char *text)
{
	AUTO_BUF struct duct_buf item = {0};
	const char **names = NULL;
	size_t n = 0, cap = 0;
	if (!text)
		return NULL;
	if (text[0] == '{' && text[1] != '}') {
		for (const char *at = text; at && *at != '}';) {
			at = pg_array_item(at + 1, &item);
			names = duct_grow(names, &cap, n + 1, sizeof *names);
			names[n++] = duct_arena_strdup(arena, item.data);
		}
	}
	const char **copy = duct_arena_zalloc(arena, (n + 1) * sizeof *copy);
	if (n)
		memcpy(copy, names, n * sizeof *copy);
	free(names);
	return copy;
}

static void read_published(struct duct_arena *arena, const PGresult *res, int row, struct pg_published *p)
{
	const char *filter = pg_get(res, row, 6);
	*p = (struct pg_published){
		.oid = pg_get_oid(res, row, 0),
		.schema = duct_arena_strdup(arena, pg_get(res, row, 1)),
		.name = duct_arena_strdup(arena, pg_get(res, row, 2)),
		.kind = *pg_get(res, row, 3),
		.identity = *pg_get(res, row, 4),
		.columns = read_names(arena, pg_get(res, row, 5)),
		.row_filter = filter ? duct_arena_strdup(arena, filter) : NULL,
		.heap_bytes = pg_get_i64(res, row, 7),
		.total_bytes = pg_get_i64(res, row, 8),
		.estimated_rows = pg_get_i64(res, row, 9),
		.row_security = pg_get_bool(res, row, 10),
		.can_select = pg_get_bool(res, row, 11),
		.bare = pg_get_bool(res, row, 12),
	};
}

static bool same_names(const char *const *a, const char *const *b)
{
	if (!a || !b)
		return a == b;
	for (; *a && *b && strcmp(*a, *b) == 0; a++)
		b++;
	return !*a && !*b;
}

/* One more publication names the table that is already listed. */
static int merge_published(struct duct_arena *arena, struct pg_published *known, const struct pg_published *more,
			   struct duct_error *err)
{
	if (!same_names(known->columns, more->columns))
		return duct_fail(err, DUCT_CONFIG,
				 "table \"%s.%s\" has different column lists in the publications: use the same list "
				 "in all of them",
				 known->schema, known->name);
	if (!known->row_filter || !more->row_filter) {
		known->row_filter = NULL;
	} else if (strcmp(known->row_filter, more->row_filter) != 0) {
		AUTO_FREE char *both = duct_xasprintf("(%s OR %s)", known->row_filter, more->row_filter);
		known->row_filter = duct_arena_strdup(arena, both);
	}
	return 0;
}

/* Rows of one table come one after the other. */
static int list_published(struct pg_published_list **ret, const PGresult *res, struct duct_error *err)
{
	int rc = 0;
	struct pg_published_list *list = duct_xcalloc(1, sizeof *list);
	duct_arena_init(&list->arena);
	list->tables = duct_arena_zalloc(&list->arena, (size_t)PQntuples(res) * sizeof *list->tables);
	for (int i = 0; i < PQntuples(res) && rc == 0; i++) {
		struct pg_published *next = &list->tables[list->ntables];
		read_published(&list->arena, res, i, next);
		if (list->ntables && next[-1].oid == next->oid)
			rc = merge_published(&list->arena, next - 1, next, err);
		else
			list->ntables++;
	}
	if (rc < 0) {
		pg_published_free(list);
		return rc;
	}
	*ret = list;
	return 0;
}

int pg_published_read(struct pg_published_list **ret, struct pg_session *session, const char *const *publications,
		      struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf names = {0};
	AUTO_FREE char *sql =
		duct_xasprintf(PG_SQL_PUBLISHED, session->version >= 150000 ? PG_SQL_PUBLISHED_LIST : PG_SQL_PUBLISHED_NO_LIST,
			       session->version >= 180000 ? PG_SQL_PUBLISHED_COLUMN_18 : PG_SQL_PUBLISHED_COLUMN);
	duct_buf_putc(&names, '{');
	for (size_t i = 0; publications[i]; i++) {
		duct_buf_puts(&names, i ? ",\"" : "\"");
		for (const char *p = publications[i]; *p; p++) {
			if (*p == '"' || *p == '\\')
				duct_buf_putc(&names, '\\');
			duct_buf_putc(&names, *p);
		}
		duct_buf_putc(&names, '"');
	}
	duct_buf_putc(&names, '}');
	int rc = pg_query(session, sql, 1, (const char *const[]){names.data}, &res, err);
	if (rc < 0)
		return duct_wrap(err, "read published tables");
	return list_published(ret, res, err);
}

int pg_published_would(struct pg_published_list **ret, struct pg_session *session, const struct pg_choices *tables, bool via_root,
		       struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf oids = {0};
	AUTO_FREE char *sql = duct_xasprintf(PG_SQL_WOULD_BE_PUBLISHED, PG_SQL_PUBLISHED_NO_LIST, PG_SQL_PUBLISHED_COLUMN);
	duct_buf_putc(&oids, '{');
	for (size_t i = 0; i < tables->n; i++)
		duct_buf_printf(&oids, "%s%u", i ? "," : "", tables->list[i].oid);
	duct_buf_putc(&oids, '}');
	const char *const params[] = {oids.data, via_root ? "true" : "false"};
	int rc = pg_query(session, sql, 2, params, &res, err);
	return rc < 0 ? duct_wrap(err, "read tables to be published") : list_published(ret, res, err);
}

void pg_published_free(struct pg_published_list *list)
{
	if (!list)
		return;
	duct_arena_done(&list->arena);
	free(list);
}

int pg_storage_read(struct pg_storage_list **ret, struct pg_session *session, uint32_t oid, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	char text[16];
	(void)snprintf(text, sizeof text, "%u", oid);
	int rc = pg_query(session, PG_SQL_STORAGE, 1, (const char *const[]){text}, &res, err);
	if (rc < 0)
		return duct_wrap(err, "read partitions");
	struct pg_storage_list *list = duct_xcalloc(1, sizeof *list);
	duct_arena_init(&list->arena);
	list->ntables = (size_t)PQntuples(res);
	list->tables = duct_arena_zalloc(&list->arena, list->ntables * sizeof *list->tables);
	for (int i = 0; i < PQntuples(res); i++)
		list->tables[i] = (struct pg_storage){
			.oid = pg_get_oid(res, i, 0),
			.schema = duct_arena_strdup(&list->arena, pg_get(res, i, 1)),
			.name = duct_arena_strdup(&list->arena, pg_get(res, i, 2)),
			.kind = *pg_get(res, i, 3),
			.heap_bytes = pg_get_i64(res, i, 4),
			.total_bytes = pg_get_i64(res, i, 5),
			.estimated_rows = pg_get_i64(res, i, 6),
		};
	*ret = list;
	return 0;
}

void pg_storage_free(struct pg_storage_list *list)
{
	if (!list)
		return;
	duct_arena_done(&list->arena);
	free(list);
}
