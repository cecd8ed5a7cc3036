/* Postgres values: the byte vectors of servers 14 to 17, their text forms, and that both give the same lake value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "pg/types.h"
#include "record/format.h"

#define NUMERIC(p, s) (((p) << 16 | ((s)&0x7ff)) + 4)

static struct pg_catalog *catalog;

static void unhex(struct duct_buf *to, const char *hex)
{
	for (; *hex; hex++) {
		unsigned v;
		if (*hex == ' ')
			continue;
		assert_int_equal(sscanf(hex++, "%2x", &v), 1);
		duct_buf_putc(to, (char)v);
	}
}

/* The value of one form as lake text; "error: ..." when it is refused. */
static void decode(struct duct_buf *to, const struct pg_mapping *m, char format, const char *data, size_t len)
{
	struct duct_buf value AUTO_BUF = {0};
	struct duct_error err = {0};
	int rc = pg_decode(m, format, data, len, &value, &err);
	if (rc < 0) {
		assert_int_equal(rc, -DUCT_DATA);
		duct_buf_printf(to, "error: %s", err.message);
		return;
	}
	if (m->width)
		assert_int_equal(value.len, m->width);
	duct_format_value(to, &m->type, (struct duct_cell){value.data ? value.data : "", (uint32_t)value.len});
	if (!to->data)
		duct_buf_puts(to, "");
}

static void check(const struct pg_mapping *m, char format, const char *data, size_t len, const char *want)
{
	struct duct_buf text AUTO_BUF = {0};
	decode(&text, m, format, data, len);
	if (strcmp(text.data, want) != 0)
		fail_msg("%s in form '%c': \"%s\" instead of \"%s\"", m->type_name, format, text.data, want);
}

struct vector {
	uint32_t oid;
	int32_t typmod;
	const char *hex, *text, *want; /* want NULL: as text */
};

static void check_vector(const struct vector *v, int ndims)
{
	struct duct_arena arena;
	struct duct_buf bytes AUTO_BUF = {0};
	duct_arena_init(&arena);
	struct pg_mapping m = pg_mapping_build(catalog, v->oid, v->typmod, ndims, &arena);
	const char *want = v->want ? v->want : v->text;
	unhex(&bytes, v->hex);
	check(&m, 'b', bytes.data ? bytes.data : "", bytes.len, want);
	if (v->text)
		check(&m, 't', v->text, strlen(v->text), want);
	duct_arena_done(&arena);
}

static const struct vector scalars[] = {
	{16, -1, "01", "t", "true"},
	{16, -1, "00", "f", "false"},
	{21, -1, "fffe", "-2", NULL},
	{21, -1, "8000", "-32768", NULL},
	{23, -1, "fffffffe", "-2", NULL},
	{20, -1, "fffffffffffffffe", "-2", NULL},
	{20, -1, "8000000000000000", "-9223372036854775808", NULL},
	{26, -1, "ffffffff", "4294967295", NULL},
	{5069, -1, "ffffffffffffffff", "18446744073709551615", NULL},
	{700, -1, "3fc00000", "1.5", NULL},
	{700, -1, "7fc00000", "NaN", "nan"},
	{700, -1, "ffc00001", NULL, "nan"},
	{701, -1, "fff0000000000000", "-Infinity", "-inf"},
	{701, -1, "8000000000000000", "-0", "-0.0"},
	{701, -1, "7ff8000000000001", "NaN", "nan"},
	{790, -1, "fffffffffffffb2e", "-$12.34", "-12.34"},
	{790, -1, "8000000000000000", "-$92,233,720,368,547,758.08", "-92233720368547758.08"},
	{25, -1, "68c3a9", "h\xc3\xa9", NULL},
	{1042, -1, "61622020", "ab  ", "ab"},
	{18, -1, "78", "x", NULL},
	{18, -1, "00", "", NULL},
	{18, -1, "ff", "\\377", NULL},
	{17, -1, "00ff", "\\x00ff", "\\x00\\xFF"},
	{17, -1, "", "\\x", ""},
	{1082, -1, "ffffd533", "1970-01-01", NULL},
	{1082, -1, "ffda97cd", "4713-01-01 BC", "4713-01-01 (BC)"},
	{1082, -1, "7fda970c", "5874897-12-31", NULL},
	{1082, -1, "7fffffff", "infinity", NULL},
	{1082, -1, "80000000", "-infinity", NULL},
	{1083, -1, "0000000a8be62614", "12:34:56.789012", NULL},
	{1083, -1, "000000141dd76000", "24:00:00", NULL},
	{1266, -1, "0000000a8be62614 ffffe3e0", "12:34:56.789012+02", NULL},
	{1266, -1, "0000000a8be62614 00003138", "12:34:56.789012-03:30", NULL},
	{1266, -1, "000000141dd76000 0000e0ff", "24:00:00-15:59:59", NULL},
	{1114, -1, "fffca2fec4c82000", "1970-01-01 00:00:00", NULL},
	{1114, -1, "0002b5811750c800", "2024-02-29 10:00:00", NULL},
	{1184, -1, "0002b5811750c800", "2024-02-29 12:00:00+02", "2024-02-29 10:00:00+00"},
	{1184, -1, "0002b5811750c800", "2024-02-29 10:00:00+00", NULL},
	{1114, -1, "7fffffffffffffff", "infinity", NULL},
	{1114, -1, "8000000000000000", "-infinity", NULL},
	{1114, -1, "7ffca2fec4c81ffe", "294247-01-10 04:00:54.775806", NULL},
	{1114, -1, "fd0f7cc1411fa000", "4714-11-24 00:00:00 BC", "4714-11-24 (BC) 00:00:00"},
	{1186, -1, "000000036c97ca88 00000003 0000000e", "P1Y2M3DT4H5M6.789S", NULL},
	{1186, -1, "0000000000000000 00000000 00000000", "PT0S", NULL},
	{1186, -1, "ffffffffffffffff 00000001 ffffffff", "P-1M1DT-0.000001S", NULL},
	{1186, -1, "7fffffffffffffff 7fffffff 7fffffff", NULL, "P178956970Y7M2147483647DT2562047788H54.775807S"},
	{2950, -1, "a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", NULL},
	{1560, -1, "00000003a0", "101", NULL},
	{1562, -1, "00000000", "", NULL},
	{869, -1, "02180004c0a80105", "192.168.1.5/24", NULL},
	{869, -1, "02200004c0a80105", "192.168.1.5", NULL},
	{650, -1, "020801040a000000", "10.0.0.0/8", NULL},
	{650, -1, "022001040a000000", "10.0.0.0/32", NULL},
	{869, -1, "0380001000000000000000000000000000000001", "::1", NULL},
	{869, -1, "0380001000000000000000000000ffff01020304", "::ffff:1.2.3.4", NULL},
	{869, -1, "0340001020010db8000000000000ff0000428329", "2001:db8::ff00:42:8329/64", NULL},
	{829, -1, "08002b010203", "08:00:2b:01:02:03", NULL},
	{774, -1, "08002bfffe010203", "08:00:2b:ff:fe:01:02:03", NULL},
	{3802, -1, "017b2261223a20317d", "{\"a\": 1}", NULL},
	{114, -1, "207b7d20", " {} ", NULL},
	{4072, -1, "01242e226122", "$.\"a\"", NULL},
	{3220, -1, "00000016b374d848", "16/B374D848", NULL},
	{27, -1, "000000070009", "(7,9)", NULL},
	{142, -1, "3c612f3e", "<a/>", NULL},
	{5038, -1, "00000002 000000000000000a 0000000000000014 000000000000000a 000000000000000e", "10:20:10,14", NULL},
	{3614, -1, "00000002 63617400 0002 c003 0005 646f6700 0000", "'cat':3A,5 'dog'", NULL},
	{3614, -1, "00000001 6974275c7300 0000", "'it''\\\\s'", NULL},
	{3615, -1, "00000004 0202 0201 0100 00 646f6700 0104 01 63617400", NULL, "'cat':*B & !'dog'"},
	{3615, -1, "00000000", "", NULL},
	{3615, -1, "00000005 02040002 0204 0001 010000 6300 010000 6200 010000 6100", NULL, "'a' <2> ( 'b' <-> 'c' )"},
	{3615, -1, "00000005 0202 010000 6300 0203 010000 6200 010000 6100", NULL, "( 'a' | 'b' ) & 'c'"},
	{601, -1, "3ff0000000000000 4000000000000000 4008000000000000 4010000000000000", "[(1,2),(3,4)]", NULL},
	{603, -1, "4008000000000000 4010000000000000 3ff0000000000000 4000000000000000", "(3,4),(1,2)", NULL},
	{628, -1, "3ff0000000000000 bff0000000000000 3fd5555555555555", "{1,-1,0.3333333333333333}", NULL},
	{718, -1, "3ff0000000000000 4000000000000000 3ee4f8b588e368f1", "<(1,2),1e-05>", NULL},
	{602, -1, "00 00000001 430c6bf526340000 42d6bcc41e900000", "[(1e+15,100000000000000)]", NULL},
	{602, -1, "01 00000001 7ff0000000000000 7ff8000000000000", "((Infinity,NaN))", NULL},
	{604, -1, "00000001 44b52d02c7e14af6 3ff8000000000000", "((9.999999999999999e+22,1.5))", NULL},
	{604, -1, "00000001 3e70000000000000 3ff8000000000000", "((5.960464477539063e-08,1.5))", NULL},
	{600, -1, "3ff8000000000000 c000000000000000", "(1.5,-2)", "{'x': 1.5, 'y': -2.0}"},
};

static void scalar_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(scalars); i++)
		check_vector(&scalars[i], 0);
}

#define TOO_BIG "error: type numeric: the value does not fit in decimal"

static const struct vector numerics[] = {
	{1700, -1, "0000000000000000", "0", NULL},
	{1700, -1, "0000000000000002", "0.00", NULL},
	{1700, -1, "00010000000000000001", "1", NULL},
	{1700, -1, "0003000140000003007b11d722c4", "-1234567.890", NULL},
	{1700, -1, "00010001000000000001", "10000", NULL},
	{1700, -1, "0001ffff000000040001", "0.0001", NULL},
	{1700, -1, "0002000000000002000103e8", "1.10", NULL},
	{1700, -1, "0001fffe0000000503e8", "0.00001", NULL},
	{1700, -1, "0002000000000003 0001 0924", "1.234", NULL},
	{1700, -1, "00000000c0000000", "NaN", NULL},
	{1700, -1, "00000000d0000020", "Infinity", NULL},
	{1700, -1, "00000000f0000020", "-Infinity", NULL},
	{1700, NUMERIC(10, 2), "0002000000000002000103e8", "1.10", NULL},
	{1700, NUMERIC(10, 2), "0000000000000002", "0.00", NULL},
	{1700, NUMERIC(10, 2), "00010001000000020001", "10000.00", NULL},
	{1700, NUMERIC(10, 2), "0003000140000002270f270f26ac", "-99999999.99", NULL},
	{1700, NUMERIC(9, 9), "0001fffd0000000903e8", "0.000000001", ".000000001"},
	{1700, NUMERIC(38, 0), "000a0009000000000063270f270f270f270f270f270f270f270f270f", "99999999999999999999999999999999999999",
	 NULL},
	{1700, NUMERIC(38, 1), "000b0009000000010009270f270f270f270f270f270f270f270f270f2328",
	 "9999999999999999999999999999999999999.9", NULL},
	{1700, NUMERIC(38, 1), "000b000900000001000c0d801ed204d2162e23340d801ed204d2162e1388",
	 "12345678901234567890123456789012345678.5", TOO_BIG "(38,1)"},
	{1700, NUMERIC(5, 2), "000100000000000003e8", "1000", TOO_BIG "(5,2)"},
	{1700, NUMERIC(5, 2), "000200000000000300010924", "1.234", TOO_BIG "(5,2)"},
	{1700, NUMERIC(5, -2), "00010001000000000001", "10000", NULL},
	{1700, NUMERIC(3, 5), "0002ffff00000005006303e8", "0.00991", ".00991"},
	{1700, NUMERIC(50, 3), "0002000000000003 0001 0924", "1.234", NULL},
	{1700, NUMERIC(5, 2), "00000000c0000000", "NaN", "error: type numeric: NaN has no place in a decimal"},
	{1700, NUMERIC(5, 2), "00000000d0000020", "Infinity", "error: type numeric: Infinity has no place in a decimal"},
	{1700, NUMERIC(5, 2), "00000000f0000020", "-Infinity", "error: type numeric: -Infinity has no place in a decimal"},
};

static void numeric_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(numerics); i++)
		check_vector(&numerics[i], 0);
}

/* The longest numeric: 131072 digits before the point. */
static void huge_numeric(void **state)
{
	struct duct_buf bytes AUTO_BUF = {0}, value AUTO_BUF = {0};
	struct duct_arena arena;
	(void)state;
	duct_arena_init(&arena);
	struct pg_mapping m = pg_mapping_build(catalog, 1700, -1, 0, &arena);
	unhex(&bytes, "0001 7fff 0000 0000 0009");
	assert_int_equal(pg_decode(&m, 'b', bytes.data, bytes.len, &value, NULL), 0);
	assert_int_equal(value.len, 4 * 32767 + 1);
	assert_int_equal(value.data[0], '9');
	assert_int_equal(strspn(value.data + 1, "0"), 4 * 32767);
	duct_arena_done(&arena);
}

static void time_limits(void **state)
{
	static const struct vector vectors[] = {
		{1114, -1, "7ffca2fec4c81fff", "294247-01-10 04:00:54.775807",
		 "error: type timestamp without time zone: times from 294247-01-10 04:00:54.775807 on have no place in the lake"},
		{1184, -1, "7fffff5bb3b29fff", "294276-12-31 23:59:59.999999+00",
		 "error: type timestamp with time zone: times from 294247-01-10 04:00:54.775807 on have no place in the lake"},
	};
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(vectors); i++)
		check_vector(&vectors[i], 0);
}

/* From 17 on the extreme intervals are the infinities. */
static void infinite_intervals(void **state)
{
	struct pg_catalog *old = catalog;
	static const struct vector vectors[] = {
		{1186, -1, "7fffffffffffffff 7fffffff 7fffffff", "infinity", NULL},
		{1186, -1, "8000000000000000 80000000 80000000", "-infinity", NULL},
		{1186, -1, "000000036c97ca88 00000003 0000000e", "P1Y2M3DT4H5M6.789S", NULL},
	};
	(void)state;
	catalog = pg_catalog_new();
	pg_catalog_add_builtin(catalog, 170000);
	for (size_t i = 0; i < DUCT_LEN(vectors); i++)
		check_vector(&vectors[i], 0);
	pg_catalog_free(catalog);
	catalog = old;
}

static void arrays(void **state)
{
	static const struct {
		int ndims;
		struct vector v;
	} vectors[] = {
		{1,
		 {1007, -1, "00000001 00000001 00000017 00000003 00000001 00000004 00000001 ffffffff 00000004 00000003",
		  "{1,NULL,3}", "[1, NULL, 3]"}},
		{0,
		 {1007, -1, "00000001 00000000 00000017 00000002 00000000 00000004 00000005 00000004 00000006", "[0:1]={5,6}",
		  "[5, 6]"}},
		{1, {1007, -1, "000000000000000000000017", "{}", "[]"}},
		{2, {1007, -1, "000000000000000000000017", "{}", "[]"}},
		{2,
		 {1007, -1,
		  "00000002 00000000 00000017 00000002 00000001 00000002 00000001 00000004 00000001 00000004 00000002 "
		  "00000004 00000003 00000004 00000004",
		  "{{1,2},{3,4}}", "[[1, 2], [3, 4]]"}},
		{1,
		 {1007, -1, "00000002 00000000 00000017 00000001 00000001 00000002 00000001 00000004 00000001 00000004 00000002",
		  "{{1,2}}",
		  "error: type integer[]: the value has 2 dimensions, 1 is declared: declare the column with as many [] as its "
		  "values have"}},
		{2,
		 {1007, -1, "00000001 00000000 00000017 00000001 00000001 00000004 00000001", "{1}",
		  "error: type integer[]: the value has 1 dimension, 2 are declared: declare the column with as many [] as its "
		  "values have"}},
		{1,
		 {1009, -1, "00000001 00000001 00000019 00000004 00000001 00000004 4e554c4c ffffffff 00000000 00000002 5c22",
		  "{\"NULL\",NULL,\"\",\"\\\\\\\"\"}", "['NULL', NULL, '', '\\\\\"']"}},
		{1,
		 {1231, NUMERIC(10, 2), "00000001 00000000 000006a4 00000001 00000001 0000000c 0002000000000002000103e8", "{1.10}",
		  "[1.10]"}},
		{1,
		 {1115, -1, "00000001 00000000 0000045a 00000002 00000001 00000008 00023e0786c26000 00000008 7fffffffffffffff",
		  "{\"2020-01-01 00:00:00\",infinity}", "['2020-01-01 00:00:00', infinity]"}},
		{1,
		 {1020, -1,
		  "00000001 00000000 0000025b 00000002 00000001 00000020 4008000000000000 4010000000000000 3ff0000000000000 "
		  "4000000000000000 00000020 401c000000000000 4020000000000000 4014000000000000 4018000000000000",
		  "{(3,4),(1,2);(7,8),(5,6)}", "['(3,4),(1,2)', '(7,8),(5,6)']"}},
		{0, {22, -1, "00000001 00000000 00000015 00000002 00000000 00000002 0001 00000002 fffe", "1 -2", "[1, -2]"}},
		{0, {22, -1, "00000001 00000000 00000015 00000000 00000000", "", "[]"}},
		{0, {30, -1, "00000001 00000000 0000001a 00000001 00000000 00000004 ffffffff", "4294967295", "[4294967295]"}},
		{1,
		 {1007, -1, "00000001 00000000 00000014 00000001 00000001 00000008 0000000000000001", NULL,
		  "error: type integer[]: its elements have type 20, 23 was expected"}},
	};
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(vectors); i++)
		check_vector(&vectors[i].v, vectors[i].ndims);
}

#define RANGE(lower, upper, li, ui, empty) \
	"{'lower': " lower ", 'upper': " upper ", 'lower_inc': " li ", 'upper_inc': " ui ", 'empty': " empty "}"

static void ranges(void **state)
{
	static const struct vector vectors[] = {
		{3904, -1, "02 00000004 00000001 00000004 00000005", "[1,5)", RANGE("1", "5", "true", "false", "false")},
		{3904, -1, "01", "empty", RANGE("NULL", "NULL", "false", "false", "true")},
		{3904, -1, "08 00000004 00000005", "(,5)", RANGE("NULL", "5", "false", "false", "false")},
		{3904, -1, "18", "(,)", RANGE("NULL", "NULL", "false", "false", "false")},
		{3906, -1, "04 0000000c 000200000000000100011388 0000000c 000200000000000100021388", "(1.5,2.5]",
		 RANGE("1.5", "2.5", "false", "true", "false")},
		{3908, -1, "08 00000008 00023e0fe886c800", "(,\"2020-01-01 10:00:00\")",
		 RANGE("NULL", "'2020-01-01 10:00:00'", "false", "false", "false")},
		{3912, -1, "12 00000004 7fffffff", "[infinity,)", RANGE("infinity", "NULL", "true", "false", "false")},
		{4451, -1, "00000000", "{}", "[]"},
		{4451, -1,
		 "00000002 00000011 02 00000004 00000001 00000004 00000003 00000011 02 00000004 00000005 00000004 00000007",
		 "{[1,3),[5,7)}", "[" RANGE("1", "3", "true", "false", "false") ", " RANGE("5", "7", "true", "false", "false") "]"},
	};
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(vectors); i++)
		check_vector(&vectors[i], 0);
}

static void check_mapping(const struct pg_mapping *m, const char *hex, const char *text, const char *want)
{
	struct duct_buf bytes AUTO_BUF = {0};
	unhex(&bytes, hex);
	check(m, 'b', bytes.data, bytes.len, want);
	if (text)
		check(m, 't', text, strlen(text), want);
}

/* Types that only a server's catalog describes: their plans are made by hand. */
static void composed_by_hand(void **state)
{
	struct duct_arena arena;
	(void)state;
	duct_arena_init(&arena);
	struct pg_mapping fields[] = {pg_mapping_build(catalog, 23, -1, 0, &arena), pg_mapping_build(catalog, 25, -1, 0, &arena)};
	struct duct_type field_types[] = {{.kind = DUCT_INT32, .name = "a"}, {.kind = DUCT_VARCHAR, .name = "b"}};
	struct pg_mapping composite = {
		.codec = PG_COMPOSITE,
		.type_name = "comp",
		.type = {.kind = DUCT_STRUCT, .nchildren = 2, .children = field_types},
		.nchildren = 2,
		.children = fields,
	};
	check_mapping(&composite, "00000002 00000017 00000004 00000001 00000019 00000001 78", "(1,x)", "{'a': 1, 'b': x}");
	check_mapping(&composite, "00000002 00000017 ffffffff 00000019 00000000", "(,\"\")", "{'a': NULL, 'b': ''}");
	check_mapping(&composite, "00000002 00000017 ffffffff 00000019 00000003 225c2c", "(,\"\"\"\\\\,\")",
		      "{'a': NULL, 'b': '\"\\\\,'}");
	check_mapping(&composite, "00000001 00000017 ffffffff", NULL, "error: type comp: the value has 1 fields, the type has 2");
	check_mapping(&composite, "00000002 00000014 ffffffff 00000019 ffffffff", NULL,
		      "error: type comp: field 1 has type 20, 23 was expected");

	static const struct duct_type pair[] = {{.kind = DUCT_VARCHAR, .name = "key"}, {.kind = DUCT_VARCHAR, .name = "value"}};
	struct pg_mapping hstore = {.codec = PG_HSTORE,
				    .type_name = "hstore",
				    .type = {.kind = DUCT_MAP, .nchildren = 2, .children = pair}};
	check_mapping(&hstore, "00000002 00000001 61 00000001 31 00000001 62 ffffffff", "\"a\"=>\"1\", \"b\"=>NULL",
		      "{a=1, b=NULL}");
	check_mapping(&hstore, "00000001 00000003 632064 00000005 7822795c7a", "\"c d\"=>\"x\\\"y\\\\z\"", "{c d='x\"y\\\\z'}");
	check_mapping(&hstore, "00000000", "", "{}");

	struct pg_mapping cube = {.codec = PG_CUBE, .type_name = "cube", .type = {.kind = DUCT_VARCHAR}};
	check_mapping(&cube, "00000002 3ff0000000000000 4004000000000000 4008000000000000 4010000000000000", "(1, 2.5),(3, 4)",
		      "(1, 2.5),(3, 4)");
	check_mapping(&cube, "80000001 3ff0000000000000", "(1)", "(1)");
	struct pg_mapping ltree = {.codec = PG_VERSIONED_TEXT, .type_name = "ltree", .type = {.kind = DUCT_VARCHAR}};
	check_mapping(&ltree, "01612e62", "a.b", "a.b");
	struct pg_mapping ewkb = {.codec = PG_EWKB, .type_name = "geometry", .type = {.kind = DUCT_VARCHAR}};
	check_mapping(&ewkb, "0101000020e6100000", "0101000020E6100000", "0101000020E6100000");
	static const struct duct_type element = {.kind = DUCT_FLOAT32, .name = "element"};
	struct pg_mapping vector = {.codec = PG_PGVECTOR,
				    .type_name = "vector",
				    .type = {.kind = DUCT_LIST, .nchildren = 1, .children = &element}};
	check_mapping(&vector, "000200003f80000040200000", "[1,2.5]", "[1.0, 2.5]");
	duct_arena_done(&arena);
}

static void plans(void **state)
{
	static const struct {
		uint32_t oid;
		int32_t typmod;
		int ndims;
		const char *type;
		bool copy_text, stream_text;
	} want[] = {
		{1700, -1, 0, "varchar", false, false},
		{1700, NUMERIC(39, 0), 0, "varchar", false, false},
		{1700, NUMERIC(38, 38), 0, "decimal(38,38)", false, false},
		{1700, NUMERIC(5, -2), 0, "decimal(7,0)", false, false},
		{1700, NUMERIC(3, 5), 0, "decimal(5,5)", false, false},
		{1700, NUMERIC(38, -1), 0, "varchar", false, false},
		{1007, -1, 3, "list(list(list(int32)))", false, false},
		{1231, NUMERIC(4, 1), 1, "list(decimal(4,1))", false, false},
		{2205, -1, 0, "varchar", true, true},
		{1033, -1, 0, "varchar", true, false},
		{424242, -1, 0, "varchar", true, true},
		{790, -1, 0, "decimal(19,2)", false, false},
	};
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(want); i++) {
		struct duct_arena arena;
		struct duct_buf text AUTO_BUF = {0};
		const char *reason = NULL;
		duct_arena_init(&arena);
		struct pg_mapping m = pg_mapping_build(catalog, want[i].oid, want[i].typmod, want[i].ndims, &arena);
		duct_type_print(&text, &m.type);
		assert_string_equal(text.data, want[i].type);
		assert_int_equal(m.copy_text, want[i].copy_text);
		assert_int_equal(pg_mapping_needs_text(&m, &reason), want[i].stream_text);
		assert_int_equal(reason != NULL, want[i].stream_text);
		duct_arena_done(&arena);
	}
}

static void refused(void **state)
{
	static const struct vector vectors[] = {
		{2205, -1, "000004eb", NULL,
		 "error: type regclass: its binary form cannot be decoded: the stream must be started again without the option "
		 "\"binary\""},
		{23, -1, "0000", NULL, "error: type integer: its binary value of 2 bytes is malformed"},
		{23, -1, "0000000100", NULL, "error: type integer: its binary value of 5 bytes is malformed"},
		{3802, -1, "027b7d", NULL, "error: type jsonb: its binary value of 3 bytes is malformed"},
		{869, -1, "0420000401020304", NULL, "error: type inet: its binary value of 8 bytes is malformed"},
		{1007, -1, "00000001 00000000 00000017 ffffffff 00000001", NULL,
		 "error: type integer[]: its binary value of 20 bytes is malformed"},
	};
	static const struct {
		uint32_t oid;
		const char *text;
	} texts[] = {
		{23, "2147483648"},
		{23, ""},
		{23, "1x"},
		{23, "-"},
		{20, "9223372036854775808"},
		{20, "-9223372036854775809"},
		{26, "-1"},
		{701, "1.5x"},
		{701, "0x10"},
		{16, "true"},
		{17, "\\x0"},
		{17, "\\001"},
		{1082, "2024-13-01"},
		{1114, "2024-01-01"},
		{1083, "24:00:01"},
		{2950, "a0eebc99"},
		{1007, "{1,2"},
		{1007, "{1,}"},
		{1007, "{1}}"},
		{3904, "[1,2"},
		{3904, "[1,2)x"},
		{4451, "{[1,2)"},
		{600, "(1,2"},
		{1700, "1.5.5"},
		{1184, "2024-01-01 00:00:00"},
	};
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(vectors); i++)
		check_vector(&vectors[i], 0);
	for (size_t i = 0; i < DUCT_LEN(texts); i++) {
		struct duct_arena arena;
		struct duct_buf text AUTO_BUF = {0};
		duct_arena_init(&arena);
		struct pg_mapping m = pg_mapping_build(catalog, texts[i].oid, texts[i].oid == 1700 ? NUMERIC(5, 2) : -1, 1, &arena);
		decode(&text, &m, 't', texts[i].text, strlen(texts[i].text));
		if (!strstr(text.data, "its text form cannot be parsed"))
			fail_msg("%s of \"%s\" gave \"%s\"", m.type_name, texts[i].text, text.data);
		duct_arena_done(&arena);
	}
}

/* A SQL_ASCII database may send anything. */
static void invalid_utf8(void **state)
{
	struct pg_mapping m = {.codec = PG_TEXT, .type_name = "text", .type = {.kind = DUCT_VARCHAR}, .check_utf8 = true};
	(void)state;
	check(&m, 'b', "h\xc3\xa9", 3, "h\xc3\xa9");
	check(&m, 'b', "\xe9", 1, "error: type text: text that is not valid UTF-8 (the database is SQL_ASCII)");
	check(&m, 't', "\xe9", 1, "error: type text: text that is not valid UTF-8 (the database is SQL_ASCII)");
}

/* The road into a vector gives the same bytes as the general one, for each form. */
static void check_into_vector(const struct vector *v)
{
	struct duct_relation *rel = duct_relation_new();
	struct duct_buf bytes AUTO_BUF = {0}, value AUTO_BUF = {0}, scratch AUTO_BUF = {0};
	struct duct_error err = {0};
	struct pg_mapping m = pg_mapping_build(catalog, v->oid, v->typmod, 0, &rel->arena);
	rel->ncolumns = 1;
	rel->columns = duct_arena_zalloc(&rel->arena, sizeof *rel->columns);
	rel->columns[0].type = m.type;
	struct duct_batch *b = duct_batch_new(rel, 0);
	unhex(&bytes, v->hex);
	const char *data = bytes.data ? bytes.data : "";
	int want = pg_decode(&m, 'b', data, bytes.len, &value, &err);
	(void)duct_batch_add_row(b, DUCT_READ, 0);
	assert_int_equal(pg_decode_into(&m, 'b', data, bytes.len, b, &b->columns[0], &scratch, &err), want);
	assert_int_equal(b->columns[0].rows, want == 0);
	if (want == 0) {
		struct duct_cell cell = duct_vector_cell(&b->columns[0], 0);
		assert_non_null(cell.data);
		assert_int_equal(cell.len, value.len);
		if (cell.len)
			assert_memory_equal(cell.data, value.data, cell.len);
	}
	/* A cut value leaves the vector as it was. */
	if (m.width) {
		assert_int_equal(pg_decode_into(&m, 'b', data, bytes.len - 1, b, &b->columns[0], &scratch, &err), -DUCT_DATA);
		assert_int_equal(b->columns[0].rows, want == 0);
	}
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

static void into_vector(void **state)
{
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(scalars); i++)
		check_into_vector(&scalars[i]);
	for (size_t i = 0; i < DUCT_LEN(numerics); i++)
		check_into_vector(&numerics[i]);
}

static int setup(void **state)
{
	(void)state;
	catalog = pg_catalog_new();
	pg_catalog_add_builtin(catalog, 150000);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pg_catalog_free(catalog);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scalar_vectors), cmocka_unit_test(numeric_vectors),	cmocka_unit_test(huge_numeric),
		cmocka_unit_test(time_limits),	  cmocka_unit_test(infinite_intervals), cmocka_unit_test(arrays),
		cmocka_unit_test(ranges),	  cmocka_unit_test(composed_by_hand),	cmocka_unit_test(plans),
		cmocka_unit_test(refused),	  cmocka_unit_test(invalid_utf8),	cmocka_unit_test(into_vector),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
