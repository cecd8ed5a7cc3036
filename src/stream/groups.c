/* Groups as operators see and change them, and dead letters. */
#include "stream/internal.h"

#include <inttypes.h>

static double cell_f64(const PGresult *res, int row, int column)
{
	int64_t bits = stream_cell_i64(res, row, column);
	double v;
	memcpy(&v, &bits, sizeof v);
	return v;
}

static bool cell_bool(const PGresult *res, int row, int column)
{
	return PQgetlength(res, row, column) == 1 && *PQgetvalue(res, row, column);
}

static int no_group(struct duct_error *err, const char *stream, const char *group)
{
	int rc = duct_fail(err, DUCT_CONFIG, "stream \"%s\" has no group \"%s\": a group is made by its first pull", stream, group);
	(void)snprintf(err->sqlstate, sizeof err->sqlstate, STREAM_NO_GROUP);
	return rc;
}

int stream_groups(struct pg_session *pg, const char *stream, const char *group, struct duct_arena *arena, struct stream_group **ret,
		  size_t *ret_n, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const char *params[] = {stream, group};
	int rc = stream_query(pg, "SELECT * FROM ductstream.stream_list_groups($1, $2)", DUCT_LEN(params), params, true, &res, err);
	if (rc < 0)
		return rc;
	size_t n = (size_t)PQntuples(res);
	if (group && !n)
		return no_group(err, stream, group);
	struct stream_group *groups = duct_arena_zalloc(arena, n * sizeof *groups);
	for (size_t i = 0; i < n; i++) {
		int row = (int)i;
		groups[i] = (struct stream_group){
			.name = stream_cell_text(res, row, 0, arena),
			.next_id = stream_cell_i64(res, row, 1),
			.ordered = cell_bool(res, row, 2),
			.max_attempts = stream_cell_i32(res, row, 3),
			.created_us = stream_cell_time_us(res, row, 4),
			.used_us = stream_cell_time_us(res, row, 5),
			.lag_messages = stream_cell_i64(res, row, 6),
			.lag_bytes = stream_cell_i64(res, row, 7),
			.lag_s = cell_f64(res, row, 8),
			.in_flight = stream_cell_i64(res, row, 9),
			.waiting = stream_cell_i64(res, row, 10),
			.dead_letters = stream_cell_i64(res, row, 11),
		};
	}
	*ret = groups;
	*ret_n = n;
	return 0;
}

int stream_configure_group(struct pg_session *pg, const char *stream, const char *group, const struct stream_group_change *change,
			   struct duct_error *err)
{
	char attempts[16];
	(void)snprintf(attempts, sizeof attempts, "%d", change->max_attempts);
	const char *params[] = {stream, group,
				change->ordered < 0	  ? NULL
					: change->ordered ? "true"
							  : "false",
				change->max_attempts < 0 ? NULL : attempts, change->at_end ? "end" : "beginning"};
	return stream_query(pg, "SELECT ductstream.stream_configure_group($1, $2, $3, $4, $5)", DUCT_LEN(params), params, false,
			    NULL, err);
}

int stream_delete_group(struct pg_session *pg, const char *stream, const char *group, struct duct_error *err)
{
	const char *params[] = {stream, group};
	return stream_query(pg, "SELECT ductstream.stream_delete_group($1, $2)", DUCT_LEN(params), params, false, NULL, err);
}

int stream_describe(struct pg_session *pg, const char *stream, struct stream_info *ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const char *params[] = {stream};
	int rc = stream_query(pg,
			      "SELECT s.first_id, h.last_id, CASE WHEN s.first_id > h.last_id THEN 0 ELSE h.end_offset - "
			      "ductstream.stream_offset(s.stream_id, s.first_id) END, s.created_at, s.ordered, s.max_attempts "
			      "FROM ductstream.stream_find($1) s JOIN ductstream.stream_heads h USING (stream_id)",
			      DUCT_LEN(params), params, true, &res, err);
	if (rc < 0)
		return rc;
	*ret = (struct stream_info){
		.first_id = stream_cell_i64(res, 0, 0),
		.last_id = stream_cell_i64(res, 0, 1),
		.bytes = stream_cell_i64(res, 0, 2),
		.created_us = stream_cell_time_us(res, 0, 3),
		.ordered = cell_bool(res, 0, 4),
		.max_attempts = stream_cell_i32(res, 0, 5),
	};
	return 0;
}

/* A page is found first, then cut where its payloads get too large together. One that is too large by itself is left out: it may be why the
 * message is here. */
static const char dead_sql[] =
	"WITH page AS MATERIALIZED (SELECT l.*, g.stream_id, octet_length(e.payload) AS n FROM ductstream.stream_find_group($1, $2) g "
	"JOIN ductstream.stream_dead_letters l ON l.group_id = g.group_id AND l.id > $3 "
	"JOIN ductstream.stream_events e ON e.stream_id = g.stream_id AND e.id = l.id ORDER BY l.id LIMIT $4), "
	"sized AS (SELECT p.*, count(*) OVER () AS found, sum(CASE WHEN n <= $5::int8 THEN n ELSE 0 END) OVER (ORDER BY id) AS bytes "
	"FROM page p) SELECT " STREAM_MESSAGE_COLUMNS ", l.attempts, l.dead_at, l.reason, l.found FROM sized l CROSS JOIN LATERAL "
	"(SELECT o.id, o.lsn, o.created_at, o.operation, o.namespace, o.table_name, o.wire_format, o.registry_subject, o.registry_id, "
	"o.registry_version, CASE WHEN l.n <= $5::int8 THEN o.payload ELSE '' END AS payload FROM ductstream.stream_events o "
	"WHERE o.stream_id = l.stream_id AND o.id = l.id) e WHERE l.bytes <= $5::int8 ORDER BY l.id";

int stream_dead_letters(struct pg_session *pg, const struct stream_dead_page *page, struct duct_arena *arena,
			struct stream_dead_letter **ret, size_t *ret_n, bool *ret_more, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	char from[24], limit[16], bytes[24];
	(void)snprintf(from, sizeof from, "%" PRId64, page->after);
	(void)snprintf(limit, sizeof limit, "%d", page->most);
	(void)snprintf(bytes, sizeof bytes, "%" PRId64, page->most_bytes);
	const char *params[] = {page->stream, page->group, from, limit, bytes};
	int rc = stream_query(pg, dead_sql, DUCT_LEN(params), params, true, &res, err);
	if (rc < 0)
		return rc;
	size_t n = (size_t)PQntuples(res);
	int64_t found = n ? stream_cell_i64(res, 0, STREAM_MESSAGE_WIDTH + 3) : 0;
	struct stream_dead_letter *letters = duct_arena_zalloc(arena, n * sizeof *letters);
	for (size_t i = 0; i < n; i++) {
		stream_take_message(res, (int)i, arena, &letters[i].message);
		letters[i].dead_us = stream_cell_time_us(res, (int)i, STREAM_MESSAGE_WIDTH + 1);
		letters[i].reason = stream_cell_text(res, (int)i, STREAM_MESSAGE_WIDTH + 2, arena);
	}
	*ret = letters;
	*ret_n = n;
	*ret_more = found == page->most || found > (int64_t)n;
	return 0;
}

int stream_redrive(struct pg_session *pg, const char *stream, const char *group, const int64_t *ids, size_t n, bool again,
		   int64_t *ret_n, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf text = {0};
	if (n)
		stream_ids_text(&text, ids, n);
	const char *params[] = {stream, group, n ? text.data : NULL, again ? "true" : "false"};
	int rc = stream_query(pg, "SELECT ductstream.stream_redrive($1, $2, $3, $4)", DUCT_LEN(params), params, true, &res, err);
	if (rc < 0)
		return rc;
	*ret_n = stream_cell_i64(res, 0, 0);
	return 0;
}
