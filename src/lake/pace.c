/*
 * The pace of a catalog: between two snapshots of ours, whichever process makes them, there is a gap in which others can
 * commit. Official clients read the head, work, and lose everything when the head has moved meanwhile; without a gap
 * they hardly ever get through. When our last snapshot is older than the gap, nobody waits. See lake.h.
 */
#include "lake/lake.h"

enum { LOOK_BACK = 20 }; /* snapshots: who has made so many since then is not starved */

void lake_pace_sleep_sql(struct duct_buf *to, const struct lake_db *db, const struct lake_pace *pace)
{
	long long gap = pace->gap_ms, head = pace->head;
	lake_sqlf(to, db,
		  "SELECT pg_sleep((greatest(0, least(%lld, %lld - 1000 * extract(epoch FROM clock_timestamp() - "
		  "max(s.snapshot_time)))) / 1000.0)::float8) FROM @ducklake_snapshot s JOIN @ducklake_snapshot_changes c "
		  "ON c.snapshot_id = s.snapshot_id WHERE c.author = 'ductstream' AND s.snapshot_id > %lld HAVING count(*) > 0 "
		  "AND (SELECT max(snapshot_id) FROM @ducklake_snapshot) = %lld;",
		  gap, gap, head - LOOK_BACK, head);
}

struct last {
	int64_t age_ms; /* -1: none; also negative for a snapshot from the future: a clock was set back */
	bool own, of_many;
};

static int take_last(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct last *last = arg;
	last->age_ms = lake_int(v[0], -1);
	last->own = lake_int(v[1], 0) == 1;
	last->of_many = lake_int(v[2], 0) == 1;
	return 0;
}

int lake_pace_left(struct lake *lake, int64_t gap_ms, int64_t *ret_ms, struct duct_error *err)
{
	struct last last = {.age_ms = -1};
	AUTO_BUF struct duct_buf flow = {0};
	*ret_ms = 0;
	if (!gap_ms || !lake->db->sqlite)
		return 0;
	duct_buf_sql_literal(&flow, lake->flow);
	int rc = lake_queryf(
		lake->db, take_last, &last, err,
		"WITH ours AS (SELECT s.snapshot_id AS id, s.snapshot_time AS at, CASE WHEN "
		"json_valid(c.commit_extra_info) THEN json_extract(c.commit_extra_info, '$.flow') END AS flow "
		"FROM @ducklake_snapshot s JOIN @ducklake_snapshot_changes c ON c.snapshot_id = s.snapshot_id "
		"WHERE c.author = 'ductstream' AND s.snapshot_id > (SELECT max(snapshot_id) FROM @ducklake_snapshot) - %d) "
		"SELECT CAST((julianday('now') - julianday(substr(at, 1, 19))) * 86400000 - "
		"1000 * ('0' || substr(at, 20, 4)) AS INTEGER), flow = %s, EXISTS (SELECT 1 FROM ours WHERE flow <> %s) "
		"FROM ours ORDER BY id DESC LIMIT 1",
		LOOK_BACK, flow.data, flow.data);
	if (last.own && last.of_many) /* it was our turn: those who have waited meanwhile come first */
		gap_ms += gap_ms / 2;
	if (rc == 0 && last.age_ms >= 0 && last.age_ms < gap_ms)
		*ret_ms = gap_ms - last.age_ms;
	return rc;
}
