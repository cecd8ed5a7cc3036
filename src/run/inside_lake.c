/* The lake of the environment in a job's process: see inside_lake.h. */
#include "run/inside_lake.h"

#include <pthread.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "duck/s3.h"

enum { MOST_ATTEMPTS = 20, RENEW_US = 15 * 60 * 1000000 };

struct run_lake {
	struct duck_lake config;
	char *name;
	struct s3_options options;
	char *bucket, *scope;
	struct aws_credentials *credentials; /* NULL: its data are files of this machine */
	pthread_mutex_t lock;
	int64_t expires_us; /* of the keys, by the wall clock; 0: never */
};

/* Of other servers than the lake's the job itself says what it may. */
static int allow(struct run_lake *lake, struct duck_conn *conn, struct duct_error *err)
{
	AUTO_FREE char *secret = duct_xasprintf("%s_s3", lake->name);
	return duck_allow_s3(conn, secret, lake->scope, &lake->options, lake->credentials, &lake->expires_us, err);
}

static int use_store(struct run_lake *lake, struct run_inside *inside, struct duck_conn *conn, const char *data_path,
		     struct duct_error *err)
{
	AUTO_FREE char *bucket = NULL, *key = NULL;
	if (lake->credentials || !data_path || !s3_is_url(data_path))
		return 0;
	int rc = s3_url_parse(data_path, &bucket, &key, err);
	rc = rc ? rc : s3_options_of_lake(&lake->options, &lake->bucket, err);
	if (rc)
		return rc;
	lake->scope = duct_xasprintf("s3://%s", bucket);
	lake->credentials = aws_credentials_open(&lake->options, inside->ctx->stop_fd);
	return allow(lake, conn, err);
}

static int attach(struct run_lake *lake, struct run_inside *inside, struct duck_conn *conn, struct duct_error *err)
{
	int rc = duck_attach_lake(conn, &lake->config, lake->name, err);
	if (rc == -DUCT_CONFIG &&
	    strstr(err->message, "httpfs")) { /* only the catalog knows that its data are in an object store */
		rc = duck_load_extension(conn, "httpfs", err);
		rc = rc ? rc : duck_attach_lake(conn, &lake->config, lake->name, err);
	}
	for (int n = 1; rc == -DUCT_RETRY && n < MOST_ATTEMPTS; n++) {
		run_inside_log("warn", "the lake is attached again: %s", err->message);
		if (run_inside_pause(inside, duck_lake_pause_ms(&lake->config, n), err) < 0)
			return -(int)err->class;
		rc = duck_attach_lake(conn, &lake->config, lake->name, err);
	}
	return rc;
}

/* As the catalog has it. */
static int data_path_of(struct run_lake *lake, struct duck_conn *conn, char **ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "SELECT tags['data_path'] FROM duckdb_databases() WHERE database_name = ");
	duct_buf_sql_literal(&sql, lake->name);
	return duck_text(conn, sql.data, ret, err);
}

int run_lake_attach(struct run_lake **ret, struct run_inside *inside, struct duck_conn *conn, const char *name,
		    struct duct_error *err)
{
	struct run_lake *lake = duct_xcalloc(1, sizeof *lake);
	AUTO_FREE char *data_path = NULL;
	lake->name = duct_xstrdup(name);
	pthread_mutex_init(&lake->lock, NULL);
	int rc = duck_lake_from_env(&lake->config, inside->arena, err);
	rc = rc ? rc : use_store(lake, inside, conn, lake->config.data_path, err);
	rc = rc ? rc : attach(lake, inside, conn, err);
	rc = rc ? rc : data_path_of(lake, conn, &data_path, err);
	rc = rc ? rc : use_store(lake, inside, conn, data_path, err);
	if (rc)
		run_lake_close(lake);
	else
		*ret = lake;
	return rc;
}

void run_lake_close(struct run_lake *lake)
{
	if (!lake)
		return;
	aws_credentials_close(lake->credentials);
	s3_options_done(&lake->options);
	pthread_mutex_destroy(&lake->lock);
	free(lake->bucket);
	free(lake->scope);
	free(lake->name);
	free(lake);
}

const struct duck_lake *run_lake_config(const struct run_lake *lake)
{
	return &lake->config;
}

int run_lake_renew(struct run_lake *lake, struct duck_conn *conn, struct duct_error *err)
{
	int rc = 0;
	if (!lake->credentials)
		return 0;
	pthread_mutex_lock(&lake->lock);
	if (lake->expires_us && lake->expires_us - duct_wall_us() < RENEW_US)
		rc = allow(lake, conn, err);
	pthread_mutex_unlock(&lake->lock);
	return rc;
}
