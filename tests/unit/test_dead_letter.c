/* Rows that cannot be stored: what becomes of a change in the group, and what the log is told of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "flow/dead_rows.h"
#include "source/postgres/dead_letter.h"
#include "source/postgres/group.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { INT4 = 23, NUMERIC = 1700, OID = 500, NUMERIC_4_1 = (4 << 16 | 1) + 4 };

struct world {
	struct postgres_group g;
	struct pg_catalog *catalog;
};

static int setup(void **state)
{
	static struct world w;
	static char names[3][8] = {"id", "n", "secret"};
	w = (struct world){.catalog = pg_catalog_new()};
	pg_catalog_add_builtin(w.catalog, 150000);
	w.g.dead_letter = postgres_dead_letter_relation("dead_letter");
	struct pgout_column columns[] = {{names[0], INT4, -1, true},
					 {names[1], NUMERIC, NUMERIC_4_1, false},
					 {names[2], INT4, -1, false}};
	const struct pgout_relation m = {
		.oid = OID, .schema = "public", .name = "t", .identity = 'd', .ncolumns = 3, .columns = columns};
	struct pg_relation *rel;
	struct duct_error err;
	assert_int_equal(pg_relation_from_message(&rel, &m, NULL, w.catalog, 1, &err), 0);
	struct postgres_table *t = postgres_group_table(&w.g, OID, true);
	assert_true(postgres_group_relation(&w.g, t, rel, "raw", 3));
	t->known = true;
	postgres_group_begin(&w.g, 7, 95, 90);
	w.g.commit_us = 1;
	*state = &w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	postgres_group_done(&w->g);
	pg_catalog_free(w->catalog);
	return 0;
}

/* A change of one row; old_id NULL: the key did not change. */
static void change(struct world *w, char kind, const char *old_id, const char *id, const char *n)
{
	struct duct_error err = {0};
	struct pg_value new[3] = {{id, (uint32_t)strlen(id), 't'}, {n, (uint32_t)strlen(n), 't'}, {"4711", 4, 't'}};
	struct pg_value old[3] = {{.kind = 'n'}, {.kind = 'n'}, {.kind = 'n'}};
	struct pgout_message m = {.kind = kind, .change = {.oid = OID}};
	if (old_id || kind == 'D') {
		old[0] = (struct pg_value){old_id ? old_id : id, (uint32_t)strlen(old_id ? old_id : id), 't'};
		m.change.old_kind = 'K';
		m.change.old.values = old;
		m.change.old.nvalues = 3;
	}
	if (kind != 'D') {
		m.change.new.values = new;
		m.change.new.nvalues = 3;
	}
	if (postgres_group_change(&w->g, &m, &err))
		fail_msg("%s", err.message);
}

/* Commits and tells all batches: "t:D D dead:U{key} ..." */
static const char *taken(struct world *w)
{
	static char out[4096];
	size_t at = 0;
	out[0] = 0;
	postgres_group_commit(&w->g, 100, 1);
	struct duct_changes *c = postgres_group_take(&w->g);
	for (size_t i = 0; c && i < c->nbatches; i++) {
		const struct duct_batch *b = c->batches[i];
		bool dead = b->relation->synthetic;
		at += (size_t)snprintf(out + at, sizeof out - at, "%s%s:", at ? " " : "", dead ? "dead" : "t");
		for (uint32_t r = 0; r < b->rows; r++) {
			if (!dead) {
				at += (size_t)snprintf(out + at, sizeof out - at, "%c", b->op[r]);
				continue;
			}
			struct duct_cell op = duct_vector_cell(&b->columns[2], r), key = duct_vector_cell(&b->columns[3], r);
			at += (size_t)snprintf(out + at, sizeof out - at, "%.*s%.*s", (int)op.len, (const char *)op.data,
					       (int)key.len, (const char *)key.data);
		}
	}
	duct_changes_free(c);
	return out;
}

static void test_insert(void **state)
{
	struct world *w = *state;
	change(w, 'I', NULL, "1", "NaN");
	assert_string_equal(taken(w), "dead:I{\"id\": \"1\"}"); /* no empty batch of the table stays */
}

static void test_update(void **state)
{
	struct world *w = *state;
	change(w, 'U', NULL, "1", "NaN");
	assert_string_equal(taken(w), "t:D dead:U{\"id\": \"1\"}"); /* what was there goes */
}

static void test_update_of_the_key(void **state)
{
	struct world *w = *state;
	change(w, 'U', "1", "2", "NaN");
	assert_string_equal(taken(w), "t:D dead:U{\"id\": \"2\"}");
}

static void test_others_of_the_transaction(void **state)
{
	struct world *w = *state;
	change(w, 'I', NULL, "1", "1.5");
	change(w, 'I', NULL, "2", "NaN");
	change(w, 'I', NULL, "3", "2.5");
	change(w, 'D', NULL, "2", "");
	change(w, 'I', NULL, "4", "12345.6"); /* too long */
	assert_string_equal(taken(w), "t:IID dead:I{\"id\": \"2\"}I{\"id\": \"4\"}");
}

static void test_without_the_option(void **state)
{
	struct world *w = *state;
	duct_relation_unref(w->g.dead_letter);
	w->g.dead_letter = NULL;
	struct duct_error err = {0};
	struct pg_value new[3] = {{"1", 1, 't'}, {"NaN", 3, 't'}, {"4711", 4, 't'}};
	const struct pgout_message m = {.kind = 'I', .change = {.oid = OID, .new = {new, 3}}};
	assert_int_equal(postgres_group_change(&w->g, &m, &err), -DUCT_DATA);
	assert_non_null(strstr(err.message, "\"t\""));
}

/* What a call of tell writes on stderr. */
static const char *told(struct flow_dead_rows *dead, const struct duct_batch *batch)
{
	static char text[65536];
	static const struct duct_log log = {.key = "flow", .value = "shop"};
	int fd = memfd_create("log", MFD_CLOEXEC), saved = dup(STDERR_FILENO);
	assert_true(fd >= 0 && saved >= 0);
	dup2(fd, STDERR_FILENO);
	flow_dead_rows_tell(dead, &log, batch);
	dup2(saved, STDERR_FILENO);
	ssize_t n = pread(fd, text, sizeof text - 1, 0);
	assert_true(n >= 0);
	text[n] = 0;
	close(saved);
	close(fd);
	return text;
}

static int lines(const char *text)
{
	int n = 0;
	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static void test_log(void **state)
{
	struct world *w = *state;
	struct flow_dead_rows dead = {0};
	for (int i = 0; i < 30; i++) {
		char id[16];
		snprintf(id, sizeof id, "%d", 100 + i);
		change(w, 'I', NULL, id, "NaN");
	}
	postgres_group_commit(&w->g, 100, 1);
	struct duct_changes *c = postgres_group_take(&w->g);
	assert_int_equal(c->nbatches, 1);
	const char *text = told(&dead, c->batches[0]);
	for (int i = 0; lines(text) != 21 && i < 3; i++) /* a new window began in the middle */
		text = told(memset(&dead, 0, sizeof dead), c->batches[0]);
	assert_int_equal(lines(text), 21); /* 20 rows, and that there are more */
	assert_non_null(strstr(text, "table=public.t"));
	assert_non_null(strstr(text, "{\\\"id\\\": \\\"100\\\"}"));
	assert_non_null(strstr(text, "\\\"n\\\""));
	assert_non_null(strstr(text, "NaN has no place"));
	assert_null(strstr(text, "4711")); /* no other value */
	assert_null(strstr(text, "125"));
	duct_changes_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_insert, setup, teardown),
		cmocka_unit_test_setup_teardown(test_update, setup, teardown),
		cmocka_unit_test_setup_teardown(test_update_of_the_key, setup, teardown),
		cmocka_unit_test_setup_teardown(test_others_of_the_transaction, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_the_option, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
