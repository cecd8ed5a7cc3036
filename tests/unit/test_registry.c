/* The option tables of all connectors of this program keep the rules that the loader and the documents rely on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "destination/destination.h"
#include "flow/flow_file.h"
#include "source/source.h"

static const struct duct_opt *find(const struct duct_opt *opts, const char *name)
{
	for (; opts->name; opts++)
		if (strcmp(opts->name, name) == 0)
			return opts;
	return NULL;
}

static void check_row(const struct duct_opt *opts, const struct duct_opt *o, size_t config_size)
{
	assert_int_equal(strspn(o->name, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(o->name));
	assert_ptr_equal(find(opts, o->name), o); /* no name twice */
	if (o->alias_of) {
		const struct duct_opt *target = find(opts, o->alias_of);
		assert_non_null(target);
		assert_null(target->alias_of);
		return;
	}
	assert_true(o->type >= DUCT_OPT_STR && o->type <= DUCT_OPT_MAP);
	assert_true(o->offset < config_size);
	assert_non_null(o->summary);
	size_t n = strlen(o->summary);
	assert_true(n > 3 && o->summary[n - 1] != '.' && !strchr(o->summary, '\n'));
	assert_int_equal(o->type == DUCT_OPT_ENUM, o->values != NULL);
	assert_true(o->min <= o->max);
	assert_false((o->flags & DUCT_OPT_REQUIRED) && o->default_text);
}

/* Every default goes through its own parser. */
static void check_table(const struct duct_opt *opts, size_t config_size)
{
	struct duct_opt_value values[64];
	struct duct_error err = {0};
	size_t n = 0;
	for (const struct duct_opt *o = opts; o->name; o++) {
		check_row(opts, o, config_size);
		if (o->flags & DUCT_OPT_REQUIRED)
			values[n++] = (struct duct_opt_value){.name = o->name, .text = "x"};
	}
	void *config = duct_xmalloc(config_size);
	if (duct_opts_load(config, config_size, opts, values, n, "defaults", &err))
		fail_msg("%s", err.message);
	duct_opts_done(config, config_size, opts);
	free(config);
}

static void tables_of_sources(void **state)
{
	(void)state;
	assert_non_null(duct_sources[0]);
	for (size_t i = 0; duct_sources[i]; i++) {
		assert_ptr_equal(duct_source_find(duct_sources[i]->name), duct_sources[i]);
		assert_non_null(duct_sources[i]->summary);
		check_table(duct_sources[i]->opts, duct_sources[i]->config_size);
	}
	assert_null(duct_source_find("nothing"));
}

static void tables_of_destinations(void **state)
{
	(void)state;
	assert_non_null(duct_destinations[0]);
	for (size_t i = 0; duct_destinations[i]; i++) {
		assert_ptr_equal(duct_destination_find(duct_destinations[i]->name), duct_destinations[i]);
		assert_non_null(duct_destinations[i]->summary);
		check_table(duct_destinations[i]->opts, duct_destinations[i]->config_size);
	}
	assert_null(duct_destination_find("nothing"));
}

static void table_of_the_flow(void **state)
{
	(void)state;
	check_table(flow_file_config_opts, sizeof(struct flow_file_config));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_of_sources),
		cmocka_unit_test(tables_of_destinations),
		cmocka_unit_test(table_of_the_flow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
