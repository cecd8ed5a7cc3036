/* What becomes of relations and rows under the options that tables share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "destination/tablesink.h"
#include "destination/destination.h"
#include "destination/typemap.h"

#include <stdio.h>
#include <string.h>

enum { ID, BODY, COLUMNS };
enum { SYNCED_AT = COLUMNS, DELETED, WATERMARK, OP };

static struct tablesink_options defaults(void)
{
	return (struct tablesink_options){
		.meta_synced_at = "__ds_synced_at",
		.meta_deleted = "__ds_is_deleted",
		.meta_watermark = "__ds_watermark",
		.meta_op = "__ds_op",
		.staging_suffix = "_staging",
	};
}

static struct duct_relation *make_relation(void)
{
	struct duct_relation *rel = duct_relation_new();
	rel->schema = "s";
	rel->name = "t";
	rel->oid = 7;
	rel->identity = DUCT_IDENTITY_KEY;
	rel->ncolumns = COLUMNS;
	rel->columns = duct_arena_zalloc(&rel->arena, COLUMNS * sizeof *rel->columns);
	rel->columns[ID] =
		(struct duct_column){.name = "id", .type = {.kind = DUCT_INT32}, .attnum = 1, .key = true, .not_null = true};
	rel->columns[BODY] = (struct duct_column){.name = "body", .type = {.kind = DUCT_VARCHAR}, .attnum = 2};
	rel->nkeys = 1;
	rel->keys = duct_arena_zalloc(&rel->arena, sizeof *rel->keys);
	return rel;
}

static void put(struct duct_batch *b, struct duct_vector *columns, int32_t id, const char *body)
{
	memcpy(duct_vector_append(b, &columns[ID], 4), &id, 4);
	if (body)
		memcpy(duct_vector_append(b, &columns[BODY], (uint32_t)strlen(body)), body, strlen(body));
	else
		duct_vector_append_unsent(b, &columns[BODY]);
}

/* insert 1 "a"; update 1 without body; update 1 -> 2 "b"; delete 2; truncate; insert 3 "c", in one transaction at LSN 100. */
static struct duct_changes *make_changes(struct duct_relation *rel)
{
	struct duct_changes *c = duct_changes_new();
	struct duct_batch *b = duct_batch_new(rel, 0);
	duct_batch_add_row(b, DUCT_INSERT, 1);
	put(b, b->columns, 1, "a");
	duct_batch_add_row(b, DUCT_UPDATE, 2);
	put(b, b->columns, 1, NULL);
	duct_batch_add_row(b, DUCT_UPDATE, 3);
	duct_batch_add_old_row(b);
	put(b, b->old, 1, NULL);
	put(b, b->columns, 2, "b");
	duct_batch_add_row(b, DUCT_DELETE, 4);
	duct_batch_add_old_row(b);
	put(b, b->old, 2, NULL);
	duct_batch_add_row(b, DUCT_TRUNCATE, 5);
	duct_batch_fill_unset(b);
	duct_batch_add_row(b, DUCT_INSERT, 6);
	put(b, b->columns, 3, "c");
	duct_batch_seal(b);
	duct_changes_add(c, b);
	duct_changes_add_commit(c, &(struct duct_commit){.end_lsn = 100, .commit_us = 1000, .last_seq = 6});
	c->ends_commit = true;
	return c;
}

static const char *text(struct duct_cell cell, char to[64])
{
	snprintf(to, 64, "%.*s", cell.data ? (int)cell.len : 4, cell.data ? cell.data : "NULL");
	return to;
}

static int32_t id_of(const struct duct_vector *columns, uint32_t row)
{
	struct duct_cell cell = duct_vector_cell(&columns[ID], row);
	int32_t id = -1;
	if (cell.data)
		memcpy(&id, cell.data, 4);
	return id;
}

/* op, id, body ("-": not sent), what it was, deleted */
struct row {
	char op;
	int32_t id;
	const char *body, *was;
	bool deleted;
};

static void expect(const struct duct_batch *b, const struct row *rows, uint32_t n)
{
	char buffer[64];
	assert_int_equal(b->rows, n);
	for (uint32_t i = 0; i < n; i++) {
		assert_int_equal(b->op[i], rows[i].op);
		if (!rows[i].was)
			continue;
		const struct duct_vector *body = &b->columns[BODY];
		assert_int_equal(id_of(b->columns, i), rows[i].id);
		assert_string_equal(duct_vector_is_sent(body, i) ? text(duct_vector_cell(body, i), buffer) : "-", rows[i].body);
		if (b->relation->ncolumns == COLUMNS)
			continue;
		assert_string_equal(text(duct_vector_cell(&b->columns[OP], i), buffer), rows[i].was);
		assert_int_equal(*duct_vector_cell(&b->columns[DELETED], i).data, rows[i].deleted);
	}
}

static struct duct_changes *changed(const struct tablesink_options *o, struct tablesink **ret)
{
	struct duct_relation *rel = make_relation();
	struct duct_changes *c = make_changes(rel);
	struct duct_error err = {0};
	duct_relation_unref(rel);
	assert_int_equal(tablesink_new(ret, o, &err), 0);
	assert_non_null(*ret);
	assert_int_equal(tablesink_changes(*ret, &c, &err), 0);
	assert_int_equal(c->nbatches, 1);
	assert_int_equal(c->ncommits, 1);
	assert_int_equal(c->upto.lsn, 100);
	assert_true(c->ends_commit);
	return c;
}

static void done(struct tablesink *s, struct duct_changes *c)
{
	duct_changes_free(c);
	tablesink_free(s);
}

static void metadata_columns(void **state)
{
	(void)state;
	struct tablesink_options o = defaults();
	o.meta_enabled = true;
	struct tablesink *s;
	struct duct_changes *c = changed(&o, &s);
	const struct duct_batch *b = c->batches[0];
	static const struct row rows[] = {
		{'I', 1, "a", "insert", false}, {'U', 1, "-", "update", false}, {'U', 2, "b", "update", false},
		{'D', 0, NULL, NULL, false},	{'T', 0, NULL, NULL, false},	{'I', 3, "c", "insert", false},
	};
	expect(b, rows, DUCT_LEN(rows));
	assert_int_equal(b->relation->ncolumns, OP + 1);
	assert_int_equal(b->relation->nkeys, 1);
	assert_int_equal(b->relation->columns[OP].attnum, -4);
	assert_false(b->relation->upsert);
	assert_int_equal(id_of(b->old, (uint32_t)b->old_row[2]), 1);
	assert_int_equal(id_of(b->old, (uint32_t)b->old_row[3]), 2);
	assert_false(duct_vector_is_sent(&b->old[OP], (uint32_t)b->old_row[3]));
	int64_t at;
	memcpy(&at, duct_vector_cell(&b->columns[WATERMARK], 0).data, 8);
	assert_int_equal(at, 1000);
	done(s, c);
}

static void soft_delete(void **state)
{
	(void)state;
	struct tablesink_options o = defaults();
	o.soft_delete = true;
	o.watermark_source = TABLESINK_LSN;
	struct tablesink *s;
	struct duct_changes *c = changed(&o, &s);
	const struct duct_batch *b = c->batches[0];
	static const struct row rows[] = {
		{'I', 1, "a", "insert", false}, {'U', 1, "-", "update", false}, {'U', 2, "b", "update", false},
		{'U', 2, "-", "delete", true},	{'T', 0, NULL, NULL, false},	{'I', 3, "c", "insert", false},
	};
	expect(b, rows, DUCT_LEN(rows));
	assert_true(b->relation->upsert);
	assert_int_equal(b->old_row[3], -1);
	uint64_t lsn;
	memcpy(&lsn, duct_vector_cell(&b->columns[WATERMARK], 3).data, 8);
	assert_int_equal(lsn, 100);
	done(s, c);
}

static void append_mode(void **state)
{
	(void)state;
	struct tablesink_options o = defaults();
	o.append_mode = true;
	struct tablesink *s;
	struct duct_changes *c = changed(&o, &s);
	const struct duct_batch *b = c->batches[0];
	static const struct row rows[] = {
		{'I', 1, "a", "insert", false},	  {'I', 1, "NULL", "update", false},	{'I', 2, "b", "update", false},
		{'I', 2, "NULL", "delete", true}, {'I', -1, "NULL", "truncate", false}, {'I', 3, "c", "insert", false},
	};
	expect(b, rows, DUCT_LEN(rows));
	assert_int_equal(b->relation->nkeys, 0);
	assert_int_equal(b->relation->identity, DUCT_IDENTITY_NONE);
	assert_int_equal(b->old_rows, 0);
	done(s, c);
}

static void write_mode_append(void **state)
{
	(void)state;
	struct tablesink_options o = defaults();
	o.write_mode = TABLESINK_APPEND;
	struct tablesink *s;
	struct duct_changes *c = changed(&o, &s);
	static const struct row rows[] = {
		{'I', 1, "a", "", false},
		{'I', 1, "NULL", "", false},
		{'I', 2, "b", "", false},
		{'I', 3, "c", "", false},
	};
	expect(c->batches[0], rows, DUCT_LEN(rows));
	assert_int_equal(c->batches[0]->relation->ncolumns, COLUMNS);
	done(s, c);
}

static void nothing_is_made_without_options(void **state)
{
	(void)state;
	struct tablesink_options o = defaults();
	struct tablesink *s;
	struct duct_relation *rel = make_relation(), *to, *again;
	struct duct_error err = {0};
	assert_int_equal(tablesink_new(&s, &o, &err), 0);
	assert_null(s);
	o.meta_enabled = true;
	o.meta_watermark = "-";
	assert_int_equal(tablesink_new(&s, &o, &err), 0);
	assert_int_equal(tablesink_relation(s, rel, &to, &err), 0);
	assert_int_equal(to->ncolumns, COLUMNS + 3);
	assert_int_equal(tablesink_relation(s, rel, &again, &err), 0);
	assert_ptr_equal(to, again);
	rel->synthetic = true;
	assert_int_equal(tablesink_relation(s, rel, &to, &err), 0);
	assert_ptr_equal(to, rel);
	duct_relation_unref(rel);
	tablesink_free(s);
}

/* Versions come and go: what nobody has any more is forgotten, what somebody has is kept. */
static void old_versions_are_forgotten(void **state)
{
	(void)state;
	struct tablesink_options o = defaults();
	o.meta_enabled = true;
	struct tablesink *s;
	struct duct_relation *kept = NULL, *to;
	struct duct_error err = {0};
	assert_int_equal(tablesink_new(&s, &o, &err), 0);
	for (int i = 0; i < 1000; i++) {
		struct duct_relation *rel = make_relation();
		assert_int_equal(tablesink_relation(s, rel, &to, &err), 0);
		if (i == 500)
			kept = duct_relation_ref(to);
		duct_relation_unref(rel);
	}
	assert_string_equal(kept->name, "t");
	duct_relation_unref(kept);
	tablesink_free(s);
}

static void options_that_do_not_fit(void **state)
{
	(void)state;
	struct duct_error err = {0};
	struct tablesink_options o = defaults();
	assert_int_equal(tablesink_check(&o, &err), 0);
	o.meta_op = "__DS_WATERMARK";
	assert_int_equal(tablesink_check(&o, &err), 0); /* there are no columns */
	o.meta_enabled = true;
	assert_int_equal(tablesink_check(&o, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "\"meta_watermark\" and \"meta_op\""));
	o = defaults();
	o.soft_delete = true;
	assert_int_equal(tablesink_check(&o, &err), 0);
	o.write_mode = TABLESINK_APPEND;
	assert_int_equal(tablesink_check(&o, &err), -DUCT_CONFIG);
	o = defaults();
	o.batch_resolution = TABLESINK_RESOLVE_APPEND;
	assert_int_equal(tablesink_check(&o, &err), -DUCT_CONFIG);
	o.batch_mode = TABLESINK_STAGING;
	assert_int_equal(tablesink_check(&o, &err), 0);
	o.staging_suffix = "";
	assert_int_equal(tablesink_check(&o, &err), -DUCT_CONFIG);
	o.staging_schema = "aside";
	assert_int_equal(tablesink_check(&o, &err), 0);
}

static void names_of_staging_tables(void **state)
{
	(void)state;
	static const struct {
		const char *schema, *table, *suffix, *wanted_schema, *wanted_table;
	} cases[] = {
		{NULL, NULL, "_staging", "s", "t_staging"},
		{"aside", NULL, "_x", "aside", "t_x"},
		{NULL, "one", "_x", "s", "one"},
	};
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		struct tablesink_options o = defaults();
		char *schema, *table;
		o.staging_schema = (char *)cases[i].schema;
		o.staging_table = (char *)cases[i].table;
		o.staging_suffix = (char *)cases[i].suffix;
		tablesink_staging_name(&o, "s", "t", &schema, &table);
		assert_string_equal(schema, cases[i].wanted_schema);
		assert_string_equal(table, cases[i].wanted_table);
		free(schema);
		free(table);
	}
}

/* The type that a source type is mapped to, as text; "": its own. */
static const char *mapped(const char *json, const char *source_type)
{
	static char text[64];
	struct typemap *map;
	struct duct_error err = {0};
	AUTO_BUF struct duct_buf type = {0};
	assert_int_equal(typemap_load(&map, json, NULL, &err), 0);
	const struct duct_type *found = typemap_find(map, source_type);
	if (found)
		duct_type_print(&type, found);
	snprintf(text, sizeof text, "%s", found ? type.data : "");
	typemap_free(map);
	return text;
}

static void names_of_mapped_types(void **state)
{
	(void)state;
	assert_string_equal(mapped("{\"numeric\": \"DOUBLE\"}", "numeric(12,2)"), "float64");
	assert_string_equal(mapped("{\"numeric(12,2)\": \"double\"}", "numeric(12,2)"), "float64");
	assert_string_equal(mapped("{\"numeric(10,2)\": \"DOUBLE\"}", "numeric(12,2)"), "");
	assert_string_equal(mapped("{\"numeric\": \"DOUBLE\", \"numeric(12,2)\": \"DECIMAL(20,4)\"}", "numeric(12,2)"),
			    "decimal(20,4)");
	assert_string_equal(mapped("{\"INT4\": \"BIGINT\"}", "integer"), "int64");
	assert_string_equal(mapped("{\"int4\": \"BIGINT\"}", "integer[]"), "");
	assert_string_equal(mapped("{\"int4[]\": \"VARCHAR\"}", "integer[]"), "varchar");
	assert_string_equal(mapped("{\"timestamptz\": \"VARCHAR\"}", "timestamp(3) with time zone"), "varchar");
	assert_string_equal(mapped("{\"timestamptz(3)\": \"VARCHAR\"}", "timestamp(3) with time zone"), "varchar");
	assert_string_equal(mapped("{\"timestamp(3)\": \"VARCHAR\"}", "timestamp(6) without time zone"), "");
	assert_string_equal(mapped("{\"TIME(3)[]\": \"VARCHAR\"}", "time(3) without time zone[]"), "varchar");
	assert_string_equal(mapped("{\"decimal(12, 2)\": \"DOUBLE\"}", "numeric(12,2)"), "float64");
	assert_string_equal(mapped("{\"varchar(10)\": \"BIGINT\"}", "character varying(10)"), "int64");
	assert_string_equal(mapped("{\"time(3\": \"VARCHAR\"}", "time(3) without time zone"), "");
	assert_string_equal(mapped("{\"public.geometry\": \"VARCHAR\"}", "geometry"), "varchar");
	assert_string_equal(mapped("{\"geometry\": \"VARCHAR\"}", "public.geometry"), "varchar");
	assert_string_equal(mapped("{}", "integer"), "");
}

/* Who stages copies of tables that are followed: only alone, and only all of them. */
static void copies_that_lie_apart(void **state)
{
	(void)state;
	struct tablesink_options o = {.batch_mode = TABLESINK_STAGING};
	const unsigned asked = DUCT_LOAD_BACKFILL | DUCT_LOAD_ALONE;
	struct duct_error err;
	bool apart = false;
	assert_int_equal(tablesink_apart(&o, asked, 2, 2, &apart, &err), 0);
	assert_true(apart);
	assert_int_equal(tablesink_apart(&o, asked, 1, 0, &apart, &err), -DUCT_CONFIG); /* after one that lies apart */
	apart = false;
	assert_int_equal(tablesink_apart(&o, asked, 2, 0, &apart, &err), 0);
	assert_false(apart);
	assert_int_equal(tablesink_apart(&o, DUCT_LOAD_ALONE, 2, 2, &apart, &err), 0);
	assert_false(apart);
	assert_int_equal(tablesink_apart(&o, asked | DUCT_LOAD_RESOLVE, 2, 1, &apart, &err), 0);
	assert_false(apart);
	assert_int_equal(tablesink_apart(&o, asked, 2, 1, &apart, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "a first copy of others"));
	assert_int_equal(tablesink_apart(&o, DUCT_LOAD_BACKFILL, 2, 2, &apart, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "other destinations"));
	o.batch_mode = TABLESINK_DIRECT;
	apart = false;
	assert_int_equal(tablesink_apart(&o, DUCT_LOAD_BACKFILL, 2, 2, &apart, &err), 0);
	assert_false(apart);
}

static void mappings_that_are_wrong(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{"[1]", "not a JSON object"},
		{"{\"jsonb\": 1}", "type of \"jsonb\" is not a text"},
		{"{\"jsonb\": \"VARIANT\"}", "\"VARIANT\" is not a type that a column can be mapped to"},
		{"{\"numeric\": \"DECIMAL(39,2)\"}", "1 to 38 digits"},
		{"{", "not JSON"},
	};
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		struct typemap *map = NULL;
		struct duct_error err = {0};
		assert_int_equal(typemap_load(&map, cases[i][0], NULL, &err), -DUCT_CONFIG);
		assert_non_null(strstr(err.message, cases[i][1]));
		assert_null(map);
	}
	struct typemap *map = NULL;
	struct duct_error err = {0};
	assert_int_equal(typemap_load(&map, NULL, "/nowhere/map.json", &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "/nowhere/map.json"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(metadata_columns),
		cmocka_unit_test(soft_delete),
		cmocka_unit_test(append_mode),
		cmocka_unit_test(write_mode_append),
		cmocka_unit_test(nothing_is_made_without_options),
		cmocka_unit_test(old_versions_are_forgotten),
		cmocka_unit_test(options_that_do_not_fit),
		cmocka_unit_test(names_of_staging_tables),
		cmocka_unit_test(names_of_mapped_types),
		cmocka_unit_test(copies_that_lie_apart),
		cmocka_unit_test(mappings_that_are_wrong),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
