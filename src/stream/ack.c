/* Settling what was handed out: acknowledge, give back, hold for longer. */
#include "stream/internal.h"

#include <inttypes.h>

/* The parameters $1 to $4 of both functions. */
struct named {
	struct duct_buf ids;
	int64_t count; /* of different ids */
	const char *params[4];
};

static void name_them(struct named *named, const struct stream_which *which)
{
	if (which->n)
		named->count = stream_ids_text(&named->ids, which->ids, which->n);
	named->params[0] = which->stream;
	named->params[1] = which->group;
	named->params[2] = which->claim && *which->claim ? which->claim : NULL;
	named->params[3] = which->n ? named->ids.data : NULL;
}

static int settle(struct pg_session *pg, const struct stream_which *which, const char *action, double seconds, const char *reason,
		  PGresult **ret, struct duct_error *err)
{
	struct named named = {0};
	char text[32];
	name_them(&named, which);
	(void)snprintf(text, sizeof text, "%.6f", seconds);
	const char *params[] = {named.params[0], named.params[1], named.params[2], named.params[3], action, text, reason};
	int rc = stream_query(pg, "SELECT settled, dead, visible_at FROM ductstream.stream_settle($1, $2, $3, $4, $5, $6, $7)",
			      DUCT_LEN(params), params, true, ret, err);
	duct_buf_done(&named.ids);
	return rc < 0 ? duct_wrap(err, "%s", action) : 0;
}

int stream_ack(struct pg_session *pg, const struct stream_which *which, int64_t *ret_acked, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *whole = NULL, *rest = NULL;
	struct named named = {0};
	name_them(&named, which);
	int rc = stream_query(pg, "SELECT ductstream.stream_ack($1, $2, $3, $4)", DUCT_LEN(named.params), named.params, true,
			      &whole, err);
	duct_buf_done(&named.ids);
	if (rc < 0)
		return duct_wrap(err, "ack");
	int64_t acked = stream_cell_i64(whole, 0, 0);
	/* Ids that are only a part of what was handed out together. */
	if (acked < named.count) {
		rc = settle(pg, which, "ack", 0, NULL, &rest, err);
		if (rc < 0)
			return rc;
		acked += stream_cell_i64(rest, 0, 0);
	}
	*ret_acked = acked;
	return 0;
}

int stream_nack(struct pg_session *pg, const struct stream_which *which, double delay_s, const char *reason, int64_t *ret_nacked,
		int64_t *ret_dead, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int rc = settle(pg, which, "nack", delay_s, reason, &res, err);
	if (rc < 0)
		return rc;
	*ret_nacked = stream_cell_i64(res, 0, 0);
	*ret_dead = stream_cell_i64(res, 0, 1);
	return 0;
}

int stream_extend(struct pg_session *pg, const struct stream_which *which, double visible_s, int64_t *ret_extended,
		  int64_t *ret_visible_until_us, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int rc = settle(pg, which, "extend", visible_s, NULL, &res, err);
	if (rc < 0)
		return rc;
	*ret_extended = stream_cell_i64(res, 0, 0);
	*ret_visible_until_us = stream_cell_time_us(res, 0, 2);
	return 0;
}

int stream_release(struct pg_session *pg, const struct stream_which *which, int64_t *ret_released, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int rc = settle(pg, which, "release", 0, NULL, &res, err);
	if (rc < 0)
		return rc;
	*ret_released = stream_cell_i64(res, 0, 0);
	return 0;
}
