/* A catalog as an operator looks at it: see vitals.h. */
#include "lake/vitals_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/uuid.h"

void vitals_tell(const struct vitals *v, enum duct_finding level, const char *remedy, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	char *what = NULL;
	if (vasprintf(&what, fmt, args) < 0)
		abort();
	va_end(args);
	v->report(v->arg, level, what, remedy);
	free(what);
}

void vitals_put_age(struct duct_buf *to, int64_t seconds)
{
	if (seconds < 120)
		duct_buf_printf(to, "%lld s", (long long)seconds);
	else if (seconds < 7200)
		duct_buf_printf(to, "%lld min", (long long)seconds / 60);
	else if (seconds < 2 * 86400)
		duct_buf_printf(to, "%lld h", (long long)seconds / 3600);
	else
		duct_buf_printf(to, "%lld days", (long long)seconds / 86400);
}

/* --- what it says of itself --- */

struct look {
	char version[32], encrypted[16], head[32], tables[32];
	char *data_path;
	const char *const *expected;
	bool found[16];
};

static int take_metadata(void *arg, int set, const char *const *values, struct duct_error *err)
{
	struct look *look = arg;
	(void)err;
	if (set == 0 && strcmp(values[0], "version") == 0)
		(void)snprintf(look->version, sizeof look->version, "%s", values[1]);
	else if (set == 0 && strcmp(values[0], "encrypted") == 0)
		(void)snprintf(look->encrypted, sizeof look->encrypted, "%s", values[1]);
	else if (set == 0 && strcmp(values[0], "data_path") == 0 && !look->data_path)
		look->data_path = duct_xstrdup(values[1]);
	else if (set == 1) {
		(void)snprintf(look->head, sizeof look->head, "%s", values[0] ? values[0] : "none");
		(void)snprintf(look->tables, sizeof look->tables, "%s", values[1] ? values[1] : "0");
	} else if (set == 2)
		for (size_t i = 0; look->expected[i] && i < DUCT_LEN(look->found); i++)
			look->found[i] |= lake_same_name(values[0], look->expected[i]);
	return 0;
}

static int read_catalog(struct vitals *v, struct look *look, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	lake_sqlf(
		&sql, v->db,
		"SELECT key, value FROM @ducklake_metadata WHERE scope IS NULL AND key IN ('version', 'data_path', 'encrypted') AND "
		"value IS NOT NULL;"
		"SELECT max(snapshot_id), (SELECT count(*) FROM @ducklake_table WHERE end_snapshot IS NULL) FROM @ducklake_snapshot;"
		"SELECT schema_name FROM @ducklake_schema WHERE end_snapshot IS NULL");
	return v->db->ops->query(v->db, sql.data, take_metadata, look, err);
}

static void tell_schemas(struct vitals *v, const struct look *look)
{
	AUTO_BUF struct duct_buf there = {0}, missing = {0};
	for (size_t i = 0; look->expected[i]; i++) {
		struct duct_buf *to = look->found[i] ? &there : &missing;
		duct_buf_printf(to, "%s%s", to->len ? ", " : "", look->expected[i]);
		if (look->found[i] && !v->ret->schema)
			v->ret->schema = duct_xstrdup(look->expected[i]);
	}
	if (there.len)
		vitals_tell(v, DUCT_FINDING_OK, NULL, "schemas: %s", there.data);
	if (missing.len)
		vitals_tell(v, DUCT_FINDING_WARN,
			    "`ductstream ingest` makes raw, `ductstream model run` those of its models; or CREATE SCHEMA",
			    "schemas that are missing: %s", missing.data);
}

static const char *remedy_of(const struct vitals *v, const struct duct_error *why)
{
	const char *state = why->sqlstate;
	if (v->db->sqlite)
		return (why->vendor_code & 0xff) == 5 || (why->vendor_code & 0xff) == 6
			? "see below who has it; wait for that process, or end it"
			: "look at the file's and its folder's owner and rights, and at the room on its disk";
	if (strcmp(state, "55P03") == 0 || strcmp(state, "57014") == 0)
		return "see below who has it locked";
	if (strcmp(state, "25006") == 0)
		return "it is a standby, or default_transaction_read_only is on: name the primary";
	if (strcmp(state, "42501") == 0)
		return "GRANT USAGE ON SCHEMA and ALL ON ALL TABLES IN SCHEMA of the catalog to this role";
	return "look at its server's log";
}

static void tell_lake(struct vitals *v, struct look *look)
{
	const char *wanted = v->wish->config->data_path, *own = look->data_path;
	if (strcmp(look->version, "1.0") != 0) {
		vitals_tell(v, DUCT_FINDING_ERROR,
			    "only DuckLake 1.0 is read and written here: migrate it with the official client",
			    "catalog %s: DuckLake version \"%s\"", v->wish->label, look->version);
		return;
	}
	if (strcasecmp(look->encrypted, "true") == 0) {
		vitals_tell(v, DUCT_FINDING_ERROR, "copy its tables into a lake that is not", "catalog %s: the lake is encrypted",
			    v->wish->label);
		return;
	}
	vitals_tell(v, DUCT_FINDING_OK, NULL, "catalog %s: DuckLake %s, %s tables, snapshot %s", v->wish->label, look->version,
		    look->tables, look->head);
	if (wanted && own && !lake_same_folder(wanted, own))
		vitals_tell(v, DUCT_FINDING_ERROR, "leave DUCKLAKE_DATA_PATH out, or give the catalog's own: jobs refuse another",
			    "data path \"%s\" is not the catalog's own, which is \"%s\"", wanted, own);
	v->ret->there = true;
	v->ret->data_path = duct_steal(&look->data_path);
	tell_schemas(v, look);
}

static int look_at_catalog(struct vitals *v, struct duct_error *err)
{
	struct look look = {.expected = v->wish->schemas};
	struct duct_error why;
	int rc = read_catalog(v, &look, &why);
	if (rc == -DUCT_CANCELLED) {
		*err = why;
	} else if (rc < 0) {
		v->ret->held |= rc == -DUCT_RETRY;
		v->report(v->arg, DUCT_FINDING_ERROR, why.message, remedy_of(v, &why));
		rc = 0;
	} else {
		tell_lake(v, &look);
	}
	free(look.data_path);
	return rc;
}

/* --- a row, and back --- */

static int take_back(void *arg, int set, const char *const *values, struct duct_error *err)
{
	(void)set, (void)err;
	(void)snprintf(arg, DUCT_UUID_LEN, "%s", values[0] ? values[0] : "");
	return 0;
}

/* The table has no key: others neither see the row nor wait for it. */
static int write_row(struct vitals *v, struct duct_error *err)
{
	char uuid[DUCT_UUID_LEN], back[DUCT_UUID_LEN] = "";
	AUTO_BUF struct duct_buf sql = {0};
	duct_uuid_v4(uuid);
	lake_sqlf(&sql, v->db,
		  "%s INSERT INTO @ducklake_metadata (key, value) VALUES ('ductstream_health', '%s');"
		  "SELECT value FROM @ducklake_metadata WHERE key = 'ductstream_health'; ROLLBACK",
		  v->db->sqlite ? "" : "BEGIN;", uuid);
	int rc = v->db->ops->begin_write(v->db, err);
	if (rc == 0)
		rc = v->db->ops->query(v->db, sql.data, take_back, back, err);
	v->db->ops->reset(v->db);
	return rc == 0 && strcmp(uuid, back) != 0
		? duct_fail(err, DUCT_FATAL, "catalog: a row that was written is another one when read")
		: rc;
}

static int take_name(void *arg, int set, const char *const *values, struct duct_error *err)
{
	(void)set, (void)err;
	duct_buf_puts(arg, values[0] ? values[0] : "");
	return 0;
}

/* Tables of the catalog that this role may not write, "" when there is none: a row in one says nothing of the others. */
static int forbidden(struct vitals *v, struct duct_buf *to, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	if (v->db->sqlite)
		return 0;
	duct_buf_puts(
		&sql,
		"SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
		"WHERE c.relkind = 'r' AND (c.relname LIKE 'ducklake\\_%' OR c.relname LIKE 'ductstream\\_%') AND NOT ("
		"has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') AND "
		"has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')) AND n.nspname = ");
	duct_buf_sql_literal(&sql, v->db->schema);
	return v->db->ops->query(v->db, sql.data, take_name, to, err);
}

static int try_writing(struct vitals *v, struct duct_error *err)
{
	AUTO_BUF struct duct_buf names = {0};
	struct duct_error why;
	duct_buf_puts(&names, "");
	int rc = write_row(v, &why);
	bool busy = rc == -DUCT_RETRY;
	if (rc == 0) {
		rc = forbidden(v, &names, &why);
		if (rc == 0 && names.len)
			rc = duct_fail(&why, DUCT_CONFIG, "catalog %s: this role may not write %s", v->wish->label, names.data);
		if (rc && names.len)
			memcpy(why.sqlstate, "42501", sizeof "42501");
	}
	if (rc == -DUCT_CANCELLED) {
		*err = why;
		return rc;
	}
	if (rc < 0)
		vitals_tell(v, DUCT_FINDING_ERROR, remedy_of(v, &why), "the catalog cannot be written: %s", why.message);
	else
		vitals_tell(v, DUCT_FINDING_OK, NULL, "a row written to the catalog, read back, taken back");
	v->ret->held |= busy;
	if (v->db->sqlite)
		vitals_sqlite_holdups(v, busy);
	return 0;
}

/* --- the whole --- */

static int find_holdups(struct vitals *v, struct duct_error *err)
{
	struct duct_error why;
	int rc = v->db->sqlite ? 0 : vitals_postgres_holdups(v, &why);
	if (rc == -DUCT_CANCELLED) {
		*err = why;
		return rc;
	}
	if (rc < 0)
		v->report(v->arg, DUCT_FINDING_ERROR, why.message, "look at its server's log");
	else if (!v->holdups)
		vitals_tell(v, DUCT_FINDING_OK, NULL, "no lock is waited for, no transaction is long");
	return 0;
}

static int look_at_all(struct vitals *v, struct duct_error *err)
{
	bool there = false;
	struct duct_error why;
	if (!v->db->sqlite && v->db->ops->query(v->db, "SET lock_timeout = '700ms'; SET statement_timeout = '5s'", NULL, NULL, err))
		return -(int)err->class;
	int rc = lake_has_table(v->db, "ducklake_metadata", &there, &why);
	if (rc == -DUCT_CANCELLED) {
		*err = why;
		return rc;
	}
	if (rc < 0)
		v->report(v->arg, DUCT_FINDING_ERROR, why.message, remedy_of(v, &why));
	else if (!there)
		vitals_tell(v, DUCT_FINDING_WARN,
			    "the first run that writes makes it: say with DUCKLAKE_DATA_PATH where its data go",
			    "catalog %s: no lake is there yet", v->wish->label);
	else
		rc = look_at_catalog(v, err);
	rc = rc == 0 && v->ret->there ? try_writing(v, err) : rc == -DUCT_CANCELLED ? rc : 0;
	return rc ? rc : find_holdups(v, err);
}

static void tell_away(struct vitals *v, const struct duct_error *why)
{
	bool sqlite = strncmp(v->wish->config->catalog, "sqlite:", 7) == 0, busy = sqlite && (why->vendor_code & 0xff) == 5;
	v->ret->held = true;
	v->report(v->arg, DUCT_FINDING_ERROR, why->message,
		  busy ? "see below who has it"
			  : sqlite
			  ? "look at the file, and at its and its folder's owner and rights"
			  : "look whether its server runs and lets this role in, and at DUCKLAKE_CATALOG or DUCKLAKE_RDS_*");
	if (busy)
		vitals_sqlite_holdups(v, true);
}

int lake_vitals(const struct lake_vitals_wish *wish, const struct duct_ctx *ctx, duct_report_fn *report, void *arg,
		struct lake_vitals *ret, struct duct_error *err)
{
	struct vitals v = {.wish = wish, .report = report, .arg = arg, .ret = ret};
	struct lake_config look = *wish->config;
	struct duct_error why;
	*ret = (struct lake_vitals){0};
	look.create = false;
	look.read_only = true;
	if (strncmp(look.catalog, "sqlite:", 7) == 0 && access(look.catalog + 7, F_OK)) {
		vitals_tell(&v, DUCT_FINDING_WARN,
			    "the first run that writes makes it: say with DUCKLAKE_DATA_PATH where its data go",
			    "catalog %s: no lake is there yet", wish->label);
		return 0;
	}
	int rc = lake_connect(&v.db, &look, ctx, &why);
	rc = rc ? rc : look_at_all(&v, &why);
	if (rc < 0 && rc != -DUCT_CANCELLED) {
		tell_away(&v, &why);
		rc = 0;
	}
	if (rc < 0)
		*err = why;
	lake_db_close(v.db);
	return rc;
}
