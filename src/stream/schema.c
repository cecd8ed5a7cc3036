/* The tables and functions of sql/stream: made and brought to this program's version. */
#include "stream/internal.h"

#include "stream/stream_sql.h"

enum { VERSION = (int)DUCT_LEN(migrations), MIGRATE_LOCK = 0x64737472 };

/* 0: there are none. */
static int read_version(struct pg_session *pg, int *ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *there = NULL, *res = NULL;
	*ret = 0;
	int rc = pg_query(pg, "SELECT to_regclass('ductstream.stream_version') IS NOT NULL", 0, NULL, &there, err);
	if (rc < 0 || !pg_get_bool(there, 0, 0))
		return rc;
	rc = pg_query(pg, "SELECT coalesce(max(version), 0) FROM ductstream.stream_version", 0, NULL, &res, err);
	if (rc == 0)
		*ret = (int)pg_get_i64(res, 0, 0);
	return rc;
}

static int make_schema(struct pg_session *pg, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *there = NULL;
	int rc = pg_query(pg, "SELECT to_regnamespace('ductstream') IS NOT NULL", 0, NULL, &there, err);
	/* Who may not make a schema may still have been given one. */
	if (rc == 0 && !pg_get_bool(there, 0, 0))
		rc = pg_exec(pg, "CREATE SCHEMA ductstream", NULL, err);
	if (rc == 0)
		rc = pg_exec(pg,
			     "CREATE TABLE IF NOT EXISTS ductstream.stream_version (version int PRIMARY KEY, "
			     "applied_at timestamptz NOT NULL DEFAULT clock_timestamp())",
			     NULL, err);
	return rc;
}

static int run_files(struct pg_session *pg, struct duct_error *err)
{
	int version;
	int rc = read_version(pg, &version, err);
	if (rc == 0 && version == 0)
		rc = make_schema(pg, err);
	for (int i = version; i < VERSION && rc == 0; i++) {
		rc = pg_exec(pg, migrations[i].postgres, NULL, err);
		if (rc < 0)
			return duct_wrap(err, "sql/stream: %s", migrations[i].name);
		rc = pg_execf(pg, NULL, err, "INSERT INTO ductstream.stream_version (version) VALUES (%d)", i + 1);
	}
	return rc;
}

static int migrate(struct pg_session *pg, struct duct_error *err)
{
	struct duct_error ignored = {0};
	int rc = pg_execf(pg, NULL, err, "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock(%d)", MIGRATE_LOCK);
	if (rc == 0)
		rc = run_files(pg, err);
	if (rc == 0)
		rc = pg_exec(pg, "COMMIT", NULL, err);
	if (rc < 0 && pg_exec(pg, "ROLLBACK", NULL, &ignored) < 0)
		return duct_wrap(err, "make the tables of streams"); /* the connection is gone, and the transaction with it */
	return rc < 0 ? duct_wrap(err, "make the tables of streams") : 0;
}

int stream_schema_ensure(struct pg_session *pg, bool create, struct duct_error *err)
{
	int version;
	int rc = read_version(pg, &version, err);
	if (rc < 0)
		return rc;
	if (version > VERSION)
		return duct_fail(err, DUCT_CONFIG,
				 "the stream tables on %s have version %d, this program knows up to %d: use a newer one", pg->where,
				 version, VERSION);
	if (version == 0 && !create) {
		duct_fail(err, DUCT_CONFIG, "there are no streams on %s: a flow with a destination pgstream makes them", pg->where);
		(void)snprintf(err->sqlstate, sizeof err->sqlstate, STREAM_NONE);
		return -DUCT_CONFIG;
	}
	return version < VERSION ? migrate(pg, err) : 0;
}
