/* The tables that hold inlined rows in the catalog: their columns, as the official client makes and reads them. */
#include "lake/txn_plan.h"

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
	static const char *const reserved[] = {"row_id", "begin_snapshot", "end_snapshot"};
	for (size_t i = 0; i < DUCT_LEN(reserved); i++)
		if (lake_same_name(c->name, reserved[i]))
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
