/* Ids as ranges, and cells of binary answers. */
#include "stream/internal.h"

#include <inttypes.h>

enum { DAYS_TO_2000 = 10957 };

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

int64_t stream_ids_text(struct duct_buf *to, const int64_t *ids, size_t n)
{
	int64_t count = 0;
	AUTO_FREE int64_t *sorted = duct_xmalloc((n + 1) * sizeof *sorted);
	if (n)
		memcpy(sorted, ids, n * sizeof *sorted);
	qsort(sorted, n, sizeof *sorted, compare);
	duct_buf_putc(to, '{');
	for (size_t i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && sorted[end - 1] < INT64_MAX && sorted[end] <= sorted[end - 1] + 1; end++)
			;
		/* Ids begin at 1, and the highest number has none after it: what cannot be there is left out. */
		int64_t last = sorted[end - 1] == INT64_MAX ? INT64_MAX - 1 : sorted[end - 1];
		if (sorted[i] > last || last < 1)
			continue;
		int64_t first = sorted[i] < 1 ? 1 : sorted[i];
		duct_buf_printf(to, "%s[%" PRId64 ",%" PRId64 ")", count ? "," : "", first, last + 1);
		count += last - first + 1;
	}
	duct_buf_putc(to, '}');
	return count;
}

static uint64_t cell(const PGresult *res, int row, int column, int width)
{
	uint64_t v = 0;
	if (PQgetisnull(res, row, column) || PQgetlength(res, row, column) != width)
		return 0;
	const uint8_t *p = (const uint8_t *)PQgetvalue(res, row, column);
	for (int i = 0; i < width; i++)
		v = v << 8 | p[i];
	return v;
}

int64_t stream_cell_i64(const PGresult *res, int row, int column)
{
	return (int64_t)cell(res, row, column, 8);
}

int stream_cell_i32(const PGresult *res, int row, int column)
{
	return (int)(int32_t)cell(res, row, column, 4);
}

int64_t stream_cell_time_us(const PGresult *res, int row, int column)
{
	return PQgetisnull(res, row, column) ? 0 : stream_cell_i64(res, row, column) + (int64_t)DAYS_TO_2000 * 86400 * 1000000;
}

char *stream_cell_text(const PGresult *res, int row, int column, struct duct_arena *arena)
{
	size_t n = (size_t)PQgetlength(res, row, column);
	char *to = duct_arena_alloc(arena, n + 1);
	memcpy(to, PQgetvalue(res, row, column), n);
	to[n] = 0;
	return to;
}

void stream_take_message(const PGresult *res, int row, struct duct_arena *arena, struct stream_message *ret)
{
	size_t n = (size_t)PQgetlength(res, row, 7);
	*ret = (struct stream_message){
		.id = stream_cell_i64(res, row, 0),
		.lsn = cell(res, row, 1, 8),
		.created_us = stream_cell_time_us(res, row, 2),
		.operation = stream_cell_text(res, row, 3, arena),
		.schema = stream_cell_text(res, row, 4, arena),
		.table = stream_cell_text(res, row, 5, arena),
		.wire_format = stream_cell_text(res, row, 6, arena),
		.payload = duct_arena_dup(arena, PQgetvalue(res, row, 7), n),
		.payload_bytes = n,
		.registry_subject = stream_cell_text(res, row, 8, arena),
		.registry_id = stream_cell_text(res, row, 9, arena),
		.registry_version = stream_cell_i32(res, row, 10),
		.attempts = stream_cell_i32(res, row, STREAM_MESSAGE_WIDTH),
	};
}

int stream_query(struct pg_session *pg, const char *sql, int n, const char *const *params, bool binary, PGresult **ret,
		 struct duct_error *err)
{
	int rc = binary ? pg_query_binary(pg, sql, n, params, ret, err) : pg_query(pg, sql, n, params, ret, err);
	if (rc == 0)
		return 0;
	if (strncmp(err->sqlstate, "DS", 2) != 0)
		return rc;
	/* Raised by our own functions, whose sentence needs no statement before it and no number after it. */
	AUTO_FREE char *where = duct_xasprintf(" on %s: ", pg->where);
	char *sentence = strstr(err->message, where), *number = strstr(err->message, " (DS");
	if (number)
		*number = 0;
	if (sentence)
		memmove(err->message, sentence + strlen(where), strlen(sentence + strlen(where)) + 1);
	err->class = DUCT_CONFIG;
	return -DUCT_CONFIG;
}
