/*
 * Our own tables of an older program are brought to this one's shape. Columns are only ever added, nullable, so that what
 * an older program still running sends stays valid; the version says who has been here. See lake.h.
 */
#include "lake/lake.h"

/* What came after the first shape of the tables. The version is last: it says that all of them are there. */
static const struct {
	const char *table, *column, *type;
} added[] = {
	{"ductstream_checkpoint", "owner", "VARCHAR"},
	{"ductstream_lake", "version", "BIGINT"},
};

static int take_true(void *arg, int set, const char *const *values, struct duct_error *err)
{
	(void)set, (void)values, (void)err;
	*(bool *)arg = true;
	return 0;
}

static int has_column(struct lake_db *db, const char *table, const char *column, bool *ret, struct duct_error *err)
{
	*ret = false;
	if (db->sqlite)
		return lake_queryf(db, take_true, ret, err, "SELECT 1 FROM pragma_table_info('%s') WHERE name = '%s'", table,
				   column);
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_printf(&sql,
			"SELECT 1 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n "
			"ON n.oid = c.relnamespace WHERE NOT a.attisdropped AND c.relname = '%s' AND a.attname = '%s' "
			"AND n.nspname = ",
			table, column);
	duct_buf_sql_literal(&sql, db->schema);
	return db->ops->query(db, sql.data, take_true, ret, err);
}

static int take_version(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	*(int64_t *)arg = lake_int(v[0], 0);
	return 0;
}

static int read_version(struct lake_db *db, int64_t *ret, struct duct_error *err)
{
	bool there;
	*ret = 0;
	if (has_column(db, "ductstream_lake", "version", &there, err))
		return -(int)err->class;
	if (!there)
		return 0;
	if (lake_queryf(db, take_version, ret, err, "SELECT version FROM @ductstream_lake"))
		return -(int)err->class;
	if (*ret <= LAKE_OWN_VERSION)
		return 0;
	return duct_fail(
		err, DUCT_CONFIG,
		"the tables of ductstream in this catalog have version %lld, this program knows them up to version %d: a newer "
		"ductstream has used the lake; run that one, or a newer one",
		(long long)*ret, LAKE_OWN_VERSION);
}

/* On Postgres another opener may do the same at the same time: the lock of run() lets it come second, to find all done. */
static int add_columns(struct lake_db *db, struct duct_error *err)
{
	struct lake_script script = {0};
	for (size_t i = 0; i < DUCT_LEN(added); i++) {
		bool there = false;
		if (db->sqlite && has_column(db, added[i].table, added[i].column, &there, err)) {
			lake_script_done(&script);
			return -(int)err->class;
		}
		if (!there)
			lake_sqlf(lake_script_step(&script, LAKE_STEP_PLAIN, 0, NULL), db, "ALTER TABLE @%s ADD COLUMN %s%s %s",
				  added[i].table, db->sqlite ? "" : "IF NOT EXISTS ", added[i].column, added[i].type);
	}
	lake_sqlf(lake_script_step(&script, LAKE_STEP_PLAIN, 0, NULL), db,
		  "UPDATE @ductstream_lake SET version = %d WHERE coalesce(version, 0) < %d", LAKE_OWN_VERSION, LAKE_OWN_VERSION);
	size_t step;
	enum lake_outcome outcome = db->ops->run(db, &script, &step, err);
	lake_script_done(&script);
	return outcome == LAKE_RUN_OK ? 0 : -(int)err->class;
}

int lake_upgrade_own_tables(struct lake *lake, struct duct_error *err)
{
	struct lake_db *db = lake->db;
	int64_t version;
	if (read_version(db, &version, err))
		return -(int)err->class;
	if (version == LAKE_OWN_VERSION) {
		lake->has_owner = true;
		return 0;
	}
	if (lake->read_only)
		return has_column(db, "ductstream_checkpoint", "owner", &lake->has_owner, err);
	if (db->ops->begin_write(db, err) || add_columns(db, err)) {
		db->ops->reset(db);
		return duct_wrap(err, "upgrade the tables of ductstream beside the catalog");
	}
	lake->has_owner = true;
	return 0;
}
