/* S3 for DuckDB's own statements: see s3.h. */
#include "duck/s3.h"

#include <string.h>

#include "base/buf.h"

static void put_text(struct duct_buf *sql, const char *name, const char *value)
{
	if (!value || !*value)
		return;
	duct_buf_printf(sql, ", %s ", name);
	duct_buf_sql_literal(sql, value);
}

/* DuckDB's own words may have the statement in them, so they are not passed on. */
static int create_secret(struct duck_conn *conn, const char *name, const char *scope, const struct s3_options *options,
			 const struct aws_keys *keys, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	AUTO_FREE char *host = NULL;
	bool tls;
	int rc = s3_endpoint_parse(options->endpoint, &host, &tls, err);
	if (rc < 0)
		return rc;
	duct_buf_puts(&sql, "CREATE OR REPLACE SECRET ");
	duct_buf_sql_ident(&sql, name);
	duct_buf_puts(&sql, " (TYPE s3");
	put_text(&sql, "KEY_ID", keys->access_key);
	put_text(&sql, "SECRET", keys->secret_key);
	put_text(&sql, "SESSION_TOKEN", keys->session_token);
	put_text(&sql, "REGION", s3_region(options));
	put_text(&sql, "ENDPOINT", host); /* with a scheme delta_scan reads the log, and no file */
	put_text(&sql, "URL_STYLE", s3_path_style(options) ? "path" : "vhost");
	put_text(&sql, "SCOPE", scope);
	duct_buf_printf(&sql, ", USE_SSL %s)", tls ? "true" : "false");
	struct duct_error said;
	rc = duck_exec(conn, sql.data, &said);
	explicit_bzero(sql.data, sql.len);
	return rc ? duct_fail(err, DUCT_CONFIG, "the keys for \"%s\" cannot be made a secret of DuckDB's session",
			      scope ? scope : "s3://")
		  : 0;
}

static int trust(struct duck_conn *conn, const char *ca_file, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	if (!ca_file)
		return 0;
	duct_buf_puts(&sql, "SET GLOBAL ca_cert_file = ");
	duct_buf_sql_literal(&sql, ca_file);
	return duck_exec(conn, sql.data, err);
}

/* Uploads keep whole parts in memory, of 80 MiB as they come, and fifty at once: files of ours are rolled at 512 MiB, so small ones do. */
static int bound_uploads(struct duck_conn *conn, struct duct_error *err)
{
	return duck_exec(conn, "SET GLOBAL s3_uploader_max_filesize = '50GB'; SET GLOBAL s3_uploader_thread_limit = 4", err);
}

int duck_allow_s3(struct duck_conn *conn, const char *name, const char *scope, const struct s3_options *options,
		  struct aws_credentials *credentials, int64_t *ret_expires_us, struct duct_error *err)
{
	AUTO_KEYS struct aws_keys keys = {0};
	int rc = duck_load_extension(conn, "httpfs", err);
	if (rc == 0)
		rc = bound_uploads(conn, err);
	if (rc == 0)
		rc = trust(conn, options->ca_file, err);
	if (rc == 0)
		rc = aws_credentials_get(credentials, &keys, err);
	if (rc == 0)
		rc = create_secret(conn, name, scope, options, &keys, err);
	if (rc == 0)
		duck_asks_as(conn, name, keys.who, keys.expires_us == 0);
	if (rc == 0 && ret_expires_us)
		*ret_expires_us = keys.expires_us;
	return rc;
}
