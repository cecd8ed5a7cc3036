/* Text of values: the vectors of the DuckLake reference, the round trip through the parser, and DuckDB's own casts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "duck/types.h"
#include "lake/parquet_internal.h"
#include "record/format.h"
#include "random_values.h"

#define VALUE(v) ((struct duct_cell){(const char *)&(v), sizeof(v)})

static void check(const struct duct_type *type, struct duct_cell cell, const char *want)
{
	struct duct_buf text AUTO_BUF = {0}, back AUTO_BUF = {0};
	struct duct_error err;
	duct_format_value(&text, type, cell);
	assert_string_equal(text.data, want);
	int ret = duct_parse_value(&back, type, text.data, text.len, &err);
	if (ret)
		fail_msg("%s", err.message);
	assert_int_equal(back.len, cell.len);
	if (cell.len)
		assert_memory_equal(back.data, cell.data, cell.len);
}

static void floats(void **state)
{
	static const struct {
		double v;
		const char *text;
	} doubles[] = {
		{1, "1.0"},
		{-0.0, "-0.0"},
		{0, "0.0"},
		{0.1 + 0.2, "0.30000000000000004"},
		{1e15, "1000000000000000.0"},
		{1e16, "1e+16"},
		{1e22, "1e+22"},
		{1e-4, "0.0001"},
		{1e-5, "1e-05"},
		{1.7976931348623157e308, "1.7976931348623157e+308"},
		{5e-324, "5e-324"},
		{9007199254740993.0, "9007199254740992.0"},
		{INFINITY, "inf"},
		{-INFINITY, "-inf"},
		{1.5, "1.5"},
		{123456.789, "123456.789"},
		{1e100, "1e+100"},
		{0x1p-44, "5.684341886080802e-14"},
		{9.5e-5, "9.5e-05"},
	};
	static const struct {
		float v;
		const char *text;
	} singles[] = {
		{3.14F, "3.14"},  {123456789.0F, "123456790.0"},     {16777216, "16777216.0"}, {1e15F, "1000000000000000.0"},
		{1e16F, "1e+16"}, {3.40282347e38F, "3.4028235e+38"}, {1.4e-45F, "1e-45"},
	};
	static const struct duct_type f64 = {.kind = DUCT_FLOAT64}, f32 = {.kind = DUCT_FLOAT32};
	double nan_value = NAN;
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(doubles); i++)
		check(&f64, VALUE(doubles[i].v), doubles[i].text);
	for (size_t i = 0; i < DUCT_LEN(singles); i++)
		check(&f32, VALUE(singles[i].v), singles[i].text);
	check(&f64, VALUE(nan_value), "nan");
}

static void check_decimal(int precision, int scale, int64_t v, const char *want)
{
	struct duct_type type = {.kind = DUCT_DECIMAL, .precision = (uint8_t)precision, .scale = (uint8_t)scale};
	test_i128 wide = v;
	check(&type, (struct duct_cell){(const char *)&wide, duct_type_width(&type)}, want);
}

static void decimals(void **state)
{
	(void)state;
	check_decimal(4, 1, 0, "0.0");
	check_decimal(18, 4, 15000, "1.5000");
	check_decimal(9, 9, 1, ".000000001");
	check_decimal(9, 9, -500000000, "-.500000000");
	check_decimal(3, 3, 0, ".000");
	check_decimal(4, 2, 10, "0.10");
	check_decimal(1, 0, 0, "0");
	check_decimal(38, 0, INT64_MIN, "-9223372036854775808");
	test_i128 nines = 1;
	for (int i = 0; i < 38; i++)
		nines *= 10;
	nines--;
	check(&(struct duct_type){.kind = DUCT_DECIMAL, .precision = 38}, VALUE(nines), "99999999999999999999999999999999999999");
}

static void scalars(void **state)
{
	static const struct duct_type b = {.kind = DUCT_BOOL}, i8 = {.kind = DUCT_INT8}, i64 = {.kind = DUCT_INT64},
				      u64 = {.kind = DUCT_UINT64}, date = {.kind = DUCT_DATE}, t = {.kind = DUCT_TIME},
				      ts = {.kind = DUCT_TIMESTAMP}, tz = {.kind = DUCT_TIMESTAMPTZ}, uuid = {.kind = DUCT_UUID},
				      blob = {.kind = DUCT_BLOB}, text = {.kind = DUCT_VARCHAR};
	static const struct {
		const struct duct_type *type;
		int64_t v;
		const char *text;
	} cases[] = {
		{&b, 1, "true"},
		{&b, 0, "false"},
		{&i8, -128, "-128"},
		{&i64, INT64_MIN, "-9223372036854775808"},
		{&u64, -1, "18446744073709551615"},
		{&date, -719529 + 1, "0001-01-01 (BC)"},
		{&date, -719163, "0001-12-31 (BC)"},
		{&date, INT32_MAX - 1, "5881580-07-10"},
		{&date, INT32_MAX, "infinity"},
		{&date, -INT32_MAX, "-infinity"},
		{&date, -683224, "0099-05-25"},
		{&date, 2932897, "10000-01-01"},
		{&date, 0, "1970-01-01"},
		{&t, INT64_C(45000000000), "12:30:00"},
		{&t, INT64_C(45000100000), "12:30:00.1"},
		{&t, INT64_C(86400000000), "24:00:00"},
		{&ts, INT64_C(1705321800100000), "2024-01-15 12:30:00.1"},
		{&ts, INT64_MAX - 1, "294247-01-10 04:00:54.775806"},
		{&ts, INT64_C(-9223372022400000000), "290309-12-22 (BC) 00:00:00"},
		{&ts, INT64_MAX, "infinity"},
		{&ts, -INT64_MAX, "-infinity"},
		{&tz, INT64_C(1705302000123456), "2024-01-15 07:00:00.123456+00"},
		{&tz, INT64_C(-63511300800000000), "0044-05-29 (BC) 12:00:00+00"},
		{&tz, INT64_MAX, "infinity"},
	};
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(cases); i++)
		check(cases[i].type, (struct duct_cell){(const char *)&cases[i].v, duct_type_width(cases[i].type)}, cases[i].text);
	check(&uuid, (struct duct_cell){"\x55\x0e\x84\x00\xe2\x9b\x41\xd4\xa7\x16\x44\x66\x55\x44\x00\x00", 16},
	      "550e8400-e29b-41d4-a716-446655440000");
	check(&blob,
	      (struct duct_cell){"\0\xff"
				 "ab'\"\\~\x7f",
				 9},
	      "\\x00\\xFFab\\x27\\x22\\x5C~\\x7F");
	check(&blob, (struct duct_cell){"", 0}, "");
	check(&text, (struct duct_cell){"O'Brien", 7}, "O'Brien");
	struct duct_buf null AUTO_BUF = {0};
	duct_format_value(&null, &text, (struct duct_cell){NULL, 0});
	assert_string_equal(null.data, "NULL");
}

static void put_text(struct duct_buf *to, const char *text)
{
	uint32_t n = text ? (uint32_t)strlen(text) : 0;
	duct_buf_putc(to, text != NULL);
	if (text) {
		duct_buf_append(to, &n, sizeof n);
		duct_buf_append(to, text, n);
	}
}

static void nested(void **state)
{
	static const char *const texts[] = {"",	   "NULL",	  NULL,	    "a",   "b c", "a,b",  "it's",  "q\"q", "[x]",
					    "{y}", "back\\slash", " lead ", "a:b", "a;b", "nUlL", "NULLx", "\\'"};
	static const struct duct_type fields[] = {{.kind = DUCT_INT32, .name = "A b"}, {.kind = DUCT_VARCHAR, .name = "m'"}};
	static const struct duct_type list = {.kind = DUCT_LIST, .nchildren = 1, .children = test_text_child};
	static const struct duct_type strct = {.kind = DUCT_STRUCT, .nchildren = 2, .children = fields};
	static const struct duct_type map_children[] = {{.kind = DUCT_VARCHAR, .name = "key"},
							{.kind = DUCT_INT32, .name = "value"}};
	static const struct duct_type map = {.kind = DUCT_MAP, .nchildren = 2, .children = map_children};
	static const struct duct_type json_child[] = {{.kind = DUCT_JSON, .name = "element"}};
	static const struct duct_type jsons = {.kind = DUCT_LIST, .nchildren = 1, .children = json_child};
	struct duct_buf v AUTO_BUF = {0}, text AUTO_BUF = {0};
	uint32_t n = DUCT_LEN(texts);
	int32_t one = 1;
	(void)state;
	duct_buf_append(&v, &n, sizeof n);
	for (size_t i = 0; i < n; i++)
		put_text(&v, texts[i]);
	duct_format_value(&text, &list, (struct duct_cell){v.data, (uint32_t)v.len});
	assert_string_equal(
		text.data,
		"['', 'NULL', NULL, a, b c, 'a,b', 'it\\'s', 'q\"q', '[x]', '{y}', back\\slash, ' lead ', 'a:b', a;b, 'nUlL', "
		"NULLx, '\\\\\\'']");
	v.len = text.len = 0;
	duct_buf_putc(&v, 1);
	duct_buf_append(&v, &one, sizeof one);
	put_text(&v, "2024-01-15 12:30:00");
	duct_format_value(&text, &strct, (struct duct_cell){v.data, (uint32_t)v.len});
	assert_string_equal(text.data, "{'A b': 1, 'm\\'': '2024-01-15 12:30:00'}");
	v.len = text.len = 0;
	n = 2;
	duct_buf_append(&v, &n, sizeof n);
	duct_buf_append(&v, "\5\0\0\0k=,v'\1", 10);
	duct_buf_append(&v, &one, sizeof one);
	duct_buf_append(&v, "\0\0\0\0\0", 5);
	duct_format_value(&text, &map, (struct duct_cell){v.data, (uint32_t)v.len});
	assert_string_equal(text.data, "{'k=,v\\''=1, ''=NULL}");
	v.len = text.len = 0;
	n = 3;
	duct_buf_append(&v, &n, sizeof n);
	put_text(&v, "\"a,b\"");
	put_text(&v, NULL);
	put_text(&v, "{\"k\": [1]}");
	duct_format_value(&text, &jsons, (struct duct_cell){v.data, (uint32_t)v.len});
	assert_string_equal(text.data, "[\"a,b\", null, {\"k\": [1]}]");
}

static void refuses(void **state)
{
	static const struct {
		struct duct_type type;
		const char *text;
	} cases[] = {
		{{.kind = DUCT_BOOL}, "yes"},
		{{.kind = DUCT_INT8}, "128"},
		{{.kind = DUCT_INT8}, "-129"},
		{{.kind = DUCT_INT8}, ""},
		{{.kind = DUCT_INT8}, "-"},
		{{.kind = DUCT_INT8}, "1.0"},
		{{.kind = DUCT_UINT8}, "-1"},
		{{.kind = DUCT_UINT8}, "256"},
		{{.kind = DUCT_INT64}, "9223372036854775808"},
		{{.kind = DUCT_UINT64}, "18446744073709551616"},
		{{.kind = DUCT_FLOAT64}, "0x10"},
		{{.kind = DUCT_FLOAT64}, " 1"},
		{{.kind = DUCT_FLOAT64}, "1e"},
		{{.kind = DUCT_FLOAT64}, "1e999"},
		{{.kind = DUCT_FLOAT64}, "."},
		{{.kind = DUCT_FLOAT32}, "1e39"},
		{{.kind = DUCT_DECIMAL, .precision = 4, .scale = 2}, "100.00"},
		{{.kind = DUCT_DECIMAL, .precision = 4, .scale = 2}, "1.005"},
		{{.kind = DUCT_DECIMAL, .precision = 4, .scale = 2}, "1.0.0"},
		{{.kind = DUCT_DECIMAL, .precision = 4, .scale = 2}, "."},
		{{.kind = DUCT_DATE}, "2023-02-29"},
		{{.kind = DUCT_DATE}, "2024-13-01"},
		{{.kind = DUCT_DATE}, "0000-01-01"},
		{{.kind = DUCT_DATE}, "2024-01-01 "},
		{{.kind = DUCT_DATE}, "5881580-07-11"},
		{{.kind = DUCT_TIME}, "24:00:00.000001"},
		{{.kind = DUCT_TIME}, "12:60:00"},
		{{.kind = DUCT_TIME}, "12:00"},
		{{.kind = DUCT_TIMESTAMP}, "2024-01-01 00:00:00+00"},
		{{.kind = DUCT_TIMESTAMP}, "294247-01-10 04:00:54.775807"},
		{{.kind = DUCT_TIMESTAMPTZ}, "2024-01-01 00:00:00+0"},
		{{.kind = DUCT_TIMESTAMPTZ}, "2024-01-01 00:00:00+99:00"},
		{{.kind = DUCT_TIMESTAMPTZ}, "2024-01-01 00:00:00-16"},
		{{.kind = DUCT_UUID}, "550e8400e29b41d4a716446655440000"},
		{{.kind = DUCT_UUID}, "550e8400-e29b-41d4-a716-44665544000g"},
		{{.kind = DUCT_BLOB}, "\\x0"},
		{{.kind = DUCT_BLOB}, "\\"},
		{{.kind = DUCT_LIST, .nchildren = 1, .children = test_int_child}, "[1]"},
	};
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		struct duct_buf to AUTO_BUF = {0};
		struct duct_error err = {0};
		duct_buf_puts(&to, "kept");
		int ret = duct_parse_value(&to, &cases[i].type, cases[i].text, strlen(cases[i].text), &err);
		if (ret != -DUCT_DATA)
			fail_msg("\"%s\" was taken", cases[i].text);
		assert_int_equal(to.len, 4);
	}
}

static void other_spellings(void **state)
{
	static const struct {
		struct duct_type type;
		const char *text;
		int64_t v;
	} cases[] = {
		{{.kind = DUCT_BOOL}, "1", 1},
		{{.kind = DUCT_BOOL}, "TRUE", 1},
		{{.kind = DUCT_BOOL}, "0", 0},
		{{.kind = DUCT_INT16}, "+7", 7},
		{{.kind = DUCT_DECIMAL, .precision = 9, .scale = 2}, "1.5", 150},
		{{.kind = DUCT_DECIMAL, .precision = 9, .scale = 2}, "7", 700},
		{{.kind = DUCT_DECIMAL, .precision = 9, .scale = 2}, "-.5000", -50},
		{{.kind = DUCT_TIMESTAMPTZ}, "1970-01-01 00:00:00-01:30", INT64_C(5400000000)},
		{{.kind = DUCT_TIMESTAMPTZ}, "1970-01-01 00:00:00", 0},
		{{.kind = DUCT_TIMESTAMP}, "1970-01-02", INT64_C(86400000000)},
	};
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		struct duct_buf to AUTO_BUF = {0};
		struct duct_error err;
		assert_int_equal(duct_parse_value(&to, &cases[i].type, cases[i].text, strlen(cases[i].text), &err), 0);
		assert_int_equal(to.len, duct_type_width(&cases[i].type));
		assert_memory_equal(to.data, &cases[i].v, to.len);
	}
}

static void order(void **state)
{
	static const struct duct_type f64 = {.kind = DUCT_FLOAT64}, text = {.kind = DUCT_VARCHAR}, uuid = {.kind = DUCT_UUID},
				      u64 = {.kind = DUCT_UINT64}, dec = {.kind = DUCT_DECIMAL, .precision = 38};
	double d[] = {-INFINITY, -1, -0.0, 1, INFINITY, NAN};
	uint64_t u[] = {0, 1, UINT64_MAX};
	test_i128 w[] = {-((test_i128)1 << 100), -1, 0, (test_i128)1 << 100};
	static const char *const s[] = {"", "a", "a\xc3\xa9", "ab" /* < é in bytes */, "b"};
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(d); i++)
		for (size_t j = 0; j < DUCT_LEN(d); j++)
			assert_int_equal(duct_cell_compare(&f64, VALUE(d[i]), VALUE(d[j])), (i > j) - (i < j));
	for (size_t i = 0; i < DUCT_LEN(u); i++)
		for (size_t j = 0; j < DUCT_LEN(u); j++)
			assert_int_equal(duct_cell_compare(&u64, VALUE(u[i]), VALUE(u[j])), (i > j) - (i < j));
	for (size_t i = 0; i < DUCT_LEN(w); i++)
		for (size_t j = 0; j < DUCT_LEN(w); j++)
			assert_int_equal(duct_cell_compare(&dec, VALUE(w[i]), VALUE(w[j])), (i > j) - (i < j));
	double zero = 0.0;
	assert_int_equal(duct_cell_compare(&f64, VALUE(d[2]), VALUE(zero)), 0);
	struct duct_cell a = {s[1], 1}, ab = {s[3], 2}, accent = {s[2], 3}, empty = {s[0], 0};
	assert_true(duct_cell_compare(&text, empty, a) < 0);
	assert_true(duct_cell_compare(&text, a, ab) < 0);
	assert_true(duct_cell_compare(&text, accent, ab) > 0);
	assert_true(duct_cell_compare(&text, ab, ab) == 0);
	assert_true(duct_cell_compare(&uuid, (struct duct_cell){"\x80zzzzzzzzzzzzzzz", 16},
				      (struct duct_cell){"\x7fzzzzzzzzzzzzzzz", 16}) > 0);
}

static void check_cast(struct duct_type from, int64_t v, struct duct_type into, const char *want)
{
	struct duct_buf wide AUTO_BUF = {0}, text AUTO_BUF = {0};
	struct duct_error err;
	test_i128 value = v;
	int ret = duct_cell_cast(&wide, &from, (struct duct_cell){(const char *)&value, duct_type_width(&from)}, &into, &err);
	if (!want) {
		assert_int_equal(ret, -DUCT_DATA);
		assert_int_equal(wide.len, 0);
		return;
	}
	assert_int_equal(ret, 0);
	assert_int_equal(wide.len, duct_type_width(&into));
	duct_format_value(&text, &into, (struct duct_cell){wide.data, (uint32_t)wide.len});
	assert_string_equal(text.data, want);
}

static void casts(void **state)
{
	float third = 0.1F;
	int32_t bits;
	(void)state;
	memcpy(&bits, &third, sizeof bits);
	check_cast((struct duct_type){.kind = DUCT_INT8}, -5, (struct duct_type){.kind = DUCT_INT64}, "-5");
	check_cast((struct duct_type){.kind = DUCT_UINT32}, UINT32_MAX, (struct duct_type){.kind = DUCT_INT64}, "4294967295");
	check_cast((struct duct_type){.kind = DUCT_UINT8}, 200, (struct duct_type){.kind = DUCT_UINT16}, "200");
	check_cast((struct duct_type){.kind = DUCT_INT32}, INT32_MIN, (struct duct_type){.kind = DUCT_FLOAT64}, "-2147483648.0");
	check_cast((struct duct_type){.kind = DUCT_FLOAT32}, bits, (struct duct_type){.kind = DUCT_FLOAT64}, "0.10000000149011612");
	check_cast((struct duct_type){.kind = DUCT_DATE}, 1, (struct duct_type){.kind = DUCT_TIMESTAMP}, "1970-01-02 00:00:00");
	check_cast((struct duct_type){.kind = DUCT_DATE}, DUCT_DATE_NINF, (struct duct_type){.kind = DUCT_TIMESTAMP}, "-infinity");
	check_cast((struct duct_type){.kind = DUCT_DATE}, INT32_MAX - 1, (struct duct_type){.kind = DUCT_TIMESTAMP}, NULL);
	check_cast((struct duct_type){.kind = DUCT_DECIMAL, .precision = 4, .scale = 1}, -15,
		   (struct duct_type){.kind = DUCT_DECIMAL, .precision = 38, .scale = 20}, "-1.50000000000000000000");
	check_cast((struct duct_type){.kind = DUCT_DECIMAL, .precision = 38, .scale = 0}, INT64_MAX,
		   (struct duct_type){.kind = DUCT_DECIMAL, .precision = 18, .scale = 4}, NULL);
	check_cast((struct duct_type){.kind = DUCT_INT64}, 1, (struct duct_type){.kind = DUCT_VARCHAR}, NULL);
	check_cast((struct duct_type){.kind = DUCT_INT16}, 300, (struct duct_type){.kind = DUCT_INT8}, NULL);
}

/* --- against DuckDB --- */

static const struct duct_batch *fed;
static bool fed_once;

static int next_rows(void *arg, const struct lake_row_ref **rows, const int64_t **ids, size_t *n, struct duct_error *err)
{
	static struct lake_row_ref refs[3000];
	(void)arg, (void)err;
	*n = fed_once ? 0 : fed->rows;
	for (uint32_t i = 0; i < *n; i++)
		refs[i] = (struct lake_row_ref){fed, i};
	*rows = refs;
	*ids = NULL;
	fed_once = true;
	return 0;
}

static const int *map_columns(void *arg, const struct duct_relation *rel)
{
	static const int one[2] = {0, 1};
	(void)arg, (void)rel;
	return one;
}

/* Runs SQL (with %s for the file that the batch was written to) and gives the first column's texts to `row`. */
static void run_duck(struct duck_conn *conn, const struct duct_batch *batch, const char *format,
		     void (*row)(uint32_t, const char *, size_t))
{
	static const int64_t leaf_ids[64] = {0}; /* nobody looks at them here */
	struct lake_column columns[2] = {
		{.name = "c0", .id = 1, .type = batch->columns[0].type[0], .leaf_ids = (int64_t *)(uintptr_t)leaf_ids},
		{.name = "c1", .id = 2}};
	char folder[] = "/tmp/test_format.XXXXXX";
	assert_non_null(mkdtemp(folder));
	AUTO_FREE char *dir = duct_xasprintf("%s/", folder);
	struct lake_write_spec spec = {.dir = dir,
				       .columns = columns,
				       .ncolumns = batch->relation->ncolumns,
				       .compression = "none"};
	struct lake_rows rows = {.next = next_rows, .map = map_columns};
	struct lake_new_file *file;
	struct duct_buf sql AUTO_BUF = {0};
	struct duct_error err;
	if (spec.ncolumns == 2)
		columns[1].type = batch->columns[1].type[0];
	fed = batch;
	fed_once = false;
	if (lake_write_file(&spec, &rows, &file, NULL, &err))
		fail_msg("%s", err.message);
	duct_buf_printf(&sql, format, file->path);
	duckdb_result result;
	if (duck_query(conn, sql.data, &result, &err))
		fail_msg("%s: %s", sql.data, err.message);
	duckdb_data_chunk chunk;
	uint32_t at = 0;
	for (; (chunk = duckdb_fetch_chunk(result)); duckdb_destroy_data_chunk(&chunk)) {
		duckdb_string_t *s = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));
		for (idx_t i = 0; i < duckdb_data_chunk_get_size(chunk); i++)
			row(at++, duckdb_string_t_data(&s[i]), duckdb_string_t_length(s[i]));
	}
	assert_int_equal(at, batch->rows);
	duckdb_destroy_result(&result);
	assert_int_equal(unlink(file->path), 0);
	assert_int_equal(rmdir(folder), 0);
	lake_new_file_free(file);
}

static bool holds_floats(const struct duct_type *type)
{
	return type->kind == DUCT_FLOAT32 || type->kind == DUCT_FLOAT64;
}

/* DuckDB is not an oracle for all floats. Where two shortest texts are equally near it writes a longer one (2536450.75F), and a
 * few doubles it writes wrongly: 0x1p81 as 4.835703278458517e+24 (twice the value), 8.535058474086213e+242 with
 * the digit "A". Ours reads back and is not longer. */
static bool floats_agree(const struct duct_vector *v, uint32_t i, const char *ours, const char *text, size_t len)
{
	struct duct_cell cell = duct_vector_cell(v, i);
	if (strlen(ours) > len && v->type->kind == DUCT_FLOAT32)
		return false;
	if (v->type->kind == DUCT_FLOAT32)
		return strtof(ours, NULL) == *(const float *)(const void *)cell.data;
	AUTO_FREE char *theirs = duct_xstrndup(text, len);
	double d = *(const double *)(const void *)cell.data;
	return strtod(theirs, NULL) != d && strtod(ours, NULL) == d && strlen(ours) <= 24;
}

static void same_text(uint32_t i, const char *text, size_t len)
{
	struct duct_buf ours AUTO_BUF = {0};
	duct_format_value(&ours, fed->columns[0].type, duct_vector_cell(&fed->columns[0], i));
	if (holds_floats(fed->columns[0].type) && floats_agree(&fed->columns[0], i, ours.data, text, len))
		return;
	/* Its zoned cast goes through a double of milliseconds. */
	int64_t us = fed->columns[0].width == 8 ? ((const int64_t *)(const void *)fed->columns[0].data)[i] : 0;
	if (fed->columns[0].type->kind == DUCT_TIMESTAMPTZ && llabs(us) > INT64_C(1) << 52 && us != INT64_MAX && us != -INT64_MAX)
		return;
	if (ours.len != len || memcmp(ours.data, text, len) != 0)
		fail_msg("DuckDB says <%.*s>, we say <%s>", (int)len, text, ours.data);
}

static void is_true(uint32_t i, const char *text, size_t len)
{
	struct duct_cell cell = duct_vector_cell(&fed->columns[1], i);
	if (len != 4 || memcmp(text, "true", 4) != 0)
		fail_msg("DuckDB does not read back <%.*s>: %.*s", (int)cell.len, cell.data, (int)len, text);
}

static void as_duckdb_casts(void **state)
{
	struct duck_db *db = duck_open();
	struct duck_conn *conn = duck_connect(db);
	struct duct_error err;
	(void)state;
	for (size_t t = 0; t < DUCT_LEN(test_types); t++) {
		if (test_types[t].nchildren && holds_floats(&test_types[t].children[0]))
			continue; /* see floats_agree() */
		struct random_values r = {.state = t + 77};
		struct duct_relation *rel = types_relation(&test_types[t], 1);
		struct duct_batch *batch = random_batch(rel, 3000, 0, &r);
		run_duck(conn, batch, "SELECT c0::VARCHAR FROM read_parquet('%s')", same_text);
		for (uint32_t i = 0; t < TEST_SCALARS && i < batch->rows; i++) {
			struct duct_buf text AUTO_BUF = {0}, back AUTO_BUF = {0};
			struct duct_cell cell = duct_vector_cell(&batch->columns[0], i);
			duct_format_value(&text, &test_types[t], cell);
			if (duct_parse_value(&back, &test_types[t], text.data, text.len, &err))
				fail_msg("%s", err.message);
			bool nan = (test_types[t].kind == DUCT_FLOAT32 || test_types[t].kind == DUCT_FLOAT64) &&
				strcmp(text.data, "nan") == 0;
			assert_int_equal(back.len, cell.len);
			if (cell.len && !nan)
				assert_memory_equal(back.data, cell.data, cell.len);
		}
		duct_batch_unref(batch);
		duct_relation_unref(rel);
	}
	duck_disconnect(conn);
	duck_close(db);
}

/* Our text of nested values, cast back by DuckDB, is the value: what its reader of inlined data does. */
static void nested_read_by_duckdb(void **state)
{
	struct duck_db *db = duck_open();
	struct duck_conn *conn = duck_connect(db);
	(void)state;
	for (size_t t = TEST_SCALARS; t < DUCT_LEN(test_types); t++) {
		struct random_values r = {.state = t + 7, .plain = true};
		struct duct_type types[2] = {test_types[t], {.kind = DUCT_VARCHAR}};
		struct duct_relation *rel = types_relation(types, 2);
		struct duct_batch *batch = duct_batch_new(rel, 1000);
		struct duct_buf value AUTO_BUF = {0}, text AUTO_BUF = {0}, sql AUTO_BUF = {0};
		for (uint32_t i = 0; i < 1000; i++) {
			value.len = text.len = 0;
			random_bytes(&value, &types[0], &r);
			duct_format_value(&text, &types[0], (struct duct_cell){value.data, (uint32_t)value.len});
			duct_batch_add_row(batch, DUCT_INSERT, i);
			memcpy(duct_vector_append(batch, &batch->columns[0], (uint32_t)value.len), value.data, value.len);
			memcpy(duct_vector_append(batch, &batch->columns[1], (uint32_t)text.len), text.data, text.len);
		}
		duct_batch_seal(batch);
		duct_buf_puts(&sql, "SELECT coalesce((try_cast(c1 AS ");
		duck_sql_type(&sql, &types[0]);
		duct_buf_puts(&sql, ") IS NOT DISTINCT FROM c0)::VARCHAR, 'NULL') FROM read_parquet('%s')");
		run_duck(conn, batch, sql.data, is_true);
		duct_batch_unref(batch);
		duct_relation_unref(rel);
	}
	duck_disconnect(conn);
	duck_close(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(floats),	   cmocka_unit_test(decimals),
		cmocka_unit_test(scalars),	   cmocka_unit_test(nested),
		cmocka_unit_test(refuses),	   cmocka_unit_test(other_spellings),
		cmocka_unit_test(order),	   cmocka_unit_test(casts),
		cmocka_unit_test(as_duckdb_casts), cmocka_unit_test(nested_read_by_duckdb),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
