/*
 * What the stream tells of may not be visible yet: the server sends a transaction once its commit is in the log, and shows it to
 * others when the commit has ended, which a synchronous standby can hold up for long. A catalog read in between is that of before.
 */
#include "source/postgres/postgres.h"

#include <poll.h>
#include <string.h>

#include "base/clock.h"

enum { SOON_MS = 50, MOST_MS = 10000 };

int postgres_oldest_running(struct postgres_source *src, uint32_t *ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int r = pg_exec(
		src->sql,
		"select pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::pg_catalog.text::pg_catalog.int8 & 4294967295",
		&res, err);
	if (r)
		return duct_wrap(err, "the oldest running transaction");
	*ret = (uint32_t)pg_get_i64(res, 0, 0);
	return 0;
}

/* The stream says the lower half of a transaction's number: the whole one is that nearest to the newest. */
static int is_visible(struct postgres_source *src, uint32_t xid, bool *ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int r = pg_execf(
		src->sql, &res, err,
		"select pg_catalog.pg_visible_in_snapshot((case when x - top > 2147483648 then x - 4294967296 when top - x > 2147483648 "
		"then x + 4294967296 else x end)::pg_catalog.text::pg_catalog.xid8, s) from (select s, top, (top >> 32 << 32) + %u as x "
		"from (select s, pg_catalog.pg_snapshot_xmax(s)::pg_catalog.text::pg_catalog.int8 as top from "
		"pg_catalog.pg_current_snapshot() s) a) b",
		xid);
	if (r)
		return duct_wrap(err, "whether transaction %u is visible", xid);
	*ret = pg_get_bool(res, 0, 0);
	return 0;
}

/* Whether the commit may be waiting for ourselves: a synchronous standby can be any client of the log. */
static int waits_for_us(struct postgres_source *src, bool *ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const char *own = PQparameterStatus(src->repl->conn, "application_name");
	int r = pg_exec(src->sql, "select pg_catalog.current_setting('synchronous_standby_names')", &res, err);
	if (r)
		return duct_wrap(err, "the synchronous standbys");
	const char *names = PQgetvalue(res, 0, 0);
	*ret = strchr(names, '*') || (own && *own && strcasestr(names, own));
	return 0;
}

/* Lets a moment pass; 1: it is of no use to wait longer. */
static int wait_more(struct postgres_source *src, uint32_t xid, int64_t waited_ms, int pause_ms, struct duct_error *err)
{
	struct pollfd stop = {src->ctx->stop_fd, POLLIN, 0};
	bool for_us = false;
	int r = waited_ms > SOON_MS ? waits_for_us(src, &for_us, err) : 0;
	if (r || for_us)
		return r ? r : 1;
	if (waited_ms > MOST_MS)
		return duct_fail(
			err, DUCT_RETRY,
			"transaction %u is in the log, and the server does not show it to others yet: does a synchronous standby hold "
			"up its commit?",
			xid);
	return poll(&stop, src->ctx->stop_fd >= 0, pause_ms) > 0 ? duct_fail(err, DUCT_CANCELLED, "stopped") : 0;
}

int postgres_await_visible(struct postgres_source *src, struct duct_error *err)
{
	uint32_t xid = src->group.xid;
	int64_t since_us = duct_mono_us();
	int r = xid == src->unseen_xid, pause_ms = 1;
	for (bool visible = xid == src->visible_xid; r == 0 && !visible; pause_ms = pause_ms < 50 ? pause_ms * 2 : pause_ms) {
		r = is_visible(src, xid, &visible, err);
		if (r == 0 && !visible)
			r = wait_more(src, xid, (duct_mono_us() - since_us) / 1000, pause_ms, err);
	}
	if (r == 0)
		src->visible_xid = xid;
	if (r > 0)
		src->unseen_xid = xid;
	return r;
}
