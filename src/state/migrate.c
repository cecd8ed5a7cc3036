/*
 * The tables, brought to this program's version: each migration in a transaction of its own that begins by waiting for whoever is at it.
 * What is done already is known from ductstream_migrations; a program that finds nothing to do writes nothing.
 */
#include "state/state_internal.h"

#include <state/migrations.h>
#include <stdio.h>
#include <string.h>

static const char make_schema[] = "CREATE SCHEMA ductstream";
static const char make_table[] = "CREATE TABLE ductstream_migrations ("
				 "version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_us BIGINT NOT NULL)";

struct applied {
	bool has[1000]; /* by version: three digits */
	int64_t newest;
};

static int take_version(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	struct applied *applied = arg;
	int64_t version = state_row_i64(row, 0);
	if (version >= 0 && version < (int64_t)DUCT_LEN(applied->has))
		applied->has[version] = true;
	if (version > applied->newest)
		applied->newest = version;
	return 0;
}

/* How many tables of that name: 1 or 0. */
static int64_t has_table(struct state_db *db, struct duct_error *err)
{
	int64_t n = 0;
	const char *sql = state_db_is_postgres(db)
		? "SELECT count(*) FROM pg_catalog.pg_class WHERE oid = to_regclass('ductstream.ductstream_migrations')"
		: "SELECT count(*) FROM sqlite_master WHERE name = 'ductstream_migrations'";
	int64_t rc = STATE_RUN(db, sql, state_take_i64, &n, err);
	return rc < 0 ? rc : n;
}

/* 1: *ret is what was applied. 0: nothing was ever made. */
static int64_t look(struct state_db *db, struct applied *ret, struct duct_error *err)
{
	*ret = (struct applied){0};
	int64_t there = has_table(db, err);
	if (there <= 0)
		return there;
	int64_t rc = STATE_RUN(db, "SELECT version FROM ductstream_migrations", take_version, ret, err);
	return rc < 0 ? rc : 1;
}

static const char *text_for(const struct state_db *db, const struct migration *m)
{
	return state_db_is_postgres(db) ? m->postgres : m->sqlite;
}

static const struct migration *next_of(const struct state_db *db, const struct applied *applied)
{
	for (size_t i = 0; i < DUCT_LEN(migrations); i++)
		if (text_for(db, &migrations[i]) && !applied->has[migrations[i].version])
			return &migrations[i];
	return NULL;
}

static int wait_for_others(struct state_db *db, struct duct_error *err)
{
	if (!state_db_is_postgres(db)) /* BEGIN IMMEDIATE has waited */
		return 0;
	int64_t rc = STATE_RUN(db, "SELECT pg_advisory_xact_lock(hashtextextended('ductstream_migrations', 0))", NULL, NULL, err);
	return rc < 0 ? (int)rc : 0;
}

/* Postgres: the schema too, unless an administrator made it already. */
static int make_ledger(struct state_db *db, struct duct_error *err)
{
	int64_t n = 1;
	if (state_db_is_postgres(db)) {
		int64_t rc = STATE_RUN(db, "SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = 'ductstream'",
				       state_take_i64, &n, err);
		if (rc < 0)
			return (int)rc;
	}
	int rc = n ? 0 : state_db_script(db, make_schema, err);
	return rc < 0 ? rc : state_db_script(db, make_table, err);
}

/* Applies the next one: 1, or 0: there is none. */
static int64_t apply_next(struct state_db *db, void *arg, struct duct_error *err)
{
	(void)arg;
	struct applied applied;
	int64_t rc = wait_for_others(db, err);
	if (rc == 0)
		rc = look(db, &applied, err);
	if (rc == 0)
		rc = make_ledger(db, err);
	if (rc < 0)
		return rc;
	const struct migration *m = next_of(db, &applied);
	if (!m)
		return 0;
	rc = state_db_script(db, text_for(db, m), err);
	if (rc == 0)
		rc = STATE_RUN(db, "INSERT INTO ductstream_migrations (version, name, applied_us) VALUES ($1, $2, $3)", NULL, NULL,
			       err, state_i64(m->version), state_text(m->name), state_i64(state_now_us()));
	if (rc < 0)
		return duct_wrap(err, "migration %03d-%s", m->version, m->name);
	return 1;
}

static int refuse_newer(const struct applied *applied, const char *where, struct duct_error *err)
{
	int ours = migrations[DUCT_LEN(migrations) - 1].version;
	if (applied->newest <= ours)
		return 0;
	return duct_fail(err, DUCT_CONFIG,
			 "state in %s has version %lld, this program knows up to %d: run a program that is as new", where,
			 (long long)applied->newest, ours);
}

int state_migrate(struct state_db *db, const char *where, struct duct_error *err)
{
	struct applied applied;
	for (;;) {
		int64_t rc = look(db, &applied, err);
		if (rc < 0)
			return duct_wrap(err, "%s", where);
		if (refuse_newer(&applied, where, err) < 0)
			return -DUCT_CONFIG;
		if (!next_of(db, &applied))
			return 0;
		rc = state_db_transact(db, apply_next, NULL, err);
		if (rc < 0)
			return duct_wrap(err, "%s", where);
	}
}
