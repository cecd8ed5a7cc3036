/* A DuckLake by its official extension: settings, ATTACH, what its errors mean. See session.h. */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "duck/session.h"
#include "options/text.h"

enum { RETRY_COUNT = 200, RETRY_WAIT_MS = 150, MOST_WAIT_MS = 2000, BUSY_MS = 30000 };
static const double retry_backoff = 2.5;

/* --- the environment --- */

static const char *setting(const char *name)
{
	const char *text = getenv(name);
	return text && *text ? text : NULL;
}

static int number_from_env(const char *name, int64_t most, int64_t *ret, struct duct_error *err)
{
	const char *text = setting(name);
	if (text && (!duct_parse_int(text, ret) || *ret < 0 || *ret > most))
		return duct_fail(err, DUCT_CONFIG, "%s: \"%.40s\" is not a number from 0 to %lld", name, text, (long long)most);
	return 0;
}

static void put_pair(struct duct_buf *to, const char *key, const char *value)
{
	if (!value || !*value)
		return;
	duct_buf_printf(to, "%s%s='", to->len ? " " : "", key);
	for (; *value; value++) {
		if (*value == '\'' || *value == '\\')
			duct_buf_putc(to, '\\');
		duct_buf_putc(to, *value);
	}
	duct_buf_putc(to, '\'');
}

/* The Postgres of the copy page's variables. */
static const char *catalog_by_parts(struct duct_arena *arena)
{
	const char *host = setting("DUCKLAKE_RDS_HOST");
	AUTO_BUF struct duct_buf dsn = {0}, catalog = {0};
	if (!host)
		return NULL;
	put_pair(&dsn, "host", host);
	put_pair(&dsn, "port", setting("DUCKLAKE_RDS_PORT") ? setting("DUCKLAKE_RDS_PORT") : "5432");
	put_pair(&dsn, "dbname", setting("DUCKLAKE_RDS_DATABASE") ? setting("DUCKLAKE_RDS_DATABASE") : "ducklake_catalog");
	put_pair(&dsn, "user", setting("DUCKLAKE_RDS_USERNAME"));
	put_pair(&dsn, "password", setting("DUCKLAKE_RDS_PASSWORD"));
	duct_buf_printf(&catalog, "postgres:%s", dsn.data);
	return duct_arena_strdup(arena, catalog.data);
}

/* The connection string of a catalog in Postgres, NULL: it is none. "postgres://..." is one itself. */
static const char *dsn_of(const char *catalog)
{
	if (strncmp(catalog, "postgres:", 9) != 0 && strncmp(catalog, "postgresql:", 11) != 0)
		return NULL;
	const char *dsn = strchr(catalog, ':') + 1;
	return strncmp(dsn, "//", 2) == 0 ? catalog : dsn;
}

static int check_kind(const char *catalog, struct duct_error *err)
{
	bool known = dsn_of(catalog) || (strncmp(catalog, "sqlite:", 7) == 0 && catalog[7]);
	return known ? 0 : duct_fail(err, DUCT_CONFIG, "catalog: must be \"sqlite:PATH\" or \"postgres:CONNECTION\"");
}

int duck_lake_from_env(struct duck_lake *ret, struct duct_arena *arena, struct duct_error *err)
{
	struct duck_lake lake = {
		.catalog = setting("DUCKLAKE_CATALOG"),
		.metadata_schema = setting("DUCKLAKE_METADATA_SCHEMA"),
		.data_path = setting("DUCKLAKE_DATA_PATH"),
		.create = true,
	};
	const char *backoff = setting("DUCKLAKE_RETRY_BACKOFF"), *bucket = setting("DUCKLAKE_BUCKET");
	char *end = NULL;
	lake.catalog = lake.catalog ? duct_arena_strdup(arena, lake.catalog) : catalog_by_parts(arena);
	if (!lake.catalog)
		return duct_fail(
			err, DUCT_CONFIG,
			"no lake is named: set DUCKLAKE_CATALOG to sqlite:PATH or postgres:DSN (and DUCKLAKE_DATA_PATH where it "
			"is to be created), or DUCKLAKE_RDS_HOST and what belongs to it");
	if (check_kind(lake.catalog, err) < 0 || number_from_env("DUCKLAKE_RETRY_COUNT", 100000, &lake.retry_count, err) < 0 ||
	    number_from_env("DUCKLAKE_RETRY_WAIT_MS", 60000, &lake.retry_wait_ms, err) < 0)
		return -(int)err->class;
	if (bucket && !lake.data_path) {
		AUTO_FREE char *path = duct_xasprintf("s3://%s/", bucket);
		lake.new_data_path = duct_arena_strdup(arena, path);
	}
	lake.retry_backoff = backoff ? strtod(backoff, &end) : 0;
	if (backoff && (*end || !(lake.retry_backoff >= 1 && lake.retry_backoff <= 100)))
		return duct_fail(err, DUCT_CONFIG, "DUCKLAKE_RETRY_BACKOFF: \"%.40s\" is not a number from 1 to 100", backoff);
	*ret = lake;
	return 0;
}

const char *duck_lake_schema(const struct duck_lake *lake)
{
	return strncmp(lake->catalog, "sqlite:", 7) == 0	  ? "main"
		: lake->metadata_schema && *lake->metadata_schema ? lake->metadata_schema
								  : "public";
}

char *duck_lake_label(const struct duck_lake *lake)
{
	const char *dsn = dsn_of(lake->catalog);
	if (!dsn && strncmp(lake->catalog, "sqlite:", 7) != 0)
		return duct_xstrdup("***"); /* whatever was meant, it may have a password */
	if (!dsn)
		return duct_xstrdup(lake->catalog);
	AUTO_FREE char *shown = duct_dsn_redact(dsn);
	return dsn == lake->catalog ? duct_xstrdup(shown) : duct_xasprintf("postgres:%s", shown);
}

/* --- errors --- */

static bool says(const struct duct_error *err, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcasestr(err->message, words[i]))
			return true;
	return false;
}

int duck_lake_failed(struct duct_error *err)
{
	/* The extension has no codes: what its clients go by are these words (it does so itself). */
	static const char *const races[] = {"conflict",
					    "concurrent",
					    "database is locked",
					    "could not serialize",
					    "deadlock",
					    "unique constraint",
					    "primary key",
					    "Failed to commit",
					    "server closed",
					    "terminating connection",
					    "Unable to connect to"};
	switch (duck_error_type(err)) {
	case DUCKDB_ERROR_OUT_OF_MEMORY: {
		char why[sizeof err->message];
		(void)snprintf(why, sizeof why, "%s", err->message);
		return duct_fail(err, DUCT_CONFIG, "%.800s: raise DUCKDB_MEMORY_LIMIT", why);
	}
	case DUCKDB_ERROR_INTERRUPT: err->class = DUCT_CANCELLED; break;
	case DUCKDB_ERROR_CONSTRAINT: err->class = DUCT_DATA; break;
	case DUCKDB_ERROR_PARSER:
	case DUCKDB_ERROR_SYNTAX:
	case DUCKDB_ERROR_BINDER:
	case DUCKDB_ERROR_CATALOG:
	case DUCKDB_ERROR_PERMISSION:
	case DUCKDB_ERROR_SETTINGS:
	case DUCKDB_ERROR_DEPENDENCY:
	case DUCKDB_ERROR_NOT_IMPLEMENTED:
	case DUCKDB_ERROR_MISSING_EXTENSION:
	case DUCKDB_ERROR_PARAMETER_NOT_RESOLVED:
	case DUCKDB_ERROR_PARAMETER_NOT_ALLOWED: err->class = DUCT_CONFIG; break;
	default: break;
	}
	if (err->class != DUCT_CANCELLED && err->class != DUCT_DATA && says(err, races, DUCT_LEN(races)))
		err->class = DUCT_RETRY;
	return -(int)err->class;
}

int64_t duck_lake_pause_ms(const struct duck_lake *lake, int n)
{
	double wait = (double)(lake->retry_wait_ms ? lake->retry_wait_ms : RETRY_WAIT_MS);
	double backoff = lake->retry_backoff > 0 ? lake->retry_backoff : retry_backoff;
	uint32_t random = 0;
	for (int i = 1; i < n && wait < MOST_WAIT_MS; i++)
		wait *= backoff;
	wait = wait > MOST_WAIT_MS ? MOST_WAIT_MS : wait;
	(void)getrandom(&random, sizeof random, 0); /* without luck: no jitter */
	return (int64_t)(wait * (0.5 + 0.5 * (double)random / (double)UINT32_MAX));
}

/* --- attach --- */

static int set_retries(struct duck_conn *conn, const struct duck_lake *lake, struct duct_error *err)
{
	int64_t wait = lake->retry_wait_ms ? lake->retry_wait_ms : RETRY_WAIT_MS;
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_printf(&sql,
			"SET ducklake_max_retry_count = %lld; SET ducklake_retry_wait_ms = %lld; SET ducklake_retry_backoff = 1.0",
			(long long)(lake->retry_count ? lake->retry_count : RETRY_COUNT),
			(long long)(wait > MOST_WAIT_MS ? MOST_WAIT_MS : wait));
	return duck_exec(conn, sql.data, err);
}

/* The extension takes a password as a secret, and any other one in its connection string, which it tells. NULL: none. */
static const char *find_hidden(const PQconninfoOption *options)
{
	for (const PQconninfoOption *o = options; o->keyword; o++)
		if (o->val && *o->val && o->dispchar && strchr(o->dispchar, '*') && strcmp(o->keyword, "password") != 0)
			return o->keyword; /* static in libpq */
	return NULL;
}

int duck_lake_target(const struct duck_lake *lake, char **ret_target, char **ret_password, struct duct_error *err)
{
	const char *dsn = dsn_of(lake->catalog);
	AUTO_BUF struct duct_buf words = {0};
	if (check_kind(lake->catalog, err) < 0)
		return -(int)err->class;
	*ret_password = NULL;
	if (!dsn) {
		*ret_target = duct_xasprintf("ducklake:%s", lake->catalog);
		return 0;
	}
	PQconninfoOption *parsed = duct_dsn_is_torn(dsn) ? NULL : PQconninfoParse(dsn, NULL);
	if (!parsed) /* libpq's own message may quote the password */
		return duct_fail(err, DUCT_CONFIG, "catalog: " DUCT_DSN_TORN);
	const char *hidden = find_hidden(parsed);
	for (PQconninfoOption *o = parsed; o->keyword && !hidden; o++) {
		if (strcmp(o->keyword, "password") != 0)
			put_pair(&words, o->keyword, o->val);
		else if (o->val && *o->val)
			*ret_password = duct_xstrdup(o->val);
	}
	PQconninfoFree(parsed);
	if (hidden)
		return duct_fail(
			err, DUCT_CONFIG,
			"catalog: jobs of the official extension cannot keep \"%s\" secret, which would be in its messages: leave "
			"it out (a key in sslkey without a passphrase, readable by this user only)",
			hidden);
	*ret_target = duct_xasprintf("ducklake:postgres:%s", words.len ? words.data : "");
	return 0;
}

/* In the session, under a name that ATTACH knows it by. */
static int keep_password(struct duck_conn *conn, const char *password, const char *secret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "CREATE OR REPLACE SECRET ");
	duct_buf_sql_ident(&sql, secret);
	duct_buf_puts(&sql, " (TYPE postgres, PASSWORD ");
	duct_buf_sql_literal(&sql, password);
	duct_buf_putc(&sql, ')');
	return duck_exec(conn, sql.data, NULL) == 0
		? 0
		: duct_fail(err, DUCT_CONFIG, "catalog: the password cannot be made a secret of the session");
}

static void put_option(struct duct_buf *to, const char *name, const char *text)
{
	if (!text || !*text)
		return;
	duct_buf_printf(to, ", %s ", name);
	duct_buf_sql_literal(to, text);
}

/* data_path: NULL is the catalog's own. */
static void put_options(struct duct_buf *to, const struct duck_lake *lake, const char *data_path, bool create, const char *secret)
{
	if (dsn_of(lake->catalog)) {
		put_option(to, "METADATA_SCHEMA", lake->metadata_schema);
		put_option(to, "META_SECRET", secret);
	} else {
		duct_buf_printf(to, ", META_BUSY_TIMEOUT %d, META_JOURNAL_MODE 'WAL'", BUSY_MS);
	}
	put_option(to, "DATA_PATH", data_path);
	if (lake->read_only)
		duct_buf_puts(to, ", READ_ONLY true");
	else if (!create)
		duct_buf_puts(to, ", CREATE_IF_NOT_EXISTS false");
}

static int load_extensions(struct duck_conn *conn, const struct duck_lake *lake, struct duct_error *err)
{
	int rc = duck_load_extension(conn, dsn_of(lake->catalog) ? "postgres_scanner" : "sqlite_scanner", err);
	rc = rc ? rc : duck_load_extension(conn, "ducklake", err);
	return rc ? rc : set_retries(conn, lake, err);
}

static int attach(struct duck_conn *conn, const char *target, const char *name, const struct duct_buf *options,
		  struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "ATTACH ");
	duct_buf_sql_literal(&sql, target);
	duct_buf_puts(&sql, " AS ");
	duct_buf_sql_ident(&sql, name);
	if (options->len)
		duct_buf_printf(&sql, " (%s)", options->data + 2);
	if (duck_exec(conn, sql.data, err) == 0)
		return 0;
	if (duck_lake_failed(err) != -DUCT_RETRY && err->class != DUCT_CANCELLED)
		err->class = DUCT_CONFIG; /* a path that is another one, a catalog of another version */
	return -(int)err->class;
}

int duck_attach_lake(struct duck_conn *conn, const struct duck_lake *lake, const char *name, struct duct_error *err)
{
	AUTO_FREE char *secret = duct_xasprintf("%s_catalog", name), *target = NULL, *password = NULL;
	AUTO_BUF struct duct_buf options = {0};
	int rc = duck_lake_target(lake, &target, &password, err);
	rc = rc ? rc : load_extensions(conn, lake, err);
	rc = rc || !password ? rc : keep_password(conn, password, secret, err);
	if (rc)
		return rc;
	AUTO_FREE char *label = duck_lake_label(lake);
	bool new_elsewhere = lake->create && !lake->read_only && !lake->data_path && lake->new_data_path;
	put_options(&options, lake, lake->data_path, lake->create && !new_elsewhere, password ? secret : NULL);
	rc = attach(conn, target, name, &options, err);
	if (rc == -DUCT_CONFIG && new_elsewhere) { /* there is none yet, or what is wrong with it is said again */
		options.len = 0;
		put_options(&options, lake, lake->new_data_path, true, password ? secret : NULL);
		rc = attach(conn, target, name, &options, err);
	}
	return rc ? duct_wrap(err, "lake \"%s\"", label) : 0;
}
