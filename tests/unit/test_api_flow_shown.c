/* Flows as they were shown are used again only for the text that they were made from (issue 5, "Speed"). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "api/flow_shown.h"

static void only_for_the_same_text(void **unused)
{
	(void)unused;
	struct duct_arena arena;
	struct flow_shown *shown = flow_shown_new();
	struct state_flow flow = {
		.id = "f1", .name = "shop", .state = STATE_FLOW_CREATED, .definition = "{\"a\":1}", .revision = 1};
	Ductstream__V1__Flow made = DUCTSTREAM__V1__FLOW__INIT, found;
	duct_arena_init(&arena);
	made.id = (char *)(uintptr_t) "f1";
	made.name = (char *)(uintptr_t) "shop";
	made.parallelism = 7;
	assert_false(flow_shown_get(shown, &arena, &flow, &found));
	flow_shown_put(shown, &flow, &made);
	assert_true(flow_shown_get(shown, &arena, &flow, &found));
	assert_int_equal(found.parallelism, 7);
	/* What is stored beside the definition is as it is now. */
	flow.name = "store";
	flow.state = STATE_FLOW_RUNNING;
	assert_true(flow_shown_get(shown, &arena, &flow, &found));
	assert_string_equal(found.name, "store");
	assert_int_equal(found.state, STATE_FLOW_RUNNING);
	/* Deleted and made again with another definition, at the same revision. */
	flow.definition = "{\"a\":2}";
	assert_false(flow_shown_get(shown, &arena, &flow, &found));
	flow.definition = "{\"a\":1}";
	flow.id = "f2";
	assert_false(flow_shown_get(shown, &arena, &flow, &found));
	duct_arena_done(&arena);
	flow_shown_free(shown);
}

static void more_flows_than_are_kept(void **unused)
{
	(void)unused;
	struct duct_arena arena;
	struct flow_shown *shown = flow_shown_new();
	int kept = 0;
	duct_arena_init(&arena);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 2000; i++) {
			char id[16];
			struct state_flow flow = {.id = id, .name = "n", .definition = "{}"};
			Ductstream__V1__Flow made = DUCTSTREAM__V1__FLOW__INIT, found;
			snprintf(id, sizeof id, "f%d", i);
			made.parallelism = i;
			if (flow_shown_get(shown, &arena, &flow, &found)) {
				assert_int_equal(found.parallelism, i);
				assert_string_equal(found.id, id);
				kept++;
			} else {
				flow_shown_put(shown, &flow, &made);
			}
		}
	assert_true(kept > 0);
	duct_arena_done(&arena);
	flow_shown_free(shown);
	assert_false(flow_shown_get(NULL, &arena, NULL, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_for_the_same_text),
		cmocka_unit_test(more_flows_than_are_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
