/* Files of other programs in a lake table: src/lake/register. */
#include "lake/register.h"

#include <string.h>
#include <unistd.h>

#include "lake/parquet.h"
#include "lake_bed.h"

/* A file as another program writes it. */
static struct lake_foreign foreign(const char *name, const char *query)
{
	struct duct_error err;
	AUTO_BUF struct duct_buf sql = {0}, path = {0};
	duct_buf_printf(&path, "%s/%s.parquet", t.folder, name);
	duct_buf_printf(&sql, "COPY (%s) TO '%s' (FORMAT parquet)", query, path.data);
	ok(duck_exec(t.conn, sql.data, &err));
	struct lake_foreign file = {.path = duct_arena_strdup(&t.arena, path.data), .size_bytes = -1};
	ok(lake_foreign_read(&file, 1, NULL, &t.arena, &err));
	return file;
}

static struct lake_txn *begin(struct lake_txn_table **ret)
{
	static const struct duct_type number = {.kind = DUCT_INT32}, moment = {.kind = DUCT_TIMESTAMPTZ};
	const struct lake_column_def columns[] = {{"id", &number, NULL}, {"at", &moment, NULL}};
	struct duct_error err;
	struct lake_txn *txn = lake_txn_new(t.lake);
	const struct lake_table *known = lake_find_table(t.lake, "main", "t");
	if (known)
		*ret = lake_txn_table(txn, known->id);
	else
		ok(lake_txn_create_table(txn, "main", "t", columns, 2, ret, &err));
	return txn;
}

static void commit(struct lake_txn *txn)
{
	struct duct_error err;
	struct lake_txn_result result;
	const struct lake_commit_info info = {.state = DUCT_STATE_STREAMING, .message = "test"};
	ok(lake_txn_commit(txn, &info, &result, &err));
	lake_txn_free(txn);
}

static struct lake_file *live(size_t *ret_n)
{
	struct duct_error err;
	struct lake_file *files = NULL;
	const struct lake_table *known = lake_find_table(t.lake, "main", "t");
	*ret_n = 0;
	if (known)
		ok(lake_list_files(t.lake, known->id, &t.arena, &files, ret_n, &err));
	return files;
}

static int put(const struct lake_foreign *file, enum lake_evolve evolve, struct duct_buf *changes, struct duct_error *err)
{
	struct lake_txn_table *table;
	size_t n;
	struct lake_file *files = live(&n);
	struct lake_txn *txn = begin(&table);
	int rc = lake_txn_evolve(txn, table, file, evolve, changes, err);
	rc = rc ? rc : lake_txn_register(txn, table, file, NULL, 0, files, n, err);
	if (rc < 0)
		lake_txn_free(txn);
	else
		commit(txn);
	return rc;
}

static const struct lake_table_column_stats *stats_of(int column)
{
	const struct lake_table *table = lake_find_table(t.lake, "main", "t");
	for (int i = 0; i < table->ncolumn_stats; i++)
		if (table->column_stats[i].column_id == table->columns[column].id)
			return &table->column_stats[i];
	return NULL;
}

static void moments_of_every_unit(void **state)
{
	(void)state;
	struct duct_error err;
	static const char *const types[] = {"TIMESTAMPTZ", "TIMESTAMP_MS", "TIMESTAMP_NS", "UUID", "DECIMAL(9,2)"};
	static const char *const values[] = {"'2024-01-15 12:00:00.5+00'", "'2024-01-15 12:00:00.5'",
					     "'2024-01-15 12:00:00.500000001'", "'00000000-0000-0000-0000-00000000000a'", "12.50"};
	static const enum duct_kind kinds[] = {DUCT_TIMESTAMPTZ, DUCT_TIMESTAMP, DUCT_TIMESTAMP, DUCT_UUID, DUCT_DECIMAL};
	for (size_t i = 0; i < DUCT_LEN(types); i++) {
		AUTO_BUF struct duct_buf sql = {0};
		int64_t moment;
		duct_buf_printf(&sql, "SELECT %s::%s AS v UNION ALL SELECT NULL", values[i], types[i]);
		struct lake_foreign file = foreign("unit", sql.data);
		const struct parquet_described_column *v = lake_foreign_column(&file, "V");
		assert_non_null(v);
		assert_int_equal(v->type.kind, kinds[i]);
		assert_int_equal(v->nulls, 1);
		assert_int_equal(file.is.rows, 2);
		assert_non_null(v->min.data);
		if (i > 2)
			continue;
		memcpy(&moment, v->min.data, sizeof moment);
		assert_int_equal(moment, 1705320000500000);
		memcpy(&moment, v->max.data, sizeof moment);
		assert_int_equal(moment, 1705320000500000 + (i == 2)); /* rounded away from the values */
	}
	struct lake_foreign no_file = {.path = "/nowhere/a.parquet", .size_bytes = -1};
	assert_int_equal(lake_foreign_read(&no_file, 1, NULL, &t.arena, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "/nowhere/a.parquet"));
}

static void a_path_is_registered_once(void **state)
{
	(void)state;
	struct duct_error err;
	struct lake_foreign file =
		foreign("a", "SELECT i::INTEGER AS id, '2024-01-15 00:00:00+00'::TIMESTAMPTZ AS at FROM range(3, 8) r(i)");
	struct lake_foreign empty = foreign("e", "SELECT 1::INTEGER AS id WHERE false");
	ok(put(&empty, LAKE_EVOLVE_REFUSE, NULL, &err));
	assert_int_equal(put(&file, LAKE_EVOLVE_REFUSE, NULL, &err), 1);
	assert_int_equal(put(&file, LAKE_EVOLVE_REFUSE, NULL, &err), 0);
	size_t n;
	struct lake_file *files = live(&n);
	assert_int_equal(n, 1);
	assert_int_equal(files[0].record_count, 5);
	assert_true(files[0].has_mapping);
	assert_string_equal(stats_of(0)->min, "3");
	assert_string_equal(stats_of(0)->max, "7");
	assert_string_equal(stats_of(1)->min, "2024-01-15 00:00:00+00");
	assert_false(stats_of(0)->contains_null);
}

static void types_are_compared(void **state)
{
	(void)state;
	struct duct_error err;
	AUTO_BUF struct duct_buf changes = {0};
	struct lake_foreign text = foreign("b", "SELECT 'x' AS id"), wide = foreign("c", "SELECT 5000000000 AS id, 'new' AS note");
	assert_int_equal(put(&text, LAKE_EVOLVE_ADD, NULL, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "column \"id\" is varchar in the file and int32 in the table"));
	assert_int_equal(put(&wide, LAKE_EVOLVE_REFUSE, NULL, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "would have to be widened"));
	assert_int_equal(put(&wide, LAKE_EVOLVE_ADD, &changes, &err), 1);
	assert_string_equal(changes.data, "column \"id\" was widened from int32 to int64, column \"note\" varchar was added");
	struct lake_foreign narrow = foreign("d", "SELECT 1::SMALLINT AS id");
	assert_int_equal(put(&narrow, LAKE_EVOLVE_REFUSE, NULL, &err), 1);
	assert_string_equal(stats_of(0)->min, "1");
	assert_string_equal(stats_of(0)->max, "5000000000");
}

static void what_the_table_cannot_have(void **state)
{
	(void)state;
	struct duct_error err;
	struct lake_foreign twice = foreign("w", "SELECT 1::INTEGER AS id, 'x' AS a, 'y' AS b");
	AUTO_FREE struct parquet_described_column *columns = duct_xcalloc((size_t)twice.is.ncolumns, sizeof *columns);
	memcpy(columns, twice.is.columns, (size_t)twice.is.ncolumns * sizeof *columns);
	columns[2].name = "ID";
	twice.is.columns = columns;
	assert_int_equal(put(&twice, LAKE_EVOLVE_ADD, NULL, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "the columns \"id\" and \"ID\" are one to the lake"));
}

struct read_back {
	struct duct_buf text;
	int64_t first_row_id;
};

static int take_rows(void *arg, const struct duct_batch *batch, const int64_t *positions, const int64_t *row_ids,
		     struct duct_error *err)
{
	struct read_back *to = arg;
	(void)err;
	for (uint32_t row = 0; row < batch->rows; row++) {
		if (!to->text.len)
			to->first_row_id = row_ids[row] - positions[row];
		duct_buf_printf(&to->text, "%d:", (int)positions[row]);
		for (int c = 0; c < batch->relation->ncolumns; c++) {
			struct duct_cell cell = duct_vector_cell(&batch->columns[c], row);
			int64_t v = 0;
			memcpy(&v, cell.data ? cell.data : (const char *)&v, cell.data && cell.len < 8 ? cell.len : 8);
			if (cell.data)
				duct_buf_printf(&to->text, "%lld ", (long long)v);
			else
				duct_buf_puts(&to->text, "- ");
		}
	}
	return 0;
}

/* Of the files above by the catalog's names for their columns: types as the table has them now, nothing where the file has no such column, what its
 * path says where the catalog says so. */
static void rows_are_read_by_name(void **state)
{
	(void)state;
	struct duct_error err;
	size_t n;
	struct lake_file *files = live(&n);
	const struct lake_table *table = lake_find_table(t.lake, "main", "t");
	const struct lake_column *columns[] = {&table->columns[0], &table->columns[1]};
	static const char *const expected[] = {("0:3 1705276800000000 1:4 1705276800000000 2:5 1705276800000000 "
						"3:6 1705276800000000 4:7 1705276800000000 "),
					       "0:5000000000 - ", "0:1 - "};
	assert_int_equal(n, 3);
	for (size_t i = 0; i < n; i++) {
		struct read_back back = {0};
		ok(lake_read_file(t.conn, &files[i], columns, 2, NULL, 0, take_rows, &back, &err));
		assert_string_equal(back.text.data, expected[i]);
		assert_int_equal(back.first_row_id, files[i].row_id_start);
		duct_buf_done(&back.text);
	}
	const int64_t third = 2;
	struct read_back back = {0};
	ok(lake_read_file(t.conn, &files[0], columns, 2, &third, 1, take_rows, &back, &err));
	assert_string_equal(back.text.data, "2:5 1705276800000000 ");
	back.text.len = 0;
	const struct lake_file_name in_path[] = {{columns[0]->id, "id", true}};
	AUTO_BUF struct duct_buf folder = {0}, sql = {0};
	duct_buf_printf(&folder, "%s/id=%%37/x", t.folder); /* 7 */
	duct_buf_printf(&sql, "mkdir -p %s", folder.data);
	assert_int_equal(system(sql.data), 0);
	struct lake_foreign other = foreign("id=%37/x/p", "SELECT 1 AS other");
	const struct lake_file file = {.path = other.path, .has_mapping = true, .names = in_path, .nnames = 1};
	ok(lake_read_file(t.conn, &file, columns, 2, NULL, 0, take_rows, &back, &err));
	assert_string_equal(back.text.data, "0:7 - ");
	duct_buf_done(&back.text);
}

static void a_thousand_in_one_commit(void **state)
{
	(void)state;
	enum { FILES = 1000 };
	struct duct_error err;
	struct lake_foreign *files = duct_arena_zalloc(&t.arena, FILES * sizeof *files);
	struct lake_foreign one = foreign("m", "SELECT 1::INTEGER AS id");
	for (int i = 0; i < FILES; i++) {
		AUTO_BUF struct duct_buf path = {0};
		duct_buf_printf(&path, "%s/m%d.parquet", t.folder, i);
		assert_int_equal(symlink(one.path, path.data), 0);
		files[i] = (struct lake_foreign){.path = duct_arena_strdup(&t.arena, path.data), .size_bytes = -1};
	}
	ok(lake_foreign_read(files, FILES, NULL, &t.arena, &err));
	size_t before, after;
	struct lake_file *known = live(&before);
	struct lake_txn_table *table;
	struct lake_txn *txn = begin(&table);
	int64_t snapshot = lake_snapshot_id(t.lake);
	for (int i = 0; i < FILES; i++)
		assert_int_equal(lake_txn_register(txn, table, &files[i], NULL, 0, known, before, &err), 1);
	commit(txn);
	(void)live(&after);
	assert_int_equal(after, before + FILES);
	assert_int_equal(lake_snapshot_id(t.lake), snapshot + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moments_of_every_unit),      cmocka_unit_test(a_path_is_registered_once),
		cmocka_unit_test(types_are_compared),	      cmocka_unit_test(rows_are_read_by_name),
		cmocka_unit_test(what_the_table_cannot_have), cmocka_unit_test(a_thousand_in_one_commit),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
