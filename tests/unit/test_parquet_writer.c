/* What our Parquet writer makes of awkward columns, read back by DuckDB byte for byte; its statistics beside DuckDB's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

#include "lake/parquet.h"
#include "parquet/delta.h"
#include "parquet/dictionary.h"
#include "parquet/reader_levels.h"
#include "parquet/rle.h"
#include "duck_folder.h"
#include "random_values.h"

/* --- one batch into one file, and back --- */

static int batch_next(void *arg, const struct lake_row_ref **rows, const int64_t **ids, size_t *n, struct duct_error *err)
{
	struct duct_batch **left = arg;
	static struct lake_row_ref refs[200000];
	(void)err;
	*n = *left ? (*left)->rows : 0;
	for (uint32_t i = 0; i < *n; i++)
		refs[i] = (struct lake_row_ref){*left, i};
	*rows = refs;
	*ids = NULL;
	*left = NULL;
	return 0;
}

static const int *same_columns(void *arg, const struct duct_relation *rel)
{
	static const int map[] = {0, 1, 2, 3, 4, 5, 6, 7};
	(void)arg, (void)rel;
	return map;
}

static struct lake_column columns[8];
static bool first_version; /* of what is written next */

static struct lake_new_file *write_batch(struct duct_batch *batch, const char *compression, int64_t group_rows)
{
	static int64_t ids[32];
	struct duct_batch *left = batch;
	struct lake_rows rows = {.next = batch_next, .map = same_columns, .arg = &left};
	struct lake_write_spec spec = {.dir = folder,
				       .columns = columns,
				       .ncolumns = batch->relation->ncolumns,
				       .compression = compression,
				       .row_group_rows = group_rows,
				       .first_version = first_version};
	struct lake_new_file *file;
	struct duct_error err;
	for (int i = 0; i < 32; i++)
		ids[i] = 100 + i;
	for (int i = 0; i < spec.ncolumns; i++)
		columns[i] = (struct lake_column){.id = i + 1,
						  .name = batch->relation->columns[i].name,
						  .type = batch->relation->columns[i].type,
						  .leaf_ids = ids,
						  .nulls_allowed = true,
						  .supported = true};
	if (lake_write_file(&spec, &rows, &file, NULL, &err))
		fail_msg("%s", err.message);
	assert_int_equal(file->record_count, batch->rows);
	return file;
}

struct readback {
	const struct duct_batch *want;
	uint32_t at;
};

static void same_row(const struct duct_batch *got, uint32_t i, const struct duct_batch *want, uint32_t at)
{
	for (int c = 0; c < got->relation->ncolumns; c++) {
		struct duct_cell x = duct_vector_cell(&got->columns[c], i), y = duct_vector_cell(&want->columns[c], at);
		if (!x.data != !y.data || x.len != y.len || (x.len && memcmp(x.data, y.data, x.len) != 0))
			fail_msg("column %d, row %u: %u bytes were read, %u written, or others", c, at, x.len, y.len);
	}
}

static int same_chunk(void *arg, const struct duct_batch *got, const int64_t *positions, const int64_t *ids, struct duct_error *err)
{
	struct readback *b = arg;
	(void)positions, (void)ids, (void)err;
	for (uint32_t i = 0; i < got->rows; i++, b->at++)
		same_row(got, i, b->want, b->at);
	return 0;
}

struct points {
	const struct duct_batch *want;
	const int64_t *at;
};

static int same_points(void *arg, const struct duct_batch *got, const int64_t *positions, const int64_t *ids,
		       struct duct_error *err)
{
	struct points *p = arg;
	for (uint32_t i = 0; i < got->rows; i++, p->at++) {
		assert_int_equal(positions[i], *p->at);
		same_row(got, i, p->want, (uint32_t)*p->at);
	}
	(void)ids, (void)err;
	return 0;
}

static void check_batch(const struct lake_new_file *file, const struct duct_batch *batch)
{
	const struct lake_column *wanted[] = {&columns[0], &columns[1], &columns[2], &columns[3],
					      &columns[4], &columns[5], &columns[6], &columns[7]};
	struct lake_file f = {.path = file->path, .record_count = file->record_count, .partial_max = -1, .delete_file_id = -1};
	struct readback b = {.want = batch};
	struct duct_error err;
	if (lake_read_file(conn, &f, wanted, batch->relation->ncolumns, NULL, 0, same_chunk, &b, &err))
		fail_msg("%s", err.message);
	assert_int_equal(b.at, batch->rows);
}

/* Some rows through our own reader. */
static void check_points(const struct lake_new_file *file, const struct duct_batch *batch)
{
	const struct lake_column *wanted[] = {&columns[0], &columns[1], &columns[2], &columns[3],
					      &columns[4], &columns[5], &columns[6], &columns[7]};
	struct lake_file f = {.path = file->path, .record_count = file->record_count, .partial_max = -1, .delete_file_id = -1};
	struct lake_points *points = lake_points_new();
	struct duct_error err;
	for (int64_t from = 0; from < 700; from += 97) {
		int64_t positions[300];
		size_t n = 0;
		for (int64_t at = from; at < file->record_count && n < DUCT_LEN(positions); at += 1 + at % 911)
			positions[n++] = at;
		struct points p = {batch, positions};
		if (lake_read_rows(points, conn, &f, wanted, batch->relation->ncolumns, positions, n, same_points, &p, &err))
			fail_msg("%s", err.message);
		assert_ptr_equal(p.at, positions + n);
	}
	assert_int_equal(lake_points_counts(points).elsewhere_rows, 0);
	lake_points_free(points);
}

/* The first value of a query, as a number; %s is the file. */
static int64_t ask(const char *format, const char *path)
{
	struct duct_buf sql AUTO_BUF = {0};
	duckdb_result result;
	struct duct_error err;
	AUTO_FREE char *from = duct_xasprintf(format, path);
	duct_buf_puts(&sql, from);
	if (duck_query(conn, sql.data, &result, &err))
		fail_msg("%s: %s", sql.data, err.message);
	int64_t v = duckdb_value_int64(&result, 0, 0);
	duckdb_destroy_result(&result);
	return v;
}

static void put(struct duct_batch *b, int column, const void *data, size_t len)
{
	char *to = duct_vector_append(b, &b->columns[column], (uint32_t)len);
	if (len)
		memcpy(to, data, len);
}

static void done(struct lake_new_file *file, struct duct_batch *batch)
{
	struct duct_relation *rel = batch->relation;
	unlink(file->path);
	lake_new_file_free(file);
	duct_batch_unref(batch);
	duct_relation_unref(rel);
}

/* --- tests --- */

static void runs_and_bits(void **state)
{
	struct random_values r = {.state = 31};
	uint32_t values[700];
	(void)state;
	for (int round = 0; round < 3000; round++) {
		int width = (int)random_below(&r, 33);
		uint32_t mask = width == 32 ? UINT32_MAX : (UINT32_C(1) << width) - 1;
		size_t n = random_below(&r, DUCT_LEN(values) + 1), repeat = 1 + random_below(&r, 60);
		struct duct_buf bytes AUTO_BUF = {0};
		for (size_t i = 0; i < n; i++)
			values[i] = i && random_below(&r, repeat) ? values[i - 1] : (uint32_t)random_next(&r) & mask;
		parquet_rle_write(&bytes, values, n, width);
		struct parquet_hybrid h = parquet_hybrid_over((uint8_t *)bytes.data, bytes.len, (unsigned)width);
		for (size_t i = 0; i < n; i++) {
			uint32_t v = 1;
			assert_true(parquet_hybrid_get(&h, &v));
			assert_int_equal(v, values[i]);
		}
	}
}

/* Numbers that share the half of their hash that the table keeps are still told apart. */
static void equal_hashes(void **state)
{
	enum { N = 1000 };
	struct parquet_dictionary d = {.width = 8, .max_entries = 2 * N, .max_bytes = 1 << 20};
	uint64_t inverse = 1, factor = UINT64_C(0x9E3779B97F4A7C15);
	(void)state;
	for (int i = 0; i < 6; i++) /* Newton: of an odd number modulo 2^64 */
		inverse *= 2 - factor * inverse;
	for (int round = 0; round < 2; round++)
		for (uint64_t i = 0; i < N; i++) {
			uint64_t v = (UINT64_C(0x1234567) << 32 | i) * inverse;
			assert_int_equal(parquet_dictionary_put(&d, (const char *)&v, 8), i);
		}
	parquet_dictionary_done(&d);
}

/* Values of a width of so many bits, or that rise evenly, or all there are: what is read is what was written, however it is cut. */
static void differences_of(struct random_values *r, uint32_t width, size_t n)
{
	AUTO_FREE uint64_t *wide = duct_xcalloc(n + 1, sizeof *wide);
	AUTO_FREE uint32_t *narrow = duct_xcalloc(n + 1, sizeof *narrow);
	uint64_t bits = random_below(r, 65), step = random_next(r), mask = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
	struct duct_buf bytes AUTO_BUF = {0};
	struct parquet_delta d;
	for (size_t i = 0; i < n; i++) {
		wide[i] = (i ? wide[i - 1] : step) + step + (random_next(r) & mask);
		narrow[i] = (uint32_t)wide[i];
	}
	duct_buf_puts(&bytes, "before");
	const void *values = width == 4 ? (const void *)narrow : wide;
	assert_true(parquet_delta_write(&bytes, values, n, width, SIZE_MAX));
	size_t len = bytes.len - 6;
	bytes.len = 6;
	assert_int_equal(parquet_delta_write(&bytes, values, n, width, len - 1), false);
	assert_int_equal(bytes.len, 6);
	assert_true(parquet_delta_write(&bytes, values, n, width, len));
	AUTO_FREE uint8_t *exact = duct_xmalloc(len); /* so that ASan sees its end */
	memcpy(exact, bytes.data + 6, len);
	assert_true(parquet_delta_open(&d, exact, len));
	for (size_t i = 0; i < n; i++) {
		uint64_t v, gap = random_below(r, 3) ? 0 : random_below(r, n - i);
		assert_true(parquet_delta_skip(&d, gap));
		i += gap;
		assert_true(parquet_delta_get(&d, &v));
		assert_true(width == 4 ? (uint32_t)v == narrow[i] : v == wide[i]);
	}
	assert_false(parquet_delta_skip(&d, 1));
	uint64_t v, got = 0;
	AUTO_FREE uint8_t *cut = duct_xmalloc(len);
	size_t left = random_below(r, len);
	memcpy(cut, exact, left);
	for (bool more = parquet_delta_open(&d, cut, left) && n > 1; more; got += more)
		more = parquet_delta_get(&d, &v);
	assert_true(got < n || n < 2);
	assert_true(n < 2 || !parquet_delta_get(&d, &v));
}

static void differences(void **state)
{
	static const size_t some[] = {0, 1, 2, 31, 32, 33, 128, 129, 130, 257};
	struct random_values r = {.state = 77};
	(void)state;
	for (int round = 0; round < 3000; round++)
		differences_of(&r, round % 2 ? 4 : 8, round % 3 ? some[random_below(&r, DUCT_LEN(some))] : random_below(&r, 3000));
}

/* Integer columns of all widths that rise, fall, wrap and jump, with NULLs, read by DuckDB and by our own reader. */
static void integers(void **state)
{
	static const struct duct_type types[] = {{.kind = DUCT_INT8},
						 {.kind = DUCT_INT32},
						 {.kind = DUCT_INT64},
						 {.kind = DUCT_UINT64},
						 {.kind = DUCT_DECIMAL, .precision = 9, .scale = 2},
						 {.kind = DUCT_DECIMAL, .precision = 18},
						 {.kind = DUCT_TIMESTAMP},
						 {.kind = DUCT_UINT32}};
	enum { N = 150000 };
	struct duct_relation *rel = types_relation(types, DUCT_LEN(types));
	struct duct_batch *b = duct_batch_new(rel, N);
	(void)state;
	for (int64_t i = 0; i < N; i++) {
		int8_t tiny = (int8_t)i;
		int32_t wrapping = (int32_t)((uint32_t)i * 123456789);
		int64_t falling = -i * 1000003 + i * i % 17, price = i % 1000 * 9973 - 4000000,
			jumping = (int64_t)((uint64_t)i * UINT64_C(0x2000000000000001));
		int64_t small = i % 7 ? i : -i, at = INT64_C(1700000000000000) + i * 1000000;
		uint32_t high = UINT32_MAX - (uint32_t)i * 3;
		duct_batch_add_row(b, DUCT_INSERT, (uint64_t)i);
		put(b, 0, &tiny, 1);
		put(b, 1, &wrapping, 4);
		if (i % 5)
			put(b, 2, &falling, 8);
		else
			duct_vector_append_null(b, &b->columns[2]);
		put(b, 3, &jumping, 8);
		put(b, 4, &price, 8);
		put(b, 5, &small, 8);
		if (i < 60000 || i > 120000)
			put(b, 6, &at, 8);
		else
			duct_vector_append_null(b, &b->columns[6]);
		put(b, 7, &high, 4);
	}
	duct_batch_seal(b);
	struct lake_new_file *file = write_batch(b, "zstd", 0);
	check_batch(file, b);
	check_points(file, b);
	assert_true(ask("SELECT count(*) FROM parquet_metadata('%s') WHERE encodings LIKE '%%DELTA%%'", file->path) >= 12);
	done(file, b);
}

/* A few distinct values, then so many that the dictionary is given up inside the chunk; NaNs and zeros that differ in bits only. */
static void dictionaries(void **state)
{
	static const struct duct_type types[] = {{.kind = DUCT_INT32},
						 {.kind = DUCT_VARCHAR},
						 {.kind = DUCT_FLOAT64},
						 {.kind = DUCT_UUID},
						 {.kind = DUCT_DECIMAL, .precision = 30},
						 {.kind = DUCT_BOOL},
						 {.kind = DUCT_FLOAT32},
						 {.kind = DUCT_INT64}};
	static const uint64_t bits[] = {0, UINT64_C(1) << 63, UINT64_C(0x7ff8000000000001), UINT64_C(0x7ff8000000000002),
					UINT64_C(0xfff8000000000000)};
	enum { N = 200000 };
	(void)state;
	for (int overflow = 0; overflow < 2; overflow++) {
		struct duct_relation *rel = types_relation(types, DUCT_LEN(types));
		struct duct_batch *b = duct_batch_new(rel, N);
		for (uint64_t i = 0; i < N; i++) {
			uint64_t few = overflow && i % 120000 > 60000 ? i * 7919 : i * i % 97;
			uint64_t wide[2] = {few, few * 31};
			char text[32];
			int32_t narrow = (int32_t)few;
			float f = i % 3 ? -0.0F : 0.0F;
			duct_batch_add_row(b, DUCT_INSERT, i);
			put(b, 0, &narrow, 4);
			put(b, 1, text, (size_t)snprintf(text, sizeof text, "%s%d", few % 5 ? "value " : "", (int)few % 1000000));
			put(b, 2, &bits[i % DUCT_LEN(bits)], 8);
			put(b, 3, wide, 16);
			put(b, 4, wide, 16);
			put(b, 5, few % 2 ? "\1" : "\0", 1);
			put(b, 6, &f, 4);
			if (i % 3)
				put(b, 7, &few, 8);
			else
				duct_vector_append_null(b, &b->columns[7]);
		}
		duct_batch_seal(b);
		struct lake_new_file *file = write_batch(b, "zstd", 0);
		check_batch(file, b);
		assert_int_equal(ask("SELECT count(*) FROM parquet_metadata('%s') WHERE encodings LIKE '%%DICTIONARY%%'",
				     file->path),
				 overflow ? 12 : 14);
		assert_int_equal(
			ask("SELECT count(*) FROM parquet_metadata('%s') WHERE row_group_id = 0 AND column_id IN (3, 4) AND "
			    "encodings LIKE '%%PLAIN%%'",
			    file->path),
			overflow ? 2 : 0);
		assert_int_equal(ask("SELECT count(*) FROM parquet_metadata('%s') WHERE row_group_id = 0 AND column_id = 1 AND "
				     "encodings LIKE '%%DELTA_LENGTH_BYTE_ARRAY%%'",
				     file->path),
				 overflow);
		assert_int_equal(
			ask("SELECT count(*) FROM parquet_metadata('%s') WHERE row_group_id = 0 AND column_id IN (0, 7) AND "
			    "encodings LIKE '%%DELTA_BINARY_PACKED%%'",
			    file->path),
			overflow ? 2 : 0);
		done(file, b);
	}
}

/* Lengths that are the same, rise, jump or are none at all, beside NULLs; in the encodings of both versions of Parquet. */
static void strings(void **state)
{
	static const struct duct_type types[] = {{.kind = DUCT_VARCHAR}, {.kind = DUCT_BLOB}, {.kind = DUCT_VARCHAR},
						 {.kind = DUCT_VARCHAR}, {.kind = DUCT_BLOB}, {.kind = DUCT_VARCHAR},
						 {.kind = DUCT_INT64}};
	enum { N = 40000 };
	(void)state;
	for (int round = 0; round < 2; round++) {
		struct random_values r = {.state = 5};
		struct duct_relation *rel = types_relation(types, DUCT_LEN(types));
		struct duct_batch *b = duct_batch_new(rel, N);
		for (int64_t i = 0; i < N; i++) {
			char bytes[3000];
			for (size_t k = 0; k < sizeof bytes; k += 8) {
				uint64_t word = (random_next(&r) & UINT64_C(0x3f3f3f3f3f3f3f3f)) | UINT64_C(0x4040404040404040);
				memcpy(bytes + k, &word, 8);
			}
			duct_batch_add_row(b, DUCT_INSERT, (uint64_t)i);
			put(b, 0, bytes, 32);
			put(b, 1, bytes, (size_t)(i % 97));
			if (i % 3)
				put(b, 2, bytes, (size_t)(i % 5 ? i % 11 : 0));
			else
				duct_vector_append_null(b, &b->columns[2]);
			put(b, 3, bytes, 8 + (i % 1000 ? random_below(&r, 9) : 2900));
			put(b, 4, "", 0);
			if (i > N - 70)
				put(b, 5, bytes, 20);
			else
				duct_vector_append_null(b, &b->columns[5]);
			put(b, 6, &i, 8);
		}
		duct_batch_seal(b);
		first_version = round;
		struct lake_new_file *file = write_batch(b, round ? "zstd" : "snappy", 0);
		first_version = false;
		check_batch(file, b);
		check_points(file, b);
		assert_int_equal(ask("SELECT count(DISTINCT column_id) FROM parquet_metadata('%s') WHERE encodings LIKE "
				     "'%%DELTA_LENGTH_BYTE_ARRAY%%'",
				     file->path),
				 round ? 0 : 5);
		assert_int_equal(ask("SELECT count(*) FROM parquet_metadata('%s') WHERE encodings LIKE '%%DELTA%%'", file->path) >
					 0,
				 !round);
		done(file, b);
	}
}

/* Values without room in a page or a bound, beside empty ones and NULLs. */
static void giants(void **state)
{
	static const struct duct_type types[] = {{.kind = DUCT_VARCHAR},
						 {.kind = DUCT_BLOB},
						 {.kind = DUCT_INT32},
						 {.kind = DUCT_JSON},
						 {.kind = DUCT_LIST, .nchildren = 1, .children = test_int_child}};
	enum { GIANT = 40 << 20, LIST = 1 << 20 };
	struct duct_relation *rel = types_relation(types, DUCT_LEN(types));
	struct duct_batch *b = duct_batch_new(rel, 50);
	AUTO_FREE char *giant = duct_xmalloc(GIANT), *list = duct_xmalloc(4 + LIST * 5);
	(void)state;
	for (size_t i = 0; i < GIANT; i++)
		giant[i] = (char)('a' + i * i % 23);
	uint32_t n = LIST;
	memcpy(list, &n, 4);
	for (uint32_t i = 0; i < n; i++) {
		list[4 + i * 5] = 1;
		memcpy(list + 5 + i * 5, &i, 4);
	}
	for (int i = 0; i < 50; i++) {
		duct_batch_add_row(b, DUCT_INSERT, 0);
		put(b, 0, giant, i == 20 ? GIANT : i == 30 ? 100000 : i % 3);
		put(b, 1, giant + i, i == 21 ? GIANT / 4 : 0);
		duct_vector_append_null(b, &b->columns[2]);
		put(b, 3, "\"\"", 2);
		if (i == 25)
			put(b, 4, list, 4 + LIST * 5);
		else
			put(b, 4, "\0\0\0\0", 4);
	}
	duct_batch_seal(b);
	struct lake_new_file *file = write_batch(b, "snappy", 0);
	check_batch(file, b);
	assert_int_equal(file->stats[2].value_count, 0);
	assert_int_equal(file->stats[2].null_count, 50);
	assert_int_equal(file->stats[4].value_count, LIST);
	assert_int_equal(file->stats[4].null_count, 49);
	assert_string_equal(file->stats[4].max, "1048575");
	done(file, b);
}

/* Row groups end by bytes where rows are wide; each codec. */
static void codecs(void **state)
{
	static const struct duct_type types[] = {{.kind = DUCT_INT64}, {.kind = DUCT_VARCHAR}};
	static const char *const names[] = {"zstd", "snappy", "gzip", "brotli", "lz4_raw", "lz4", "uncompressed", "none", "ZSTD"};
	enum { N = 6000, WIDTH = 20000 };
	(void)state;
	struct duct_relation *rel = types_relation(types, 2);
	struct duct_batch *b = duct_batch_new(rel, N);
	AUTO_FREE char *text = duct_xmalloc(WIDTH);
	for (int64_t i = 0; i < N; i++) {
		memset(text, (int)('a' + i % 26), WIDTH);
		memcpy(text, &"0123456789"[i % 10], 1);
		duct_batch_add_row(b, DUCT_INSERT, 0);
		put(b, 0, &i, 8);
		put(b, 1, text, WIDTH - (size_t)(i % 100));
	}
	duct_batch_seal(b);
	for (size_t i = 0; i < DUCT_LEN(names); i++) {
		struct lake_new_file *file = write_batch(b, names[i], 0);
		check_batch(file, b);
		assert_in_range(ask("SELECT count(DISTINCT row_group_id) FROM parquet_metadata('%s')", file->path), 3, 4);
		assert_in_range(ask("SELECT max(row_group_num_rows) FROM parquet_metadata('%s')", file->path), 2048, 3000);
		unlink(file->path);
		lake_new_file_free(file);
	}
	struct lake_rows rows = {.next = batch_next, .map = same_columns, .arg = &(struct duct_batch *){b}};
	struct lake_write_spec spec = {.dir = folder, .columns = columns, .ncolumns = 2, .compression = "lzo"};
	struct lake_new_file *file;
	struct duct_error err;
	assert_int_equal(lake_write_file(&spec, &rows, &file, NULL, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "no Parquet codec is called \"lzo\""));
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

/* --- statistics --- */

static void text_at(struct duct_buf *to, duckdb_vector vector, idx_t at)
{
	uint64_t *valid = duckdb_vector_get_validity(vector);
	duckdb_string_t *s = (duckdb_string_t *)duckdb_vector_get_data(vector) + at;
	to->len = 0;
	if (!valid || duckdb_validity_row_is_valid(valid, at))
		duct_buf_append(to, duckdb_string_t_data(s), duckdb_string_t_length(*s));
}

static bool fact_is(const char *ours, bool have, const struct duct_buf *theirs)
{
	return !have ? !ours : ours && strlen(ours) == theirs->len && memcmp(ours, theirs->data, theirs->len) == 0;
}

/* DuckDB writes the same rows again and says what is in them: a leaf's facts in the order of the leaves. */
static void same_facts(const struct lake_column_stats *ours, duckdb_vector facts, duckdb_list_entry entry, const char *type)
{
	duckdb_vector pair = duckdb_list_vector_get_child(facts);
	duckdb_vector keys = duckdb_struct_vector_get_child(pair, 0), values = duckdb_struct_vector_get_child(pair, 1);
	struct duct_buf key AUTO_BUF = {0}, value AUTO_BUF = {0}, min AUTO_BUF = {0}, max AUTO_BUF = {0};
	bool has_min = false, has_max = false, nan = false;
	int64_t nvalues = 0, nulls = 0;
	for (idx_t i = entry.offset; i < entry.offset + entry.length; i++) {
		text_at(&key, keys, i);
		text_at(&value, values, i);
		if (strcmp(key.data, "num_values") == 0)
			nvalues = strtoll(value.data, NULL, 10);
		else if (strcmp(key.data, "null_count") == 0)
			nulls = strtoll(value.data, NULL, 10);
		else if (strcmp(key.data, "has_nan") == 0)
			nan = strcmp(value.data, "true") == 0;
		else if (strcmp(key.data, "min") == 0)
			has_min = true, duct_buf_append(&min, value.data, value.len);
		else if (strcmp(key.data, "max") == 0)
			has_max = true, duct_buf_append(&max, value.data, value.len);
	}
	has_min &= has_max;
	if (has_min && nan && min.len == max.len && memcmp(min.data, max.data, min.len) == 0)
		has_min = false; /* see lake_bounds_stats() */
	/* Of a struct inside a list DuckDB counts some values as NULL (a query finds ours right). */
	bool miscounted = strstr(type, "\"element\".\"") && ours->null_count < nulls;
	if ((ours->null_count != nulls && !miscounted) || ours->value_count + ours->null_count != nvalues)
		fail_msg("%s: %d values and %d NULLs, DuckDB says %d and %d", type, (int)ours->value_count, (int)ours->null_count,
			 (int)(nvalues - nulls), (int)nulls);
	if ((ours->contains_nan == 1) != nan)
		fail_msg("%s: NaN is %d, DuckDB says %d", type, ours->contains_nan, nan);
	if (!fact_is(ours->min, has_min, &min) || !fact_is(ours->max, has_min, &max))
		fail_msg("%s: our bounds are %s and %s, DuckDB's %s and %s", type, ours->min, ours->max, min.data, max.data);
}

/* Each leaf below a node, found by its path in DuckDB's map: "c0"."element". Returns how many there are. */
static int same_leaves(const struct lake_column_stats *ours, duckdb_vector map, struct duct_buf *path, const struct duct_type *type,
		       const char *name)
{
	duckdb_vector pair = duckdb_list_vector_get_child(map);
	duckdb_vector paths = duckdb_struct_vector_get_child(pair, 0), facts = duckdb_struct_vector_get_child(pair, 1);
	struct duct_buf other AUTO_BUF = {0};
	size_t len = path->len;
	int n = 0;
	duct_buf_puts(path, len ? "." : "");
	duct_buf_sql_ident(path, name);
	for (int i = 0; i < type->nchildren; i++)
		n += same_leaves(ours + n, map, path, &type->children[i], type->children[i].name);
	for (idx_t i = 0; !type->nchildren && !n && i < duckdb_list_vector_get_size(map); i++) {
		text_at(&other, paths, i);
		if (strcmp(other.data, path->data) != 0)
			continue;
		same_facts(ours, facts, ((duckdb_list_entry *)duckdb_vector_get_data(facts))[i], path->data);
		n++;
	}
	path->len = len;
	assert_true(n > 0);
	return n;
}

static void statistics(void **state)
{
	(void)state;
	for (size_t t = 0; t < DUCT_LEN(test_types); t++)
		for (unsigned round = 0; round < 6; round++) {
			struct random_values r = {.state = 5 + t * 8 + round, .plain = true};
			struct duct_relation *rel = types_relation(&test_types[t], 1);
			struct duct_batch *b = random_batch(rel, round < 2 ? round + 1 : 300, round == 4 ? 1 : round, &r);
			struct lake_new_file *file = write_batch(b, "zstd", 0);
			AUTO_FREE char *sql = duct_xasprintf(
				"COPY (SELECT * FROM read_parquet('%s')) TO '%sagain.parquet' (FORMAT PARQUET, RETURN_STATS, "
				"DICTIONARY_SIZE_LIMIT 0)",
				file->path, folder);
			struct duct_buf name AUTO_BUF = {0};
			duckdb_result result;
			struct duct_error err;
			if (duck_query(conn, sql, &result, &err))
				fail_msg("%s", err.message);
			duckdb_data_chunk chunk = duckdb_fetch_chunk(result);
			duckdb_vector map = duckdb_data_chunk_get_vector(chunk, 4);
			assert_string_equal(duckdb_column_name(&result, 4), "column_statistics");
			assert_string_equal(duckdb_column_name(&result, 3), "footer_size_bytes");
			assert_int_equal(same_leaves(file->stats, map, &name, &test_types[t], "c0"), file->nstats);
			duckdb_destroy_data_chunk(&chunk);
			duckdb_destroy_result(&result);
			done(file, b);
		}
}

/* Long strings: cut at 256 bytes at the end of a character; the upper bound is raised at its last character. */
static void long_bounds(void **state)
{
	static const struct duct_type types[] = {{.kind = DUCT_VARCHAR}, {.kind = DUCT_BLOB}};
	static const struct {
		const char *unit;
		int times;
		const char *tail, *min_tail, *max_tail; /* behind unit x (min_times, max_times) */
		int min_times, max_times;
	} cases[] = {
		{"x", 257, "", "", "y", 256, 255},
		{"x", 256, "", "", "", 256, 256},
		{"\xc3\xa9", 129, "", "", "\xc3\xaa", 128, 127},
		{"a", 255, "\xe2\x82\xac", "", "b", 255, 254},
		{"\xf0\x9f\x98\x80", 100, "", "", "\xf0\x9f\x98\x81", 64, 63},
		{"\xf4\x8f\xbf\xbf", 100, "", NULL, NULL, 0, 0}, /* nothing is above */
	};
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		struct duct_relation *rel = types_relation(types, 2);
		struct duct_batch *b = duct_batch_new(rel, 1);
		struct duct_buf text AUTO_BUF = {0}, min AUTO_BUF = {0}, max AUTO_BUF = {0};
		for (int k = 0; k < cases[i].times; k++)
			duct_buf_puts(&text, cases[i].unit);
		duct_buf_puts(&text, cases[i].tail);
		duct_batch_add_row(b, DUCT_INSERT, 0);
		put(b, 0, text.data, text.len);
		put(b, 1, text.data, text.len);
		duct_batch_seal(b);
		struct lake_new_file *file = write_batch(b, "zstd", 0);
		check_batch(file, b);
		for (int k = 0; k < cases[i].min_times; k++)
			duct_buf_puts(&min, cases[i].unit);
		for (int k = 0; k < cases[i].max_times; k++)
			duct_buf_puts(&max, cases[i].unit);
		if (cases[i].min_tail) {
			duct_buf_puts(&min, cases[i].min_tail);
			duct_buf_puts(&max, cases[i].max_tail);
			assert_string_equal(file->stats[0].min, min.data);
			assert_string_equal(file->stats[0].max, max.data);
		} else {
			assert_null(file->stats[0].min);
			assert_null(file->stats[0].max);
		}
		assert_non_null(file->stats[1].min);
		assert_int_equal(strlen(file->stats[1].min), text.len > 256 ? 512 : 2 * text.len);
		done(file, b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_and_bits), cmocka_unit_test(differences),	 cmocka_unit_test(integers),
		cmocka_unit_test(equal_hashes),	 cmocka_unit_test(dictionaries), cmocka_unit_test(strings),
		cmocka_unit_test(giants),	 cmocka_unit_test(codecs),	 cmocka_unit_test(statistics),
		cmocka_unit_test(long_bounds),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
