/* The tables that hold inlined rows in the catalog: their columns, as the official client makes and reads them, and what a
 * commit does to their rows. */
#include "lake/txn_plan.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_COLUMNS = 1590, LONGEST_POSTGRES_NAME = 63 };

/* By column_type; what is not listed (dates, timestamps, wide integers, nested) is text. */
static const struct {
	const char *column_type, *postgres, *sqlite;
} stored_types[] = {
	{"boolean", "BOOLEAN", "BIGINT"},    {"int8", "SMALLINT", "BIGINT"},
	{"int16", "SMALLINT", "BIGINT"},     {"int32", "INTEGER", "BIGINT"},
	{"int64", "BIGINT", "BIGINT"},	     {"uint8", "INTEGER", "BIGINT"},
	{"uint16", "INTEGER", "BIGINT"},     {"uint32", "BIGINT", "BIGINT"},
	{"float32", "REAL", "VARCHAR"},	     {"float64", "DOUBLE PRECISION", "VARCHAR"},
	{"varchar", "BYTEA", "VARCHAR"},     {"json", "BYTEA", "VARCHAR"},
	{"blob", "BYTEA", "BLOB"},	     {"uuid", "UUID", "VARCHAR"},
	{"time", "TIME", "VARCHAR"},	     {"timetz", "TIME WITH TIME ZONE", "VARCHAR"},
	{"interval", "INTERVAL", "VARCHAR"},
};

static void column_type(struct duct_buf *to, const struct lake_column *c)
{
	if (c->type_name)
		duct_buf_puts(to, c->type_name);
	else
		lake_print_column_type(to, &c->type);
}

static void put_stored_type(struct duct_buf *to, const char *type, bool sqlite)
{
	for (size_t i = 0; i < DUCT_LEN(stored_types); i++)
		if (strcmp(stored_types[i].column_type, type) == 0) {
			duct_buf_puts(to, sqlite ? stored_types[i].sqlite : stored_types[i].postgres);
			return;
		}
	if (!sqlite && strncmp(type, "decimal(", 8) == 0)
		duct_buf_printf(to, "NUMERIC%s", type + 7);
	else
		duct_buf_puts(to, "VARCHAR");
}

static bool can_be_inlined(const struct lake_column *c, const char *type, bool sqlite)
{
	static const char *const reserved[] = {"row_id", "begin_snapshot", "end_snapshot"}, *const of_postgres[] = {"ctid",
														    "xmin",
														    "xmax",
														    "cmin",
														    "cmax",
														    "tableoid"};
	for (size_t i = 0; i < DUCT_LEN(reserved); i++)
		if (lake_same_name(c->name, reserved[i]))
			return false;
	for (size_t i = 0; i < DUCT_LEN(of_postgres) && !sqlite; i++)
		if (strcmp(c->name, of_postgres[i]) == 0)
			return false;
	return strcmp(type, "variant") != 0 && strcmp(type, "geometry") != 0 &&
		(sqlite || strlen(c->name) <= LONGEST_POSTGRES_NAME);
}

bool lake_inlined_table_sql(struct duct_buf *to, const struct lake_txn_table *t, int64_t schema_version)
{
	bool sqlite = t->txn->lake->db->sqlite;
	AUTO_BUF struct duct_buf sql = {0};
	if (t->nlive > MOST_COLUMNS)
		return false;
	duct_buf_printf(&sql,
			"ducklake_inlined_data_%lld_%lld(row_id BIGINT, begin_snapshot BIGINT, "
			"end_snapshot BIGINT",
			(long long)t->id, (long long)schema_version);
	for (int i = 0; i < t->nlive; i++) {
		AUTO_BUF struct duct_buf type = {0};
		column_type(&type, &t->live[i]);
		if (!can_be_inlined(&t->live[i], type.data, sqlite))
			return false;
		duct_buf_puts(&sql, ", ");
		duct_buf_sql_ident(&sql, t->live[i].name);
		duct_buf_putc(&sql, ' ');
		put_stored_type(&sql, type.data, sqlite);
	}
	duct_buf_putc(&sql, ')');
	duct_buf_append(to, sql.data, sql.len);
	return true;
}

static const struct lake_table *known_table(const struct lake_txn_table *t)
{
	return t->is_new ? NULL : lake_model_table(t->txn->lake->model, t->id);
}

/* A copy of very many tables leaves theirs to the first rows of each. */
static bool has_room_for_all(const struct lake_txn *txn)
{
	return (int64_t)txn->nnew_tables * LAKE_LOCKS_NEW_TABLE <= lake_txn_most_locks(txn->lake);
}

/*
 * Where inlined tables exist, the official client inserts into the newest one whatever its columns are: every change of a
 * table needs a new one. One that is made for the first rows raises the schema version too, or else others would go on
 * with what they have cached, which does not name it.
 */
bool lake_txn_needs_inlined_table(const struct lake_txn_table *t)
{
	const struct lake_table *known = known_table(t);
	AUTO_BUF struct duct_buf ignored = {0};
	bool needed;
	if (!known)
		needed = t->inlined.n || (t->txn->lake->inline_tables && has_room_for_all(t->txn));
	else if (t->renamed || t->altered)
		needed = t->inlined.n || known->ninlined_tables;
	else
		needed = t->inlined.n && (known->inlined_version < 0 || known->inlined_version < known->schema_version);
	return needed && lake_inlined_table_sql(&ignored, t, 0);
}

void lake_render_inlined_table(const struct lake_txn_table *t, struct lake_script *script)
{
	const struct lake_db *db = t->txn->lake->db;
	long long id = t->id, version = t->txn->schema_version;
	AUTO_BUF struct duct_buf sql = {0};
	if (!lake_txn_needs_inlined_table(t) || !lake_inlined_table_sql(&sql, t, version))
		return;
	struct duct_buf *to = lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL);
	lake_sqlf(to, db, "CREATE TABLE IF NOT EXISTS @");
	duct_buf_append(to, sql.data, sql.len);
	if (t->txn->lake->create_indexes)
		lake_sqlf(lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL), db,
			  "CREATE INDEX IF NOT EXISTS ductstream_inlined_data_%lld_%lld ON "
			  "@ducklake_inlined_data_%lld_%lld(row_id)",
			  id, version, id, version);
	lake_sqlf(lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL), db,
		  "INSERT INTO @ducklake_inlined_data_tables (table_id, table_name, schema_version) "
		  "VALUES (%lld, 'ducklake_inlined_data_%lld_%lld', %lld)",
		  id, id, version, version);
}

/* --- rows --- */

static void put_name(struct duct_buf *to, const struct lake_txn_table *t, int64_t version)
{
	const struct lake_model *model = t->txn->lake->model;
	AUTO_BUF struct duct_buf name = {0};
	duct_buf_printf(&name, "ducklake_inlined_data_%lld_%lld", (long long)t->id, (long long)version);
	for (size_t i = 0; i < model->ninlined; i++)
		if (model->inlined[i].table_id == t->id && model->inlined[i].schema_version == version) {
			name.len = 0;
			duct_buf_puts(&name, model->inlined[i].name);
		}
	lake_sqlf(to, t->txn->lake->db, "@");
	duct_buf_sql_ident(to, name.data);
}

static int by_version(const void *a, const void *b)
{
	const struct txn_inlined_row *x = a, *y = b;
	if (x->schema_version != y->schema_version)
		return x->schema_version < y->schema_version ? -1 : 1;
	return x->row_id < y->row_id ? -1 : x->row_id > y->row_id;
}

static void render_ended_rows(struct lake_txn_table *t, struct lake_script *script)
{
	struct txn_inlined *in = &t->inlined;
	bool sqlite = t->txn->lake->db->sqlite;
	qsort(in->ended, in->nended, sizeof *in->ended, by_version);
	/* A young table has no statistics yet, and the planner would rather read all of it than use the index. */
	if (!sqlite)
		duct_buf_puts(lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL), "SET LOCAL enable_seqscan = off");
	for (size_t from = 0, to; from < in->nended; from = to) {
		int64_t version = in->ended[from].schema_version;
		for (to = from; to < in->nended && in->ended[to].schema_version == version; to++)
			;
		struct duct_buf *sql = lake_script_step(script, LAKE_STEP_CHANGED, (int64_t)(to - from),
							"an inlined row that was to die is not live");
		duct_buf_puts(sql, "UPDATE ");
		put_name(sql, t, version);
		duct_buf_printf(sql, " SET end_snapshot = %lld WHERE end_snapshot IS NULL AND row_id %s",
				(long long)t->txn->snapshot_id, sqlite ? "IN (" : "= ANY ('{");
		for (size_t i = from; i < to; i++)
			duct_buf_printf(sql, "%s%lld", i > from ? "," : "", (long long)in->ended[i].row_id);
		duct_buf_puts(sql, sqlite ? ")" : "}'::bigint[])");
	}
	if (!sqlite)
		duct_buf_puts(lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL), "SET LOCAL enable_seqscan = on");
}

static void render_flushed_rows(struct lake_txn_table *t, struct lake_script *script)
{
	for (size_t i = 0; i < t->inlined.nflushed; i++) {
		struct duct_buf *sql = lake_script_step(script, LAKE_STEP_CHANGED, t->inlined.flushed[i].nrows,
							"inlined rows changed while they were flushed");
		duct_buf_puts(sql, "DELETE FROM ");
		put_name(sql, t, t->inlined.flushed[i].schema_version);
		duct_buf_printf(sql, " WHERE begin_snapshot <= %lld", (long long)t->inlined.flushed[i].upto);
	}
}

/* A lake_rest_fn: the rows, as the table's form has them. */
static void put_new_rows(const void *arg, struct duct_buf *to)
{
	const struct lake_txn_table *t = arg;
	const struct txn_inlined *in = &t->inlined;
	bool copy = in->form == LAKE_INLINE_COPY;
	long long snapshot = t->txn->snapshot_id;
	int64_t next = in->first_row_id;
	const char *values = in->text.data;
	for (size_t i = 0; i < in->n; i++) {
		size_t n = strlen(values);
		long long row_id = in->row_ids[i] >= 0 ? in->row_ids[i] : next++;
		if (copy)
			duct_buf_printf(to, "%lld\t%lld\t\\N", row_id, snapshot);
		else
			duct_buf_printf(to, "%s(%lld,%lld,NULL", i ? "," : "", row_id, snapshot);
		duct_buf_append(to, values, n);
		duct_buf_putc(to, copy ? '\n' : ')');
		values += n + 1;
	}
}

static void render_new_rows(const struct lake_txn_table *t, struct lake_script *script)
{
	bool copy = t->inlined.form == LAKE_INLINE_COPY;
	struct duct_buf *to = lake_script_step(script, copy ? LAKE_STEP_COPY : LAKE_STEP_PLAIN, 0, NULL);
	duct_buf_puts(to, copy ? "" : "INSERT INTO ");
	put_name(to, t, t->inlined.schema_version); /* columns by their places: name_columns() in inline_read.c says why */
	duct_buf_puts(to, copy ? "" : " VALUES ");
	lake_script_last(script)->rest = put_new_rows;
	lake_script_last(script)->arg = t;
}

void lake_render_inlined_rows(struct lake_txn_table *t, struct lake_script *script)
{
	const struct lake_table *known = known_table(t);
	if (t->inlined.nended)
		render_ended_rows(t, script);
	if (t->inlined.nflushed)
		render_flushed_rows(t, script);
	if (!t->inlined.n)
		return;
	t->inlined.schema_version = !known || lake_txn_needs_inlined_table(t) ? t->txn->schema_version : known->inlined_version;
	render_new_rows(t, script);
}
