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

static int take_age(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	*(int64_t *)arg = lake_int(v[0], -1);
	return 0;
}

int lake_pace_left(struct lake *lake, int64_t *ret_ms, struct duct_error *err)
{
	int64_t age_ms = -1; /* also of a snapshot from the future: a clock was set back */
	*ret_ms = 0;
	if (!lake->pace_ms || !lake->db->sqlite)
		return 0;
	int rc = lake_queryf(lake->db, take_age, &age_ms, err,
			     "SELECT CAST((julianday('now') - julianday(substr(s.snapshot_time, 1, 19))) * 86400000 - "
			     "1000 * ('0' || substr(s.snapshot_time, 20, 4)) AS INTEGER) "
			     "FROM @ducklake_snapshot s JOIN @ducklake_snapshot_changes c ON c.snapshot_id = s.snapshot_id "
			     "WHERE c.author = 'ductstream' AND s.snapshot_id > (SELECT max(snapshot_id) FROM @ducklake_snapshot) - %d "
			     "ORDER BY s.snapshot_id DESC LIMIT 1",
			     LOOK_BACK);
	if (rc == 0 && age_ms >= 0 && age_ms < lake->pace_ms)
		*ret_ms = lake->pace_ms - age_ms;
	return rc;
}
