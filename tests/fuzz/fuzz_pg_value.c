/* One value of one type: the first byte chooses the type, the second its form; what is accepted must be a value that the
 * rest of the program can print. */
#include <stdint.h>
#include <stdlib.h>

#include "pg/types.h"
#include "record/format.h"

static const struct {
	uint32_t oid;
	int32_t typmod;
	int ndims;
} types[] = {
	{16, -1, 0},
	{17, -1, 0},
	{18, -1, 0},
	{20, -1, 0},
	{21, -1, 0},
	{23, -1, 0},
	{25, -1, 0},
	{26, -1, 0},
	{700, -1, 0},
	{701, -1, 0},
	{790, -1, 0},
	{1042, -1, 0},
	{1082, -1, 0},
	{1083, -1, 0},
	{1114, -1, 0},
	{1184, -1, 0},
	{1186, -1, 0},
	{1266, -1, 0},
	{1560, -1, 0},
	{1700, -1, 0},
	{1700, (38 << 16 | 7) + 4, 0},
	{1700, (9 << 16 | 9) + 4, 0},
	{2950, -1, 0},
	{3802, -1, 0},
	{869, -1, 0},
	{650, -1, 0},
	{829, -1, 0},
	{3614, -1, 0},
	{3615, -1, 0},
	{5038, -1, 0},
	{600, -1, 0},
	{601, -1, 0},
	{602, -1, 0},
	{603, -1, 0},
	{604, -1, 0},
	{628, -1, 0},
	{718, -1, 0},
	{4072, -1, 0},
	{1007, -1, 1},
	{1007, -1, 3},
	{1009, -1, 1},
	{1020, -1, 2},
	{1231, -1, 1},
	{22, -1, 0},
	{30, -1, 0},
	{3904, -1, 0},
	{3906, -1, 0},
	{3908, -1, 0},
	{4451, -1, 0},
	{4532, -1, 0},
	{5069, -1, 0},
	{2205, -1, 0},
};

static const struct duct_type pair[] = {{.kind = DUCT_VARCHAR, .name = "key"}, {.kind = DUCT_VARCHAR, .name = "value"}};
static const struct duct_type single = {.kind = DUCT_FLOAT32, .name = "element"};

static const struct pg_mapping extensions[] = {
	{.codec = PG_HSTORE,
	 .type_name = "hstore",
	 .type = {.kind = DUCT_MAP, .nchildren = 2, .children = pair},
	 .check_utf8 = true},
	{.codec = PG_CUBE, .type_name = "cube", .type = {.kind = DUCT_VARCHAR}},
	{.codec = PG_EWKB, .type_name = "geometry", .type = {.kind = DUCT_VARCHAR}},
	{.codec = PG_PGVECTOR, .type_name = "vector", .type = {.kind = DUCT_LIST, .nchildren = 1, .children = &single}},
	{.codec = PG_INTERVAL_INF, .type_name = "interval", .type = {.kind = DUCT_VARCHAR}},
	{.codec = PG_EMPTY_COMPOSITE, .type_name = "nothing", .type = {.kind = DUCT_VARCHAR}},
	{.codec = PG_TEXT, .type_name = "text", .type = {.kind = DUCT_VARCHAR}, .check_utf8 = true},
};
enum { BUILTIN = sizeof types / sizeof *types, COMPOSITE = 1, EXTENSIONS = sizeof extensions / sizeof *extensions };

static struct pg_mapping mapping_of(unsigned which, struct duct_arena *arena)
{
	struct pg_catalog *catalog = pg_catalog_new();
	struct pg_mapping m;
	pg_catalog_add_builtin(catalog, 150000);
	if (which < BUILTIN) {
		m = pg_mapping_build(catalog, types[which].oid, types[which].typmod, types[which].ndims, arena);
	} else if (which < BUILTIN + COMPOSITE) {
		struct pg_mapping *fields = duct_arena_alloc(arena, 3 * sizeof *fields);
		struct duct_type *names = duct_arena_alloc(arena, 3 * sizeof *names);
		static const char *const field_names[] = {"a", "b", "c"};
		static const uint32_t oids[] = {23, 1009, 3904};
		for (int i = 0; i < 3; i++) {
			fields[i] = pg_mapping_build(catalog, oids[i], -1, 1, arena);
			names[i] = fields[i].type;
			names[i].name = field_names[i];
		}
		m = (struct pg_mapping){.codec = PG_COMPOSITE, .type_name = "comp", .nchildren = 3, .children = fields};
		m.type = (struct duct_type){.kind = DUCT_STRUCT, .nchildren = 3, .children = names};
	} else {
		m = extensions[which - BUILTIN - COMPOSITE];
	}
	pg_catalog_free(catalog);
	return m;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct duct_arena arena;
	struct duct_buf value AUTO_BUF = {0}, text AUTO_BUF = {0};
	struct duct_error err;
	if (size < 2)
		return 0;
	duct_arena_init(&arena);
	struct pg_mapping m = mapping_of(data[0] % (BUILTIN + COMPOSITE + EXTENSIONS), &arena);
	if (pg_decode(&m, data[1] & 1 ? 'b' : 't', (const char *)data + 2, size - 2, &value, &err) == 0) {
		if (m.width && value.len != m.width)
			abort();
		duct_format_value(&text, &m.type, (struct duct_cell){value.data ? value.data : "", (uint32_t)value.len});
	}
	duct_arena_done(&arena);
	return 0;
}
