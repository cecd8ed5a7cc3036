/*
 * The pace of a catalog: between two snapshots of ours, whichever process makes them, there is a gap in which others can
 * commit. Official clients read the head, work, and lose everything when the head has moved meanwhile; without a gap
 * they hardly ever get through. When our last snapshot is older than the gap, nobody waits. See lake.h.
 */
#include "lake/lake.h"

enum {
	LOOK_BACK = 20, /* snapshots: who has made so many since then is not starved */
	TURN_MS = 10000 /* that a turn may go without a statement: a frozen process must not stop the others for good */
};

/* Postgres 14 and later end a session that stands still; a lock that an older one would keep is not held between statements. */
#define TURNS_END "current_setting('server_version_num')::int >= 140000"

static void sleep_sql(struct duct_buf *to, const struct lake_db *db, long long gap_ms)
{
	lake_sqlf(to, db,
		  "SELECT pg_sleep((greatest(0, least(%lld, %lld - 1000 * extract(epoch FROM clock_timestamp() - "
		  "max(s.snapshot_time)))) / 1000.0)::float8) FROM @ducklake_snapshot s JOIN @ducklake_snapshot_changes c "
		  "ON c.snapshot_id = s.snapshot_id WHERE c.author = 'ductstream' AND s.snapshot_id > "
		  "(SELECT max(snapshot_id) FROM @ducklake_snapshot) - %d HAVING count(*) > 0",
		  gap_ms, gap_ms, LOOK_BACK);
}

void lake_pace_sleep_sql(struct duct_buf *to, const struct lake_db *db, const struct lake_pace *pace)
{
	sleep_sql(to, db, pace->gap_ms);
	lake_sqlf(to, db, " AND (SELECT max(snapshot_id) FROM @ducklake_snapshot) = %lld;", (long long)pace->head);
}

int lake_turn_take(struct lake *lake, int64_t gap_ms, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	lake_sqlf(&sql, lake->db,
		  "SELECT set_config('idle_session_timeout', '%d', false) WHERE " TURNS_END ";"
		  "SELECT CASE WHEN " TURNS_END " THEN pg_advisory_lock(%lld) ELSE pg_advisory_xact_lock(%lld) END;",
		  TURN_MS, (long long)lake->db->lock_key, (long long)lake->db->lock_key);
	if (gap_ms)
		sleep_sql(&sql, lake->db, gap_ms);
	return lake->db->ops->query(lake->db, sql.data, NULL, NULL, err);
}

void lake_turn_leave(struct lake *lake)
{
	struct duct_error gone; /* with its connection, and the lock with that */
	(void)!lake_queryf(lake->db, NULL, NULL, &gone,
			   "SELECT pg_advisory_unlock(%lld), set_config('idle_session_timeout', '0', false) WHERE " TURNS_END,
			   (long long)lake->db->lock_key);
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
