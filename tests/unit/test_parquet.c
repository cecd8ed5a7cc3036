/* Data and delete files: what was written comes back byte for byte, with positions, row ids, statistics and field ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lake/parquet.h"
#include "record/format.h"
#include "duck_folder.h"
#include "random_values.h"

/* --- a source of rows --- */

struct feed {
	struct lake_row_ref *refs;
	int64_t *ids;
	size_t n, at, slice;
	const int *map; /* NULL: column i is i */
	size_t fail_at; /* > 0: next() fails there */
};

static const int identity[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
			       20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39};

static int feed_next(void *arg, const struct lake_row_ref **rows, const int64_t **ids, size_t *n, struct duct_error *err)
{
	struct feed *f = arg;
	if (f->fail_at && f->at >= f->fail_at)
		return duct_fail(err, DUCT_CANCELLED, "asked to stop at %zu", f->at);
	*n = f->n - f->at < f->slice ? f->n - f->at : f->slice;
	*rows = f->refs + f->at;
	*ids = f->ids ? f->ids + f->at : NULL;
	f->at += *n;
	return 0;
}

static const int *feed_map(void *arg, const struct duct_relation *rel)
{
	(void)rel;
	return ((struct feed *)arg)->map ? ((struct feed *)arg)->map : identity;
}

static struct feed feed_of_batch(const struct duct_batch *batch, size_t slice)
{
	struct feed f = {.refs = duct_xcalloc(batch->rows + 1, sizeof *f.refs), .n = batch->rows, .slice = slice};
	for (uint32_t i = 0; i < batch->rows; i++)
		f.refs[i] = (struct lake_row_ref){batch, i};
	return f;
}

/* Field ids 1.. depth-first. */
static int64_t number_columns(struct lake_column *columns, const struct duct_type *types, int n, const char *const *names)
{
	static char spare[64][16];
	static int64_t ids[256];
	int64_t id = 0;
	size_t at = 0;
	for (int i = 0; i < n; i++) {
		snprintf(spare[i], sizeof spare[i], "c%d", i);
		columns[i] = (struct lake_column){.id = ++id,
						  .name = names ? names[i] : spare[i],
						  .type = types[i],
						  .nulls_allowed = true,
						  .supported = true,
						  .leaf_ids = ids + at};
		struct duct_type const *stack[32] = {&types[i]};
		for (int depth = 1; depth > 0;) {
			const struct duct_type *t = stack[--depth];
			for (int c = t->nchildren; c-- > 0;)
				stack[depth++] = &t->children[c];
			if (t != &types[i])
				ids[at++] = ++id;
		}
		columns[i].nleaf_ids = (int)(ids + at - columns[i].leaf_ids);
	}
	return id;
}

static struct lake_new_file *write_all(const struct lake_write_spec *spec, struct feed *feed, bool *more)
{
	struct lake_rows rows = {.next = feed_next, .map = feed_map, .arg = feed};
	struct lake_new_file *file = NULL;
	struct duct_error err;
	if (lake_write_file(spec, &rows, &file, more, &err))
		fail_msg("%s", err.message);
	return file;
}

/* --- reading back --- */

struct readback {
	const struct feed *feed;
	size_t n;
	const int64_t *positions; /* expected, NULL: 0, 1, .. */
	int64_t row_id_start;
	int ncolumns;
};

static void same_cell(const struct duct_vector *got, uint32_t i, const struct duct_vector *want, uint32_t row, int64_t at)
{
	struct duct_cell a = duct_vector_cell(got, i), b = duct_vector_cell(want, row);
	if (!a.data != !b.data || a.len != b.len || (a.len && memcmp(a.data, b.data, a.len) != 0)) {
		struct duct_buf x AUTO_BUF = {0}, y AUTO_BUF = {0}, t AUTO_BUF = {0};
		duct_format_value(&x, got->type, a);
		duct_format_value(&y, want->type, b);
		duct_type_print(&t, got->type);
		fail_msg("%s at %d: %s was read, %s written", t.data, (int)at, x.data, y.data);
	}
}

static int check_chunk(void *arg, const struct duct_batch *batch, const int64_t *positions, const int64_t *ids,
		       struct duct_error *err)
{
	struct readback *b = arg;
	(void)err;
	for (uint32_t i = 0; i < batch->rows; i++, b->n++) {
		int64_t at = b->positions ? b->positions[b->n] : (int64_t)b->n;
		assert_int_equal(positions[i], at);
		assert_int_equal(ids[i], b->feed->ids ? b->feed->ids[at] : b->row_id_start + at);
		const struct lake_row_ref *ref = &b->feed->refs[at];
		for (int c = 0; c < b->ncolumns; c++)
			same_cell(&batch->columns[c], i, &ref->batch->columns[c], ref->row, at);
	}
	return 0;
}

static struct lake_file as_file(const struct lake_new_file *file, int64_t row_id_start)
{
	return (struct lake_file){.path = file->path,
				  .record_count = file->record_count,
				  .row_id_start = row_id_start,
				  .partial_max = -1,
				  .delete_file_id = -1};
}

static void check_file(const struct lake_new_file *file, const struct feed *feed, const struct lake_column *columns, int ncolumns,
		       const int64_t *positions, size_t n)
{
	struct readback b = {feed, 0, positions, 1000, ncolumns};
	struct lake_file f = as_file(file, feed->ids ? -1 : 1000);
	const struct lake_column *wanted[64];
	struct duct_error err;
	for (int i = 0; i < ncolumns; i++)
		wanted[i] = &columns[i];
	if (lake_read_file(conn, &f, wanted, ncolumns, positions, n, check_chunk, &b, &err))
		fail_msg("%s", err.message);
	assert_int_equal(b.n, positions ? n : feed->n);
}

/* --- tests --- */

static void every_type(void **state)
{
	enum { N = DUCT_LEN(test_types), BATCHES = 3, ROWS = 2500 };
	struct random_values r = {.state = 4242};
	struct lake_column columns[N];
	struct duct_relation *rel = types_relation(test_types, N);
	struct duct_batch *batches[BATCHES];
	struct feed feed = {.slice = 777, .n = BATCHES * ROWS};
	(void)state;
	number_columns(columns, test_types, N, NULL);
	feed.refs = duct_xcalloc(feed.n, sizeof *feed.refs);
	feed.ids = duct_xcalloc(feed.n, sizeof *feed.ids);
	for (int b = 0; b < BATCHES; b++)
		batches[b] = random_batch(rel, ROWS, b ? 5 : 0, &r);
	for (size_t i = 0; i < feed.n; i++) { /* stretches in order, then rows picked from anywhere */
		feed.refs[i] = (struct lake_row_ref){batches[i / ROWS], (uint32_t)(i % ROWS)};
		if (i / 500 % 3 == 1)
			feed.refs[i] = (struct lake_row_ref){batches[random_below(&r, BATCHES)], (uint32_t)random_below(&r, ROWS)};
		feed.ids[i] = (int64_t)random_below(&r, 1 << 30);
	}
	struct lake_write_spec spec = {
		.dir = folder, .columns = columns, .ncolumns = N, .row_ids = true, .compression = "zstd", .row_group_rows = 2048};
	struct lake_new_file *file = write_all(&spec, &feed, NULL);
	assert_int_equal(file->record_count, feed.n);
	assert_true(file->explicit_row_ids);
	check_file(file, &feed, columns, N, NULL, 0);
	static const int64_t some[] = {0, 1, 2, 2047, 2048, 2049, 4096, 7499};
	check_file(file, &feed, columns, N, some, DUCT_LEN(some));
	lake_new_file_free(file);
	free(feed.refs);
	free(feed.ids);
	for (int b = 0; b < BATCHES; b++)
		duct_batch_unref(batches[b]);
	duct_relation_unref(rel);
}

static void large_file(void **state)
{
	static const struct duct_type types[] = {{.kind = DUCT_INT64},
						 {.kind = DUCT_VARCHAR},
						 {.kind = DUCT_DECIMAL, .precision = 12, .scale = 2}};
	enum { ROWS = 250000 };
	struct random_values r = {.state = 5};
	struct lake_column columns[3];
	struct duct_relation *rel = types_relation(types, 3);
	struct duct_batch *batch = random_batch(rel, ROWS, 7, &r);
	struct feed feed = feed_of_batch(batch, 10000);
	(void)state;
	number_columns(columns, types, 3, NULL);
	struct lake_write_spec spec = {.dir = folder, .columns = columns, .ncolumns = 3, .compression = "snappy"};
	struct lake_new_file *file = write_all(&spec, &feed, NULL);
	struct stat st;
	assert_int_equal(stat(file->path, &st), 0);
	assert_int_equal(st.st_size, file->size_bytes);
	check_file(file, &feed, columns, 3, NULL, 0);
	/* sparse over all row groups; dense; both in turn */
	int64_t *positions = duct_xcalloc(ROWS, sizeof *positions);
	size_t n = 0;
	for (int64_t i = 0; i < ROWS; i += 199)
		positions[n++] = i;
	check_file(file, &feed, columns, 3, positions, n);
	n = 0;
	for (int64_t i = 122000; i < 124000; i += 1 + i % 2)
		positions[n++] = i;
	positions[n++] = 249999;
	check_file(file, &feed, columns, 3, positions, n);
	check_file(file, &feed, columns, 3, positions, 0);
	/* a position that the file does not have */
	struct readback b = {&feed, 0, (int64_t[]){5, 250000}, 1000, 3};
	struct lake_file f = as_file(file, 1000);
	const struct lake_column *wanted[] = {&columns[0], &columns[1], &columns[2]};
	struct duct_error err;
	assert_int_equal(lake_read_file(conn, &f, wanted, 3, b.positions, 2, check_chunk, &b, &err), -DUCT_FATAL);
	assert_non_null(strstr(err.message, "no row at position 250000"));
	f.row_id_start = -1;
	assert_int_equal(lake_read_file(conn, &f, wanted, 3, NULL, 0, check_chunk, &b, &err), -DUCT_FATAL);
	f.has_mapping = true;
	assert_int_equal(lake_read_file(conn, &f, wanted, 3, NULL, 0, check_chunk, &b, &err), -DUCT_CONFIG);
	free(positions);
	free(feed.refs);
	lake_new_file_free(file);
	duct_batch_unref(batch);
	duct_relation_unref(rel);
}

/* Batches that only the writer still holds once they were handed over. */
struct brief {
	struct duct_relation *rel;
	struct duct_batch *batch;
	struct lake_row_ref refs[300];
	int left;
};

static struct duct_batch *brief_batch(struct duct_relation *rel, int number)
{
	struct random_values r = {.state = (uint64_t)number + 1};
	return random_batch(rel, 300, 4, &r);
}

static int brief_next(void *arg, const struct lake_row_ref **rows, const int64_t **ids, size_t *n, struct duct_error *err)
{
	struct brief *b = arg;
	(void)err;
	duct_batch_unref(b->batch);
	b->batch = NULL;
	*ids = NULL;
	*rows = b->refs;
	*n = 0;
	if (!b->left)
		return 0;
	b->batch = brief_batch(b->rel, b->left--);
	for (uint32_t i = 0; i < 300; i++)
		b->refs[i] = (struct lake_row_ref){b->batch, i};
	*n = 300;
	return 0;
}

static const int *brief_map(void *arg, const struct duct_relation *rel)
{
	(void)arg, (void)rel;
	return identity;
}

static int check_brief(void *arg, const struct duct_batch *batch, const int64_t *positions, const int64_t *ids,
		       struct duct_error *err)
{
	struct brief *b = arg;
	(void)ids, (void)err;
	for (uint32_t i = 0; i < batch->rows; i++) {
		int number = 40 - (int)(positions[i] / 300);
		if (!b->batch || number != b->left) {
			duct_batch_unref(b->batch);
			b->batch = brief_batch(b->rel, b->left = number);
		}
		for (int c = 0; c < b->rel->ncolumns; c++)
			same_cell(&batch->columns[c], i, &b->batch->columns[c], (uint32_t)(positions[i] % 300), positions[i]);
	}
	return 0;
}

static void brief_batches(void **state)
{
	static const struct duct_type types[] = {{.kind = DUCT_VARCHAR},
						 {.kind = DUCT_BLOB},
						 {.kind = DUCT_LIST, .nchildren = 1, .children = test_text_child}};
	struct lake_column columns[3];
	struct brief b = {.rel = types_relation(types, 3), .left = 40};
	struct lake_rows rows = {.next = brief_next, .map = brief_map, .arg = &b};
	struct lake_new_file *file;
	struct duct_error err;
	(void)state;
	number_columns(columns, types, 3, NULL);
	struct lake_write_spec spec = {
		.dir = folder, .columns = columns, .ncolumns = 3, .compression = "zstd", .compression_level = 1};
	assert_int_equal(lake_write_file(&spec, &rows, &file, NULL, &err), 0);
	assert_int_equal(file->record_count, 12000);
	struct lake_file f = as_file(file, 0);
	const struct lake_column *wanted[] = {&columns[0], &columns[1], &columns[2]};
	assert_int_equal(lake_read_file(conn, &f, wanted, 3, NULL, 0, check_brief, &b, &err), 0);
	duct_batch_unref(b.batch);
	duct_relation_unref(b.rel);
	lake_new_file_free(file);
}

static void put(struct duct_batch *b, int column, const void *data, uint32_t len)
{
	memcpy(duct_vector_append(b, &b->columns[column], len), data, len);
}

static void check_stats(const struct lake_column_stats *s, int64_t id, int64_t values, int64_t nulls, int nan, const char *min,
			const char *max)
{
	assert_int_equal(s->column_id, id);
	assert_int_equal(s->value_count, values);
	assert_int_equal(s->null_count, nulls);
	assert_int_equal(s->contains_nan, nan);
	assert_true(s->size_bytes > 0);
	if (!min) {
		assert_null(s->min);
		assert_null(s->max);
		return;
	}
	assert_string_equal(s->min, min);
	assert_string_equal(s->max, max);
}

/* Three rows; what the official client stores for the same was compared when this was written. */
static void statistics(void **state)
{
	static const struct duct_type types[] = {{.kind = DUCT_INT32},
						 {.kind = DUCT_FLOAT64},
						 {.kind = DUCT_VARCHAR},
						 {.kind = DUCT_LIST, .nchildren = 1, .children = test_int_child},
						 {.kind = DUCT_BOOL},
						 {.kind = DUCT_BLOB},
						 {.kind = DUCT_DECIMAL, .precision = 18, .scale = 4},
						 {.kind = DUCT_TIMESTAMPTZ},
						 {.kind = DUCT_UUID},
						 {.kind = DUCT_DATE}};
	static const char *const names[] = {"a.b", "f", "the \"text\"", "l", "b", "x", "d", "t", "u", "nothing"};
	enum { N = DUCT_LEN(types) };
	static const double f[] = {1.5, NAN, -0.0};
	static const int64_t d[] = {15000, -1, 0}, t[] = {0, 1705302000123456, -1};
	static const uint32_t list[] = {1, 0};
	struct lake_column columns[N];
	struct duct_relation *rel = types_relation(types, N);
	struct duct_batch *b = duct_batch_new(rel, 3);
	(void)state;
	assert_int_equal(number_columns(columns, types, N, names), 11);
	for (int32_t i = 0; i < 3; i++) {
		int32_t v = i - 1;
		duct_batch_add_row(b, DUCT_INSERT, 0);
		if (i == 1)
			duct_vector_append_null(b, &b->columns[0]);
		else
			put(b, 0, &v, 4);
		put(b, 1, &f[i], 8);
		put(b, 2, &"cab"[i], 1);
		if (i == 0) /* [7, NULL] */
			put(b, 3, "\2\0\0\0\1\7\0\0\0\0", 10);
		else if (i == 1)
			put(b, 3, &list[1], 4);
		else
			duct_vector_append_null(b, &b->columns[3]);
		put(b, 4, &"\0\1\0"[i], 1);
		put(b, 5, i ? "\0\xff" : "a", i ? 2 : 1);
		put(b, 6, &d[i], 8);
		put(b, 7, &t[i], 8);
		put(b, 8, i ? "\xff\xee\0\0\0\0\0\0\0\0\0\0\0\0\0\1" : "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
		duct_vector_append_null(b, &b->columns[9]);
	}
	duct_batch_seal(b);
	struct feed feed = feed_of_batch(b, 100);
	struct lake_write_spec spec = {.dir = folder, .columns = columns, .ncolumns = N, .compression = "snappy"};
	struct lake_new_file *file = write_all(&spec, &feed, NULL);
	const struct lake_column_stats *s = file->stats;
	assert_int_equal(file->nstats, N);
	check_stats(&s[0], 1, 2, 1, -1, "-1", "1");
	check_stats(&s[1], 2, 3, 0, 1, "-0.0", "1.5");
	check_stats(&s[2], 3, 3, 0, -1, "a", "c");
	check_stats(&s[3], 5, 1, 3, -1, "7", "7");
	check_stats(&s[4], 6, 3, 0, -1, "0", "1");
	check_stats(&s[5], 7, 3, 0, -1, "00FF", "61");
	check_stats(&s[6], 8, 3, 0, -1, "-0.0001", "1.5000");
	check_stats(&s[7], 9, 3, 0, -1, "1969-12-31 23:59:59.999999+00", "2024-01-15 07:00:00.123456+00");
	check_stats(&s[8], 10, 3, 0, -1, "00000000-0000-0000-0000-000000000000", "ffee0000-0000-0000-0000-000000000001");
	check_stats(&s[9], 11, 0, 3, -1, NULL, NULL);
	assert_true(file->footer_size > 0 && file->footer_size < file->size_bytes);
	lake_new_file_free(file);
	free(feed.refs);
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

/* One row of parquet_schema() as text. */
static void schema_text(struct duct_buf *to, const char *path)
{
	struct duct_buf sql AUTO_BUF = {0};
	duckdb_result result;
	duckdb_data_chunk chunk;
	struct duct_error err;
	duct_buf_printf(
		&sql,
		"SELECT concat_ws(' ', name, type, type_length, repetition_type, converted_type, field_id, logical_type)::VARCHAR "
		"FROM parquet_schema('%s')",
		path);
	assert_int_equal(duck_query(conn, sql.data, &result, &err), 0);
	for (; (chunk = duckdb_fetch_chunk(result)); duckdb_destroy_data_chunk(&chunk)) {
		duckdb_string_t *s = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));
		for (idx_t i = 0; i < duckdb_data_chunk_get_size(chunk); i++)
			duct_buf_printf(to, "%.*s\n", (int)duckdb_string_t_length(s[i]), duckdb_string_t_data(&s[i]));
	}
	duckdb_destroy_result(&result);
}

static void schema_in_file(void **state)
{
	static const struct duct_type types[] = {{.kind = DUCT_UINT8},
						 {.kind = DUCT_JSON},
						 {.kind = DUCT_DECIMAL, .precision = 20, .scale = 3},
						 {.kind = DUCT_UUID},
						 {.kind = DUCT_TIMESTAMPTZ},
						 {.kind = DUCT_TIME},
						 {.kind = DUCT_MAP, .nchildren = 2, .children = test_map_children}};
	enum { N = DUCT_LEN(types) };
	struct random_values r = {.state = 1};
	struct lake_column columns[N];
	struct duct_relation *rel = types_relation(types, N);
	struct duct_batch *b = random_batch(rel, 10, 3, &r);
	struct feed feed = feed_of_batch(b, 100);
	struct duct_buf text AUTO_BUF = {0};
	int64_t ids[10] = {0};
	(void)state;
	feed.ids = ids;
	number_columns(columns, types, N, NULL);
	struct lake_write_spec spec = {.dir = folder, .columns = columns, .ncolumns = N, .compression = "zstd", .row_ids = true};
	struct lake_new_file *file = write_all(&spec, &feed, NULL);
	schema_text(&text, file->path);
	assert_string_equal(
		text.data,
		"duckdb_schema REQUIRED\n"
		"c0 INT32 OPTIONAL UINT_8 1\n"
		"c1 BYTE_ARRAY OPTIONAL JSON 2 JsonType()\n"
		"c2 FIXED_LEN_BYTE_ARRAY 16 OPTIONAL DECIMAL 3 DecimalType(scale=3, precision=20)\n"
		"c3 FIXED_LEN_BYTE_ARRAY 16 OPTIONAL 4 UUIDType()\n"
		"c4 INT64 OPTIONAL TIMESTAMP_MICROS 5 TimestampType(isAdjustedToUTC=1, unit=TimeUnit(MILLIS=<null>, "
		"MICROS=MicroSeconds(), NANOS=<null>))\n"
		"c5 INT64 OPTIONAL TIME_MICROS 6 TimeType(isAdjustedToUTC=0, unit=TimeUnit(MILLIS=<null>, "
		"MICROS=MicroSeconds(), NANOS=<null>))\n"
		"c6 OPTIONAL MAP 7\nkey_value REPEATED\nkey BYTE_ARRAY REQUIRED UTF8 8\nvalue OPTIONAL LIST 9\nlist REPEATED\n"
		"element OPTIONAL 10\nA b INT64 OPTIONAL INT_64 11\nit's \"x\" \\ BYTE_ARRAY OPTIONAL UTF8 12\n"
		"d INT32 OPTIONAL DECIMAL 13 DecimalType(scale=2, precision=9)\n"
		"ts INT64 OPTIONAL TIMESTAMP_MICROS 14 TimestampType(isAdjustedToUTC=0, unit=TimeUnit(MILLIS=<null>, "
		"MICROS=MicroSeconds(), NANOS=<null>))\n"
		"l OPTIONAL LIST 15\nlist REPEATED\nelement BYTE_ARRAY OPTIONAL UTF8 16\n"
		"_ducklake_internal_row_id INT64 OPTIONAL INT_64 2147483540\n");
	lake_new_file_free(file);
	free(feed.refs);
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

/* Columns that the relation does not have, types that widened, and the same again when an old file is read. */
static int take_text(void *arg, const struct duct_batch *batch, const int64_t *positions, const int64_t *ids,
		     struct duct_error *err)
{
	(void)positions, (void)ids, (void)err;
	for (uint32_t i = 0; i < batch->rows; i++)
		for (int c = 0; c < batch->relation->ncolumns; c++) {
			duct_format_value(arg, batch->columns[c].type, duct_vector_cell(&batch->columns[c], i));
			duct_buf_puts(arg, c + 1 < batch->relation->ncolumns ? "|" : "\n");
		}
	return 0;
}

static void evolution(void **state)
{
	static const struct duct_type old_types[] = {{.kind = DUCT_INT32},
						     {.kind = DUCT_DECIMAL, .precision = 4, .scale = 1},
						     {.kind = DUCT_DATE}};
	static const struct duct_type types[] = {
		{.kind = DUCT_INT64},	  {.kind = DUCT_DECIMAL, .precision = 20, .scale = 3}, {.kind = DUCT_VARCHAR},
		{.kind = DUCT_TIMESTAMP}, {.kind = DUCT_DECIMAL, .precision = 9, .scale = 2},  {.kind = DUCT_VARCHAR},
		{.kind = DUCT_BLOB}};
	static const int map[] = {0, 1, -1, 2, -1, -1, -1};
	enum { N = DUCT_LEN(types) };
	struct lake_column old_columns[3], columns[N];
	struct duct_relation *rel = types_relation(old_types, 3);
	struct duct_batch *b = duct_batch_new(rel, 2);
	struct duct_buf text AUTO_BUF = {0};
	struct duct_error err;
	(void)state;
	for (int32_t i = 0; i < 2; i++) {
		int64_t d = i * 15;
		duct_batch_add_row(b, DUCT_INSERT, 0);
		put(b, 0, &i, 4);
		put(b, 1, &d, 8);
		if (i)
			duct_vector_append_null(b, &b->columns[2]);
		else
			put(b, 2, &i, 4);
	}
	duct_batch_seal(b);
	number_columns(old_columns, old_types, 3, NULL);
	number_columns(columns, types, N, NULL);
	columns[2].initial_default = "it's a default that is longer than twelve bytes";
	columns[3].id = 3;
	columns[2].id = 4;
	columns[4].initial_default = "42.50";
	columns[5].initial_default = "";
	columns[6].initial_default = "\\x00\\xFFab";
	static const char want[] =
		"0|0.000|it's a default that is longer than twelve bytes|1970-01-01 00:00:00|42.50||\\x00\\xFFab\n"
		"1|1.500|it's a default that is longer than twelve bytes|NULL|42.50||\\x00\\xFFab\n";
	/* old rows written under the new schema */
	struct feed feed = feed_of_batch(b, 1);
	feed.map = map;
	struct lake_write_spec spec = {.dir = folder, .columns = columns, .ncolumns = N, .compression = "zstd"};
	struct lake_new_file *file = write_all(&spec, &feed, NULL);
	const struct lake_column *wanted[N];
	for (int i = 0; i < N; i++)
		wanted[i] = &columns[i];
	struct lake_file f = as_file(file, 0);
	assert_int_equal(lake_read_file(conn, &f, wanted, N, NULL, 0, take_text, &text, &err), 0);
	assert_string_equal(text.data, want);
	lake_new_file_free(file);
	/* an old file read under the new schema */
	spec = (struct lake_write_spec){.dir = folder, .columns = old_columns, .ncolumns = 3, .compression = "zstd"};
	feed.map = NULL;
	feed.at = text.len = 0;
	file = write_all(&spec, &feed, NULL);
	f = as_file(file, 0);
	if (lake_read_file(conn, &f, wanted, N, NULL, 0, take_text, &text, &err))
		fail_msg("%s", err.message);
	assert_string_equal(text.data, want);
	lake_new_file_free(file);
	/* what does not widen is refused */
	columns[0].type = (struct duct_type){.kind = DUCT_INT8};
	struct lake_rows rows = {.next = feed_next, .map = feed_map, .arg = &feed};
	spec = (struct lake_write_spec){.dir = folder, .columns = columns, .ncolumns = N, .compression = "zstd"};
	feed.map = map;
	feed.at = 0;
	assert_int_equal(lake_write_file(&spec, &rows, &file, NULL, &err), -DUCT_FATAL);
	assert_non_null(strstr(err.message, "column \"c0\" of type int8 does not take values of type int32"));
	free(feed.refs);
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

static int files_in(const char *dir)
{
	int n = 0;
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

static void limits(void **state)
{
	static const struct duct_type types[] = {{.kind = DUCT_INT64}, {.kind = DUCT_UUID}};
	struct random_values r = {.state = 9};
	struct lake_column columns[2];
	struct duct_relation *rel = types_relation(types, 2);
	struct duct_batch *b = random_batch(rel, 100000, 0, &r);
	struct feed feed = feed_of_batch(b, 1000);
	bool more = false;
	(void)state;
	number_columns(columns, types, 2, NULL);
	struct lake_write_spec spec = {.dir = folder,
				       .columns = columns,
				       .ncolumns = 2,
				       .compression = "uncompressed",
				       .row_group_rows = 10000,
				       .max_rows = 30000};
	size_t done = 0;
	for (int i = 0; i < 4; i++) {
		struct lake_new_file *file = write_all(&spec, &feed, &more);
		assert_int_equal(file->record_count, i < 3 ? 30000 : 10000);
		assert_int_equal(more, i < 3);
		struct feed part = {.refs = feed.refs + done, .n = (size_t)file->record_count};
		check_file(file, &part, columns, 2, NULL, 0);
		done += part.n;
		lake_new_file_free(file);
	}
	/* nothing left: no file */
	assert_null(write_all(&spec, &feed, &more));
	assert_false(more);
	spec.max_rows = 0;
	spec.max_bytes = 1000000; /* 24 bytes a row */
	feed.at = 0;
	struct lake_new_file *file = write_all(&spec, &feed, &more);
	assert_true(more);
	assert_in_range(file->size_bytes, 900000, 1500000);
	lake_new_file_free(file);
	free(feed.refs);
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

static void failures(void **state)
{
	static const struct duct_type types[] = {{.kind = DUCT_INT64}, {.kind = DUCT_VARCHAR}};
	static const struct duct_type text = {.kind = DUCT_VARCHAR};
	struct random_values r = {.state = 9};
	struct lake_column columns[2];
	struct duct_relation *rel = types_relation(types, 2);
	struct duct_batch *b = random_batch(rel, 10000, 0, &r);
	struct feed feed = feed_of_batch(b, 1000);
	struct lake_rows rows = {.next = feed_next, .map = feed_map, .arg = &feed};
	struct lake_new_file *file = NULL;
	struct duct_error err;
	(void)state, (void)text;
	AUTO_FREE char *dir = duct_xasprintf("%sdeep [x]/er*?'q/", folder);
	number_columns(columns, types, 2, NULL);
	struct lake_write_spec spec = {
		.dir = dir, .columns = columns, .ncolumns = 2, .compression = "zstd", .row_group_rows = 2048};
	/* the error of next() comes out as it is, and no file stays */
	feed.fail_at = 5000;
	assert_int_equal(lake_write_file(&spec, &rows, &file, NULL, &err), -DUCT_CANCELLED);
	assert_non_null(strstr(err.message, ": asked to stop at 5000"));
	assert_int_equal(files_in(dir), 0);
	/* the connection goes on; folders and names that look like a pattern are taken as they are */
	feed.fail_at = feed.at = 0;
	file = write_all(&spec, &feed, NULL);
	check_file(file, &feed, columns, 2, NULL, 0);
	assert_int_equal(files_in(dir), 1);
	unlink(file->path);
	lake_new_file_free(file);
	file = NULL;
	/* a value that the source did not send; text that is not UTF-8 */
	for (int i = 0; i < 2; i++) {
		struct duct_batch *bad = duct_batch_new(rel, 1);
		int64_t id = 1;
		duct_batch_add_row(bad, DUCT_INSERT, 0);
		put(bad, 0, &id, 8);
		if (i)
			put(bad, 1, "a\xff", 2);
		else
			duct_batch_fill_unset(bad);
		duct_batch_seal(bad);
		feed.at = feed.n - 1;
		feed.refs[feed.at] = (struct lake_row_ref){bad, 0};
		assert_int_equal(lake_write_file(&spec, &rows, &file, NULL, &err), i ? -DUCT_DATA : -DUCT_FATAL);
		assert_non_null(strstr(err.message, "column \"c1\": "));
		assert_int_equal(files_in(dir), 0);
		duct_batch_unref(bad);
	}
	assert_null(file);
	/* the folder cannot be made */
	spec.dir = "/proc/none/";
	feed.at = 0;
	assert_int_equal(lake_write_file(&spec, &rows, &file, NULL, &err), -DUCT_RETRY);
	assert_non_null(strstr(err.message, "/proc/none"));
	struct lake_file f = {.path = "/nowhere/file.parquet", .row_id_start = 0};
	assert_int_equal(lake_read_file(conn, &f, NULL, 0, NULL, 0, check_chunk, NULL, &err), -DUCT_RETRY);
	free(feed.refs);
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

static void delete_files(void **state)
{
	enum { N = 200000 };
	int64_t *want = duct_xcalloc(N, sizeof *want), *back = NULL, size, footer;
	struct lake_positions positions = {0}, none = {0};
	struct duct_buf text AUTO_BUF = {0}, sql AUTO_BUF = {0};
	struct duct_error err;
	struct stat st;
	size_t n;
	char *path;
	(void)state;
	for (int64_t i = 0; i < N; i++)
		lake_positions_add(&positions, want[i] = i * 3 + i % 2, N * 3);
	assert_non_null(positions.bits);
	assert_int_equal(lake_write_delete_file(folder, "/some/where/it's.parquet", &positions, NULL, &path, &size, &footer, &err),
			 0);
	assert_int_equal(lake_read_delete_file(conn, path, &back, &n, &err), 0);
	assert_int_equal(n, N);
	assert_memory_equal(back, want, N * sizeof *back);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, size);
	assert_true(footer > 0 && footer < size);
	schema_text(&text, path);
	assert_string_equal(text.data,
			    "duckdb_schema REQUIRED\nfile_path BYTE_ARRAY OPTIONAL UTF8 2147483646\n"
			    "pos INT64 OPTIONAL INT_64 2147483645\n");
	duct_buf_printf(&sql,
			"SELECT CASE WHEN count(*) = %d AND min(file_path) = max(file_path) AND min(file_path) = "
			"'/some/where/it''s.parquet' THEN 1 ELSE error('other paths') END FROM '%s'",
			N, path);
	assert_int_equal(duck_exec(conn, sql.data, &err), 0);
	free(back);
	/* the three columns of an official one */
	AUTO_FREE char *other = duct_xasprintf("%sthree.parquet", folder);
	sql.len = 0;
	duct_buf_printf(
		&sql,
		"COPY (SELECT 'x' AS file_path, i::BIGINT AS pos, 7::BIGINT AS _ducklake_internal_snapshot_id FROM range(5) r(i)) "
		"TO '%s' (FORMAT PARQUET)",
		other);
	assert_int_equal(duck_exec(conn, sql.data, &err), 0);
	assert_int_equal(lake_read_delete_file(conn, other, &back, &n, &err), 0);
	assert_int_equal(n, 5);
	assert_int_equal(back[4], 4);
	free(back);
	/* refused */
	AUTO_FREE char *puffin = duct_xasprintf("%sx.puffin", folder);
	int fd = open(puffin, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, "PFA1....PFA1", 12), 12);
	close(fd);
	assert_int_equal(lake_read_delete_file(conn, puffin, &back, &n, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "puffin"));
	assert_int_equal(lake_read_delete_file(conn, "/nowhere.parquet", &back, &n, &err), -DUCT_RETRY);
	char *no_path = NULL;
	assert_int_equal(lake_write_delete_file(folder, "x", &none, NULL, &no_path, &size, &footer, &err), -DUCT_FATAL);
	lake_positions_add(&positions, want[N / 2], N * 3); /* again, where they are bits */
	assert_int_equal(lake_write_delete_file(folder, "x", &positions, NULL, &no_path, &size, &footer, &err), -DUCT_FATAL);
	assert_null(no_path);
	lake_positions_done(&positions);
	free(path);
	free(want);
}

static void *write_in_thread(void *arg)
{
	static const struct duct_type types[] = {{.kind = DUCT_INT64}, {.kind = DUCT_VARCHAR}};
	struct random_values r = {.state = (uintptr_t)arg};
	struct lake_column column[2] = {{.id = 1, .name = "c0", .type = types[0]}, {.id = 2, .name = "c1", .type = types[1]}};
	const struct lake_column *wanted[] = {&column[0], &column[1]};
	struct duct_relation *rel = types_relation(types, 2);
	struct duct_batch *b = random_batch(rel, 20000, 3, &r);
	struct feed feed = feed_of_batch(b, 3000);
	struct lake_rows rows = {.next = feed_next, .map = feed_map, .arg = &feed};
	struct lake_write_spec spec = {.dir = folder, .columns = column, .ncolumns = 2, .compression = "zstd"};
	struct duck_conn *mine = duck_connect(db);
	struct duct_error err;
	bool good = true;
	for (int i = 0; i < 5 && good; i++) {
		struct lake_new_file *file = NULL;
		feed.at = 0;
		good = lake_write_file(&spec, &rows, &file, NULL, &err) == 0;
		struct readback back = {&feed, 0, NULL, 50, 2};
		struct lake_file f = {.path = good ? file->path : "", .row_id_start = 50};
		good = good && lake_read_file(mine, &f, wanted, 2, NULL, 0, check_chunk, &back, &err) == 0 && back.n == 20000;
		lake_new_file_free(file);
	}
	duck_disconnect(mine);
	free(feed.refs);
	duct_batch_unref(b);
	duct_relation_unref(rel);
	return good ? arg : NULL;
}

static void threads(void **state)
{
	pthread_t t[3];
	(void)state;
	for (uintptr_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, write_in_thread, (void *)(i + 1)), 0);
	for (uintptr_t i = 0; i < 3; i++) {
		void *ret;
		pthread_join(t[i], &ret);
		assert_ptr_equal(ret, (void *)(i + 1));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type), cmocka_unit_test(large_file),	cmocka_unit_test(brief_batches),
		cmocka_unit_test(statistics), cmocka_unit_test(schema_in_file), cmocka_unit_test(evolution),
		cmocka_unit_test(limits),     cmocka_unit_test(failures),	cmocka_unit_test(delete_files),
		cmocka_unit_test(threads),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
