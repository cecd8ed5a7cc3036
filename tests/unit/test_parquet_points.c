/* Single rows of data files: our reader of pages finds what DuckDB finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

#include "lake/parquet.h"
#include "parquet/reader_levels.h"
#include "duck_folder.h"
#include "random_values.h"

static struct lake_points *points;

/* --- runs and packed bits --- */

/* A run of nine 5s, eight packed 3-bit values 0..7, a run of two 1s. */
static const uint8_t hybrid[] = {9 << 1, 5, 1 << 1 | 1, 0x88, 0xc6, 0xfa, 2 << 1, 1};

static void hybrids(void **state)
{
	static const uint32_t want[] = {5, 5, 5, 5, 5, 5, 5, 5, 5, 0, 1, 2, 3, 4, 5, 6, 7, 1, 1};
	enum { N = DUCT_LEN(want) };
	(void)state;
	for (size_t skip = 0; skip < N; skip++) {
		struct parquet_hybrid h = parquet_hybrid_over(hybrid, sizeof hybrid, 3);
		uint64_t equal, fives = 0;
		uint32_t v;
		for (size_t i = 0; i < skip; i++)
			fives += want[i] == 5;
		assert_true(parquet_hybrid_skip(&h, skip, 5, &equal));
		assert_int_equal(equal, fives);
		for (size_t i = skip; i < N; i++) {
			assert_true(parquet_hybrid_get(&h, &v));
			assert_int_equal(v, want[i]);
		}
		assert_false(parquet_hybrid_get(&h, &v));
		assert_false(parquet_hybrid_skip(&h, 1, 5, &equal));
	}
	/* single bits: 100 packed ones in which every third is set */
	uint8_t bits[1 + 13] = {13 << 1 | 1};
	for (int i = 0; i < 100; i += 3)
		bits[1 + i / 8] |= (uint8_t)(1 << i % 8);
	for (uint64_t from = 0; from < 100; from++) {
		struct parquet_hybrid h = parquet_hybrid_over(bits, sizeof bits, 1);
		uint64_t before, behind;
		assert_true(parquet_hybrid_skip(&h, from, 1, &before));
		assert_true(parquet_hybrid_skip(&h, 100 - from, 1, &behind));
		assert_int_equal(before, (from + 2) / 3);
		assert_int_equal(before + behind, 34);
	}
}

/* --- both roads --- */

static int one_feed(void *arg, const struct lake_row_ref **rows, const int64_t **ids, size_t *n, struct duct_error *err)
{
	struct duct_batch **left = arg;
	static struct lake_row_ref refs[1 << 16];
	static int64_t row_ids[1 << 16];
	(void)err;
	*n = *left ? (*left)->rows : 0;
	for (uint32_t i = 0; i < *n; i++) {
		refs[i] = (struct lake_row_ref){*left, i};
		row_ids[i] = 7 * (int64_t)i + 3;
	}
	*rows = refs;
	*ids = row_ids;
	*left = NULL;
	return 0;
}

static const int *same_columns(void *arg, const struct duct_relation *rel)
{
	static int map[64];
	(void)arg, (void)rel;
	for (int i = 0; i < 64; i++)
		map[i] = i;
	return map;
}

static void columns_of(struct lake_column *columns, const struct lake_column **wanted, const struct duct_type *types, int n)
{
	static char names[64][16];
	for (int i = 0; i < n; i++) {
		snprintf(names[i], sizeof names[i], "c%d", i);
		columns[i] = (struct lake_column){
			.id = i + 1, .name = names[i], .type = types[i], .nulls_allowed = true, .supported = true};
		wanted[i] = &columns[i];
	}
}

static struct lake_new_file *write_batch(const struct lake_write_spec *spec, struct duct_batch *batch)
{
	struct lake_rows rows = {.next = one_feed, .map = same_columns, .arg = &batch};
	struct lake_new_file *file;
	struct duct_error err;
	if (lake_write_file(spec, &rows, &file, NULL, &err))
		fail_msg("%s", err.message);
	return file;
}

struct found {
	struct duct_buf text; /* everything that was handed over, in one line of bytes */
	size_t rows;
};

static int take_rows(void *arg, const struct duct_batch *batch, const int64_t *positions, const int64_t *ids,
		     struct duct_error *err)
{
	struct found *f = arg;
	(void)err;
	for (uint32_t i = 0; i < batch->rows; i++, f->rows++) {
		duct_buf_append(&f->text, &positions[i], sizeof *positions);
		duct_buf_append(&f->text, &ids[i], sizeof *ids);
		for (int c = 0; c < batch->relation->ncolumns; c++) {
			struct duct_cell cell = duct_vector_cell(&batch->columns[c], i);
			duct_buf_putc(&f->text, cell.data != NULL);
			duct_buf_append(&f->text, &cell.len, sizeof cell.len);
			duct_buf_append(&f->text, cell.data ? cell.data : "", cell.len);
		}
	}
	return 0;
}

/* Reads by both roads; `served` says by which the first one goes. */
static void same_rows(const struct lake_file *file, const struct lake_column **wanted, int n, const int64_t *positions,
		      size_t npositions, bool served)
{
	struct found ours = {0}, duckdbs = {0};
	struct lake_points_counts before = lake_points_counts(points), after;
	struct duct_error err;
	if (lake_read_rows(points, conn, file, wanted, n, positions, npositions, take_rows, &ours, &err) ||
	    lake_read_file(conn, file, wanted, n, positions, npositions, take_rows, &duckdbs, &err))
		fail_msg("%s", err.message);
	after = lake_points_counts(points);
	assert_int_equal(after.rows - before.rows, served ? npositions : 0);
	assert_int_equal(after.elsewhere_rows - before.elsewhere_rows, served ? 0 : npositions);
	assert_int_equal(ours.rows, npositions);
	assert_int_equal(ours.text.len, duckdbs.text.len);
	assert_memory_equal(ours.text.data, duckdbs.text.data, ours.text.len);
	duct_buf_done(&ours.text);
	duct_buf_done(&duckdbs.text);
}

static void roads(const struct duct_type *types, int n, const char *compression, bool row_ids, unsigned nulls, bool served)
{
	enum { ROWS = 5000 };
	struct random_values r = {.state = 99 + nulls};
	struct lake_column columns[64];
	const struct lake_column *wanted[64];
	static int64_t ids[64 * 64];
	struct duct_relation *rel = types_relation(types, n);
	struct duct_batch *batch = random_batch(rel, ROWS, nulls, &r);
	columns_of(columns, wanted, types, n);
	for (int i = 0; i < 64 * 64; i++)
		ids[i] = 100 + i;
	for (int i = 0; i < n; i++)
		columns[i].leaf_ids = ids + 64 * (size_t)i;
	struct lake_write_spec spec = {.dir = folder,
				       .columns = columns,
				       .ncolumns = n,
				       .compression = compression,
				       .row_ids = row_ids,
				       .row_group_rows = 2048};
	struct lake_new_file *file = write_batch(&spec, batch);
	struct lake_file f = {.path = file->path,
			      .record_count = ROWS,
			      .row_id_start = row_ids ? -1 : 500,
			      .partial_max = -1,
			      .delete_file_id = -1};
	int64_t positions[ROWS];
	for (int step = 1; step < 1000; step *= 4) {
		size_t count = 0;
		for (int64_t at = (int64_t)random_below(&r, (uint64_t)step); at < ROWS;
		     at += 1 + (int64_t)random_below(&r, (uint64_t)(2 * step)))
			positions[count++] = at;
		same_rows(&f, wanted, n, positions, count, served);
	}
	same_rows(&f, wanted, n, (int64_t[]){0, 2047, 2048, ROWS - 1}, 4, served);
	duct_batch_unref(batch);
	duct_relation_unref(rel);
	lake_new_file_free(file);
}

static void every_scalar(void **state)
{
	(void)state;
	roads(test_types, TEST_SCALARS, "zstd", true, 5, true);
	roads(test_types, TEST_SCALARS, "zstd", false, 0, true);
	roads(test_types, TEST_SCALARS, "snappy", true, 2, true);
}

static void nested(void **state)
{
	(void)state;
	roads(test_types + TEST_SCALARS, DUCT_LEN(test_types) - TEST_SCALARS, "zstd", true, 5, true);
}

static void wide_values(void **state)
{
	static const struct duct_type types[] = {{.kind = DUCT_INT64}, {.kind = DUCT_VARCHAR}, {.kind = DUCT_BLOB}};
	enum { ROWS = 700, STEP = 13 };
	struct lake_column columns[3];
	const struct lake_column *wanted[3];
	struct random_values r = {.state = 8};
	struct duct_relation *rel = types_relation(types, 3);
	struct duct_batch *b = duct_batch_new(rel, ROWS);
	(void)state;
	for (int64_t i = 0; i < ROWS; i++) {
		duct_batch_add_row(b, DUCT_INSERT, (uint64_t)i);
		memcpy(duct_vector_append(b, &b->columns[0], 8), &i, 8);
		for (int c = 1; c < 3; c++) {
			uint32_t len = (uint32_t)random_below(&r, 20000);
			char *to = duct_vector_append(b, &b->columns[c], len);
			for (uint32_t k = 0; k < len; k++)
				to[k] = (char)('a' + random_next(&r) % 26);
		}
	}
	duct_batch_seal(b);
	columns_of(columns, wanted, types, 3);
	struct lake_write_spec spec = {.dir = folder, .columns = columns, .ncolumns = 3, .compression = "zstd"};
	struct lake_new_file *file = write_batch(&spec, b);
	struct lake_file f = {.path = file->path, .record_count = ROWS, .row_id_start = 0, .partial_max = -1, .delete_file_id = -1};
	int64_t positions[ROWS];
	size_t n = 0;
	for (int64_t i = 5; i < ROWS; i += STEP)
		positions[n++] = i;
	same_rows(&f, wanted, 3, positions, n, true);
	/* what the file does not have is said as DuckDB's road says it */
	struct found found = {0};
	struct duct_error err;
	assert_int_equal(lake_read_rows(points, conn, &f, wanted, 3, (int64_t[]){5, ROWS}, 2, take_rows, &found, &err),
			 -DUCT_FATAL);
	assert_non_null(strstr(err.message, "no row at position 700"));
	f.row_id_start = -1;
	assert_int_equal(lake_read_rows(points, conn, &f, wanted, 3, positions, 2, take_rows, &found, &err), -DUCT_FATAL);
	assert_non_null(strstr(err.message, "has no row ids and the catalog gives it none"));
	f.has_mapping = true;
	assert_int_equal(lake_read_rows(points, conn, &f, wanted, 3, positions, 2, take_rows, &found, &err), -DUCT_CONFIG);
	assert_int_equal(found.rows, 0);
	duct_batch_unref(b);
	duct_relation_unref(rel);
	lake_new_file_free(file);
}

/* What DuckDB writes as the second version: differences, strings behind their lengths. */
static void second_version(void **state)
{
	static const struct duct_type types[] = {{.kind = DUCT_INT64}, {.kind = DUCT_VARCHAR}, {.kind = DUCT_VARCHAR}};
	enum { ROWS = 9000 };
	struct lake_column columns[3];
	const struct lake_column *wanted[3];
	AUTO_FREE char *path = duct_xasprintf("%s/second.parquet", folder);
	AUTO_FREE char *sql = duct_xasprintf(
		"COPY (SELECT i * 7 AS c0, md5(i::VARCHAR) || repeat('x', i %% 50) AS c1, CASE WHEN i %% 3 > 0 THEN hash(i)::VARCHAR END AS c2 "
		"FROM range(%d) r(i)) TO '%s' (FORMAT parquet, PARQUET_VERSION V2, ROW_GROUP_SIZE 4000, FIELD_IDS {c0: 1, c1: 2, c2: 3})",
		ROWS, path);
	duckdb_result result;
	struct duct_error err;
	int64_t positions[ROWS];
	(void)state;
	if (duck_query(conn, sql, &result, &err))
		fail_msg("%s", err.message);
	duckdb_destroy_result(&result);
	columns_of(columns, wanted, types, 3);
	struct lake_file f = {.path = path, .record_count = ROWS, .row_id_start = 0, .partial_max = -1, .delete_file_id = -1};
	for (int64_t step = 1; step < 2000; step = step * 5 + 1) {
		size_t n = 0;
		for (int64_t at = step / 2; at < ROWS; at += step)
			positions[n++] = at;
		same_rows(&f, wanted, 3, positions, n, true);
	}
}

static int set_up_points(void **state)
{
	points = lake_points_new();
	return set_up(state);
}

static int tear_down_points(void **state)
{
	lake_points_free(points);
	return tear_down(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hybrids),     cmocka_unit_test(every_scalar),	 cmocka_unit_test(nested),
		cmocka_unit_test(wide_values), cmocka_unit_test(second_version),
	};
	return cmocka_run_group_tests(tests, set_up_points, tear_down_points);
}
