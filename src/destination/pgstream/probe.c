/* `ductstream check` for the pgstream destination. Changes nothing. */
#include "destination/pgstream/pgstream.h"

#include "stream/stream.h"

static int probe_server(struct pg_session *pg, duct_report_fn *report, void *arg, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int rc = pg_query(
		pg,
		"SELECT to_regclass('ductstream.stream_version') IS NOT NULL, "
		"CASE WHEN to_regnamespace('ductstream') IS NULL THEN has_database_privilege(current_database(), 'CREATE') "
		"ELSE has_schema_privilege('ductstream', 'CREATE') END",
		0, NULL, &res, err);
	if (rc < 0)
		return rc;
	if (pg_get_bool(res, 0, 0)) {
		rc = stream_schema_ensure(pg, false, err);
		report(arg, rc < 0 ? DUCT_FINDING_ERROR : DUCT_FINDING_OK,
		       rc < 0 ? err->message : "the tables of streams are there", NULL);
	} else if (pg_get_bool(res, 0, 1)) {
		report(arg, DUCT_FINDING_OK, "there are no streams yet: their tables will be made in schema ductstream", NULL);
	} else {
		report(arg, DUCT_FINDING_ERROR, "the tables of streams cannot be made: no permission",
		       "GRANT CREATE ON DATABASE to the user of dsn, or make the schema ductstream for it");
	}
	return 0;
}

int pgstream_probe(const void *config, const struct duct_ctx *ctx, const struct duct_relations *tables, duct_report_fn *report,
		   void *arg, struct duct_error *err)
{
	(void)tables;
	const struct pgstream_config *c = config;
	const struct wire_format *format;
	struct pg_session *pg = NULL;
	if (message_format(&format, c->format, ctx, err) < 0)
		report(arg, DUCT_FINDING_ERROR, err->message, "correct the option \"format\"");
	const struct pg_session_options o = {.dsn = c->dsn, .stop_fd = ctx->stop_fd, .log = ctx->log};
	if (pg_session_open(&pg, &o, err) < 0) {
		report(arg, DUCT_FINDING_ERROR, err->message, "correct the option \"dsn\", or make the server accept it");
		return 0;
	}
	int rc = 0;
	if (pg->version < 140000)
		report(arg, DUCT_FINDING_ERROR, "streams need Postgres 14 or later", "use another server");
	else
		rc = probe_server(pg, report, arg, err);
	pg_session_close(pg);
	return rc;
}
