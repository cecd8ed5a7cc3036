/*
 * Steps that move the flow's checkpoint row without making a snapshot: a first copy begins, tables are to be copied again.
 * Compare-and-set on epoch and seq, as a commit does it; the position and the snapshot that others' changes are counted
 * from stay as they are.
 */
#include "base/killpoint.h"
#include "lake/lake.h"

#include <string.h>

/* Another epoch, or a row that somebody changed by hand; 0: it stands as the step left it. */
static int judge(struct lake *lake, enum duct_flow_state state, struct duct_error *err)
{
	struct lake_mark_row row;
	if (lake_read_mark(lake, false, &row, err))
		return -(int)err->class;
	if (row.epoch != lake->mark.epoch)
		return lake_fenced(lake, row.epoch, err);
	if (row.seq != lake->mark.seq + 1 || row.checkpoint.state != state)
		return duct_fail(err, DUCT_FATAL, "flow \"%s\": the checkpoint row was changed by hand", lake->flow);
	return 0;
}

static int run(struct lake *lake, const struct lake_script *script, enum duct_flow_state state, const char *what,
	       struct duct_error *err)
{
	size_t at;
	enum lake_outcome outcome = lake->db->ops->run(lake->db, script, &at, err);
	/* After a loss it is said again; the one that comes second, also one that arrives late, changes nothing. */
	if (outcome == LAKE_RUN_UNKNOWN && lake->db->ops->reconnect(lake->db, err) == 0)
		outcome = lake->db->ops->run(lake->db, script, &at, err);
	if (outcome == LAKE_RUN_COUNT)
		return judge(lake, state, err);
	return outcome == LAKE_RUN_OK ? 0 : duct_wrap(err, "%s", what);
}

static void put_where(const struct lake *lake, struct duct_buf *to)
{
	duct_buf_puts(to, " WHERE flow = ");
	duct_buf_sql_literal(to, lake->flow);
	duct_buf_printf(to, " AND epoch = %lld AND seq = %lld", (long long)lake->mark.epoch, (long long)lake->mark.seq);
}

int lake_begin_copy(struct lake *lake, const char *source_identity, struct duct_error *err)
{
	if (lake->read_only)
		return duct_fail(err, DUCT_FATAL, "the lake was opened for reading only");
	struct lake_script script = {0};
	struct duct_buf *to = lake_script_step(&script, LAKE_STEP_CHANGED, 1, NULL);
	lake_sqlf(to, lake->db,
		  "UPDATE @ductstream_checkpoint SET seq = seq + 1, state = 'copying', lsn = 0, "
		  "commit_us = 0, source_identity = ");
	duct_buf_sql_literal(to, source_identity ? source_identity : "");
	put_where(lake, to);
	int rc = run(lake, &script, DUCT_STATE_COPYING, "begin the copy", err);
	lake_script_done(&script);
	if (rc)
		return rc;
	duct_kill_point("copy-begun");
	return lake_refresh(lake, false, false, err);
}

int lake_set_relation_state(struct lake *lake, uint32_t source_oid, const char *state, struct duct_error *err)
{
	if (lake->read_only)
		return duct_fail(err, DUCT_FATAL, "the lake was opened for reading only");
	struct lake_script script = {0};
	struct duct_buf *to = lake_script_step(&script, LAKE_STEP_CHANGED, 1, NULL);
	lake_sqlf(to, lake->db, "UPDATE @ductstream_checkpoint SET seq = seq + 1");
	put_where(lake, to);
	to = lake_script_step(&script, LAKE_STEP_CHANGED, 1, NULL);
	lake_sqlf(to, lake->db, "UPDATE @ductstream_relation SET state = ");
	duct_buf_sql_literal(to, state);
	duct_buf_printf(to, " WHERE source_oid = %u AND flow = ", source_oid);
	duct_buf_sql_literal(to, lake->flow);
	int rc = run(lake, &script, lake->mark.checkpoint.state, "set the state of a table", err);
	lake_script_done(&script);
	if (rc)
		return rc;
	duct_kill_point("state-set");
	return lake_refresh(lake, true, false, err);
}
