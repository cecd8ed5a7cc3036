/* Batches that others send become events: the rules are in sql/stream/004-ingest and 005-late. */
#include "stream/internal.h"

#include <inttypes.h>

#include "base/killpoint.h"
#include "record/position.h"

static const char take_sql[] =
	"SELECT outcome, epoch, batch, parts, lsn, stream_id FROM ductstream.stream_ingest($1::text, $2::text, $3::int8, $4::int8, $5::int4, "
	"$6::bool, $7::pg_lsn, $8::int8, $9::jsonb, $10::pg_lsn, $11::text, $12::text, $13::text, $14::text, $15::bytea)";

#define POSITION "i.epoch, i.batch, i.parts, i.lsn, i.timestamp_ms, i.metadata::text, i.stream_id"

static enum stream_ingested outcome_of(const char *name)
{
	static const char *const names[] = {"take", "repeat", "fenced", "gap", "behind"};
	for (size_t i = 0; i < DUCT_LEN(names); i++)
		if (strcmp(names[i], name) == 0)
			return (enum stream_ingested)i;
	return STREAM_INGEST_GAP;
}

/* Numbers of a part as text, for as long as the statement is sent. */
struct numbers {
	char epoch[24], batch[24], part[16], lsn[DUCT_LSN_LEN], timestamp[24], row_lsn[DUCT_LSN_LEN];
};

static void print_numbers(struct numbers *n, const struct stream_ingest *p)
{
	(void)snprintf(n->epoch, sizeof n->epoch, "%" PRId64, p->epoch);
	(void)snprintf(n->batch, sizeof n->batch, "%" PRId64, p->batch);
	(void)snprintf(n->part, sizeof n->part, "%d", p->part);
	(void)snprintf(n->timestamp, sizeof n->timestamp, "%" PRId64, p->timestamp_ms);
	(void)duct_lsn_format(n->lsn, p->lsn);
	(void)duct_lsn_format(n->row_lsn, p->row_lsn);
}

int stream_ingest_take(struct pg_session *pg, const struct stream_ingest *p, enum stream_ingested *ret_outcome,
		       struct stream_ingest_position *ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	struct numbers n;
	print_numbers(&n, p);
	const char *row_lsn = p->copied || p->row_lsn ? n.row_lsn : NULL;
	const char *params[] = {p->flow,
				p->stream,
				n.epoch,
				p->batch ? n.batch : NULL,
				n.part,
				p->last ? "t" : "f",
				n.lsn,
				n.timestamp,
				p->metadata,
				row_lsn,
				p->operation,
				p->schema,
				p->table,
				p->format,
				p->payload ? p->payload : ""};
	duct_kill_point("ingest-begin");
	int rc = pg_query_bytes(pg, take_sql, DUCT_LEN(params), params, p->payload_bytes, &res, err);
	if (rc < 0)
		return duct_wrap(err, "take a batch");
	duct_kill_point(p->last ? "ingest-done" : "ingest-part");
	*ret_outcome = outcome_of(PQgetvalue(res, 0, 0));
	*ret = (struct stream_ingest_position){
		.epoch = pg_get_i64(res, 0, 1),
		.batch = pg_get_i64(res, 0, 2),
		.parts = (int)pg_get_i64(res, 0, 3),
		.lsn = pg_get_lsn(res, 0, 4),
		.stream_id = (int)pg_get_i64(res, 0, 5),
	};
	return 0;
}

static void take_position(const PGresult *res, struct duct_arena *arena, struct stream_ingest_position *ret)
{
	const char *metadata = pg_get(res, 0, 5);
	*ret = (struct stream_ingest_position){
		.epoch = pg_get_i64(res, 0, 0),
		.batch = pg_get_i64(res, 0, 1),
		.parts = (int)pg_get_i64(res, 0, 2),
		.lsn = pg_get_lsn(res, 0, 3),
		.timestamp_ms = pg_get_i64(res, 0, 4),
		.metadata = metadata ? duct_arena_strdup(arena, metadata) : NULL,
		.stream_id = (int)pg_get_i64(res, 0, 6),
	};
}

int stream_ingest_look(struct pg_session *pg, const char *flow, const char *stream, struct duct_arena *arena,
		       struct stream_ingest_position *ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const char *params[] = {flow, stream};
	int rc = pg_query(pg,
			  "SELECT " POSITION " FROM ductstream.stream_ingests i JOIN ductstream.streams s USING (stream_id) "
			  "WHERE i.flow = $1 AND s.name = $2",
			  DUCT_LEN(params), params, &res, err);
	*ret = (struct stream_ingest_position){0};
	if (rc < 0 || !PQntuples(res))
		return rc;
	take_position(res, arena, ret);
	return 1;
}

int stream_ingest_take_over(struct pg_session *pg, const char *flow, const char *stream, int64_t epoch, struct duct_arena *arena,
			    struct stream_ingest_position *ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	char number[24];
	(void)snprintf(number, sizeof number, "%" PRId64, epoch);
	const char *params[] = {flow, stream, number};
	int rc = pg_query(pg, "SELECT " POSITION " FROM ductstream.stream_ingest_take_over($1::text, $2::text, $3::int8) i",
			  DUCT_LEN(params), params, &res, err);
	if (rc < 0)
		return duct_wrap(err, "take over flow \"%s\"", flow);
	take_position(res, arena, ret);
	return !epoch || ret->epoch == epoch;
}

int stream_ingest_keep(struct pg_session *pg, int stream_id, int64_t age_ms, int64_t bytes, struct duct_error *err)
{
	return pg_execf(pg, NULL, err,
			"UPDATE ductstream.streams s SET retention_age = nullif(%" PRId64 ", 0) * interval '1 millisecond', "
			"retention_bytes = nullif(%" PRId64 ", 0) WHERE s.stream_id = %d AND NOT EXISTS "
			"(SELECT 1 FROM ductstream.stream_checkpoints c WHERE c.stream_id = s.stream_id)",
			age_ms, bytes, stream_id);
}
