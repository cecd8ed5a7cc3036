/* Pulling: a claim in one short transaction, then its messages, which no longer need anybody's lock, with the wait for the disk. */
#include "stream/internal.h"

#include <inttypes.h>
#include <math.h>

#include "base/killpoint.h"

static const char claim_sql[] = "SELECT claim, visible_until, stream_id, first_id, last_id, attempts "
				"FROM ductstream.stream_pull($1, $2, $3, $4, $5, $6)";

/* The message to nobody gives the transaction something to write, so that its commit waits for the disk, and for all that was written before:
 * the claim. (A claim's own commit would hold the group's lock meanwhile.) */
static const char read_sql[] =
	"WITH durable AS MATERIALIZED (SELECT pg_catalog.pg_logical_emit_message(true, 'ductstream_stream', '')) "
	"SELECT e.*, r.attempts FROM durable CROSS JOIN unnest($2::int8[], $3::int8[], $4::int4[]) r (first_id, last_id, attempts) "
	"CROSS JOIN LATERAL (SELECT " STREAM_MESSAGE_COLUMNS " FROM ductstream.stream_events e "
	"WHERE e.stream_id = $1 AND e.id BETWEEN r.first_id AND r.last_id ORDER BY e.id LIMIT 10000) e";

static int take_claim(struct pg_session *pg, const struct stream_pull *ask, PGresult **ret, struct duct_error *err)
{
	char most[16], bytes[24], visible[16];
	(void)snprintf(most, sizeof most, "%d", ask->max_messages);
	(void)snprintf(bytes, sizeof bytes, "%" PRId64, ask->max_bytes);
	(void)snprintf(visible, sizeof visible, "%d", ask->visible_s);
	const char *params[] = {ask->stream, ask->group, most, bytes, visible, ask->consumer};
	return stream_query(pg, claim_sql, DUCT_LEN(params), params, true, ret, err);
}

static void claim_text(char *to, const PGresult *res)
{
	const uint8_t *p = (const uint8_t *)PQgetvalue(res, 0, 0);
	for (int i = 0; i < 16 && PQgetlength(res, 0, 0) == 16; i++)
		to += sprintf(to, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", p[i]);
}

static int compare_ids(const void *a, const void *b)
{
	int64_t x = ((const struct stream_message *)a)->id, y = ((const struct stream_message *)b)->id;
	return (x > y) - (x < y);
}

/* The messages of the claimed ranges. What retention dropped meanwhile is not among them. */
static int read_messages(struct pg_session *pg, const PGresult *claim, struct duct_arena *arena, struct stream_pulled *ret,
			 struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf first = {0}, last = {0}, attempts = {0};
	char stream[16];
	for (int i = 0; i < PQntuples(claim); i++) {
		char sep = i ? ',' : '{';
		duct_buf_printf(&first, "%c%" PRId64, sep, stream_cell_i64(claim, i, 3));
		duct_buf_printf(&last, "%c%" PRId64, sep, stream_cell_i64(claim, i, 4));
		duct_buf_printf(&attempts, "%c%d", sep, stream_cell_i32(claim, i, 5));
	}
	duct_buf_putc(&first, '}');
	duct_buf_putc(&last, '}');
	duct_buf_putc(&attempts, '}');
	(void)snprintf(stream, sizeof stream, "%d", stream_cell_i32(claim, 0, 2));
	const char *params[] = {stream, first.data, last.data, attempts.data};
	int rc = stream_query(pg, read_sql, DUCT_LEN(params), params, true, &res, err);
	if (rc < 0)
		return rc;
	ret->n = (size_t)PQntuples(res);
	ret->messages = duct_arena_zalloc(arena, ret->n * sizeof *ret->messages);
	for (size_t i = 0; i < ret->n; i++)
		stream_take_message(res, (int)i, arena, &ret->messages[i]);
	qsort(ret->messages, ret->n, sizeof *ret->messages, compare_ids);
	return 0;
}

static int ask_next_visible(struct pg_session *pg, const struct stream_pull *ask, struct stream_pulled *ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const char *params[] = {ask->stream, ask->group};
	int rc = stream_query(pg, "SELECT ductstream.stream_next_visible($1, $2)", DUCT_LEN(params), params, false, &res, err);
	if (rc < 0)
		return rc;
	const char *seconds = pg_get(res, 0, 0);
	ret->next_visible_us = INT64_MAX;
	if (seconds)
		ret->next_visible_us = (int64_t)(fmax(0, strtod(seconds, NULL)) * 1e6);
	return 0;
}

/* Nobody was told of the claim: it is taken back, if the server can still be reached. */
static void give_back(struct pg_session *pg, const struct stream_pull *ask, const char *claim)
{
	const struct stream_which which = {.stream = ask->stream, .group = ask->group, .claim = claim};
	struct duct_error ignored = {0};
	int64_t n;
	int stop_fd = pg->stop_fd;
	pg->stop_fd = -1;
	if (stream_release(pg, &which, &n, &ignored) < 0)
		n = 0; /* it comes back by its time-out */
	pg->stop_fd = stop_fd;
}

int stream_pull(struct pg_session *pg, const struct stream_pull *ask, struct duct_arena *arena, struct stream_pulled *ret,
		struct duct_error *err)
{
	AUTO_PGRESULT PGresult *claim = NULL;
	struct stream_pulled got = {.next_visible_us = INT64_MAX};
	int rc = take_claim(pg, ask, &claim, err);
	if (rc < 0)
		return duct_wrap(err, "pull");
	if (!PQntuples(claim)) {
		rc = ask_next_visible(pg, ask, &got, err);
		*ret = got;
		return rc;
	}
	duct_kill_point("stream-claimed");
	claim_text(got.claim, claim);
	got.visible_until_us = stream_cell_time_us(claim, 0, 1);
	rc = read_messages(pg, claim, arena, &got, err);
	if (rc < 0) {
		give_back(pg, ask, got.claim);
		return duct_wrap(err, "read what was pulled");
	}
	*ret = got;
	return 0;
}
