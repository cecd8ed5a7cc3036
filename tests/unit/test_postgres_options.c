/* The options of the Postgres source: the page's names and defaults, and rules across options. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/postgres/config.h"
#include "source/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct duct_opt *find(const char *name)
{
	for (const struct duct_opt *o = duct_source_postgres_opts; o->name; o++)
		if (strcmp(o->name, name) == 0)
			return o;
	return NULL;
}

static FILE *open_data(void)
{
	const char *const places[] = {"tests/data/", "../tests/data/", "../../tests/data/"};
	char path[512];
	const char *root = getenv("MESON_SOURCE_ROOT");
	snprintf(path, sizeof path, "%s/tests/data/seed-postgres-options.tsv", root ? root : ".");
	FILE *f = fopen(path, "r");
	for (size_t i = 0; !f && i < sizeof places / sizeof *places; i++) {
		snprintf(path, sizeof path, "%sseed-postgres-options.tsv", places[i]);
		f = fopen(path, "r");
	}
	if (!f) { /* run from anywhere: beside this source */
		snprintf(path, sizeof path, "%s", __FILE__);
		char *slash = strrchr(path, '/');
		assert_non_null(slash);
		snprintf(slash, sizeof path - (size_t)(slash - path), "/../data/seed-postgres-options.tsv");
		f = fopen(path, "r");
	}
	assert_non_null(f);
	return f;
}

static void test_names_and_defaults(void **state)
{
	(void)state;
	FILE *f = open_data();
	char line[256], name[128], value[128];
	int seen = 0;
	while (fgets(line, sizeof line, f)) {
		if (line[0] == '#')
			continue;
		assert_int_equal(sscanf(line, "%127s %127s", name, value), 2);
		const struct duct_opt *o = find(name);
		if (!o)
			fail_msg("option %s is missing", name);
		if (strcmp(value, "-") == 0)
			assert_null(o->default_text);
		else
			assert_string_equal(o->default_text, value);
		seen++;
	}
	fclose(f);
	assert_int_equal(seen, 19);
}

static int load(struct postgres_config *c, const char *const *pairs, struct duct_error *err)
{
	struct duct_opt_value values[16] = {0};
	size_t n = 0;
	for (; pairs[0]; pairs += 2)
		values[n++] = (struct duct_opt_value){.name = pairs[0], .text = pairs[1]};
	return duct_opts_load(c, sizeof *c, duct_source_postgres_opts, values, n, "source \"postgres\"", err);
}
#define PAIRS(...) \
	(const char *const[]) \
	{ \
		"dsn", "dbname=x", "slot", "s", "publication", "p", ##__VA_ARGS__, NULL \
	}

static void test_values(void **state)
{
	(void)state;
	struct postgres_config c;
	struct duct_error err;
	assert_int_equal(load(&c, PAIRS("parallel_tables", "3", "publication_tables", "a.b,c.d"), &err), 0);
	assert_true(c.create_slot && c.ensure_publication && c.validate_replication && c.ensure_state && c.resolve_types);
	assert_false(c.emit_empty || c.sync_publication || c.accept_gap || c.publish_via_partition_root);
	assert_int_equal(c.batch_size, 100);
	assert_int_equal(c.batch_timeout_ms, 1000);
	assert_int_equal(c.status_interval_ms, 10000);
	assert_int_equal(c.snapshot_workers, 3);
	assert_int_equal(c.max_memory, 128 << 20);
	assert_int_equal(c.work_mem, 64000000);
	assert_int_equal(c.read_pause_us, -1);
	assert_string_equal(c.publication_tables[1], "c.d");
	assert_string_equal(c.state_schema, "ductstream");
	assert_int_equal(postgres_config_check(&c, &err), 0);
	duct_opts_done(&c, sizeof c, duct_source_postgres_opts);
}

static void refused(const char *const *pairs, const char *in_message)
{
	struct postgres_config c;
	struct duct_error err;
	assert_int_equal(load(&c, pairs, &err), 0);
	assert_int_equal(postgres_config_check(&c, &err), -DUCT_CONFIG);
	if (!strstr(err.message, in_message))
		fail_msg("\"%s\" is not in \"%s\"", in_message, err.message);
	duct_opts_done(&c, sizeof c, duct_source_postgres_opts);
}

static void test_rules(void **state)
{
	(void)state;
	struct postgres_config c;
	struct duct_error err;
	refused((const char *const[]){"dsn", "x", "slot", "Bad-Name", "publication", "p", NULL}, "Bad-Name");
	refused(PAIRS("start_lsn", "12"), "start_lsn");
	refused(PAIRS("snapshot_state_backend", "file"), "snapshot_state_path");
	refused(PAIRS("snapshot_state_path", "/tmp/x"), "snapshot_state_backend=file");
	refused(PAIRS("snapshot_state_table", ""), "snapshot_state_table");
	refused(PAIRS("sync_publication", "true"), "publication_tables");
	assert_int_equal(load(&c, PAIRS("snapshot", "only", "snapshot_consistent", "false"), &err), 0);
	assert_int_equal(postgres_config_check(&c, &err), 0);
	duct_opts_done(&c, sizeof c, duct_source_postgres_opts);
	assert_int_equal(load(&c, (const char *const[]){"dsn", "x", NULL}, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "slot"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_and_defaults),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_rules),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
